"""A slow interface of our own: what waits before it is bounded."""

from __future__ import annotations

import time
from statistics import median

from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import answers, figure_3, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback

PEER = "10.0.0.2"
RATE = 10  # Mbit/s
QUEUE = 1_500_000  # octets that the interface would hold, 1.2 s
LONGEST = 0.25  # s; TARGET, a message more, and a busy machine


def slow_line(lab: Lab) -> tuple[Host, Host]:
    """A tunnel over one interface of host a that is slow, and would hold much."""
    a, b, links = figure_3(lab)
    a.run(
        ["tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", f"{RATE}mbit", "burst", "5k", "limit", str(QUEUE)]
    )
    Tunnel(Description(links[:1], keepalive=0.5, dead=5.0), lab.directory)
    wait_until(lambda: answers(a, PEER), "an answer through the tunnel")
    return a, b


def waiting_time(host: Host) -> float:
    """How long a ping through the tunnel takes now, in seconds; one that is dropped tells nothing."""
    times = ping(host, PEER, count=12, interval=0.1, timeout=1.5)
    return median(time for time in times if time is not None)


@on_every_data_plane
def test_an_upload_does_not_fill_the_queue_of_the_interface(lab: Lab) -> None:
    """While TCP fills the line a ping waits for a tenth of a second, and TCP has the line."""
    a, b = slow_line(lab)
    transfer = Transfer(a, b, PEER, seconds=6, warmup=2, congestion="cubic")
    time.sleep(3)
    waited = waiting_time(a)
    result = transfer.finish()
    print(f"\nupload at {RATE} Mbit/s: {result.mbit:.1f} Mbit/s, ping {1000 * waited:.0f} ms")
    assert result.verified
    assert result.mbit > 0.75 * RATE
    assert waited < LONGEST


@on_every_data_plane
def test_what_is_more_than_the_line_carries_is_dropped_at_once(lab: Lab) -> None:
    """Twice its rate in UDP: a ping would wait for the whole queue, 1.2 s."""
    a, b = slow_line(lab)
    with iperf3(a, b, [PEER], "--udp", "--bitrate", f"{2 * RATE}M", "--length", "1200", "--time", "20"):
        time.sleep(3)
        waited = waiting_time(a)
    print(f"\n{2 * RATE} Mbit/s into {RATE}: ping {1000 * waited:.0f} ms")
    assert waited < LONGEST

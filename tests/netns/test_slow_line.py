"""A slow interface of our own: what waits before it is bounded."""

from __future__ import annotations

import time
from statistics import median

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


@on_every_data_plane
def test_an_upload_does_not_fill_the_queue_of_the_interface(lab: Lab) -> None:
    """While TCP fills the line a ping waits for a tenth of a second, not for more than one, and TCP has the line."""
    a, b, links = figure_3(lab)
    a.run(
        ["tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", f"{RATE}mbit", "burst", "5k", "limit", str(QUEUE)]
    )
    Tunnel(Description(links[:1], keepalive=0.5, dead=5.0), lab.directory)
    wait_until(lambda: answers(a, PEER), "an answer through the tunnel")
    transfer = Transfer(a, b, PEER, seconds=6, warmup=2, congestion="cubic")
    time.sleep(3)
    times = ping(a, PEER, count=30, interval=0.1, timeout=3)
    result = transfer.finish()
    waited = median(time for time in times if time is not None)
    print(f"\nupload at {RATE} Mbit/s: {result.mbit:.1f} Mbit/s, ping {1000 * waited:.0f} ms")
    assert result.verified
    assert result.mbit > 0.75 * RATE
    assert waited < LONGEST

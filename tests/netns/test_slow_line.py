"""A slow interface of our own: what waits before it is bounded."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from statistics import median

import pytest

from mpt.data.datapath import DataPath, PythonDataPath
from mpt.host.sockets import limit_waiting, open_data_socket
from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import Description, Tunnel
from mpt.testing.datapath import connection_row, path_row
from mpt.testing.tun import FakeTun
from tests.netns.support import answers, figure_3, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback

PEER = "10.0.0.2"
RATE = 10  # Mbit/s
QUEUE = 1_500_000  # octets that the interface would hold, 1.2 s
LONGEST = 0.18  # s; TARGET, a message more, and a busy machine. It takes 0.06, an upload without a limit 0.23


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


def native(tun: int) -> DataPath:
    module = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    made: DataPath = module.NativeDataPath(tun)
    return made


def fill(data_socket: socket.socket) -> None:
    """Send until the socket takes no more: raises BlockingIOError."""
    while True:
        data_socket.sendto(bytes(1200), ("10.1.1.3", 4754))


@pytest.mark.parametrize("make", [PythonDataPath, native])
def test_a_keepalive_goes_though_the_socket_is_full(lab: Lab, make: Callable[[int], DataPath]) -> None:
    """A line that is full of our packets is not taken for one that loses the keepalives; the limit stays as it was."""
    a, _, _ = figure_3(lab)
    a.run(["tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", "100kbit", "burst", "5k", "limit", str(QUEUE)])
    with (
        closing(FakeTun()) as tun,
        closing(a.call(open_data_socket, ip_address("10.1.1.2"), 4754, "eth1")) as full,
        closing(make(tun.fd)) as datapath,
    ):
        limit_waiting(full, 40_000)
        datapath.set_table((connection_row(path_row("p", full, "10.1.1.3")),), 0.0)
        with pytest.raises(BlockingIOError):
            fill(full)
        assert datapath.send("p", bytes(40), 0.0)
        with pytest.raises(BlockingIOError):
            full.sendto(bytes(1200), ("10.1.1.3", 4754))

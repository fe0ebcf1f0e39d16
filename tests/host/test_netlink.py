"""What netlink does beyond the contract with its fake."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from mpt.errors import HostError
from mpt.host.netlink import EventSocket
from mpt.model import Route
from tests.host.machines import PATIENCE, real_machine, run, wait_until


class BrokenSocket(socket.socket):
    """Receives what the script says: bytes, or an errno; then nothing."""

    def __init__(self, *script: bytes | int) -> None:
        super().__init__()
        self.script = deque(script)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if isinstance(answer := self.script.popleft(), bytes):
            return answer
        raise OSError(answer, os.strerror(answer))


@pytest.mark.parametrize(
    ("script", "changed"),
    [((), False), ((b"event", b"event"), True), ((errno.ENOBUFS,), True), ((errno.ENOBUFS, b"event"), True)],
)
def test_drain_reads_everything(script: tuple[bytes | int, ...], changed: bool) -> None:
    """Lost events (ENOBUFS) count as events, and nothing is left to read."""
    source = BrokenSocket(*script)
    events = EventSocket(source)
    assert events.drain() is changed
    assert not source.script
    events.close()


def test_a_broken_event_socket_is_said() -> None:
    """Any other error of the event socket is a HostError."""
    events = EventSocket(BrokenSocket(errno.EIO))
    with pytest.raises(HostError, match="cannot watch the interfaces: Input/output error"):
        events.drain()
    events.close()


def test_importing_it_is_cheap() -> None:
    """pyroute2 is loaded when a Netlink is made, not before."""
    program = "import sys, mpt.host.netlink, mpt.host.tun; sys.exit('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.netns
def test_a_tentative_address_is_left_out() -> None:
    """An IPv6 address appears once the search for duplicates is over, and its coming is an event; meanwhile routes over
    its network are taken, but none that names it as source."""
    with real_machine() as machine:
        machine.add_interface("eth1")
        events = machine.netlink.open_event_socket()
        address, peer = ip_interface("fd01::2/64"), ip_network("2001:db8::1/128")
        machine.netlink.add_address("eth1", address)
        assert machine.netlink.snapshot()["eth1"].addresses == ()
        assert machine.netlink.add_route(Route(peer, "eth1", ip_address("fd01::1")))
        with pytest.raises(HostError, match="source address"):
            machine.netlink.add_route(Route(peer, "eth1", ip_address("fd01::1"), 7, source=address.ip))
        assert wait_until(lambda: machine.netlink.snapshot()["eth1"].addresses == (address,), events)
        assert machine.netlink.add_route(Route(peer, "eth1", ip_address("fd01::1"), 7, source=address.ip))
        events.close()


@pytest.mark.netns
def test_a_peer_address_is_not_our_own() -> None:
    """Of a point-to-point link only our end is among the addresses."""
    with real_machine() as machine:
        machine.add_interface("ppp0")
        run("ip", "address", "add", "10.64.0.2", "peer", "10.64.0.1/32", "dev", "ppp0")
        assert machine.netlink.snapshot()["ppp0"].addresses == (ip_interface("10.64.0.2/32"),)


@pytest.mark.netns
def test_a_multipath_default_route_has_gateways() -> None:
    """Each interface of a multipath default route has its own gateway."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24")
        machine.add_interface("eth2", "10.2.2.2/24")
        hops = "nexthop via 10.1.1.1 dev eth1 nexthop via 10.2.2.1 dev eth2"
        run("ip", "route", "add", "default", *hops.split())
        assert machine.netlink.gateway_of("eth1", 4) == ip_address("10.1.1.1")
        assert machine.netlink.gateway_of("eth2", 4) == ip_address("10.2.2.1")


@pytest.mark.netns
def test_the_main_table_comes_first() -> None:
    """A gateway that stands only in another table (policy routing) is found, but one in the main table is preferred."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24")
        run("ip", "route", "add", "default", "via", "10.1.1.7", "dev", "eth1", "table", "100")
        assert machine.netlink.gateway_of("eth1", 4) == ip_address("10.1.1.7")
        run("ip", "route", "add", "default", "via", "10.1.1.1", "dev", "eth1", "metric", "900")
        assert machine.netlink.gateway_of("eth1", 4) == ip_address("10.1.1.1")


@pytest.mark.netns
def test_any_thread_may_ask() -> None:
    """Calls from other threads work, and closing gives every file descriptor back."""
    before = len(os.listdir("/proc/self/fd"))
    with real_machine() as machine:
        machine.netlink.snapshot()
        seen: list[set[str]] = []
        threads = [threading.Thread(target=lambda: seen.append({*machine.netlink.snapshot()})) for _ in range(3)]
        for thread in threads:
            thread.start()
            thread.join(PATIENCE)
        assert len(seen) == 3 and all("lo" in names for names in seen)
    assert len(os.listdir("/proc/self/fd")) == before

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
from mpt.host import rtnetlink
from mpt.host.netlink import Netlink
from mpt.host.rtnetlink import ROUTE_PROTOCOLS, Changes, EventSocket
from mpt.model import Address, Route
from tests.host.machines import PATIENCE, RealMachine, real_machine, run, wait_until


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


LINK_EVENT = rtnetlink.event(rtnetlink.RTM_NEWLINK, rtnetlink.LINK.pack(0, 0, 0, 7, 0, 0))
ADDRESS_EVENT = rtnetlink.event(rtnetlink.RTM_DELADDR, rtnetlink.ADDRESS.pack(2, 24, 0, 0, 8))


def route_event(kind: int, length: int, protocol: int) -> bytes:
    return rtnetlink.event(kind, rtnetlink.ROUTE.pack(socket.AF_INET, length, 0, 0, 254, protocol, 0, 1, 0))


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ((), Changes()),
        ((LINK_EVENT, ADDRESS_EVENT), Changes({7, 8})),
        ((LINK_EVENT + ADDRESS_EVENT,), Changes({7, 8})),
        ((errno.ENOBUFS,), Changes(lost=True)),
        ((errno.ENOBUFS, LINK_EVENT), Changes({7}, lost=True)),
        ((route_event(rtnetlink.RTM_NEWROUTE, 0, 16),), Changes(routes=True)),
        ((route_event(rtnetlink.RTM_DELROUTE, 0, 16),), Changes(routes=True)),
        ((route_event(rtnetlink.RTM_DELROUTE, 32, ROUTE_PROTOCOLS[0]),), Changes(routes=True)),
        ((route_event(rtnetlink.RTM_DELROUTE, 32, ROUTE_PROTOCOLS[-1]),), Changes(routes=True)),
        ((route_event(rtnetlink.RTM_NEWROUTE, 32, ROUTE_PROTOCOLS[0]),), Changes()),  # our own work
        ((route_event(rtnetlink.RTM_DELROUTE, 24, 186),), Changes()),
    ],
)
def test_events_say_what_has_changed(script: tuple[bytes | int, ...], changes: Changes) -> None:
    """Interfaces by number, routes if they concern us, and that the kernel lost count; nothing is left to read."""
    source = BrokenSocket(*script)
    events = EventSocket(source)
    assert events.read() == changes
    assert bool(changes) is bool(script and changes != Changes())
    assert not source.script
    events.close()


def test_a_broken_event_socket_is_said() -> None:
    """Any other error of the event socket is a HostError."""
    events = EventSocket(BrokenSocket(errno.EIO))
    with pytest.raises(HostError, match="cannot watch the interfaces: Input/output error"):
        events.read()
    events.close()


def test_a_storm_of_events_is_read_in_parts() -> None:
    """The reactor has its turn after some of them; what is left is read the next time."""
    source = BrokenSocket(*[LINK_EVENT] * 2500)
    events = EventSocket(source)
    assert [bool(events.read()) for _ in range(4)] == [True, True, True, False]
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


def gateway(machine: RealMachine, interface: str, version: int = 4) -> Address | None:
    found = machine.netlink.default_route(interface, version)
    return found.gateway if found is not None else None


@pytest.mark.netns
@pytest.mark.parametrize("network", ["10.%d.1.%d/24", "fd0%d::%d/64"])
def test_a_multipath_default_route_has_gateways(network: str) -> None:
    """Each interface of a multipath default route has its own gateway."""
    version = ip_interface(network % (1, 1)).version
    with real_machine() as machine:
        hops = []
        for n in (1, 2):
            machine.add_interface(f"eth{n}", network % (n, 2))
            hops += ["nexthop", "via", str(ip_interface(network % (n, 1)).ip), "dev", f"eth{n}"]
        run("ip", f"-{version}", "route", "add", "default", *hops)
        assert gateway(machine, "eth1", version) == ip_interface(network % (1, 1)).ip
        assert gateway(machine, "eth2", version) == ip_interface(network % (2, 1)).ip


@pytest.mark.netns
def test_the_main_table_comes_first() -> None:
    """A gateway that stands only in another table (policy routing) is found, but one in the main table is preferred."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24")
        run("ip", "route", "add", "default", "via", "10.1.1.7", "dev", "eth1", "table", "100")
        assert gateway(machine, "eth1") == ip_address("10.1.1.7")
        run("ip", "route", "add", "default", "via", "10.1.1.1", "dev", "eth1", "metric", "900")
        assert gateway(machine, "eth1") == ip_address("10.1.1.1")


@pytest.mark.netns
def test_a_default_route_that_leads_nowhere_is_none() -> None:
    """An unreachable default route, and one over a nexthop object, are what they are."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24", "fd01::2/64")
        run("ip", "-6", "route", "add", "unreachable", "default", "metric", "9")
        run("ip", "route", "add", "blackhole", "default", "metric", "9")
        assert gateway(machine, "eth1", 4) is None is gateway(machine, "eth1", 6)
        run("ip", "nexthop", "add", "id", "7", "via", "10.1.1.1", "dev", "eth1")
        run("ip", "route", "add", "default", "nhid", "7")
        assert gateway(machine, "eth1", 4) == ip_address("10.1.1.1")


@pytest.mark.netns
def test_a_gateway_may_be_on_the_link_by_decree() -> None:
    """A default route with "onlink", as hosting companies give beside a /32 address: our route says the same."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/32")
        run("ip", "route", "add", "default", "via", "172.31.1.1", "dev", "eth1", "onlink")
        default = machine.netlink.default_route("eth1", 4)
        assert default is not None and default.onlink
        peer = Route(ip_network("192.0.2.1/32"), "eth1", default.gateway, 4756, onlink=default.onlink)
        assert machine.netlink.add_route(peer)
        assert machine.netlink.own_routes(4) == [peer]


@pytest.mark.netns
def test_a_name_may_be_any_octets() -> None:
    """Linux asks for no encoding; such an interface does not hide the others."""
    with real_machine() as machine:
        machine.add_interface("eth1")
        machine.add_interface("eth\udcff")
        assert {"eth1", "eth\udcff"} <= machine.netlink.snapshot().keys()


@pytest.mark.netns
def test_lines_without_neighbours_need_no_gateway() -> None:
    """A point-to-point interface, and one that resolves no addresses; a cable needs one."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24")
        run("ip", "tuntap", "add", "dev", "ppp0", "mode", "tun")
        assert machine.netlink.snapshot()["eth1"].needs_gateway
        assert not machine.netlink.snapshot()["ppp0"].needs_gateway
        run("ip", "link", "set", "eth1", "arp", "off")
        assert not machine.netlink.snapshot()["eth1"].needs_gateway


@pytest.mark.netns
def test_routes_of_the_dead_are_removed_and_those_of_the_living_stay() -> None:
    """Of three programs with routes here the one that ends without cleaning up leaves its own to the next one's
    start; those of others, and the operator's, stay."""
    peers = [Route(ip_network(f"192.0.2.{n}/32"), "eth1", ip_address("10.1.1.1"), 4756) for n in range(4)]
    peers.append(Route(ip_network("2001:db8::1/128"), "eth1", ip_address("fd01::1"), 4756))
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24", "fd01::2/64")
        run("ip", "route", "add", "192.0.2.99", "via", "10.1.1.1", "dev", "eth1", "proto", "static")
        living, dead, other = Netlink(), Netlink(), Netlink()
        assert [each.claim_routes() for each in (living, dead, other)] == [0, 0, 0]
        for each, route in ((living, peers[0]), (dead, peers[1]), (dead, peers[4]), (other, peers[2])):
            assert each.add_route(route)
        dead.close()
        assert machine.netlink.claim_routes() == 2
        assert machine.netlink.own_routes(4) == machine.netlink.own_routes(6) == []
        assert living.own_routes(4) == [peers[0]] and other.own_routes(4) == [peers[2]]
        assert not machine.netlink.delete_route(peers[0])  # it is not ours
        assert not machine.netlink.add_route(Route(ip_network("192.0.2.99/32"), "eth1", ip_address("10.1.1.1")))
        living.close()
        other.close()
        machine.netlink.close()
        assert dead.claim_routes() == 2
        dead.close()


@pytest.mark.netns
def test_with_no_protocol_left_nothing_is_removed() -> None:
    """The last protocol is shared then, and its routes stay."""
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24")
        peers = [Route(ip_network(f"192.0.2.{n}/32"), "eth1", metric=4756) for n in (1, 2)]
        holders = [Netlink() for _ in ROUTE_PROTOCOLS]
        assert [each.claim_routes() for each in holders] == [0] * len(holders)
        assert holders[-1].add_route(peers[0])
        assert machine.netlink.claim_routes() == 0
        assert machine.netlink.add_route(peers[1])
        assert machine.netlink.own_routes(4) == peers
        for each in holders:
            each.close()


@pytest.mark.netns
@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_keeps_back_the_events_of_other_routes(version: int) -> None:
    """A cable with 2,000 routes, as a routing daemon makes them, that goes down and up: only links and addresses are
    told, and the default route."""
    destinations = [f"172.16.{n // 250}.{n % 250}" if version == 4 else f"2001:db8:{n:x}::/48" for n in range(2000)]
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24", "fd01::2/64")
        machine.add_interface("eth2", "10.2.2.2/24", "fd02::2/64")
        events = machine.netlink.open_event_socket()
        lines = "\n".join(f"route add {each} dev eth2 proto bgp" for each in destinations)
        subprocess.run(["ip", "-batch", "-"], input=lines.encode(), check=True)
        run("ip", "link", "set", "eth2", "down")
        run("ip", "link", "set", "eth2", "up")
        changes = events.read()
        assert machine.netlink.snapshot()["eth2"].index in changes.interfaces and not changes.routes
        assert 0 < events.messages < 40
        run("ip", f"-{version}", "route", "add", "default", "dev", "eth1")
        assert events.read().routes
        events.close()


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

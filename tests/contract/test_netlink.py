"""Links, addresses and routes, on the fake and on the kernel."""

from __future__ import annotations

import select
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from mpt.errors import HostError
from mpt.host.rtnetlink import EventSocket
from mpt.model import Route
from tests.host.machines import Machine, wait_until

PEER = {4: "192.0.2.1/32", 6: "2001:db8::1/128"}
GATEWAY = {4: "10.1.1.1", 6: "fd01::1"}
GATEWAY_2 = {4: "10.2.2.1", 6: "fd02::1"}
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


def route(destination: str, interface: str, gateway: str | None = None, metric: int | None = None) -> Route:
    return Route(ip_network(destination), interface, ip_address(gateway) if gateway else None, metric)


@pytest.fixture
def two_links(machine: Machine) -> Machine:
    """The topology of the guide's figure 3: this host's eth1 and eth2, each with its own network."""
    machine.add_interface("eth1", "10.1.1.2/24", "fd01::2/64")
    machine.add_interface("eth2", "10.2.2.2/24", "fd02::2/64")
    return machine


@pytest.fixture
def events(two_links: Machine) -> Iterator[EventSocket]:
    events = two_links.netlink.open_event_socket()
    yield events
    events.close()


both_versions = pytest.mark.parametrize("version", [4, 6])


# --- snapshot and events ---------------------------------------------------------------------------------------------


def test_a_snapshot_shows_the_interfaces(two_links: Machine) -> None:
    """Every interface is there under its name, with its state, MTU and addresses in order."""
    two_links.netlink.add_address("eth1", ip_interface("10.1.1.3/24"))
    interfaces = two_links.netlink.snapshot()
    eth1 = interfaces["eth1"]
    assert {"lo", "eth1", "eth2"} <= interfaces.keys()
    assert (eth1.name, eth1.up, eth1.carrier, eth1.mtu) == ("eth1", True, True, 1500)
    assert [str(a) for a in eth1.addresses if a.version == 4] == ["10.1.1.2/24", "10.1.1.3/24"]
    assert [str(a) for a in eth1.addresses if a.version == 6] == ["fd01::2/64"]
    assert len({interface.index for interface in interfaces.values()}) == len(interfaces)


def test_nothing_happened_is_said(events: EventSocket) -> None:
    """An event socket without events is not readable, and reading it tells of no change."""
    assert select.select([events], [], [], 0)[0] == []
    assert not events.read()


def test_a_pulled_cable_is_an_event(two_links: Machine, events: EventSocket) -> None:
    """An interface whose cable is pulled stays up but loses its carrier, and gets it back with the cable."""
    two_links.set_carrier("eth1", False)
    assert wait_until(lambda: not two_links.netlink.snapshot()["eth1"].carrier, events)
    assert two_links.netlink.snapshot()["eth1"].up
    assert two_links.netlink.snapshot()["eth2"].carrier
    two_links.set_carrier("eth1", True)
    assert wait_until(lambda: two_links.netlink.snapshot()["eth1"].carrier, events)


def test_a_removed_interface_is_an_event(two_links: Machine, events: EventSocket) -> None:
    """An interface that is unplugged is gone from the snapshot, and comes back as another."""
    index = two_links.netlink.snapshot()["eth1"].index
    two_links.remove_interface("eth1")
    assert wait_until(lambda: "eth1" not in two_links.netlink.snapshot(), events)
    two_links.add_interface("eth1", "10.1.1.2/24")
    assert wait_until(lambda: "eth1" in two_links.netlink.snapshot(), events)
    assert two_links.netlink.snapshot()["eth1"].index != index


@pytest.mark.parametrize("address", ["10.9.9.9/24", "fd09::9/64"])
def test_an_address_change_is_an_event(two_links: Machine, events: EventSocket, address: str) -> None:
    """An address that comes or goes wakes the watcher and is in the snapshot, or no longer."""
    added = ip_interface(address)
    two_links.netlink.add_address("eth1", added, check_duplicates=False)
    assert wait_until(lambda: added in two_links.netlink.snapshot()["eth1"].addresses, events)
    two_links.netlink.delete_address("eth1", added)
    assert wait_until(lambda: added not in two_links.netlink.snapshot()["eth1"].addresses, events)


# --- addresses and links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["10.9.9.9/24", "fd09::9/64"])
def test_an_address_is_added_once(two_links: Machine, address: str) -> None:
    """Adding an address twice and deleting it twice is no error; the second time says False."""
    netlink, added = two_links.netlink, ip_interface(address)
    assert [netlink.add_address("eth1", added), netlink.add_address("eth1", added)] == [True, False]
    assert [netlink.delete_address("eth1", added), netlink.delete_address("eth1", added)] == [True, False]


def test_a_link_is_switched_off_and_on(two_links: Machine) -> None:
    """A link that is switched off is neither up nor has it a carrier, and it loses its IPv6 addresses."""
    two_links.netlink.set_link("eth1", up=False)
    eth1 = two_links.netlink.snapshot()["eth1"]
    assert (eth1.up, eth1.carrier, eth1.addresses) == (False, False, (ip_interface("10.1.1.2/24"),))
    two_links.netlink.set_link("eth1", up=True)
    assert two_links.netlink.snapshot()["eth1"].up


def test_an_interface_that_is_gone_is_named(two_links: Machine) -> None:
    """Whatever is asked of an interface that does not exist, the answer is a HostError with its name."""
    netlink = two_links.netlink
    for ask in (
        lambda: netlink.set_link("eth9", up=True),
        lambda: netlink.add_address("eth9", ip_interface("10.9.9.9/24")),
        lambda: netlink.delete_address("eth9", ip_interface("10.9.9.9/24")),
        lambda: netlink.configure_tunnel("eth9", 1440, 1500),
        lambda: netlink.add_route(route(PEER[4], "eth9")),
        lambda: netlink.default_route("eth9", 4),
    ):
        with pytest.raises(HostError, match="there is no interface eth9"):
            ask()


# --- routes ----------------------------------------------------------------------------------------------------------


@both_versions
def test_a_route_is_added_once(two_links: Machine, version: int) -> None:
    """Adding a route twice and deleting it twice is no error; the second time says False."""
    netlink, peer = two_links.netlink, route(PEER[version], "eth1", GATEWAY[version])
    assert [netlink.add_route(peer), netlink.add_route(peer)] == [True, False]
    assert [netlink.delete_route(peer), netlink.delete_route(peer)] == [True, False]


@both_versions
def test_a_route_may_do_without_a_gateway(two_links: Machine, version: int) -> None:
    """A route on the link itself is added and deleted like any other."""
    netlink, on_link = two_links.netlink, route(PEER[version], "eth1")
    assert [netlink.add_route(on_link), netlink.add_route(on_link)] == [True, False]
    assert netlink.delete_route(on_link)


@both_versions
def test_two_interfaces_lead_to_one_peer(two_links: Machine, version: int) -> None:
    """Routes to one destination over two interfaces live side by side when their metrics differ."""
    netlink = two_links.netlink
    first = route(PEER[version], "eth1", GATEWAY[version], metric=10)
    second = route(PEER[version], "eth2", GATEWAY_2[version], metric=20)
    assert [netlink.add_route(first), netlink.add_route(second)] == [True, True]
    assert netlink.delete_route(first)
    assert not netlink.add_route(second)


@both_versions
def test_a_route_in_the_way_is_an_error(two_links: Machine, version: int) -> None:
    """A route to the same destination with the same metric, but over another interface, is not taken for ours."""
    netlink = two_links.netlink
    netlink.add_route(route(PEER[version], "eth1", GATEWAY[version]))
    with pytest.raises(HostError, match="is in the way of ours over eth2"):
        netlink.add_route(route(PEER[version], "eth2", GATEWAY_2[version]))


@both_versions
def test_a_default_route_does_not_replace_another(two_links: Machine, version: int) -> None:
    """0.0.0.0/0 and ::/0 are destinations like others: a second one needs another metric."""
    netlink = two_links.netlink
    assert netlink.add_route(route(DEFAULT[version], "eth1", GATEWAY[version], metric=100))
    assert netlink.add_route(route(DEFAULT[version], "eth2", metric=50))
    assert not netlink.add_route(route(DEFAULT[version], "eth1", GATEWAY[version], metric=100))


@both_versions
def test_a_wrong_gateway_is_named(two_links: Machine, version: int) -> None:
    """A gateway that is not in a network of the interface is refused by name, with the key to check."""
    with pytest.raises(HostError, match=f"{GATEWAY_2[version]} is not reachable over eth1: check gw_ipaddr"):
        two_links.netlink.add_route(route(PEER[version], "eth1", GATEWAY_2[version]))


@both_versions
def test_a_foreign_source_is_refused(two_links: Machine, version: int) -> None:
    """A route's preferred source must be an address of this machine."""
    peer = Route(ip_network(PEER[version]), "eth1", source=ip_address(GATEWAY[version]))
    with pytest.raises(HostError, match="refuses"):
        two_links.netlink.add_route(peer)


@both_versions
def test_a_route_may_name_its_source(two_links: Machine, version: int) -> None:
    """A route with a preferred source of our own is added and deleted."""
    own = {4: "10.1.1.2", 6: "fd01::2"}[version]
    peer = Route(ip_network(PEER[version]), "eth1", ip_address(GATEWAY[version]), 5, ip_address(own))
    assert two_links.netlink.add_route(peer)
    assert two_links.netlink.delete_route(peer)


@both_versions
def test_routes_go_with_their_interface(two_links: Machine, version: int) -> None:
    """An interface that goes down takes its routes along; deleting them afterwards says False, also once it is gone."""
    netlink, peer = two_links.netlink, route(PEER[version], "eth1")
    netlink.add_route(peer)
    netlink.set_link("eth1", up=False)
    assert not netlink.delete_route(peer)
    with pytest.raises(HostError, match="eth1 is down"):
        netlink.add_route(peer)
    two_links.remove_interface("eth1")
    assert not netlink.delete_route(peer)


@both_versions
def test_routes_survive_a_pulled_cable(two_links: Machine, events: EventSocket, version: int) -> None:
    """A lost carrier takes no route away, and one can be added meanwhile."""
    netlink, peer = two_links.netlink, route(PEER[version], "eth1", GATEWAY[version])
    netlink.add_route(peer)
    two_links.set_carrier("eth1", False)
    assert wait_until(lambda: not netlink.snapshot()["eth1"].carrier, events)
    assert netlink.delete_route(peer)
    assert netlink.add_route(peer)


@both_versions
def test_the_default_route_of_an_interface(two_links: Machine, version: int) -> None:
    """The default route over that interface, the one with the lowest metric."""
    netlink, network = two_links.netlink, {4: "10.1.1.%d", 6: "fd01::%d"}[version]
    assert netlink.default_route("eth1", version) is None
    best = route(DEFAULT[version], "eth1", network % 10, metric=100)
    netlink.add_route(route(DEFAULT[version], "eth1", network % 20, metric=200))
    netlink.add_route(best)
    netlink.add_route(route(DEFAULT[version], "eth2", GATEWAY_2[version], metric=50))
    assert netlink.default_route("eth1", version) == best
    assert netlink.default_route("eth2", version) == route(DEFAULT[version], "eth2", GATEWAY_2[version], metric=50)
    assert netlink.default_route("eth1", 10 - version) is None


@both_versions
def test_a_default_route_may_have_no_gateway(two_links: Machine, version: int) -> None:
    """A default route without a gateway (PPP) is found, and has none."""
    two_links.netlink.add_route(route(DEFAULT[version], "eth1", metric=7))
    assert two_links.netlink.default_route("eth1", version) == route(DEFAULT[version], "eth1", metric=7)


@both_versions
def test_a_default_route_that_comes_or_goes_is_an_event(two_links: Machine, events: EventSocket, version: int) -> None:
    """A default route that is added or deleted, by whomever, is told; a route to anywhere else that is added is not."""
    netlink, default = two_links.netlink, route(DEFAULT[version], "eth1", GATEWAY[version])
    netlink.add_route(route(PEER[version], "eth1", GATEWAY[version]))
    assert not events.read().routes
    netlink.add_route(default)
    assert events.read().routes
    netlink.delete_route(default)
    assert events.read().routes


@both_versions
def test_the_own_routes(two_links: Machine, events: EventSocket, version: int) -> None:
    """What was added is listed as it was added while it is there; that one has gone is told."""
    netlink = two_links.netlink
    source = {4: "10.1.1.2", 6: "fd01::2"}[version]
    routes = [
        route(PEER[version], "eth1", GATEWAY[version], metric=4756),
        route(PEER[version], "eth2", metric=4757),
        Route(ip_network({4: "10.9.0.0/16", 6: "fd09::/64"}[version]), "eth1", source=ip_address(source)),
    ]
    for each in routes:
        netlink.add_route(each)
    assert set(netlink.own_routes(version)) == set(routes)
    assert netlink.own_routes(10 - version) == []
    events.read()
    netlink.delete_route(routes[0])
    assert events.read().routes
    assert set(netlink.own_routes(version)) == set(routes[1:])


def test_the_first_claim_finds_nothing_to_remove(two_links: Machine) -> None:
    """Claiming routes removes none that is in use."""
    assert two_links.netlink.claim_routes() == 0
    two_links.netlink.add_route(route(PEER[4], "eth1"))
    assert two_links.netlink.own_routes(4) == [route(PEER[4], "eth1")]


def test_a_gateway_of_the_other_version(two_links: Machine) -> None:
    """An IPv4 route may lead over an IPv6 gateway (RFC 9229)."""
    netlink, default = two_links.netlink, route(DEFAULT[4], "eth1", "fd01::1")
    assert [netlink.add_route(default), netlink.add_route(default)] == [True, False]
    assert netlink.default_route("eth1", 4) == default
    assert netlink.delete_route(default)

"""Which addresses and routes a connection needs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from mpt.control.routing import HALVES, NO_ROUTE, PEER_ROUTE_METRIC, PeerRoute, local_address, peer_route, tunnel_routes
from mpt.model import ConnectionConfig, Interface, NetworkConfig, PathConfig, Route


def interface(*addresses: str, name: str = "eth1", index: int = 2) -> Interface:
    return Interface(name, index, True, True, 1500, tuple(ip_interface(each) for each in addresses))


def path(public: str = "10.1.1.2", gateway: str = "10.1.1.2", remote: str = "10.1.1.3", **changes: Any) -> PathConfig:
    """path_0 of the guide's host A, whose gateway is its own address."""
    config = PathConfig(
        interface_name="eth1",
        ip_ver=ip_address(remote).version,
        public_ipaddr=ip_address(public),
        gateway_ipaddr=ip_address(gateway),
        remote_ipaddr=ip_address(remote),
    )
    return replace(config, **changes)


def connection(*networks: tuple[str, str], local: str = "10.0.0.2", remote: str = "10.0.0.3") -> ConnectionConfig:
    pairs = [(ip_network(source), ip_network(destination)) for source, destination in networks]
    return ConnectionConfig(
        name="c",
        ip_ver=ip_address(local).version,
        ip_local=ip_address(local),
        local_port=1,
        ip_remote=ip_address(remote),
        remote_port=1,
        remote_cmd_port=1,
        paths=(path(),),
        networks=tuple(NetworkConfig(source.version, source, destination) for source, destination in pairs),
    )


def nobody(name: str, version: int) -> Route | None:
    """No default route leads over this interface."""
    return None


def default_route(gateway: str | None, onlink: bool = False) -> Route:
    """Return a default route over eth1, as DHCP makes it."""
    address = ip_address(gateway) if gateway else None
    return Route(ip_network("0.0.0.0/0"), "eth1", address, 100, onlink=onlink)


ETH1 = interface("10.1.1.2/24", "10.1.1.20/24", "fe80::2/64", "fd01::2/64")


# --- local_address ---


@pytest.mark.parametrize(
    ("config", "address"),
    [
        (path(), "10.1.1.2"),
        (path(private_ipaddr=ip_address("10.1.1.20")), "10.1.1.20"),
        (path(public="203.0.113.7", private_ipaddr=ip_address("10.1.1.2")), "10.1.1.2"),
        (path(public="203.0.113.7"), None),
        (path(public="0.0.0.0"), "10.1.1.2"),
        (path(public="203.0.113.7", private_ipaddr=ip_address("0.0.0.0")), "10.1.1.2"),
        (path(public="fd01::2", remote="fd01::3"), "fd01::2"),
        (path(public="fe80::2", remote="fe80::3"), "fe80::2"),
        (path(public="fe80::2%eth1", remote="fe80::3"), "fe80::2"),
        (path(public="::", remote="fd01::3"), "fd01::2"),  # not the link-local one, though it comes first
    ],
)
def test_the_address_that_a_path_is_bound_to(config: PathConfig, address: str | None) -> None:
    """The private address, else the public one, if the interface has it; the first one where it is left open."""
    found = local_address(config, {"eth1": ETH1})
    assert found == (ip_address(address) if address else None)


def test_a_link_local_address_is_better_than_none() -> None:
    """An interface with nothing else is used by its link-local address."""
    only = interface("fe80::2/64")
    assert local_address(path(public="::", remote="fe80::3"), {"eth1": only}) == ip_address("fe80::2")


def test_there_is_no_address_without_the_interface() -> None:
    """No interface, or one without an address of the path's version, has none."""
    assert local_address(path(), {}) is None
    assert local_address(path(public="0.0.0.0"), {"eth1": interface("fd01::2/64")}) is None


def test_an_address_of_another_interface_serves_only_unbound_paths() -> None:
    """A path that is bound to its interface needs one of its addresses; another may use any of the host."""
    interfaces = {"eth1": ETH1, "lo": interface("192.0.2.1/32", name="lo", index=1)}
    assert local_address(path(public="192.0.2.1"), interfaces) is None
    unbound = path(public="192.0.2.1", bind_to_device=False)
    assert local_address(unbound, interfaces) == ip_address("192.0.2.1")


# --- peer_route ---


@pytest.mark.parametrize("gateway", ["10.1.1.2", "10.1.1.20", "10.1.1.3"])
def test_a_gateway_that_is_a_host_itself_means_directly_connected(gateway: str) -> None:
    """The guide's samples name the host's own address as the gateway; the peer's own means the same."""
    found = peer_route(path(gateway=gateway), ETH1, nobody)
    assert found == PeerRoute(Route(ip_network("10.1.1.3/32"), "eth1", None, PEER_ROUTE_METRIC + 2))


def test_a_peer_behind_a_gateway() -> None:
    """The peer is reached through the configured gateway."""
    found = peer_route(path(gateway="10.1.1.1", remote="198.51.100.1"), ETH1, nobody)
    wanted = Route(ip_network("198.51.100.1/32"), "eth1", ip_address("10.1.1.1"), PEER_ROUTE_METRIC + 2)
    assert found == PeerRoute(wanted)


def test_an_open_gateway_is_that_of_the_interface() -> None:
    """Gateway 0.0.0.0 is looked up: by interface and version, and only for a peer that is not on the link."""
    asked: list[tuple[str, int]] = []

    def look_up(name: str, version: int) -> Route:
        asked.append((name, version))
        return default_route("10.1.1.1")

    far = peer_route(path(gateway="0.0.0.0", remote="198.51.100.1"), ETH1, look_up)
    wanted = Route(ip_network("198.51.100.1/32"), "eth1", ip_address("10.1.1.1"), PEER_ROUTE_METRIC + 2)
    assert far == PeerRoute(wanted, is_found=True)
    assert asked == [("eth1", 4)]
    near = peer_route(path(gateway="0.0.0.0"), ETH1, look_up)
    assert near == PeerRoute(Route(ip_network("10.1.1.3/32"), "eth1", None, PEER_ROUTE_METRIC + 2))
    assert asked == [("eth1", 4)]


def test_without_a_default_route_there_is_no_route_on_a_link_with_neighbours() -> None:
    """An unknown gateway is not "on the link": there is no route, and it is said why."""
    far = path(gateway="0.0.0.0", remote="198.51.100.1")
    why = "eth1 has no IPv4 default route and gw_ipaddr names no gateway"
    assert peer_route(far, ETH1, nobody) == PeerRoute(None, why)
    assert peer_route(path(gateway="0.0.0.0", remote="10.1.2.3"), ETH1, nobody) == PeerRoute(None, why)
    ipv6 = path("fd01::2", "::", "2001:db8::1")
    assert peer_route(ipv6, ETH1, nobody).missing == why.replace("IPv4", "IPv6")


def test_a_default_route_without_a_gateway_is_taken_at_its_word() -> None:
    """Whoever makes a default route that has no gateway says that everybody is on that link."""
    found = peer_route(path(gateway="0.0.0.0", remote="198.51.100.1"), ETH1, lambda *_: default_route(None))
    assert found == PeerRoute(Route(ip_network("198.51.100.1/32"), "eth1", None, PEER_ROUTE_METRIC + 2), is_found=True)


def test_a_gateway_that_is_on_the_link_by_decree_stays_so() -> None:
    """A default route with "onlink": ours has it, too, or the kernel would refuse the gateway."""
    found = peer_route(
        path(gateway="0.0.0.0", remote="198.51.100.1"), ETH1, lambda *_: default_route("172.31.1.1", onlink=True)
    )
    assert found.route is not None
    assert (found.route.gateway, found.route.onlink) == (ip_address("172.31.1.1"), True)


def test_a_point_to_point_link_needs_no_gateway() -> None:
    """PPP has no gateway to be found: the peer is routed to the interface itself."""
    ppp = replace(interface("100.64.0.9/32", name="ppp0", index=7), needs_gateway=False)
    config = path("0.0.0.0", "0.0.0.0", "198.51.100.1", interface_name="ppp0")
    wanted = Route(ip_network("198.51.100.1/32"), "ppp0", None, PEER_ROUTE_METRIC + 7)
    assert peer_route(config, ppp, nobody) == PeerRoute(wanted)


def test_two_paths_to_one_peer_have_two_routes() -> None:
    """Two WANs towards one server: same destination, other interface, other metric, so that the kernel keeps both."""
    routes = {
        peer_route(
            path(f"10.{n}.1.2", f"10.{n}.1.1", "198.51.100.1"),
            interface(f"10.{n}.1.2/24", name=f"eth{n}", index=n),
            nobody,
        ).route
        for n in (1, 2)
    }
    assert {(str(route.destination), route.interface, route.metric) for route in routes if route} == {
        ("198.51.100.1/32", "eth1", PEER_ROUTE_METRIC + 1),
        ("198.51.100.1/32", "eth2", PEER_ROUTE_METRIC + 2),
    }


def test_an_ipv6_peer() -> None:
    """The same for IPv6: a /128, through a gateway that may be link-local."""
    found = peer_route(path("fd01::2", "fe80::1", "2001:db8::1"), ETH1, nobody)
    wanted = Route(ip_network("2001:db8::1/128"), "eth1", ip_address("fe80::1"), PEER_ROUTE_METRIC + 2)
    assert found == PeerRoute(wanted)
    on_link = peer_route(path("fd01::2", "::", "fd01::3"), ETH1, nobody).route
    assert on_link is not None and on_link.gateway is None


@pytest.mark.parametrize("remote", ["0.0.0.0", "127.0.0.1", "::", "::1", "fe80::3", "fe80::3%eth1"])
def test_some_peers_need_no_route(remote: str) -> None:
    """One that is not known yet, this host itself, and a link-local neighbour, who is on the link by definition."""
    assert peer_route(path(gateway="0.0.0.0", remote=remote), ETH1, nobody) == NO_ROUTE


# --- tunnel_routes ---


def destinations(config: ConnectionConfig) -> list[str]:
    routes = tunnel_routes(config, "tun0")
    assert all((route.interface, route.gateway, route.metric) == ("tun0", None, None) for route in routes)
    return [str(route.destination) for route in routes]


def test_the_peer_and_the_networks_behind_it_are_routed_into_the_tunnel() -> None:
    """The guide's figure 4: the peer's tunnel address and both destination networks, not the sources."""
    config = connection(("11.1.1.0/24", "21.1.1.0/24"), ("12.1.1.0/24", "22.1.1.0/24"))
    assert destinations(config) == ["10.0.0.3/32", "21.1.1.0/24", "22.1.1.0/24"]


def test_ipv6_is_routed_the_same_way() -> None:
    """IPv6 tunnel addresses and networks, also one inside an IPv4 connection."""
    assert destinations(connection(local="fec0::2", remote="fec0::3")) == ["fec0::3/128"]
    assert destinations(connection(("fd0a::/64", "fd0b::/64"))) == ["10.0.0.3/32", "fd0b::/64"]


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0"])
def test_everything_is_split_in_two_halves(everything: str) -> None:
    """A default route into the tunnel is two halves: more specific than the host's own default route, which stays."""
    whole = ip_network(everything)
    halves = HALVES[whole.version]
    assert [half.prefixlen for half in halves] == [1, 1]
    assert halves[0].supernet() == halves[1].supernet() == whole
    assert destinations(connection((everything, everything))) == ["10.0.0.3/32", *map(str, halves)]


def test_a_destination_of_two_networks_is_routed_once() -> None:
    """Two networks behind us that reach the same network behind the peer need one route."""
    assert destinations(connection(("11.1.1.0/24", "21.1.1.0/24"), ("12.1.1.0/24", "21.1.1.0/24"))) == [
        "10.0.0.3/32",
        "21.1.1.0/24",
    ]


def test_this_host_talks_to_the_networks_from_its_tunnel_address() -> None:
    """Routes to networks name our tunnel address as the source; one of the other version is left to the kernel."""
    routes = tunnel_routes(connection(("11.1.1.0/24", "21.1.1.0/24"), ("fd0a::/64", "fd0b::/64")), "tun0")
    assert [route.source for route in routes] == [None, ip_address("10.0.0.2"), None]

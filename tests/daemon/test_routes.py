"""Which routes are there while the daemon runs, whatever others do to routes, gateways and links."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from mpt.control.routing import PEER_ROUTE_METRIC
from mpt.daemon.connectionroutes import ConnectionRoutes
from mpt.daemon.path import Path
from mpt.daemon.routes import RouteKeeper
from mpt.errors import HostError
from mpt.host.rtnetlink import Changes
from mpt.model import Interface, NetworkConfig, Route
from mpt.testing.netlink import FakeNetlink
from tests.daemon.stage import Run, Stage, connection, path

OPEN = ip_address("0.0.0.0")
SERVER = ip_address("203.0.113.5")
NO_DEFAULT = "eth1 has no IPv4 default route and gw_ipaddr names no gateway"


class CountingNetlink(FakeNetlink):
    """Counts what is asked of the kernel's routes, and refuses to be looked at if a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_sick = False
        self.wait: Callable[[], None] = lambda: None

    def own_routes(self, version: int) -> list[Route]:
        self.asked.append(f"own {version}")
        return super().own_routes(version)

    def default_route(self, interface: str, version: int) -> Route | None:
        self.asked.append(f"default {interface} {version}")
        return super().default_route(interface, version)

    def add_route(self, route: Route) -> bool:
        self.asked.append(f"add {route.destination}")
        return super().add_route(route)

    def snapshot(self) -> dict[str, Interface]:
        self.asked.append("snapshot")
        self.wait()
        if self.is_sick:
            raise HostError("no buffer space")
        return super().snapshot()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What the daemon says about routes and gateways."""
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        text = formatEvent(event)
        if "rout" in text or "gateway" in text:
            said.append(text)

    observer = provider(ILogObserver)(observe)
    globalLogPublisher.addObserver(observer)
    yield said
    globalLogPublisher.removeObserver(observer)


def default(gateway: str | None, interface: str = "eth1", metric: int | None = 100) -> Route:
    return Route(ip_network("0.0.0.0/0"), interface, ip_address(gateway) if gateway else None, metric)


class Keeper(RouteKeeper):
    """Notes what is to be kept."""

    def __init__(self) -> None:
        self.kept: dict[object, Sequence[Route]] = {}

    def keep(self, user: Hashable, routes: Sequence[Route]) -> None:
        self.kept[user] = routes


def test_a_path_that_vanishes_gives_its_route_back() -> None:
    """As one does whose peer names fewer paths; the others keep theirs."""
    keeper = Keeper()
    here = [SimpleNamespace(key=("c", index)) for index in range(2)]
    routes = ConnectionRoutes(keeper, connection(path(1)), "tun0", cast("list[Path]", here[:1]))
    routes.resize(cast("list[Path]", here[1:]))
    assert keeper.kept == {"path_1 of c": ()}


def to_server(stage: Stage) -> list[tuple[str, str | None]]:
    """Interface and gateway of the routes to SERVER."""
    found = [each for each in stage.netlink.routes if each.destination == ip_network(SERVER)]
    return [(each.interface, str(each.gateway) if each.gateway else None) for each in found]


def seen(stage: Stage, name: str = "c") -> tuple[str | None, str | None]:
    """Gateway and trouble of path_0 in the status."""
    found = next(each for each in stage.root.operations.status().connections if each.name == name)
    return found.paths[0].gateway, found.paths[0].no_route


def behind_a_router(**changes: Any) -> Any:
    """path_0 over eth1, whose gateway is to be found out."""
    return path(1, gateway_ipaddr=OPEN, remote_ipaddr=SERVER, **changes)


# --- gateways that are looked for ---


def test_a_default_route_that_comes_later_is_followed(run: Run, log: list[str]) -> None:
    """DHCP sets the address first. Until there is a gateway there is no route, and log and status say so."""
    stage = run(connection(behind_a_router()))
    assert to_server(stage) == []
    assert seen(stage) == (None, NO_DEFAULT)
    assert f"path_0 has no route to {SERVER}: {NO_DEFAULT}" in " ".join(stage.ask("show status").text.split())
    stage.netlink.add_route(default("10.1.1.1"))
    stage.network_changed()
    assert to_server(stage) == [("eth1", "10.1.1.1")]
    assert seen(stage) == ("10.1.1.1", None)
    name = f"path_0 of c (eth1 to {SERVER})"
    assert log == [f"{name}: there is no route to the peer: {NO_DEFAULT}", f"{name}: the gateway is now 10.1.1.1"]
    stage.routes_before = [default("10.1.1.1")]


def test_a_gateway_that_changes_is_followed_by_all_connections(run: Run, log: list[str]) -> None:
    """A renewed lease; the route to a server that two connections share is moved once, and goes with the last."""
    first = connection(behind_a_router(), ip_remote=ip_address("10.0.0.8"))
    stage = run(first, connection(behind_a_router(), name="d"))
    for gateway in ("10.1.1.1", "10.1.1.254"):
        for old in [each for each in stage.netlink.routes if not each.destination.prefixlen]:
            stage.netlink.lose_route(old)
        stage.netlink.add_route(default(gateway))
        stage.network_changed()
        assert to_server(stage) == [("eth1", gateway)]
        assert seen(stage, "c") == seen(stage, "d") == (gateway, None)
    assert not any("different routes" in text or "in the way" in text for text in log)
    stage.ask("delete d.conf")
    stage.routes_before = [default("10.1.1.254")]


def test_a_gateway_that_goes_takes_the_route_with_it(run: Run) -> None:
    """An interface that has no way to the peer has no route to it; the tunnel and the other line keep theirs."""
    stage = run(connection(behind_a_router(), path(2)))
    stage.netlink.add_route(default("10.1.1.1"))
    stage.network_changed()
    others = {each for each in stage.netlink.routes if each.destination != ip_network(SERVER)} - {default("10.1.1.1")}
    stage.netlink.lose_route(default("10.1.1.1"))
    stage.network_changed()
    assert set(stage.netlink.routes) == others and len(others) == 2
    assert seen(stage) == (None, NO_DEFAULT)


def test_the_best_of_several_default_routes_counts(run: Run) -> None:
    """A better one that comes is taken, those of other interfaces do not matter."""
    stage = run(connection(behind_a_router()))
    for route, gateway in (
        (default("10.1.1.7", metric=200), "10.1.1.7"),
        (default("10.2.2.1", "eth2", metric=1), "10.1.1.7"),
        (default("10.1.1.1", metric=100), "10.1.1.1"),
    ):
        stage.netlink.add_route(route)
        stage.network_changed()
        assert to_server(stage) == [("eth1", gateway)]
    stage.routes_before = [each for each in stage.netlink.routes if not each.destination.prefixlen]


def test_an_interface_that_was_down_and_up_within_a_moment(run: Run) -> None:
    """The kernel takes the IPv4 routes away and says nothing of them; the gateway that comes back is another one."""
    stage = run(connection(behind_a_router()))
    stage.netlink.add_route(default("10.1.1.1"))
    stage.network_changed()
    stage.netlink.set_link("eth1", False)
    stage.netlink.set_link("eth1", True)
    stage.network_changed()
    assert to_server(stage) == []
    stage.netlink.add_route(default("10.1.1.254"))
    stage.network_changed()
    assert to_server(stage) == [("eth1", "10.1.1.254")]
    stage.routes_before = [default("10.1.1.254")]


def test_a_line_without_neighbours_needs_no_gateway(run: Run) -> None:
    """PPP: the route leads to the line itself, and nobody is told of a missing gateway."""
    stage = run(connection(behind_a_router(interface_name="ppp0", public_ipaddr=OPEN)))
    stage.netlink.add_interface("ppp0", "100.64.0.9/32", needs_gateway=False)
    stage.network_changed()
    assert to_server(stage) == [("ppp0", None)]
    assert seen(stage) == (None, None)


def test_an_ipv6_gateway_is_followed(run: Run) -> None:
    """A router advertisement comes some time after a static address."""
    peer, link_local = ip_address("2001:db8::1"), ip_address("fe80::1")
    stage = run(
        connection(
            path(
                1,
                ip_ver=6,
                public_ipaddr=ip_address("fd01::2"),
                gateway_ipaddr=ip_address("::"),
                remote_ipaddr=peer,
            )
        )
    )
    assert seen(stage) == (None, NO_DEFAULT.replace("IPv4", "IPv6"))
    advertised = Route(ip_network("::/0"), "eth1", link_local, 1024)
    stage.netlink.add_route(advertised)
    stage.network_changed()
    assert seen(stage) == ("fe80::1", None)
    assert [each.gateway for each in stage.netlink.routes if each.destination == ip_network(peer)] == [link_local]
    stage.routes_before = [advertised]


# --- routes that others take away, or have added ---


def test_own_routes_are_put_back(run: Run) -> None:
    """Whoever flushes them: the routes to the peer, to its tunnel address and to the networks are there again."""
    networks = (NetworkConfig(4, ip_network("11.1.1.0/24"), ip_network("21.1.1.0/24")),)
    stage = run(connection(path(1), networks=networks))
    before = set(stage.netlink.routes)
    assert len(before) == 3
    for route in before:
        stage.netlink.lose_route(route)
    assert stage.netlink.routes == []
    stage.network_changed()
    assert set(stage.netlink.routes) == before


@pytest.mark.parametrize("name", ["eth1", "tun0"])
def test_routes_come_back_with_their_interface(run: Run, name: str) -> None:
    """ip link set eth1 down; ip link set eth1 up. The kernel does not tell of the IPv4 routes that go."""
    stage = run()
    before = set(stage.netlink.routes)
    stage.netlink.set_link(name, False)
    stage.network_changed()
    assert set(stage.netlink.routes) < before
    stage.netlink.set_link(name, True)
    stage.network_changed()
    assert set(stage.netlink.routes) == before


def test_a_route_that_exists_is_no_error_and_stays(run: Run) -> None:
    """The operator's own route to the peer is still there when mpt has stopped."""
    stage = run()
    mine = next(each for each in stage.netlink.routes if str(each.destination) == "10.1.1.3/32")
    stage.stop()
    assert stage.netlink.routes == []
    stage.netlink.routes = [mine]
    stage.start()
    assert seen(stage) == (None, None)
    stage.stop()
    assert stage.netlink.routes == [mine]


def test_a_route_of_somebody_else_that_goes_is_replaced_by_ours(run: Run) -> None:
    """When it goes with something that is told; ours goes in the end."""
    stage = run()
    mine = next(each for each in stage.netlink.routes if str(each.destination) == "10.1.1.3/32")
    stage.stop()
    stage.netlink.routes = [mine]
    stage.start()
    stage.netlink.set_link("eth1", False)
    stage.netlink.set_link("eth1", True)
    stage.network_changed()
    assert mine in stage.netlink.routes
    stage.stop()
    assert stage.netlink.routes == []
    stage.routes_before = []


def test_a_route_in_the_way_is_told_once_and_overcome_later(run: Run, log: list[str]) -> None:
    """Another gateway, but the same destination and metric; the status says so until it has gone."""
    stage = run()
    stage.stop()
    index = stage.netlink.snapshot()["eth1"].index
    other = Route(ip_network("10.1.1.3/32"), "eth1", ip_address("10.1.1.9"), PEER_ROUTE_METRIC + index)
    stage.netlink.routes = [other]
    log.clear()
    stage.start()
    for _ in range(3):
        stage.netlink.fire_event("eth1")
        stage.network_changed()
    assert [each for each in log if "in the way" in each] == log and len(log) == 1
    assert "is in the way of ours over eth1" in str(seen(stage)[1])
    stage.netlink.lose_route(other)  # which nobody tells
    stage.reactor.pass_time(10.0)
    assert replace(other, gateway=None) in stage.netlink.routes
    assert seen(stage) == (None, None)
    stage.stop()
    assert stage.netlink.routes == []
    stage.routes_before = []


def test_what_a_killed_daemon_has_left_is_removed_at_the_start(run: Run, log: list[str]) -> None:
    """Also where it is in the way of a route that is needed now."""
    stage = run()
    stage.stop()
    index = stage.netlink.snapshot()["eth1"].index
    in_the_way = Route(ip_network("10.1.1.3/32"), "eth1", ip_address("10.1.1.9"), PEER_ROUTE_METRIC + index)
    left = [in_the_way, Route(ip_network("192.0.2.7/32"), "eth1", None, PEER_ROUTE_METRIC + index)]
    operators = Route(ip_network("192.0.2.8/32"), "eth1")
    stage.netlink.routes = [*left, operators]
    stage.netlink.left_behind = list(left)
    stage.start()
    assert [each for each in stage.netlink.routes if each in left] == []
    assert operators in stage.netlink.routes
    assert seen(stage) == (None, None)
    assert "2 routes of an earlier daemon are removed" in log
    stage.routes_before = [operators]


# --- what it costs ---


def test_an_event_that_does_not_concern_us_asks_nothing_of_the_routes(run: Run) -> None:
    """Also on a host of thousands of routes an unrelated cable costs a look at the links."""
    netlink = CountingNetlink()
    stage = run(connection(behind_a_router(), path(2)), netlink=netlink)
    netlink.asked.clear()
    netlink.add_interface("eth9", "10.9.9.9/24")
    for carrier in (False, True):
        netlink.set_carrier("eth9", carrier)
        stage.network_changed()
    netlink.remove_interface("eth9")
    stage.network_changed()
    assert set(netlink.asked) == {"snapshot"}


def test_many_paths_over_one_line_look_once(run: Run) -> None:
    """The default route and our own routes are asked for once an event, and only what is missing is added."""
    netlink = CountingNetlink()
    configs = [connection(behind_a_router(), name=f"c{n}", ip_remote=ip_address(f"10.0.0.{n + 3}")) for n in range(200)]
    stage = run(*configs, netlink=netlink)
    netlink.add_route(default("10.1.1.1"))
    stage.network_changed()
    netlink.asked.clear()
    netlink.set_carrier("eth1", False)
    stage.network_changed()
    assert netlink.asked == ["snapshot", "own 4", "default eth1 4"]
    stage.routes_before = [default("10.1.1.1")]


def test_a_look_that_fails_is_tried_again(run: Run) -> None:
    """A second later, without a further event."""
    netlink = CountingNetlink()
    stage = run(netlink=netlink)
    before = set(netlink.routes)
    netlink.is_sick = True
    for route in before:
        netlink.lose_route(route)
    stage.network_changed()
    assert netlink.routes == []
    netlink.is_sick = False
    stage.reactor.pass_time(1.0)
    assert set(netlink.routes) == before


def test_events_take_a_tenth_of_the_time_at_most(run: Run) -> None:
    """Where a look takes 10 ms, something that changes all the time is looked at every 100 ms; but within half a second
    also where it takes longer."""
    for duration, looks in ((0.01, 10), (0.2, 2)):
        netlink = CountingNetlink()
        stage = run(netlink=netlink)
        netlink.wait = partial(stage.reactor.advance, duration)
        netlink.asked.clear()
        until = stage.reactor.seconds() + 1.0
        while stage.reactor.seconds() < until:
            netlink.fire_event("eth2")
            stage.reactor.pass_time(0.01)
        assert looks - 1 <= netlink.asked.count("snapshot") <= looks + 1
        netlink.wait = lambda: None
        stage.reactor.pass_time(1.0)


# --- the keeper by itself ---


def test_users_that_disagree_are_told_and_the_first_has_its_way(log: list[str]) -> None:
    """Two connections name different gateways for one server over one interface; when the first goes, the other's."""
    netlink = FakeNetlink()
    netlink.add_interface("eth1", "10.1.1.2/24")
    keeper = RouteKeeper(netlink)
    one = Route(ip_network(SERVER), "eth1", ip_address("10.1.1.1"), 4756)
    other = replace(one, gateway=ip_address("10.1.1.9"))
    keeper.keep("c", [one])
    keeper.keep("d", [other])
    for _ in range(2):
        keeper.doubt(Changes(lost=True), netlink.snapshot())
        keeper.restore()
    assert netlink.routes == [one]
    assert log == ["c, d want different routes to 203.0.113.5/32 over eth1: the route of the first stays"]
    keeper.keep("c", ())
    assert netlink.routes == [other]
    keeper.keep("d", ())
    assert netlink.routes == []


def test_stopping_removes_what_users_have_forgotten() -> None:
    """A start that failed half-way forgets to take something back; nothing stays."""
    netlink = FakeNetlink()
    netlink.add_interface("eth1", "10.1.1.2/24")
    keeper = RouteKeeper(netlink)
    keeper.startService()
    keeper.keep("c", [Route(ip_network(SERVER), "eth1", None, 4756)])
    keeper.stopService()
    assert netlink.routes == []

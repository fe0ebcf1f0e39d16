"""A connection: its routes, its working paths, and the table that it gives the data path."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from mpt.errors import HostError
from mpt.model import NetworkConfig, Route
from tests.daemon.logged import logged
from tests.daemon.stage import KEEPALIVE_IN, KEEPALIVE_OUT, PACKET, REMOTE, Run, connection, path


def routes(stage: object) -> set[tuple[str, str, str | None]]:
    found: list[Route] = stage.netlink.routes  # type: ignore[attr-defined]
    return {(str(each.destination), each.interface, str(each.gateway) if each.gateway else None) for each in found}


def test_the_routes_of_the_guide_are_installed(run: Run) -> None:
    """Routes lead to the peer's addresses over the lines, to its tunnel address and networks through the tunnel."""
    networks = (NetworkConfig(4, ip_network("11.1.1.0/24"), ip_network("21.1.1.0/24")),)
    paths = (path(1, gateway_ipaddr=ip_address("10.1.1.1")), path(2))
    stage = run(connection(*paths, networks=networks))
    assert routes(stage) == {
        ("10.1.1.3/32", "eth1", "10.1.1.1"),
        ("10.2.2.3/32", "eth2", None),  # the guide's sample: the gateway is the host itself, so directly connected
        ("10.0.0.3/32", "tun0", None),
        ("21.1.1.0/24", "tun0", None),
    }


def test_everything_through_the_tunnel_leaves_the_default_route_alone(run: Run) -> None:
    """0.0.0.0/0 becomes two halves; the paths keep their host routes."""
    stage = run(connection(networks=(NetworkConfig(4, ip_network("10.0.0.2/32"), ip_network("0.0.0.0/0")),)))
    assert {"0.0.0.0/1", "128.0.0.0/1", "10.1.1.3/32"} <= {destination for destination, _, _ in routes(stage)}


def test_two_paths_to_one_address_have_a_route_each(run: Run) -> None:
    """Two WANs, one server: the routes differ in their metric."""
    server = ip_address("203.0.113.5")
    stage = run(
        connection(
            path(1, remote_ipaddr=server, gateway_ipaddr=ip_address("10.1.1.1")),
            path(2, remote_ipaddr=server, gateway_ipaddr=ip_address("10.2.2.1")),
        )
    )
    assert {("203.0.113.5/32", "eth1", "10.1.1.1"), ("203.0.113.5/32", "eth2", "10.2.2.1")} <= routes(stage)


def test_a_gateway_that_is_refused_is_reported_and_the_path_lives(run: Run) -> None:
    """A missing route is no error: the routing table may know a way."""
    stage = run(connection(path(1, gateway_ipaddr=ip_address("192.0.2.1")), path(2)))
    assert stage.statuses() == ["OK", "OK"]
    assert "10.1.1.3/32" not in {destination for destination, _, _ in routes(stage)}


def test_connections_that_share_a_port_share_its_sockets(run: Run) -> None:
    """A hundred connections on one port and two interfaces: two sockets, and keepalives find their connection."""
    peers = [ip_address(f"10.0.0.{number}") for number in range(10, 110)]
    stage = run(*(connection(name=f"c{peer}", ip_remote=peer) for peer in peers))
    assert len(stage.data_sockets) == 2
    stage.reactor.pass_time(3.5, step=0.1)
    assert set(stage.statuses("c10.0.0.77")) == {"DOWN"}
    stage.receive(1, KEEPALIVE_IN.replace(REMOTE.packed, peers[67].packed))
    assert stage.statuses("c10.0.0.77") == ["OK", "DOWN"]
    assert stage.statuses("c10.0.0.78") == ["DOWN", "DOWN"]


def test_when_no_path_is_left_packets_are_counted_and_it_recovers_by_itself(run: Run) -> None:
    """The drop has a reason, and the first keepalive ends it."""
    stage = run()
    stage.reactor.pass_time(3.5)
    stage.tun.inject(PACKET)
    stage.reactor.read_all()
    counters = stage.datapath.counters()
    assert counters.egress_dropped == {"no_path": 1}
    stage.receive(2, KEEPALIVE_IN)
    stage.clear()
    stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert len(stage.sent("eth2")) == 1


def test_the_log_says_what_brings_a_path_back(run: Run) -> None:
    """None comes back by itself if all are down by hand; the words are those of the status."""
    stage = run()
    stage.receive(1, KEEPALIVE_IN)
    with logged() as log:
        stage.ask("down c")
        stage.reactor.pass_time(0.05)
    text = (
        "c: no path works; packets are dropped until one is taken up by hand (path_0 manual down, path_1 manual down)"
    )
    assert log.of("error") == [text]
    assert any(line.endswith("is manual down: taken down by hand") for line in log.of("warn"))
    stage.ask("up c")
    with logged() as log:
        stage.ask("path down eth1")
        stage.reactor.pass_time(3.5)
    text = "c: no path works; packets are dropped until one comes back by itself (path_0 manual down, path_1 down)"
    assert log.of("error") == [text]


def test_a_connection_whose_peer_port_is_not_known_sends_nothing(run: Run) -> None:
    """The connection waits for mpt create (guide 4.7), with its socket open."""
    stage = run(connection(remote_port=0))
    stage.tun.inject(PACKET)
    stage.reactor.pass_time(2.0)
    assert stage.sent("eth1") == stage.sent("eth2") == []


def test_a_path_whose_interface_is_missing_at_the_start_joins_later(run: Run) -> None:
    """The daemon starts with the usable paths."""
    stage = run(connection(path(1), replace(path(2), interface_name="wwan0")))
    assert stage.statuses() == ["OK", "INTERFACE_DOWN"]
    stage.netlink.add_interface("wwan0", "10.2.2.2/24")
    stage.network_changed()
    assert stage.statuses() == ["OK", "DOWN"]
    assert stage.socket("wwan0").sent == [(KEEPALIVE_OUT, ("10.2.2.3", 23456))]


def test_a_keepalive_for_a_connection_that_has_just_gone_is_nobodys(run: Run) -> None:
    """The data path gets its new table in the next turn of the reactor."""
    other = connection(path(1), name="d", ip_remote=ip_address("10.0.0.9"))
    stage = run(connection(), other)
    stage.root.runs.remove(stage.root.runs.connections()[0])
    stage.socket("eth1").deliver(KEEPALIVE_IN, ("10.1.1.3", 23456))
    stage.reactor.read_all()
    assert [each.config.name for each in stage.root.runs.connections()] == ["d"]


def test_a_second_connection_of_the_same_name_or_addresses_is_refused(run: Run) -> None:
    """The connection that runs already goes on."""
    stage = run()
    for twin in (connection(ip_remote=ip_address("10.0.0.9")), connection(name="d")):
        with pytest.raises(HostError, match="runs already"):
            stage.root.runs.add(twin)
    assert [each.config.name for each in stage.root.runs.connections()] == ["c"]
    assert len(stage.root.runs.config.connections) == 1


def test_a_connection_that_is_refused_half_way_leaves_nothing(run: Run) -> None:
    """The socket that it opened first is closed again."""
    stage = run()
    before = stage.data_sockets, sorted(map(str, stage.netlink.routes))
    stage.system.fail("bind", None, errno.EADDRINUSE)
    with pytest.raises(HostError, match="in use"):
        stage.root.runs.add(connection(name="d", ip_remote=ip_address("10.0.0.9"), local_port=5000))
    assert (stage.data_sockets, sorted(map(str, stage.netlink.routes))) == before
    assert [each.config.name for each in stage.root.runs.connections()] == ["c"]


def test_the_loss_of_the_last_path_is_told_also_when_the_peer_says_so(run: Run) -> None:
    """The log has one line when the last path goes, and one when a path is back."""
    said: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        text = formatEvent(event)
        if "no path works" in text or "working path again" in text:
            said.append(text.split(";")[0])

    stage = run()
    (running,) = stage.root.runs.connections()
    globalLogPublisher.addObserver(observe)
    try:
        running.peer_says(0, False)
        assert said == []
        running.peer_says(1, False)
        running.peer_says(1, True)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert said == ["c: no path works", "c: there is a working path again"]


def test_a_closed_socket_is_forgotten_before_the_next_packet(run: Run) -> None:
    """Also by what is served in the turn of the reactor in which it was closed: its descriptor may be another's by
    then."""
    stage = run(connection(path(1), path(2)))
    stage.netlink.remove_interface("eth2")
    stage.root.runs.tunnels[0].interfaces_changed(stage.netlink.snapshot())
    stage.clear()
    for _ in range(4):
        stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert len(stage.sent("eth1")) == 4
    assert [each.send_errors for each in stage.datapath.counters().paths.values()] == [{}, {}]  # it was not even tried

"""Every data path with several connections on one socket, with held packets, and with changes of the table."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    REMOTE,
    REMOTE_V6,
    Stage,
    connection_row,
    packet,
    path_row,
)
from mpt.wire import gre
from mpt.wire.command import encode_keepalive
from tests.contract.test_datapath import reply, sequenced


def keepalive(version: int, sender: str, receiver: str) -> bytes:
    return encode_keepalive(version, ip_address(sender), ip_address(receiver))


# --- keepalives ---


def test_keepalives_are_told_to_control(stage: Stage) -> None:
    """A keepalive is recognised by the peer's tunnel addresses, on each path, and is not delivered; nor is it data."""
    wans = [stage.new_socket(), stage.new_socket()]
    stage.set_table(
        connection_row(path_row("p0", wans[0]), path_row("p1", wans[1], OTHER_PEER, usable=False), window=64)
    )
    assert stage.receive(wans[0], keepalive(4, REMOTE, LOCAL)) == []
    stage.now += 5
    assert stage.receive(wans[1], keepalive(4, REMOTE, LOCAL), host=OTHER_PEER) == []
    assert stage.heard == [("p0", 1000.0), ("p1", 1005.0)]
    counters = stage.counters()
    assert counters.keepalives_received == 2
    assert stage.datapath.measured("p0").last_received == 0.0


def test_keepalives_with_a_sequence_number_or_key(stage: Stage) -> None:
    """The GRE header before a keepalive may have any fields; its sequence number is not the stream's."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan), window=64))
    body = keepalive(4, REMOTE, LOCAL)[4:]
    stage.receive(wan, gre.encode(4, 77) + body, bytes.fromhex("2000080000000001") + body)
    assert len(stage.heard) == 2
    assert stage.receive(wan, *sequenced(5)) == [reply(5)]


def test_a_keepalive_may_have_more_after_its_header(stage: Stage) -> None:
    """Padding or a payload: by its header it is recognised. One that contradicts its own addresses is not ours."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)))
    stage.receive(wan, keepalive(4, REMOTE, LOCAL) + bytes(1000))
    assert stage.heard == [("p", stage.now)]
    stage.receive(wan, keepalive(6, REMOTE, LOCAL), keepalive(4, REMOTE_V6, LOCAL_V6))
    assert stage.counters().ingress_dropped == {"keepalive_unknown": 2}


def test_keepalives_of_an_ipv6_tunnel(stage: Stage) -> None:
    """The same inside IPv6."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan), local=LOCAL_V6, remote=REMOTE_V6))
    stage.receive(wan, keepalive(6, REMOTE_V6, LOCAL_V6))
    assert stage.heard == [("p", stage.now)]


# --- sharing a socket ---


def test_connections_of_one_peer_are_told_apart(stage: Stage) -> None:
    """Two connections with the same host, on one socket: data and keepalives find theirs by the inner addresses."""
    wan = stage.new_socket()
    stage.set_table(
        connection_row(path_row("v4", wan), key="a", window=64),
        connection_row(path_row("v6", wan), key="b", local=LOCAL_V6, remote=REMOTE_V6, window=64),
        connection_row(path_row("more", wan), key="c", local="10.5.0.2", remote="10.5.0.3", window=64),
    )
    inner = [packet(REMOTE, LOCAL), packet(REMOTE_V6, LOCAL_V6), packet("10.5.0.3", "10.5.0.2")]
    for each in inner:  # the same sequence number in each: they do not meet in one buffer
        assert stage.receive(wan, gre.encode(each[0] >> 4, 1000) + each) == [each]
    assert [path.packets_received for path in stage.counters().paths.values()] == [1, 1, 1]
    stage.receive(
        wan, keepalive(6, REMOTE_V6, LOCAL_V6), keepalive(4, REMOTE, LOCAL), keepalive(4, "10.5.0.3", "10.5.0.2")
    )
    assert [path for path, _ in stage.heard] == ["v6", "v4", "more"]


def test_connections_to_one_remote_address_are_told_apart(stage: Stage) -> None:
    """Two of our tunnel addresses with one of the peer's are two connections; what fits neither goes with the first."""
    wan = stage.new_socket()
    stage.set_table(
        connection_row(path_row("a", wan), key="a", local="10.0.0.2", window=64),
        connection_row(path_row("b", wan), key="b", local="10.0.0.12", window=64),
    )
    for local, number in (("10.0.0.12", 5), ("10.0.0.2", 90), ("10.0.0.12", 6), ("10.0.0.2", 91)):
        assert len(stage.receive(wan, gre.encode(4, number) + packet(REMOTE, local))) == 1
    stage.receive(wan, gre.encode(4) + packet(REMOTE, "224.0.0.5"))
    paths = stage.counters().paths
    assert (paths["a"].packets_received, paths["b"].packets_received) == (3, 2)


def test_a_hundred_connections_on_one_socket(stage: Stage) -> None:
    """One port serves a hundred peers: each one's packets, keepalives and sequence numbers are its own."""
    wan = stage.new_socket()
    numbers = range(100)
    tunnel, outer = [f"10.0.1.{n}" for n in numbers], [f"192.0.2.{n}" for n in numbers]
    stage.set_table(
        *(connection_row(path_row(n, wan, outer[n]), key=n, local=LOCAL, remote=tunnel[n], window=64) for n in numbers)
    )
    for n in numbers:
        stage.send(packet(LOCAL, tunnel[n]))
        assert [(datagram[:8], to[0]) for datagram, to in wan.sent()] == [(gre.encode(4, 0), outer[n])]
        inner = packet(tunnel[n], LOCAL)
        assert stage.receive(wan, gre.encode(4, n) + inner, keepalive(4, tunnel[n], LOCAL), host=outer[n]) == [inner]
        assert stage.receive(wan, gre.encode(4, n) + inner, host=outer[(n + 1) % 100]) == []  # another's address
    assert [path for path, _ in stage.heard] == list(numbers)
    counters = stage.counters()
    assert counters.ingress_dropped == {"inner_source": 100}
    assert all((path.packets_sent, path.packets_received) == (1, 1) for path in counters.paths.values())


# --- what is held, and the table ---


def two_paths(stage: Stage, **changes: Any) -> Any:
    """A connection that reorders, over two paths to one peer: the socket of the first."""
    wans = [stage.new_socket(), stage.new_socket()]
    stage.set_table(
        connection_row(path_row("p0", wans[0]), path_row("p1", wans[1], OTHER_PEER), **({"window": 64} | changes))
    )
    return wans


def test_packets_are_put_in_order_over_two_paths(stage: Stage) -> None:
    """A packet of a faster path waits for the slower path; the deadline is known."""
    fast, slow = two_paths(stage)
    assert stage.receive(slow, *sequenced(0), host=OTHER_PEER) == [reply(0)]
    assert stage.datapath.next_deadline() is None
    assert stage.receive(fast, *sequenced(2, 3)) == []
    assert stage.counters().packets_held == 2
    assert stage.datapath.next_deadline() == stage.now + 0.1
    assert stage.receive(slow, *sequenced(1), host=OTHER_PEER) == [reply(1), reply(2), reply(3)]
    assert stage.datapath.next_deadline() is None


def test_nothing_waits_longer_than_it_may(stage: Stage) -> None:
    """At the deadline waiting packets are delivered; a later one is counted as late, a repeated one as a duplicate."""
    fast, slow = two_paths(stage, max_delay=0.25)
    assert stage.receive(fast, *sequenced(0, 2)) == [reply(0)]
    assert stage.wait(0.2499) == []
    stage.datapath.deadline_reached(stage.now)
    assert stage.tun.delivered() == []
    assert stage.wait(0.0002) == [reply(2)]
    assert stage.receive(slow, *sequenced(1, 2), host=OTHER_PEER) == []
    assert stage.counters().ingress_dropped == {"late": 1, "duplicate": 1}


def test_deadlines_of_several_connections(stage: Stage) -> None:
    """The earliest deadline of all connections counts, and each delivers only what is due."""
    wan, other = stage.new_socket(), stage.new_socket()
    stage.set_table(
        connection_row(path_row("a", wan), path_row("a2", other), key="a", window=8, max_delay=0.3),
        connection_row(path_row("b", wan), path_row("b2", other), key="b", remote="10.0.0.4", window=8, max_delay=0.1),
    )
    b = [gre.encode(4, number) + packet("10.0.0.4", LOCAL) for number in (0, 2)]
    stage.receive(wan, *sequenced(0, 2), *b)
    assert stage.datapath.next_deadline() == stage.now + 0.1
    assert stage.wait(0.11) == [packet("10.0.0.4", LOCAL)]
    assert stage.wait(0.2) == [reply(2)]


def test_a_new_table_keeps_what_is_held(stage: Stage) -> None:
    """Held packets, what is expected next, and counters survive a table in which their connection is still there."""
    fast, slow = two_paths(stage)
    stage.receive(fast, *sequenced(0, 2))
    stage.set_table(
        connection_row(path_row("p0", fast, weight=9), path_row("p1", slow, OTHER_PEER), window=64),
        connection_row(path_row("x", slow), key="x", remote="10.0.0.9"),
    )
    assert stage.tun.delivered() == []
    assert stage.receive(slow, *sequenced(1), host=OTHER_PEER) == [reply(1), reply(2)]
    paths = stage.counters().paths
    assert (paths["p0"].packets_received, paths["p1"].packets_received) == (2, 1)


def test_a_new_table_brings_new_networks(stage: Stage) -> None:
    """A network that joins a connection, or leaves it, is let in and out from the next packet on."""
    wan = stage.new_socket()
    out, back = packet("11.1.1.5", "21.1.1.5"), gre.encode(4) + packet("21.1.1.5", "11.1.1.5")
    for networks in ([], [("11.1.1.0/24", "21.1.1.0/24")], []):
        stage.set_table(connection_row(path_row("p", wan), networks=networks, window=64))
        stage.send(out)
        assert len(wan.sent()) == len(stage.receive(wan, back)) == len(networks)
    counters = stage.counters()
    assert counters.egress_dropped == {"no_connection": 2}
    assert counters.ingress_dropped == {"inner_source": 2}


def test_a_connection_that_goes_delivers_what_it_held(stage: Stage) -> None:
    """In order; afterwards its datagrams are from an unknown source, and its counters stay in the sums."""
    fast, _ = two_paths(stage)
    stage.receive(fast, *sequenced(0, 4, 2, 2))
    stage.set_table()
    assert stage.tun.delivered() == [reply(2), reply(4)]
    assert stage.receive(fast, *sequenced(5)) == []
    stage.send(packet())
    counters = stage.counters()
    assert counters.packets_held == 0
    assert counters.ingress_dropped == {"duplicate": 1, "unknown_source": 1}
    assert counters.egress_dropped == {"no_connection": 1}
    assert counters.paths["p0"].packets_received == 4


def test_another_window_delivers_what_was_held(stage: Stage) -> None:
    """A change of window or delay begins anew, after everything held was delivered; strays are counted."""
    fast, slow = two_paths(stage)
    stage.receive(fast, *sequenced(0, 2, 500_000))
    assert stage.counters().packets_held == 2
    stage.set_table(connection_row(path_row("p0", fast), path_row("p1", slow, OTHER_PEER), window=0))
    assert stage.tun.delivered() == [reply(2)]
    assert stage.receive(fast, *sequenced(9, 7)) == [reply(9), reply(7)]
    assert stage.counters().ingress_dropped == {"stray": 1}


def test_a_path_that_goes_down_frees_what_waited_for_it(stage: Stage) -> None:
    """When a table says that a path is down, gaps that only it could fill are given up at once."""
    fast, slow = two_paths(stage)
    stage.receive(fast, *sequenced(0, 2))
    stage.set_table(connection_row(path_row("p0", fast), path_row("p1", slow, OTHER_PEER, usable=False), window=64))
    assert stage.tun.delivered() == [reply(2)]


def test_counters_are_a_snapshot(stage: Stage) -> None:
    """Counters taken once do not change when more is counted."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)))
    before = stage.counters()
    stage.send(packet())
    stage.receive(wan, *sequenced(0))
    assert before.paths["p"].packets_sent == before.paths["p"].packets_received == before.packets_read == 0
    assert stage.counters().paths["p"].packets_sent == 1


def test_a_closed_data_path_lets_go(stage: Stage) -> None:
    """close() delivers what is held, in order; peers of before are unknown then."""
    fast, _ = two_paths(stage)
    stage.receive(fast, *sequenced(0, 3, 2))
    stage.datapath.close()
    assert stage.tun.delivered() == [reply(2), reply(3)]
    assert stage.datapath.next_deadline() is None
    assert stage.receive(fast, *sequenced(4)) == []
    assert stage.counters().ingress_dropped == {"unknown_source": 1}


def test_a_path_that_is_configured_no_longer_is_forgotten(stage: Stage) -> None:
    """Its delay, which the others were held back for, goes with it; so do the gaps that waited for it alone."""
    wans = [stage.new_socket() for _ in range(3)]
    hosts = ("10.1.1.3", OTHER_PEER, "10.3.3.3")
    paths = [path_row(str(n), wan, host) for n, (wan, host) in enumerate(zip(wans, hosts, strict=True))]
    stage.set_table(connection_row(*paths, window=64))
    for _ in range(3):
        stage.wait(0.3)
        for wan, host in zip(wans[:2], hosts, strict=False):
            stage.receive(wan, keepalive(4, REMOTE, LOCAL), host=host)
        stage.wait(0.04)
        stage.receive(wans[2], keepalive(4, REMOTE, LOCAL), host=hosts[2])
    assert stage.receive(wans[0], *sequenced(1), host=hosts[0]) == []  # held back as long as the third path is late
    assert stage.wait(1) == [reply(1)]
    stage.set_table(connection_row(*paths[:2], window=64))
    assert stage.receive(wans[0], *sequenced(2), host=hosts[0]) == [reply(2)]
    assert stage.receive(wans[0], *sequenced(4), host=hosts[0]) == []
    assert stage.receive(wans[1], *sequenced(5), host=hosts[1]) == [reply(4), reply(5)]  # both have passed 3

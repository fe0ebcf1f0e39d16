"""Sealed connections with ``order = flow``: numbers for each flow, and the order of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from mpt.testing.datapath import LOCAL, LOCAL_V6, OTHER_PEER, REMOTE, REMOTE_V6, Stage, connection_row, packet, path_row
from mpt.testing.session import PeerSession
from mpt.wire import gre
from mpt.wire.seal import stamp
from tests.contract.sealed import begin, sealed_row

TCP, UDP, ICMP = 6, 17, 1


def flow_packet(number: int, ports: tuple[int, int] = (4000, 80), protocol: int = UDP, **changes: Any) -> bytes:
    """A packet of a flow, to the peer if `changes` do not say otherwise."""
    body = b"".join(port.to_bytes(2, "big") for port in ports) + number.to_bytes(8, "big")
    return packet(changes.pop("source", LOCAL), changes.pop("destination", REMOTE), body, protocol, **changes)


def fragment(each: bytes, offset: int, more: bool) -> bytes:
    """The same packet as a fragment of IPv4."""
    head = each[:6] + (more << 13 | offset).to_bytes(2, "big") + each[8:10] + b"\0\0" + each[12:20]
    return head[:10] + gre.checksum(head).to_bytes(2, "big") + head[12:] + each[20:]


class Numbered(NamedTuple):
    """The GRE header of a packet that was sent."""

    key: int
    number: int
    packet: bytes


def sent_by(session: PeerSession, *sockets: Any) -> list[Numbered]:
    """What left over the sockets, each header checked."""
    found = []
    for data_socket in sockets:
        for datagram, _ in data_socket.sent():
            content = session.open(datagram).content
            header = gre.decode(content)
            assert header.key is not None
            assert header.sequence is not None
            assert header.length == 12
            assert header.key < 4096
            found.append(Numbered(header.key, header.sequence, content[12:]))
    return found


def two_paths(stage: Stage, **changes: Any) -> tuple[list[Any], PeerSession]:
    """Two sockets and a session of a connection that orders flow by flow."""
    wans = [stage.new_socket(), stage.new_socket()]
    rows = [path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER, id=1)]
    networks = [("fec0::/16", "fec0::/16"), ("10.7.0.0/16", "10.8.0.0/16")]
    stage.set_table(sealed_row(*rows, order="flow", networks=networks, **changes))
    return wans, begin(stage)


FLOWS: tuple[dict[str, Any], ...] = (
    {"ports": (4000, 80)},
    {"ports": (4001, 80)},
    {"ports": (4000, 81)},
    {"ports": (4000, 80), "protocol": TCP},
    {"ports": (4000, 80), "source": "10.7.0.1"},
    {"ports": (4000, 80), "destination": "10.8.0.1"},
    {"ports": (4000, 80), "protocol": ICMP},
    {"ports": (4000, 80), "source": LOCAL_V6, "destination": REMOTE_V6},
    {"ports": (4000, 80), "source": LOCAL_V6, "destination": REMOTE_V6, "protocol": TCP},
)


def test_each_flow_has_a_key_and_numbers_of_its_own(sealing_stage: Stage) -> None:
    """GRE with a key and a sequence number; the numbers of a key follow each other over all paths."""
    stage = sealing_stage
    wans, session = two_paths(stage)
    for count in range(6):
        stage.send(*(flow_packet(count, **flow) for flow in FLOWS))
    sent = sent_by(session, *wans)
    assert len(sent) == 6 * len(FLOWS)
    key_of = [{one.key for one in sent if one.packet in made} for made in map(all_of, FLOWS)]
    assert all(len(keys) == 1 for keys in key_of)
    assert len(set.union(*key_of)) >= len(FLOWS) - 2  # of 4096, two pairs might fall together
    for key in set.union(*key_of):
        of_key = sorted((one.number, one.packet) for one in sent if one.key == key)
        assert [number for number, _ in of_key] == list(range(len(of_key)))


def all_of(flow: dict[str, Any]) -> list[bytes]:
    return [flow_packet(count, **flow) for count in range(6)]


def test_fragments_and_what_has_no_ports_are_flows_by_their_addresses(sealing_stage: Stage) -> None:
    """All fragments of a packet have one key, also the first one, which has ports; so has every ping between two."""
    stage = sealing_stage
    wans, session = two_paths(stage)
    first, later = fragment(flow_packet(0), 0, True), fragment(flow_packet(1, (9, 9)), 100, False)
    stage.send(first, later)
    fragments = sent_by(session, *wans)
    stage.send(flow_packet(0, (1, 2), ICMP), flow_packet(1, (3, 4), ICMP))
    pings = sent_by(session, *wans)
    assert len({one.key for one in fragments}) == len({one.key for one in pings}) == 1


def test_numbers_of_flows_outlive_tables_and_sessions(sealing_stage: Stage) -> None:
    """As those of a connection do, and the other way to count in between."""
    stage = sealing_stage
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan), order="flow"))
    first = begin(stage)
    stage.send(flow_packet(0), flow_packet(1))
    assert [one.number for one in sent_by(first, wan)] == [0, 1]
    stage.set_table(sealed_row(path_row("p", wan), order="connection"))
    stage.send(flow_packet(2))
    assert [gre.decode(first.open(datagram).content)[2:] for datagram, _ in wan.sent()] == [(None, 0)]
    second = begin(stage)
    stage.set_table(sealed_row(path_row("p", wan, weight=7), order="flow"))
    stage.send(flow_packet(3))
    assert [one.number for one in sent_by(second, wan)] == [2]


def content(number: int, key: int, sequence: int) -> bytes:
    """The content of an envelope of the peer."""
    return gre.encode(4, sequence, key) + from_peer(number)


def from_peer(number: int) -> bytes:
    return flow_packet(number, source=REMOTE, destination=LOCAL)


def test_a_gap_in_one_flow_delays_no_other(sealing_stage: Stage) -> None:
    """What is missing under one key is waited for under this key alone."""
    stage = sealing_stage
    wans, session = two_paths(stage, window=8)
    assert stage.receive(wans[0], session.seal(content(0, 7, 0))) == [from_peer(0)]
    assert stage.receive(wans[0], session.seal(content(2, 7, 2))) == []
    assert stage.receive(wans[0], session.seal(content(3, 8, 100))) == [from_peer(3)]
    assert stage.receive(wans[0], session.seal(content(4, 8, 101))) == [from_peer(4)]
    assert stage.counters().packets_held == 1
    assert stage.receive(wans[1], session.seal(content(1, 7, 1), 1), host=OTHER_PEER) == [from_peer(1), from_peer(2)]


@pytest.mark.parametrize("key", [8, None])
def test_what_was_sent_later_ends_the_wait(sealing_stage: Stage, key: int | None) -> None:
    """A packet of any flow over the last path that could bring the missing one: soon, not after the longest delay."""
    stage = sealing_stage
    wans, session = two_paths(stage, window=8, max_delay=5.0)
    later = gre.encode(4, 0, key) + from_peer(9)
    for each in (content(0, 7, 0), content(2, 7, 2)):
        stage.receive(wans[0], session.seal(each, stamp=stamp(stage.now)))
    stage.receive(wans[1], session.seal(content(3, 9, 0), 1, stamp=stamp(stage.now)), host=OTHER_PEER)
    assert stage.counters().packets_held == 1
    stage.wait(0.01)
    sealed = session.seal(later, 1, stamp=stamp(stage.now))
    delivered = stage.receive(wans[1], sealed, host=OTHER_PEER) + stage.wait(0.001)
    assert delivered == [from_peer(9), from_peer(2)]


def test_a_key_in_the_clear_means_nothing(sealing_stage: Stage) -> None:
    """A plain connection has one order, whatever the GRE header says."""
    stage, wans = sealing_stage, [sealing_stage.new_socket(), sealing_stage.new_socket()]
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER), window=8))
    assert stage.receive(wans[0], content(0, 1, 0)) == [from_peer(0)]
    assert stage.receive(wans[0], content(2, 2, 2)) == []
    assert stage.receive(wans[1], content(1, 3, 1), host=OTHER_PEER) == [from_peer(1), from_peer(2)]

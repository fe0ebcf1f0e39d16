"""Flows that a port maps to one path keep their order without waiting for another path."""

from __future__ import annotations

from mpt.model import PortMap
from mpt.testing.datapath import LOCAL, OTHER_PEER, REMOTE, Stage, connection_row, packet, path_row
from mpt.wire import gre

CALL = 5060  # the mapped port
UDP = 17


def udp(number: int, port: int, source: str = LOCAL, destination: str = REMOTE) -> bytes:
    """A UDP packet to `port` that can be told apart."""
    header = (40000).to_bytes(2, "big") + port.to_bytes(2, "big") + (16).to_bytes(2, "big") + bytes(2)
    return packet(source, destination, header + number.to_bytes(8, "big"), UDP)


def test_a_mapped_packet_has_no_number(udp_stage: Stage) -> None:
    """It goes over its path without one; those of the other packets follow each other without a gap."""
    first, second = udp_stage.new_socket(), udp_stage.new_socket()
    calls = PortMap(udp_dst=frozenset({CALL}))
    rows = path_row("p0", first), path_row("p1", second, OTHER_PEER, ports=calls)
    udp_stage.set_table(connection_row(*rows, window=64))
    others, mapped = [udp(n, 80) for n in range(6)], [udp(n, CALL) for n in range(6)]
    for pair in zip(others, mapped, strict=True):
        udp_stage.send(*pair)
    sent = [datagram for datagram, _ in first.sent()], [datagram for datagram, _ in second.sent()]
    assert [each for each in sent[1] if each.startswith(gre.encode(4))] == [gre.encode(4) + each for each in mapped]
    numbered = {datagram for datagram in sent[0] + sent[1] if not datagram.startswith(gre.encode(4))}
    assert numbered == {gre.encode(4, n) + each for n, each in enumerate(others)}


def test_a_flow_whose_path_is_down_is_numbered_with_the_others(udp_stage: Stage) -> None:
    """It shares the paths that are left, and there the peer must put it in order."""
    first, second = udp_stage.new_socket(), udp_stage.new_socket()
    calls = PortMap(udp_dst=frozenset({CALL}))
    rows = path_row("p0", first), path_row("p1", second, OTHER_PEER, ports=calls, usable=False)
    udp_stage.set_table(connection_row(*rows, window=64))
    packets = [udp(0, CALL), udp(1, 80), udp(2, CALL)]
    udp_stage.send(*packets)
    assert [datagram for datagram, _ in first.sent()] == [gre.encode(4, n) + each for n, each in enumerate(packets)]


def test_a_packet_without_a_number_waits_for_nothing(stage: Stage) -> None:
    """While packets with numbers wait for a gap, it is delivered as it comes."""
    fast, slow = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("p0", fast), path_row("p1", slow, OTHER_PEER), window=64))
    back = [udp(n, 80, REMOTE, LOCAL) for n in range(4)]
    call = udp(9, CALL, REMOTE, LOCAL)
    assert stage.receive(fast, gre.encode(4, 0) + back[0], gre.encode(4, 2) + back[2]) == [back[0]]
    assert stage.receive(fast, gre.encode(4) + call) == [call]
    assert stage.receive(slow, gre.encode(4, 1) + back[1], host=OTHER_PEER) == [back[1], back[2]]

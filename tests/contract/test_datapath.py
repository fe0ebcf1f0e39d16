"""The behaviour of every data path, one suite for all: in memory, and on file descriptors for a native one."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import product
from typing import Any

import pytest

from mpt.data.pathstate import PathMeasures
from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    PEER,
    PORT,
    REMOTE,
    REMOTE_V6,
    Stage,
    connection_row,
    numbered,
    packet,
    path_row,
)
from mpt.wire import gre
from mpt.wire.command import encode_keepalive

TUNNELS = {4: (LOCAL, REMOTE), 6: (LOCAL_V6, REMOTE_V6)}


def sequenced(*numbers: int) -> list[bytes]:
    """Datagrams of the peer with these sequence numbers; the packet inside tells its number."""
    return [gre.encode(4, number) + reply(number) for number in numbers]


def reply(number: int) -> bytes:
    return numbered(1, number, REMOTE, LOCAL)[0]


# --- egress ---


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("window", [0, 64])
def test_a_packet_is_encapsulated(stage: Stage, version: int, window: int) -> None:
    """GRE by the packet's own version, with a sequence number if this side reorders, to the peer's address and port."""
    wan = stage.new_socket()
    local, remote = TUNNELS[version]
    stage.set_table(connection_row(path_row("p", wan), local=local, remote=remote, window=window))
    packets = numbered(3, source=local, destination=remote)
    stage.send(*packets)
    headers = [gre.encode(version, number if window else None) for number in range(3)]
    assert wan.sent() == [(header + each, (PEER, PORT)) for header, each in zip(headers, packets, strict=True)]
    sent = stage.counters().paths["p"]
    assert (sent.packets_sent, sent.bytes_sent) == (3, sum(map(len, packets)))


def test_the_protocol_type_is_that_of_the_packet(stage: Stage) -> None:
    """An IPv6 packet between networks of an IPv4 connection is announced as IPv6."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan), networks=[("fd0a::/64", "fd0b::/64")]))
    stage.send(packet("fd0a::1", "fd0b::1"), packet())
    assert [datagram[:4].hex() for datagram, _ in wan.sent()] == ["000086dd", "00000800"]


@pytest.mark.parametrize(
    ("weights", "order"), [((1, 1), "01010101"), ((2, 1), "00100100"), ((1, 2), "10110110"), ((3, 1, 0), "00010001")]
)
def test_packets_are_shared_out_by_weight(stage: Stage, weights: tuple[int, ...], order: str) -> None:
    """Paths take turns by weight, under one sequence; one that may not be used (weight 0 here) gets nothing."""
    paths = [stage.new_socket() for _ in weights]
    rows = [
        path_row(index, each, weight=weight or 1, usable=weight > 0)
        for index, (each, weight) in enumerate(zip(paths, weights, strict=True))
    ]
    stage.set_table(connection_row(*rows, window=64))
    taken = ""
    for number, each in enumerate(numbered(len(order))):
        stage.send(each)
        sent = [(index, datagram) for index, path in enumerate(paths) for datagram, _ in path.sent()]
        assert [datagram for _, datagram in sent] == [gre.encode(4, number) + each]
        taken += str(sent[0][0])
    assert taken == order


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (packet("10.0.0.9", REMOTE), "no_connection"),  # not from us
        (packet(LOCAL, "10.0.0.9"), "no_connection"),  # not for the peer
        (packet(REMOTE, LOCAL), "no_connection"),  # the wrong way round
        (packet("11.1.1.5", "21.1.2.5"), "no_connection"),  # just outside of the network
        (packet("fd0a::5", "fd0c::5"), "no_connection"),
        (packet("fd0c::5", "fd0b::5"), "no_connection"),
        (packet("11.1.1.5", "192.0.2.1"), "no_connection"),
        (packet("11.1.1.5", PEER), "loop"),
        (packet(LOCAL, PEER), "loop"),
        (b"\x45" + bytes(18), "not_ip"),
        (b"\x60" + bytes(38), "not_ip"),
        (b"\x00" + bytes(60), "not_ip"),
        (b"\xa1" + bytes(60), "not_ip"),
    ],
)
def test_what_is_nobodys_is_dropped(stage: Stage, inner: bytes, reason: str) -> None:
    """A packet that no connection is for is counted under its reason and not sent, the first time and the next."""
    wan = stage.new_socket()
    networks = [("11.1.1.0/24", "21.1.1.0/24"), ("fd0a::/64", "fd0b::/64"), ("11.1.1.0/24", "10.1.0.0/16")]
    stage.set_table(connection_row(path_row("p", wan), networks=networks))
    stage.send(inner, inner)
    assert wan.sent() == []
    assert stage.counters().egress_dropped == {reason: 2}


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("11.1.1.5", "21.1.1.5"),
        (LOCAL, "21.1.1.5"),
        ("11.1.1.5", REMOTE),
        ("12.1.1.5", "21.1.1.5"),
        ("fd0a::5", "fd0b::ffff"),
    ],
)
def test_networks_are_routed_through(stage: Stage, source: str, destination: str) -> None:
    """From us or any network behind us, to the peer or any network behind it, of either version."""
    wan = stage.new_socket()
    networks = [("11.1.1.0/24", "21.1.1.0/24"), ("12.1.1.0/24", "22.1.1.0/24"), ("fd0a::/64", "fd0b::/64")]
    stage.set_table(connection_row(path_row("p", wan), networks=networks))
    stage.send(packet(source, destination))
    assert [datagram[4:] for datagram, _ in wan.sent()] == [packet(source, destination)]
    back = packet(destination, source)
    assert stage.receive(wan, gre.encode(back[0] >> 4) + back) == [back]


@pytest.mark.parametrize("rows", [[], [{"usable": False}], [{"usable": False}, {"socket": None}]])
def test_without_a_path_packets_are_counted(stage: Stage, rows: list[dict[str, Any]]) -> None:
    """With no path, or none that may be used or has a socket, packets are dropped and no sequence number is used up."""
    wan = stage.new_socket()
    unusable = [
        path_row(number, changes.pop("socket", wan), **changes) for number, changes in enumerate(map(dict, rows))
    ]
    stage.set_table(connection_row(*unusable, window=64))
    stage.send(*numbered(3))
    assert stage.counters().egress_dropped == {"no_path": 3}
    stage.set_table(connection_row(path_row("p", wan), window=64))
    stage.send(packet())
    assert wan.sent()[0][0] == gre.encode(4, 0) + packet()


def test_connections_have_their_own_sequences(stage: Stage) -> None:
    """Two connections over one socket each count for themselves, and a change of the table does not start anew."""
    wan = stage.new_socket()
    rows = [
        connection_row(path_row(key, wan, peer), key=key, remote=remote, window=64)
        for key, remote, peer in (("a", "10.0.0.3", PEER), ("b", "10.0.0.4", OTHER_PEER))
    ]
    stage.set_table(*rows)
    to_a, to_b = packet(LOCAL, "10.0.0.3"), packet(LOCAL, "10.0.0.4")
    stage.send(to_a, to_a, to_b)
    stage.set_table(*reversed(rows))
    stage.send(to_b, to_a)
    assert [(datagram[4:8].hex()[-1], address[0]) for datagram, address in wan.sent()] == [
        ("0", PEER),
        ("1", PEER),
        ("0", OTHER_PEER),
        ("1", OTHER_PEER),
        ("2", PEER),
    ]


# --- ingress ---


@pytest.mark.parametrize(("version", "sequence", "window"), [*product((4, 6), (None, 7), (0, 64))])
def test_a_packet_is_decapsulated(stage: Stage, version: int, sequence: int | None, window: int) -> None:
    """A datagram of the peer is delivered, with or without a sequence number, whether this side reorders or not."""
    wan = stage.new_socket()
    local, remote = TUNNELS[version]
    stage.set_table(connection_row(path_row("p", wan), local=local, remote=remote, window=window))
    inner = packet(remote, local, b"payload")
    stage.now = 1234.5
    assert stage.receive(wan, gre.encode(version, sequence) + inner) == [inner]
    received = stage.counters().paths["p"]
    assert (received.packets_received, received.bytes_received) == (1, len(inner))
    assert received.last_received == stage.datapath.measured("p").last_received == 1234.5
    assert stage.datapath.measured("unknown") == PathMeasures()


def test_the_state_of_a_path_outlives_every_table(stage: Stage) -> None:
    """The measures of a path stay while it is in no table, and go on when it is back."""
    wan, inner = stage.new_socket(), packet(REMOTE, LOCAL)
    row = connection_row(path_row("p", wan), window=8)
    stage.set_table(row)
    stage.send(packet(), packet())
    stage.receive(wan, gre.encode(4, 0) + inner)
    before = stage.datapath.measured("p")
    assert (before.packets_sent, before.packets_received) == (2, 1)
    stage.set_table()
    stage.set_table(connection_row(path_row("q", wan), key="d"))
    assert stage.datapath.measured("p") == before
    stage.set_table(connection_row(path_row("q", wan), path_row("p", wan, OTHER_PEER), window=8))
    stage.set_table(row)
    stage.send(packet())
    assert stage.datapath.measured("p")._replace(bytes_sent=0) == before._replace(packets_sent=3, bytes_sent=0)


def test_checksum_and_key_are_understood(stage: Stage) -> None:
    """A datagram with checksum, key and sequence number is delivered if its checksum is right."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)))
    plain = bytes.fromhex("b000080000000000cafebabe00000000") + reply(1)
    right = plain[:4] + gre.checksum(plain).to_bytes(2, "big") + plain[6:]
    assert stage.receive(wan, right, right[:-1] + b"\xff") == [reply(1)]
    assert stage.counters().ingress_dropped == {"gre_checksum": 1}


GOOD = gre.encode(4) + reply(0)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "gre_truncated"),
        (GOOD[:3], "gre_truncated"),
        (gre.encode(4, 0)[:6], "gre_truncated"),
        (b"\x80\x00\x08\x00\x00", "gre_truncated"),
        (b"\x00\x01" + GOOD[2:], "gre_version"),
        (b"\x40\x00" + GOOD[2:], "gre_reserved_bits"),
        (b"\x08\x00" + GOOD[2:], "gre_reserved_bits"),
        (b"\x04\x00" + GOOD[2:], "gre_reserved_bits"),
        (b"\x00\x00\x88\x0b" + GOOD[4:], "gre_protocol"),
        (b"\x80\x00\x08\x00\x00\x00\x00\x00" + GOOD[4:], "gre_checksum"),
        (gre.encode(4), "inner_truncated"),
        (gre.encode(4, 0), "inner_truncated"),
        (GOOD[:-9], "inner_truncated"),
        (gre.encode(6) + GOOD[4:], "inner_version"),
        (gre.encode(4) + packet(REMOTE_V6, LOCAL_V6), "inner_version"),
        (gre.encode(4) + packet("10.0.0.9", LOCAL), "inner_source"),
        (gre.encode(6) + packet(REMOTE_V6, LOCAL_V6), "inner_source"),
        (gre.encode(6) + packet("fd0c::1", LOCAL_V6), "inner_source"),
        (gre.encode(4) + packet(LOCAL, REMOTE), "inner_source"),
        (gre.encode(4) + packet(REMOTE, PEER), "loop"),
        (gre.encode(4) + b"\xa2" + bytes(43), "command_on_data_port"),
        (encode_keepalive(4, ip_address(LOCAL), ip_address(REMOTE)), "keepalive_unknown"),
        (encode_keepalive(4, ip_address("10.0.0.9"), ip_address(LOCAL)), "keepalive_unknown"),
        (encode_keepalive(4, ip_address(REMOTE), ip_address(LOCAL))[:-1], "keepalive_unknown"),
    ],
)
def test_every_reason_to_drop(stage: Stage, datagram: bytes, reason: str) -> None:
    """What must not come in is counted under its reason, each time, and is no life sign of the path."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan), networks=[("fd0a::/64", "fd0b::/64")], window=64))
    assert stage.receive(wan, datagram, datagram) == []
    assert stage.counters().ingress_dropped == {reason: 2}
    assert stage.datapath.measured("p").last_received == 0.0
    assert stage.heard == []
    assert stage.receive(wan, GOOD) == [reply(0)]


def test_a_truncated_packet_is_not_taken_for_another(stage: Stage) -> None:
    """Half an IPv6 header that ends with the addresses of an IPv4 packet that was seen is no packet, either way."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)))
    there, back = packet(LOCAL, REMOTE), packet(REMOTE, LOCAL)
    stage.send(there, b"\x60" + bytes(7) + there[12:20])
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(4) + there]
    half = b"\x60" + bytes(7) + back[12:20]
    assert stage.receive(wan, gre.encode(4) + back, gre.encode(6) + half) == [back]
    counters = stage.counters()
    assert (counters.egress_dropped, counters.ingress_dropped) == ({"not_ip": 1}, {"inner_truncated": 1})


def test_late_reads_tell_nothing_about_the_paths(stage: Stage) -> None:
    """A keepalive that had to wait in a full socket is no sign of a slow path: the other one need not wait for it."""
    busy, idle = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("p", busy), path_row("q", idle, OTHER_PEER), window=64))
    keepalive = encode_keepalive(4, ip_address(REMOTE), ip_address(LOCAL))
    for each, host in ((busy, PEER), (idle, OTHER_PEER)):
        stage.receive(each, keepalive, host=host)
    stage.wait(1.0)
    for number in range(150):  # more than a wake-up takes
        busy.deliver(gre.encode(4) + reply(number))
    busy.deliver(keepalive)
    stage.datapath.socket_readable(busy, stage.now)
    stage.receive(idle, keepalive, host=OTHER_PEER)
    stage.wait(0.02)
    for _ in range(10):
        stage.datapath.socket_readable(busy, stage.now)
    assert len(stage.heard) == 4
    stage.tun.delivered()
    assert stage.receive(idle, *sequenced(0), host=OTHER_PEER) == [reply(0)]


def test_only_the_peer_is_listened_to(stage: Stage) -> None:
    """Datagrams of other hosts, or for a socket that no path has any more, are dropped as from an unknown source."""
    wan, other = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)))
    assert stage.receive(wan, GOOD, host="10.1.1.4") == []
    assert stage.receive(other, GOOD, host=PEER) == []
    assert stage.receive(wan, GOOD, host=PEER) == [reply(0)]
    assert stage.counters().ingress_dropped == {"unknown_source": 2}


def test_ipv6_paths(stage: Stage) -> None:
    """Peers with IPv6 addresses are known by the text that recvfrom() gives."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan, "fd01::3")))
    stage.send(packet())
    assert wan.sent() == [(gre.encode(4) + packet(), ("fd01::3", PORT, 0, 0))]
    assert stage.receive(wan, GOOD, host="fd01::3") == [reply(0)]


# --- what is asked of it ---


def test_offloads_have_names(stage: Stage) -> None:
    """Those of docs/commands.md, of which what stands for a TUN here has none."""
    found = stage.datapath.offloads()
    assert found <= {"udp_segment"}
    assert isinstance(found, frozenset)

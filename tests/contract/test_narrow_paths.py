"""Paths that do not carry every packet, and SYNs that are clamped, in every data path."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from mpt.data.fragment import fragments
from mpt.data.toobig import ANSWERS_AT_ONCE, answer
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
from tests.accel.model import ACK, SYN, Inner

BROADCAST = ip_address("10.0.0.255")


def sized(size: int, version: int = 4, dont_fragment: bool = True, destination: str | None = None) -> bytes:
    """A packet of `size` octets."""
    if version == 6:
        return packet(LOCAL_V6, destination or REMOTE_V6, bytes(size - 40))
    whole = packet(LOCAL, destination or REMOTE, bytes(size - 20))
    head = whole[:6] + bytes((0x40 * dont_fragment, 0)) + whole[8:10] + bytes(2) + whole[12:20]
    return head[:10] + gre.checksum(head).to_bytes(2, "big") + head[12:] + whole[20:]


def two_paths(stage: Stage, mtus: tuple[int, int], version: int = 4, **changes: Any) -> tuple[Any, Any]:
    """One connection over two paths, of weights 1 and 3."""
    wans = stage.new_socket(), stage.new_socket()
    paths = (path_row(0, wans[0], mtu=mtus[0]), path_row(1, wans[1], OTHER_PEER, weight=3, mtu=mtus[1]))
    ends = (LOCAL, REMOTE) if version == 4 else (LOCAL_V6, REMOTE_V6)
    stage.set_table(connection_row(*paths, local=ends[0], remote=ends[1], **changes))
    return wans


def sent(wans: tuple[Any, Any]) -> list[list[int]]:
    """The sizes of the packets that left over each."""
    return [[len(datagram) - 4 for datagram, _ in wan.sent()] for wan in wans]


def test_a_narrow_path_carries_what_fits(stage: Stage) -> None:
    """Larger packets go over the other one, and count as its turns; the sizes change without a new table."""
    wans = two_paths(stage, (1500, 1200))
    stage.send(*[sized(1300)] * 3, *[sized(1200)] * 8)
    assert sent(wans) == [[1300] * 3 + [1200] * 2, [1200] * 6]
    stage.datapath.set_path_mtus({1: 0, 7: 3}, stage.now)
    stage.send(*[sized(1300)] * 4)
    assert sent(wans) == [[1300], [1300] * 3]
    stage.datapath.set_path_mtus({0: 1000}, stage.now)
    stage.send(*[sized(1300)] * 4)
    assert sent(wans) == [[], [1300] * 4]
    assert stage.tun.delivered() == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_that_fits_no_path_is_answered(stage: Stage, version: int) -> None:
    """The sender hears what the widest path in use carries, and the drop is counted."""
    wans = two_paths(stage, (1400, 1350), version)
    large = sized(1450, version)
    stage.send(large)
    told = answer(large, 1400, ip_address(REMOTE if version == 4 else REMOTE_V6))
    assert told is not None and stage.tun.delivered() == [told]
    stage.datapath.set_shares({0: 0}, stage.now)
    stage.send(sized(1351, version), sized(1350, version))
    assert [each[26:28] if version == 4 else each[46:48] for each in stage.tun.delivered()] == [
        (1350).to_bytes(2, "big")
    ]
    assert sent(wans) == [[], [1350]]
    assert stage.counters().egress_dropped == {"too_big": 2}


def test_without_any_path_nobody_is_told_a_size(stage: Stage) -> None:
    """The reason is another one."""
    two_paths(stage, (1400, 1350))
    stage.datapath.set_shares({0: 0, 1: 0}, stage.now)
    stage.send(sized(1450))
    assert stage.counters().egress_dropped == {"no_path": 1}
    assert stage.tun.delivered() == []


def test_ipv6_is_never_told_of_less_than_1280(stage: Stage) -> None:
    """Every link carries that (RFC 8200 section 5): the widest path has to if none does."""
    wans = two_paths(stage, (1100, 1000), 6)
    stage.send(*[sized(1280, 6)] * 4, sized(1281, 6))
    assert sent(wans) == [[1280] * 4, []]
    (told,) = stage.tun.delivered()
    assert told[44:48] == (1280).to_bytes(4, "big")


def test_answers_are_limited(stage: Stage) -> None:
    """Some at once, and then some each second; all drops are counted."""
    two_paths(stage, (1400, 1400))
    count = int(ANSWERS_AT_ONCE) + 10
    stage.send(*[sized(1450)] * count)
    assert len(stage.tun.delivered()) == int(ANSWERS_AT_ONCE)
    stage.now += 0.1
    stage.send(*[sized(1450)] * count)
    assert len(stage.tun.delivered()) == 10
    assert stage.counters().egress_dropped == {"too_big": 2 * count}


def test_a_packet_that_may_be_cut_goes_in_fragments(stage: Stage) -> None:
    """Each as a packet of its own, over paths that carry it, with a number of its own; nobody is told."""
    wans = two_paths(stage, (600, 560), window=8)
    whole = sized(1400, dont_fragment=False)
    stage.send(whole)
    cut = fragments(whole, 600)
    arrived = sorted(datagram for wan in wans for datagram, _ in wan.sent())
    assert arrived == [gre.encode(4, number) + each for number, each in enumerate(cut)]
    assert stage.tun.delivered() == []
    counters = stage.counters()
    assert (counters.packets_read, counters.egress_dropped) == (3, {})


def test_a_packet_to_many_hosts_is_not_answered(stage: Stage) -> None:
    """Multicast, and broadcast in the tunnel's prefix."""
    two_paths(stage, (1400, 1400), broadcast=BROADCAST)
    stage.send(sized(1450, destination="224.0.0.5"), sized(1450, destination=str(BROADCAST)))
    assert stage.tun.delivered() == []
    assert stage.counters().egress_dropped == {"too_big": 2}


@pytest.mark.parametrize(("version", "most"), [(4, 1390), (6, 1370)])
def test_syns_are_clamped_in_both_directions(stage: Stage, version: int, most: int) -> None:
    """They leave and arrive as if their senders had known; other packets stay octet for octet."""
    there = ("10.0.0.2", "10.0.0.3") if version == 4 else ("fd00::2", "fd00::3")
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row(0, wan), local=there[0], remote=there[1], mss_clamp=1430))
    for source, destination in (there, there[::-1]):
        ends: dict[str, Any] = {"source": ip_address(source).packed, "destination": ip_address(destination).packed}
        for flags, before, after in ((SYN, 1460, most), (SYN | ACK, 1400, most), (SYN, 1300, 1300), (ACK, 1460, 1460)):
            segment, expected = (
                Inner(version, flags=flags, options=b"\x02\x04" + value.to_bytes(2, "big"), **ends).octets()
                for value in (before, after)
            )
            if source == there[0]:
                stage.send(segment)
                assert wan.sent()[0][0] == gre.encode(version) + expected
            else:
                assert stage.receive(wan, gre.encode(version) + segment) == [expected]

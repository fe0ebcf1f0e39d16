"""The traffic classes: what a packet is for the queue."""

from __future__ import annotations

from typing import Any

import pytest

from mpt.data.classes import ACKNOWLEDGEMENT, COPIED, OTHER, REALTIME, TCP, trait
from mpt.data.pathtable import ClassRule
from mpt.testing.datapath import LOCAL, LOCAL_V6, REMOTE, REMOTE_V6, packet
from mpt.wire import ip

FIN, SYN, RST, PUSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10


def segment(flags: int, payload: bytes = b"", words: int = 5, *, version: int = 4, tos: int = 0) -> bytes:
    """A TCP packet with a header of so many words."""
    header = b"\x10\0\0\x50" + bytes(8) + bytes((words << 4, flags)) + bytes(words * 4 - 14)
    ends = (LOCAL, REMOTE) if version == 4 else (LOCAL_V6, REMOTE_V6)
    return packet(*ends, header + payload, ip.TCP, tos)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("each", "expected"),
    [
        ((ACK, b""), ACKNOWLEDGEMENT),
        ((ACK | PUSH, b""), ACKNOWLEDGEMENT),
        ((ACK, b"", 8), ACKNOWLEDGEMENT),
        ((ACK, b"x"), TCP),
        ((ACK, b"x", 8), TCP),
        ((SYN, b""), TCP),
        ((SYN | ACK, b""), TCP),
        ((FIN | ACK, b""), TCP),
        ((RST, b""), TCP),
    ],
)
def test_segments(version: int, each: tuple[Any, ...], expected: int) -> None:
    """Only those without payload that change no state are pure acknowledgements."""
    assert trait(segment(*each, version=version), ()) == expected


def test_what_is_no_whole_segment() -> None:
    """Fragments, cut headers, other protocols."""
    first = bytearray(segment(ACK))
    first[6] = 0x20  # more fragments
    later = bytearray(segment(ACK))
    later[7] = 1
    for each in (bytes(first), bytes(later), segment(ACK)[:39], packet(), packet(protocol=ip.UDP)):
        assert trait(each, ()) == OTHER


@pytest.mark.parametrize("code_point", range(64))
def test_code_points(code_point: int) -> None:
    """EF, CS6 and AF4x are realtime, of whatever protocol (RFC 4594)."""
    expected = REALTIME if code_point in (34, 36, 38, 46, 48) else OTHER
    assert trait(packet(tos=code_point << 2 | 1), ()) == expected
    assert (trait(segment(ACK, tos=code_point << 2), ()) == REALTIME) is (expected == REALTIME)


def udp(source: int, destination: int, tos: int = 0) -> bytes:
    return packet(body=source.to_bytes(2, "big") + destination.to_bytes(2, "big") + bytes(8), protocol=ip.UDP, tos=tos)


@pytest.mark.parametrize(
    ("rule", "each", "fits"),
    [
        (ClassRule(), packet(), True),
        (ClassRule(dscps=frozenset({8, 10})), packet(tos=10 << 2), True),
        (ClassRule(dscps=frozenset({8, 10})), packet(tos=11 << 2), False),
        (ClassRule(protocol=ip.UDP), udp(1, 2), True),
        (ClassRule(protocol=ip.UDP), segment(ACK), False),
        (ClassRule(protocol=ip.ICMP), packet(protocol=ip.ICMP), True),
        (ClassRule(ports=((10, 20), (30, 30))), udp(20, 1), True),
        (ClassRule(ports=((10, 20), (30, 30))), udp(1, 30), True),
        (ClassRule(ports=((10, 20), (30, 30))), udp(9, 21), False),
        (ClassRule(ports=((0, 65535),)), packet(), False),
        (ClassRule(dscps=frozenset({8}), protocol=ip.UDP, ports=((5, 5),)), udp(5, 1, 8 << 2), True),
        (ClassRule(dscps=frozenset({8}), protocol=ip.UDP, ports=((5, 5),)), udp(5, 1), False),
    ],
)
def test_a_rule_has_what_fits_all_its_conditions(rule: ClassRule, each: bytes, fits: bool) -> None:
    """A condition that it does not make fits everything."""
    assert (trait(each, (rule,)) == REALTIME) is fits


def test_the_first_rule_that_fits_decides() -> None:
    """Also against the code point, and about copies."""
    rules = (
        ClassRule(ports=((7, 7),), realtime=False),
        ClassRule(protocol=ip.UDP, copies=2),
        ClassRule(protocol=ip.UDP),
    )
    assert trait(udp(7, 1, 46 << 2), rules) == OTHER
    assert trait(udp(8, 1), rules) == COPIED
    assert trait(segment(ACK), rules) == ACKNOWLEDGEMENT

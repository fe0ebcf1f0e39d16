"""An IPv4 packet in fragments, put together again as RFC 791 says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.fragment import fragments, may_be_cut
from mpt.wire.gre import checksum
from tests.accel.model import UDP, Inner
from tests.wire.packets import ip_packet


@given(st.integers(0, 3000), st.integers(28, 1500), st.integers(0, 500), st.booleans())
def test_fragments_are_the_packet(length: int, size: int, place: int, more: bool) -> None:
    """Each fits the size and has a right checksum; the offsets join without a gap, also in what was a fragment."""
    whole = ip_packet(17, "10.0.0.2", "10.0.0.3", bytes(index % 251 for index in range(length + 1)))
    field = place | more << 13
    cut = fragments(whole[:6] + field.to_bytes(2, "big") + whole[8:], size)
    assert all(len(each) <= size and checksum(each[:20]) == 0 for each in cut)
    assert all(each[:2] + each[4:6] + each[8:10] == whole[:2] + whole[4:6] + whole[8:10] for each in cut)
    fields = [int.from_bytes(each[6:8], "big") for each in cut]
    offset = place
    for each, flags in zip(cut, fields, strict=True):
        assert flags & 0x1FFF == offset
        offset += (len(each) - 20) // 8
    assert [bool(flags & 0x2000) for flags in fields] == [True] * (len(cut) - 1) + [more]
    assert b"".join(each[20:] for each in cut) == whole[20:]


def test_options_that_only_the_first_fragment_has() -> None:
    """Record route (7) becomes nothing in later fragments; router alert (148) stays."""
    options = bytes.fromhex("94040000 01070704 00000000")
    packet = (
        b"\x48\0" + (32 + 30).to_bytes(2, "big") + bytes(4) + b"\x40\x11" + bytes(2) + bytes(8) + options + bytes(30)
    )
    first, second = fragments(packet, 56)
    assert first[20:32] == options
    assert second[20:32] == bytes.fromhex("94040000 01010101 01010101")
    assert checksum(first[:32]) == checksum(second[:32]) == 0


GOOD = Inner(protocol=UDP, dont_fragment=False, payload=bytes(100)).octets()


@pytest.mark.parametrize(
    ("packet", "size"),
    [
        (GOOD, 27),  # not one octet of eight
        (b"\x44" + GOOD[1:], 60),
        (GOOD[:100], 60),  # shorter than it says
        (GOOD[:6] + b"\x1f\xff" + GOOD[8:], 60),  # it would end beyond any packet
        (b"\x4f" + GOOD[1:2] + b"\0\x3c" + GOOD[4:], 60),  # nothing but a header
    ],
)
def test_what_does_not_fit_is_not_cut(packet: bytes, size: int) -> None:
    """A header that does not fit its packet, or a size too small."""
    assert fragments(packet, size) == []


def test_who_lets_routers_cut() -> None:
    """A packet of IPv4 without "don't fragment"."""
    assert may_be_cut(GOOD)
    assert not may_be_cut(Inner(protocol=UDP).octets())
    assert not may_be_cut(Inner(6, UDP).octets())

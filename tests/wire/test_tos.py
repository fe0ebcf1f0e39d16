"""The TOS octet: what a datagram shows of its packet, and what of a datagram's mark gets into the packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.testing.datapath import packet
from mpt.wire import gre, tos

ADDRESSES = {4: ("10.0.0.2", "10.0.0.3"), 6: ("fec0::2", "fec0::3")}
NOT_ECT, ECT_1, ECT_0, CE = range(4)

# RFC 6040 figure 4, row by row: what the packet inside had; in columns: Not-ECT, ECT(0), ECT(1), CE outside.
COLUMNS = (NOT_ECT, ECT_0, ECT_1, CE)
FIGURE_4 = {
    NOT_ECT: (NOT_ECT, NOT_ECT, NOT_ECT, None),
    ECT_0: (ECT_0, ECT_0, ECT_1, CE),
    ECT_1: (ECT_1, ECT_1, ECT_1, CE),
    CE: (CE, CE, CE, CE),
}
UNEXPECTED = {(NOT_ECT, ECT_0), (NOT_ECT, ECT_1), (NOT_ECT, CE), (ECT_1, ECT_0), (CE, ECT_1)}
CELLS = [(inner, outer, FIGURE_4[inner][index]) for inner in range(4) for index, outer in enumerate(COLUMNS)]


def with_octet(version: int, value: int) -> bytes:
    """A packet with this TOS octet, its header checksum right; the flow label of IPv6 begins right after it."""
    made = bytearray(packet(*ADDRESSES[version], b"body", tos=value))
    made[1] |= 0x0A if version == 6 else 0
    return bytes(made)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("dscp", [0, 1, 46, 63])
@pytest.mark.parametrize(("inner", "outer", "expected"), CELLS)
def test_every_pair_of_ecn_fields(version: int, dscp: int, inner: int, outer: int, expected: int | None) -> None:
    """Figure 4 of RFC 6040, whatever the DSCP is; nothing but the octet and the checksum over it changes."""
    before = with_octet(version, dscp << 2 | inner)
    after = tos.decapsulated(before, outer)
    assert after == (None if expected is None else with_octet(version, dscp << 2 | expected))
    assert tos.is_unexpected(tos.octet(before), outer) == ((inner, outer) in UNEXPECTED)


@given(st.binary(min_size=20, max_size=60), st.integers(0, 255), st.sampled_from([ECT_1, CE]))
def test_the_checksum_follows(rest: bytes, value: int, outer: int) -> None:
    """Of any IPv4 header whatsoever, one with a wrong checksum stays wrong by as much."""
    before = bytes((0x45, value)) + rest
    after = tos.decapsulated(before, outer)
    if after is None:
        return
    assert before[:1] + after[1:2] + before[2:10] + after[10:12] + before[12:] == after
    difference = gre.checksum(before[:20]) % 0xFFFF
    assert gre.checksum(after[:20]) % 0xFFFF == difference


@pytest.mark.parametrize("value", range(256))
def test_the_octet_is_read(value: int) -> None:
    assert [tos.octet(with_octet(version, value)) for version in (4, 6)] == [value, value]


@pytest.mark.parametrize(
    ("dscp", "ecn", "expected"),
    [
        (0, False, lambda inner: 0),
        (46, False, lambda inner: 46 << 2),
        (None, False, lambda inner: inner & 0xFC),
        (0, True, lambda inner: inner & 3),
        (46, True, lambda inner: 46 << 2 | inner & 3),
        (None, True, lambda inner: inner),
    ],
)
def test_what_a_datagram_shows(dscp: int | None, ecn: bool, expected: object) -> None:
    """A fixed DSCP or that of the packet; its ECN field, or Not-ECT for a peer that would not look."""
    assert list(tos.encapsulated(dscp, ecn)) == [expected(inner) for inner in range(256)]  # type: ignore[operator]

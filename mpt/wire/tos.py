"""The TOS octet of IPv4, the traffic class of IPv6: six bits of DSCP (RFC 2474) and two bits of ECN (RFC 3168).

RFC 2983 (DSCP) and RFC 6040 (ECN) say how the octet of a packet makes the octet of its datagram, and the reverse.
"""

from __future__ import annotations

from functools import cache
from typing import Final

NOT_ECT: Final = 0b00
ECT_1: Final = 0b01
ECT_0: Final = 0b10
CE: Final = 0b11

# RFC 6040 figure 4: (inner, outer) -> the field that the packet gets; None: the packet must be dropped
_DECAPSULATED: Final[dict[tuple[int, int], int | None]] = {
    **{(inner, outer): inner for inner in range(4) for outer in range(4)},
    (NOT_ECT, CE): None,
    (ECT_0, ECT_1): ECT_1,
    (ECT_0, CE): CE,
    (ECT_1, CE): CE,
}
_UNEXPECTED: Final = {(NOT_ECT, ECT_0), (NOT_ECT, ECT_1), (NOT_ECT, CE), (ECT_1, ECT_0), (CE, ECT_1)}


def octet(packet: bytes) -> int:
    """Return the TOS octet of an IPv4 `packet`, the traffic class of an IPv6 packet."""
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] & 0x0F) << 4 | packet[1] >> 4


@cache
def encapsulated(dscp: int | None, ecn: bool) -> bytes:
    """Return the outer octet for each of the 256 inner octets.

    All datagrams have `dscp` (RFC 2983, pipe model); None copies the packet's DSCP (uniform model). `ecn` copies the
    ECN field (RFC 6040 section 4.1, normal mode). Without `ecn` the field is Not-ECT (compatibility mode), for
    a peer that ignores the outer field and would lose the marks of congestion.
    """
    return bytes(
        (inner & 0xFC if dscp is None else dscp << 2) | (inner & 0x03 if ecn else NOT_ECT) for inner in range(256)
    )


def decapsulated(packet: bytes, outer_ecn: int) -> bytes | None:
    """Return `packet` with the ECN field that `outer_ecn` gives it, or None: it must be dropped (RFC 6040 section 4.2).
    The checksum of an IPv4 header follows the change (RFC 1624)."""
    before = octet(packet)
    ecn = _DECAPSULATED[before & 0x03, outer_ecn]
    if ecn is None:
        return None
    after = before & 0xFC | ecn
    if after == before:
        return packet
    if packet[0] >> 4 == 6:
        return bytes((packet[0], packet[1] & 0x0F | after << 4 & 0xF0)) + packet[2:]
    # RFC 1624 equation 3; the word's other octet is unchanged
    checksum = (~(packet[10] << 8 | packet[11]) & 0xFFFF) + (~before & 0xFFFF) + after
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    checksum = ~((checksum & 0xFFFF) + (checksum >> 16)) & 0xFFFF
    return packet[:1] + bytes((after,)) + packet[2:10] + checksum.to_bytes(2, "big") + packet[12:]


def is_unexpected(inner: int, outer: int) -> bool:
    """Return whether no rule-keeping path makes this pair of ECN fields (RFC 6040 figure 4)."""
    return (inner & 0x03, outer & 0x03) in _UNEXPECTED

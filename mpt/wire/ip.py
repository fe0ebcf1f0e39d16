"""The header of an inner IP packet: its version, what is above it, and its ports.

IPv4 is RFC 791. IPv6 is RFC 8200, with the extension headers that may stand before the transport header.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_MAX_EXTENSION_HEADERS = 8  # more than any sane packet has; bounds the walk over a hostile one

MIN_LENGTH: Final = {4: 20, 6: 40}
# With 20 octets or more, IPv4 addresses (8 octets) and IPv6 addresses (12 to 32) are never equal as octets.
SHORTEST: Final = min(MIN_LENGTH.values())


def version(packet: bytes) -> int:
    """Return the IP version of `packet`, 4 or 6; 0 for anything else, also for an empty or truncated packet."""
    if not packet:
        return 0
    number = packet[0] >> 4
    return number if len(packet) >= MIN_LENGTH.get(number, 1 << 30) else 0


def destination(packet: bytes) -> IPv4Address | IPv6Address:
    """Return the destination address of a `packet` with a `version`."""
    return IPv4Address(packet[16:20]) if packet[0] >> 4 == 4 else IPv6Address(packet[24:40])


def ports(packet: bytes) -> tuple[int, int, int] | None:
    """Return (protocol, source port, destination port) of a TCP or UDP packet, else None; `packet` has a `version`.

    A later fragment has no ports, nor has a packet that is cut off before them: None.
    """
    found = transport(packet)
    if found is None:
        return None
    protocol, offset, _ = found
    if protocol not in (TCP, UDP) or len(packet) < offset + 4:
        return None
    return protocol, packet[offset] << 8 | packet[offset + 1], packet[offset + 2] << 8 | packet[offset + 3]


def transport(packet: bytes) -> tuple[int, int, bool] | None:
    """Return the protocol above IP, the offset of its header, and whether more fragments follow; `packet` has a
    `version`. A later fragment has no such header, nor has a packet whose extension headers are cut off: None."""
    return _transport_v4(packet) if packet[0] >> 4 == 4 else _transport_v6(packet)


def _transport_v4(packet: bytes) -> tuple[int, int, bool] | None:
    header_length = (packet[0] & 0x0F) * 4
    fragment_offset = (packet[6] & 0x1F) << 8 | packet[7]
    if header_length < 20 or fragment_offset:
        return None
    return packet[9], header_length, bool(packet[6] & 0x20)


def _transport_v6(packet: bytes) -> tuple[int, int, bool] | None:
    protocol, offset, more = packet[6], 40, False
    for _ in range(_MAX_EXTENSION_HEADERS + 1):
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION):
            return protocol, offset, more
        if len(packet) < offset + 8:
            return None
        if protocol == _FRAGMENT:
            if packet[offset + 2] << 8 | packet[offset + 3] & 0xF8:
                return None
            length, more = 8, bool(packet[offset + 3] & 1)
        elif protocol == _AUTHENTICATION:
            length = (packet[offset + 1] + 2) * 4
        else:
            length = (packet[offset + 1] + 1) * 8
        protocol, offset = packet[offset], offset + length
    return None

"""What was seen at an interface, as values: UDP datagrams, and ICMP errors about datagrams of ours (RFC 792, RFC 4443).

Whatever the octets are, decoding raises nothing; what is neither gives None.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from mpt.model import Address
from mpt.wire import ip

_UDP: Final = 17
_ICMP: Final = {4: 1, 6: 58}
_UDP_HEADER: Final = 8
_ICMP_HEADER: Final = 8


class Failure(enum.Enum):
    """Why a datagram did not arrive."""

    PORT = "nothing listens at the port"
    FORBIDDEN = "a firewall refuses it"
    NO_WAY = "there is no way to the host"
    TOO_LONG = "it is too long for a line on the way"


# ICMP (RFC 792, RFC 1812 section 5.2.7.1) type 3 and ICMPv6 (RFC 4443 section 3.1) type 1, by their code
_CODES: Final = {
    4: {3: Failure.PORT, 4: Failure.TOO_LONG, 9: Failure.FORBIDDEN, 10: Failure.FORBIDDEN, 13: Failure.FORBIDDEN},
    6: {4: Failure.PORT, 1: Failure.FORBIDDEN, 5: Failure.FORBIDDEN},
}


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram that arrived; `payload` may be cut."""

    source: Address
    source_port: int
    destination: Address
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unreachable:
    """`sender` says that a datagram to `destination` failed; `mtu`, for TOO_LONG, is what passes there, 0: unknown."""

    sender: Address
    destination: Address
    port: int
    failure: Failure
    mtu: int = 0


def decode(packet: bytes) -> Datagram | Unreachable | None:
    """Return what `packet`, from its IP header on, tells."""
    found = _transport(packet)
    if found is None:
        return None
    version, protocol, source, destination, payload = found
    if protocol == _UDP and len(payload) >= _UDP_HEADER:
        return Datagram(source, int.from_bytes(payload[:2], "big"), destination, payload[_UDP_HEADER:])
    if protocol != _ICMP[version] or len(payload) < _ICMP_HEADER:
        return None
    about = _transport(payload[_ICMP_HEADER:])
    failure = _failure(version, payload[0], payload[1])
    if about is None or failure is None or about[1] != _UDP or len(about[4]) < _UDP_HEADER:
        return None
    mtu = 0
    if failure is Failure.TOO_LONG:
        mtu = int.from_bytes(payload[6:8] if version == 4 else payload[4:8], "big")
    return Unreachable(source, about[3], int.from_bytes(about[4][2:4], "big"), failure, mtu)


def _failure(version: int, kind: int, code: int) -> Failure | None:
    if version == 6 and kind == 2:
        return Failure.TOO_LONG
    if kind != (3 if version == 4 else 1):
        return None
    return _CODES[version].get(code, Failure.NO_WAY)


def _transport(packet: bytes) -> tuple[int, int, Address, Address, bytes] | None:
    """IP version, protocol, source, destination and what follows; without the extension headers of IPv6."""
    if len(packet) < ip.SHORTEST:
        return None
    version = packet[0] >> 4
    if version == 4:
        length = (packet[0] & 0xF) * 4
        return version, packet[9], ip_address(packet[12:16]), ip_address(packet[16:20]), packet[length:]
    if version == 6 and len(packet) >= 40:
        return version, packet[6], ip_address(packet[8:24]), ip_address(packet[24:40]), packet[40:]
    return None

"""The answer to a packet that no path carries in one piece: its sender is told how large packets may be.

ICMP "fragmentation needed" is RFC 792 and RFC 1191, ICMPv6 "packet too big" RFC 4443 section 3.2. Errors, packets to
groups, packets from what is no single host, and later fragments get no answer (RFC 1812 section 4.3.2.7, RFC 4443
section 2.4 (e)).
"""

from __future__ import annotations

from typing import Final

from mpt.model import Address
from mpt.wire import ip
from mpt.wire.gre import checksum

LEAST_IPV6: Final = 1280  # octets that every link carries (RFC 8200 section 5); nobody is told of less
ANSWERS: Final = 100.0  # a second
ANSWERS_AT_ONCE: Final = 50.0
_LONGEST: Final = {4: 576, 6: 1280}  # octets of an answer (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c))
_IPV4, _IPV6, _ICMP = 20, 40, 8  # octets of headers
_CONTROL_TOS: Final = 0xC0  # internetwork control (RFC 1812 section 4.3.2.5)
_DONT_FRAGMENT: Final = 0x4000
_TTL: Final = 64
_UNREACHABLE, _FRAGMENTATION_NEEDED, _PACKET_TOO_BIG = 3, 4, 2
_ERRORS: Final = frozenset({3, 4, 5, 11, 12})  # of ICMP; of ICMPv6 all below 128, and redirects
_FIRST_QUERY, _REDIRECT = 128, 137


def answer(packet: bytes, size: int, sender: Address) -> bytes | None:
    """Return the packet from `sender` that tells the sender of `packet` that packets may have `size` octets.

    None: nobody may be told so. `packet` has the version of `sender` (`mpt.wire.ip.version`).
    """
    source, destination = (packet[12:16], packet[16:20]) if sender.version == 4 else (packet[8:24], packet[24:40])
    if not _is_host(source) or _is_group(destination) or not _may_be_answered(packet):
        return None
    quoted = packet[: _LONGEST[sender.version] - (_IPV4 if sender.version == 4 else _IPV6) - _ICMP]
    if sender.version == 4:
        message = bytes((_UNREACHABLE, _FRAGMENTATION_NEEDED)) + bytes(4) + size.to_bytes(2, "big") + quoted
        message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
        head = bytes((0x45, _CONTROL_TOS)) + (_IPV4 + len(message)).to_bytes(2, "big") + bytes(2)
        head += _DONT_FRAGMENT.to_bytes(2, "big") + bytes((_TTL, ip.ICMP, 0, 0)) + sender.packed + source
        return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + message
    message = bytes((_PACKET_TOO_BIG, 0, 0, 0)) + max(size, LEAST_IPV6).to_bytes(4, "big") + quoted
    pseudo = sender.packed + source + len(message).to_bytes(4, "big") + bytes((0, 0, 0, ip.ICMPV6))
    message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    head = bytes((0x60, 0, 0, 0)) + len(message).to_bytes(2, "big") + bytes((ip.ICMPV6, _TTL))
    return head + sender.packed + source + message


def _is_host(source: bytes) -> bool:
    """Return whether an address is that of a single host."""
    if len(source) == 4:
        return source[0] not in (0, 127) and source[0] < 224
    return not _is_group(source) and source[:15] != bytes(15)  # neither unspecified nor loopback


def _is_group(destination: bytes) -> bool:
    return destination[0] >= 224 if len(destination) == 4 else destination[0] == 0xFF


def _may_be_answered(packet: bytes) -> bool:
    """Return whether `packet` is neither an error nor a later fragment; what cannot be read may be either."""
    found = ip.transport(packet)
    if found is None:
        return False
    protocol, offset, _ = found
    if protocol not in (ip.ICMP, ip.ICMPV6):
        return True
    if len(packet) <= offset:
        return False
    kind = packet[offset]
    return kind not in _ERRORS if protocol == ip.ICMP else kind >= _FIRST_QUERY and kind != _REDIRECT


class Allowance:
    """How many may be given: `rate` a second, and `at_once`; of answers RFC 1812 section 4.3.2.8 asks for it."""

    __slots__ = ("_at_once", "_left", "_rate", "_when")

    def __init__(self, rate: float = ANSWERS, at_once: float = ANSWERS_AT_ONCE) -> None:
        self._rate = rate
        self._at_once = self._left = at_once
        self._when = 0.0

    def take(self, now: float) -> bool:
        """Return whether one more may be given at `now`, monotonic seconds; then it counts."""
        self._left = min(self._left + (now - self._when) * self._rate, self._at_once)
        self._when = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

"""The GRE header inside the UDP payload (RFC 2784, RFC 2890, RFC 8086; guide figure 2).

Octets 0 and 1 are flags and version, 2 and 3 the protocol type; then, each only if its flag is set and in this order:
checksum and reserved (4), key (4), sequence number (4). Everything is in network byte order.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from mpt.errors import DecodeError

CHECKSUM_PRESENT: Final = 0x8000  # RFC 2784 section 2.1
KEY_PRESENT: Final = 0x2000  # RFC 2890 section 2
SEQUENCE_PRESENT: Final = 0x1000  # RFC 2890 section 2
MUST_BE_ZERO: Final = 0x4C00  # bits 1, 4 and 5: RFC 2784 section 2.3, less what RFC 2890 gave a meaning
VERSION_MASK: Final = 0x0007

PROTOCOL_IPV4: Final = 0x0800
PROTOCOL_IPV6: Final = 0x86DD
IP_VERSIONS: Final = {PROTOCOL_IPV4: 4, PROTOCOL_IPV6: 6}
PROTOCOLS: Final = {4: PROTOCOL_IPV4, 6: PROTOCOL_IPV6}

_BASE = Struct("!HH")
_WORD = Struct("!I")


class Header(NamedTuple):
    """A decoded header: its length in octets, the IP version of its protocol type, its key and number, if any."""

    length: int
    ip_version: int
    key: int | None
    sequence: int | None


def prefix(ip_version: int, sequenced: bool, keyed: bool = False) -> bytes:
    """Return the first four octets of a header without checksum, for a packet of `ip_version` (4 or 6)."""
    flags = (SEQUENCE_PRESENT if sequenced else 0) | (KEY_PRESENT if keyed else 0)
    return _BASE.pack(flags, PROTOCOLS[ip_version])


def encode(ip_version: int, sequence: int | None = None, key: int | None = None) -> bytes:
    """Return a header of 4 octets; 4 more for a `key` and 4 more for a `sequence` number (each 0 .. 2^32 - 1)."""
    words = b"".join(_WORD.pack(word) for word in (key, sequence) if word is not None)
    return prefix(ip_version, sequence is not None, key is not None) + words


def decode(datagram: bytes) -> Header:
    """Return the header of `datagram`. Raises DecodeError with one reason for each "discard" of RFC 2784 and 2890."""
    if len(datagram) < 4:
        raise DecodeError("gre_truncated")
    flags, protocol = _BASE.unpack_from(datagram)
    if flags & VERSION_MASK:
        raise DecodeError("gre_version")
    if flags & MUST_BE_ZERO:
        raise DecodeError("gre_reserved_bits")
    if protocol not in IP_VERSIONS:
        raise DecodeError("gre_protocol")
    length = 4
    key = sequence = None
    if flags & CHECKSUM_PRESENT:
        length += 4
    if flags & KEY_PRESENT:
        if len(datagram) < length + 4:
            raise DecodeError("gre_truncated")
        (key,) = _WORD.unpack_from(datagram, length)
        length += 4
    if flags & SEQUENCE_PRESENT:
        if len(datagram) < length + 4:
            raise DecodeError("gre_truncated")
        (sequence,) = _WORD.unpack_from(datagram, length)
        length += 4
    if len(datagram) < length:
        raise DecodeError("gre_truncated")
    if flags & CHECKSUM_PRESENT and checksum(datagram) != 0:
        raise DecodeError("gre_checksum")
    return Header(length, IP_VERSIONS[protocol], key, sequence)


def checksum(octets: bytes) -> int:
    """Return the Internet checksum of `octets` (RFC 1071), 0 .. 0xFFFF; 0 if they contain their own right checksum.

    The one's complement sum of 16-bit words is the whole number modulo 0xFFFF, because 2^16 is 1 there.
    """
    if len(octets) % 2:
        octets += b"\0"
    number = int.from_bytes(octets, "big")
    if number == 0:
        return 0xFFFF
    return 0xFFFF - ((number - 1) % 0xFFFF + 1)

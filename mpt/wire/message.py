"""The messages inside a session (session 4): contents of an envelope with bit 6 of their first octet set.

    41      keepalive: flags (1: please answer), then zeros
    43, 44  challenge, response: 8 random octets, then zeros
    45, 46  path status: path id, status (00 up, 80 down), reason; and what was seen of it: path id, status
            the reason of "up" is what the path costs its sender: 0 free, 1 metered, 2 backup
    47, 48  size probe: the size of its datagram, then zeros; and what was seen of it: the size
    4f      close: reason

A size is the octets of a whole datagram, the envelope included. An unknown message is counted and ignored; unknown
octets behind a known one are ignored, too. Whatever the octets are, decoding raises nothing but DecodeError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from mpt.errors import DecodeError
from mpt.wire.seal import OVERHEAD

KEEPALIVE: Final = 0x41
CHALLENGE: Final = 0x43
RESPONSE: Final = 0x44
PATH_STATUS: Final = 0x45
PATH_STATUS_SEEN: Final = 0x46
SIZE_PROBE: Final = 0x47
SIZE_SEEN: Final = 0x48
CLOSE: Final = 0x4F
KNOWN: Final = frozenset((KEEPALIVE, CHALLENGE, RESPONSE, PATH_STATUS, PATH_STATUS_SEEN, SIZE_PROBE, SIZE_SEEN, CLOSE))

SHORTEST_KEEPALIVE: Final = 32  # octets; carriers drop less
ASK: Final = 0x01  # flag of a keepalive
UP: Final = 0x00
DOWN: Final = 0x80
NONCE_LENGTH: Final = 8

_SIZE = Struct("!BH")


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A sign of life; `asks`: please answer with one that does not ask."""

    asks: bool = False

    def encode(self) -> bytes:
        """Return the octets."""
        return bytes((KEEPALIVE, ASK if self.asks else 0)).ljust(SHORTEST_KEEPALIVE, b"\0")


@dataclass(frozen=True, slots=True)
class Challenge:
    """Whoever has the keys answers with the same `nonce` of 8 octets; `size` is how large the datagram is at least."""

    nonce: bytes
    size: int = 0

    def encode(self) -> bytes:
        """Return the octets."""
        return _padded(bytes((CHALLENGE,)) + self.nonce, self.size)


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a challenge with this `nonce`; `size` is how large the datagram is at least."""

    nonce: bytes
    size: int = 0

    def encode(self) -> bytes:
        """Return the octets."""
        return _padded(bytes((RESPONSE,)) + self.nonce, self.size)


@dataclass(frozen=True, slots=True)
class PathStatus:
    """The sender says whether a path is up for it; repeated until it was seen.

    `reason`, 0 .. 255: why it is down, 0: no reason; of a path that is up its cost, an index of model.COSTS.
    """

    path_id: int
    up: bool
    reason: int = 0

    def encode(self) -> bytes:
        """Return the octets."""
        return bytes((PATH_STATUS, self.path_id, UP if self.up else DOWN, self.reason))


@dataclass(frozen=True, slots=True)
class PathStatusSeen:
    """The sender has seen a path status."""

    path_id: int
    up: bool

    def encode(self) -> bytes:
        """Return the octets."""
        return bytes((PATH_STATUS_SEEN, self.path_id, UP if self.up else DOWN))


@dataclass(frozen=True, slots=True)
class SizeProbe:
    """A datagram of `size` octets: does it arrive?"""

    size: int

    def encode(self) -> bytes:
        """Return the octets."""
        return _padded(_SIZE.pack(SIZE_PROBE, self.size), self.size)


@dataclass(frozen=True, slots=True)
class SizeSeen:
    """A size probe of `size` octets has arrived."""

    size: int

    def encode(self) -> bytes:
        """Return the octets."""
        return _SIZE.pack(SIZE_SEEN, self.size)


@dataclass(frozen=True, slots=True)
class Close:
    """The session is forgotten by both ends; `reason` is 0 .. 255, 0: none is given."""

    reason: int = 0

    def encode(self) -> bytes:
        """Return the octets."""
        return bytes((CLOSE, self.reason))


SealedMessage = Keepalive | Challenge | Response | PathStatus | PathStatusSeen | SizeProbe | SizeSeen | Close


def decode_message(octets: bytes) -> SealedMessage:
    """Return a message. Raises DecodeError with one of the reasons message_unknown, message_short, message_size."""
    if not octets or octets[0] not in _FORMS:
        raise DecodeError("message_unknown", octets[:1].hex())
    shortest, read = _FORMS[octets[0]]
    if len(octets) < shortest:
        raise DecodeError("message_short", f"{octets[:1].hex()} of {len(octets)} octets")
    return read(octets)


def _padded(octets: bytes, size: int) -> bytes:
    return octets.ljust(size - OVERHEAD, b"\0")


def _size_probe(octets: bytes) -> SizeProbe:
    """Return the probe; its size is the size that it has."""
    _, size = _SIZE.unpack_from(octets)
    if size != len(octets) + OVERHEAD:
        raise DecodeError("message_size", f"{len(octets) + OVERHEAD} octets say {size}")
    return SizeProbe(size)


# First octet -> the octets that the message has at least, and the function that reads them.
_FORMS: Final[dict[int, tuple[int, Callable[[bytes], SealedMessage]]]] = {
    KEEPALIVE: (2, lambda octets: Keepalive(bool(octets[1] & ASK))),
    CHALLENGE: (9, lambda octets: Challenge(octets[1:9], len(octets) + OVERHEAD)),
    RESPONSE: (9, lambda octets: Response(octets[1:9], len(octets) + OVERHEAD)),
    PATH_STATUS: (4, lambda octets: PathStatus(octets[1], octets[2] == UP, octets[3])),
    PATH_STATUS_SEEN: (3, lambda octets: PathStatusSeen(octets[1], octets[2] == UP)),
    SIZE_PROBE: (3, _size_probe),
    SIZE_SEEN: (3, lambda octets: SizeSeen(_SIZE.unpack_from(octets)[1])),
    CLOSE: (2, lambda octets: Close(octets[1])),
}

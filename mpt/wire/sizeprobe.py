"""Size probes of plain connections: keepalives with more octets behind them, to which a peer that is mpt answers.

Behind the 40 octets of the keepalive (all numbers big endian)::

    0       4D 50 54 53 ("MPTS")
    4       1 probe, 2 answer
    5       0
    6       size: octets of the datagram, of its UDP payload, that is asked for or was seen
    8       of a probe: zeros, up to that size

An answer repeats the size of a probe that has come whole. For every other receiver both are keepalives: it ignores the
octets behind them, as the C program does.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from mpt.wire.command import HEADER_LENGTH

_MARK: Final = b"MPTS"
_TAIL: Final = struct.Struct("!4sBxH")
_PROBE, _ANSWER = 1, 2
_FRAME: Final = 4  # octets of GRE before a keepalive
SMALLEST: Final = _FRAME + HEADER_LENGTH + _TAIL.size  # octets of the datagram of a probe, whatever it asks for


class SizeTail(NamedTuple):
    """A probe, or the answer to one, of `size` octets."""

    is_answer: bool
    size: int


def probe(keepalive: bytes, size: int) -> bytes:
    """Return the message of a datagram of `size` octets, or of as many as it takes at least."""
    message = keepalive + _TAIL.pack(_MARK, _PROBE, size)
    return message.ljust(size - _FRAME, b"\0")


def answer(keepalive: bytes, size: int) -> bytes:
    """Return the message which says that a probe of `size` octets has come."""
    return keepalive + _TAIL.pack(_MARK, _ANSWER, size)


def decode(message: bytes) -> SizeTail | None:
    """Return what stands behind a keepalive; None: nothing, or a probe that is shorter than it says."""
    if len(message) < HEADER_LENGTH + _TAIL.size:
        return None
    mark, kind, size = _TAIL.unpack_from(message, HEADER_LENGTH)
    if mark != _MARK or kind not in (_PROBE, _ANSWER):
        return None
    if kind == _PROBE and size > len(message) + _FRAME:
        return None
    return SizeTail(kind == _ANSWER, size)

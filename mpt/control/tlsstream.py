"""The octets of TLS over datagrams that may be lost, repeated and reordered (session 2): one object for each end.

Each direction is a stream of octets that count from 0. An end sends its octets in datagrams of at most LARGEST_DATA,
of which at most UNDER_WAY are unacknowledged, and sends these again after FIRST_WAIT seconds, then after twice that, up
to LONGEST_WAIT. Whatever the peer says, no stream grows beyond LONGEST_STREAM.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mpt.wire.seal import LARGEST_DATA

UNDER_WAY: Final = 4  # datagrams
FIRST_WAIT: Final = 0.25  # s
LONGEST_WAIT: Final = 2.0  # s
LONGEST_STREAM: Final = 16384  # octets: three flights, with certificates, and two hello objects


class Part(NamedTuple):
    """Octets of our stream from `offset` on, as a datagram carries them."""

    offset: int
    data: bytes


class TlsStream:
    """Our octets to the peer, and the peer's to us."""

    __slots__ = ("_due", "_parts", "_unread", "_unsent", "_wait", "_written", "arrived")

    def __init__(self) -> None:
        self.arrived = 0  # octets of the peer's stream without a gap: what we acknowledge
        self._unread: dict[int, bytes] = {}  # the peer's octets behind a gap, by offset
        self._unsent = b""
        self._written = 0  # octets that have been put into parts
        self._parts: list[Part] = []  # under way, in order
        self._wait = FIRST_WAIT
        self._due = 0.0

    @property
    def is_acknowledged(self) -> bool:
        """Return whether the peer has all of our octets."""
        return not self._parts and not self._unsent

    def write(self, octets: bytes) -> None:
        """Put `octets` behind those that we have for the peer."""
        self._unsent += octets

    def read(self, offset: int, data: bytes) -> bytes:
        """Take in octets of the peer; return those that now follow without a gap. Any others wait, within bounds."""
        is_new = self.arrived < offset + len(data) <= LONGEST_STREAM
        if is_new and (len(self._unread) < 2 * UNDER_WAY or offset <= self.arrived):
            self._unread[offset] = max(self._unread.get(offset, b""), data, key=len)
        octets = b""
        while self._unread:
            offset = min(self._unread)
            if offset > self.arrived:
                break
            news = self._unread.pop(offset)[self.arrived - offset :]
            octets += news
            self.arrived += len(news)
        return octets

    def acknowledged(self, count: int, now: float) -> None:
        """Note that the peer has the first `count` of our octets."""
        left = [part for part in self._parts if part.offset + len(part.data) > count]
        if len(left) < len(self._parts) and count <= self._written:
            self._parts = left
            self._wait = FIRST_WAIT
            self._due = now + self._wait

    def new_parts(self, now: float) -> list[Part]:
        """Return the parts to send now that were not sent before."""
        parts = []
        while self._unsent and len(self._parts) < UNDER_WAY:
            part = Part(self._written, self._unsent[:LARGEST_DATA])
            self._unsent = self._unsent[LARGEST_DATA:]
            self._written += len(part.data)
            self._parts.append(part)
            parts.append(part)
        if parts:
            self._due = now + self._wait
        return parts

    def parts_again(self, now: float) -> list[Part]:
        """Return the parts to send again, if it is time."""
        if not self._parts or now < self._due:
            return []
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        self._due = now + self._wait
        return list(self._parts)

    def from_the_start(self, now: float) -> list[Part]:
        """Return all parts under way, to send again at once."""
        self._due = now + self._wait
        return list(self._parts)

    def next_deadline(self) -> float | None:
        """Return when `parts_again` has something; None: everything is acknowledged."""
        return self._due if self._parts else None

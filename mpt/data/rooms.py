"""Which path carries the next packet of an adaptive connection: the one over which it arrives first, of those that have
room (docs/architecture.md).

Control gives each path its limits (`mpt.limits.PathLimits`). Always true:

- *Bulk* goes over live, admitted paths alone. Nothing of it makes more than the window be under way, but a single
  datagram, or goes more than `burst` before its turn in the pace.
- What may *bypass* the window makes at most EXCESS of it, and EXCESS_OCTETS, be under way beyond it.
- If control lets no path live, all are live; if it admits no live one, all live ones are admitted; and so are they for
  a packet that no admitted one carries: packets go somehow.
- A path whose socket is full has no room for BLOCKED.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mpt.data.flight import MOST, Flight
from mpt.limits import START_LIMITS

EXCESS: Final = 0.1
EXCESS_OCTETS: Final = 3028  # two large packets
BLOCKED: Final = 0.002  # s
PERIODS: Final = 10  # of a second, in which octets are summed up
PERIOD: Final = 0.1  # s


class Room:
    """One path: its limits, what is under way, and its turn in the pace; `index` is its place in the row."""

    __slots__ = (
        "asked",
        "asked_at",
        "blocked_until",
        "copies",
        "flight",
        "index",
        "limited_at",
        "limits",
        "progress_at",
        "received",
        "reported_at",
        "resent",
        "sent",
        "told_at",
        "turn",
    )

    def __init__(self) -> None:
        self.index = 0
        self.limits = START_LIMITS
        self.flight = Flight()
        self.turn = 0.0  # when the pace lets the next datagram go
        self.blocked_until = 0.0
        self.limited_at = 0.0  # when window or pace last held a packet back; 0.0: never
        self.reported_at = 0.0  # when the last report came; 0.0: never
        self.told_at = 0.0  # when control was last told of a report; 0.0: never
        self.progress_at = 0.0  # when the peer was last told to have got further; 0.0: never
        self.asked_at = 0.0  # when its last packets were copied, or a probe went; 0.0: never
        self.asked = 0  # how often since the peer got further
        self.sent = self.received = 0  # octets of all datagrams, OUTER for each included, since the beginning
        self.resent = self.copies = 0  # packets, since the beginning

    def arrival(self) -> float:
        """Return how much later than over an empty path without delay a datagram arrives that goes now, in seconds."""
        limits = self.limits
        return limits.delay + max(0.0, self.flight.octets / max(limits.rate, 1.0) - limits.slack)

    def has_window(self, size: int) -> bool:
        """Return whether the window has room for a datagram of `size` octets."""
        flight = self.flight
        return (flight.octets + size <= self.limits.window or not flight.packets) and flight.packets < MOST

    def has_excess(self, size: int) -> bool:
        """Return whether there is room for one that may bypass the window."""
        most = self.limits.window * (1 + EXCESS) + EXCESS_OCTETS
        flight = self.flight
        return (flight.octets + size <= most or not flight.packets) and flight.packets < MOST

    def opens_at(self) -> float:
        """Return when pace and socket let the next datagram go."""
        return max(self.turn - self.limits.burst, self.blocked_until)

    def went(self, size: int, now: float) -> None:
        """Note that a datagram of `size` octets was sent: the turn of the next one comes later."""
        if self.limits.pace:
            self.turn = max(self.turn, now) + size / self.limits.pace


class Rooms:
    """The open paths of one connection; `set_open` says which these are."""

    __slots__ = ("_admitted", "_live", "_open")

    def __init__(self) -> None:
        self._open: tuple[Room, ...] = ()
        self.changed()

    def set_open(self, rooms: Iterable[Room]) -> None:
        """Use these paths from now on, in the order of the row."""
        self._open = tuple(rooms)
        self.changed()

    def changed(self) -> None:
        """Look at the limits again."""
        self._live = tuple(room for room in self._open if room.limits.is_live) or self._open
        self._admitted = tuple(room for room in self._live if room.limits.admits) or self._live

    @property
    def open(self) -> tuple[Room, ...]:
        """Return the open paths."""
        return self._open

    @property
    def live(self) -> tuple[Room, ...]:
        """Return the paths that may carry packets."""
        return self._live

    def rate(self) -> float:
        """Return the octets a second that the live paths take together."""
        return sum(room.limits.rate for room in self._live)

    def for_bulk(self, size: int, now: float, fitting: frozenset[int] | None = None) -> Room | None:
        """Return the path for a bulk datagram of `size` octets, or None: it waits, and the paths note that they held it
        back. `fitting`: the indices of the paths that carry it; None: all do."""
        return _earliest(room for room in self._carrying(fitting) if _takes_bulk(room, size, now))

    def for_repair(
        self, size: int, now: float, fitting: frozenset[int] | None = None, besides: Room | None = None
    ) -> Room | None:
        """Return the path of least arrival for what is sent again: not `besides`, in its pace, with the room of what
        bypasses the window. None: it waits."""
        carrying = self._carrying(fitting, besides)
        return _earliest(room for room in carrying if room.has_excess(size) and room.opens_at() <= now)

    def at_once(self, size: int, now: float, fitting: frozenset[int] | None = None) -> Room | None:
        """Return the live path of least arrival for a datagram that bypasses window and pace. None: none has room."""
        carrying = _others(self._live, fitting, None)
        return _earliest(room for room in carrying if room.blocked_until <= now and room.has_excess(size))

    def for_copy(self, now: float, first: Room, fitting: frozenset[int] | None = None) -> Room | None:
        """Return the live path of least arrival on another line than `first`, for the copy of what went there. Copies
        are so few that no window holds them back. None: there is none."""
        others = (room for room in _others(self._live, fitting, None) if room.limits.line != first.limits.line)
        return _earliest(room for room in others if room.blocked_until <= now and room.flight.packets < MOST)

    def opens_at(self, size: int, fitting: frozenset[int] | None = None) -> float | None:
        """Return when pace and socket of a path let go a bulk datagram of `size` octets for which its window has room;
        None: all wait for reports."""
        return min((room.opens_at() for room in self._carrying(fitting) if room.has_window(size)), default=None)

    def repair_opens_at(
        self, size: int, fitting: frozenset[int] | None = None, besides: Room | None = None
    ) -> float | None:
        """Return when the pace of a path lets go what is sent again; None: all wait for reports."""
        carrying = self._carrying(fitting, besides)
        return min((room.opens_at() for room in carrying if room.has_excess(size)), default=None)

    def _carrying(self, fitting: frozenset[int] | None, besides: Room | None = None) -> Sequence[Room]:
        """Return the paths that may carry bulk: the admitted ones, if one of them carries it, else the live ones."""
        return _others(self._admitted, fitting, besides) or _others(self._live, fitting, besides)


def _others(rooms: Sequence[Room], fitting: frozenset[int] | None, besides: Room | None) -> Sequence[Room]:
    """Return the `rooms` whose paths are `fitting`, without the room `besides`."""
    if fitting is None and besides is None:
        return rooms
    return [room for room in rooms if room is not besides and (fitting is None or room.index in fitting)]


def _takes_bulk(room: Room, size: int, now: float) -> bool:
    """Return whether a path has room for bulk now; else it notes that it held it back."""
    if room.has_window(size) and room.opens_at() <= now:
        return True
    room.limited_at = now
    return False


def _earliest(rooms: Iterable[Room]) -> Room | None:
    """Return the path of least arrival; None: there is none."""
    return min(rooms, key=Room.arrival, default=None)


class RecentOctets:
    """How many octets were sent in the last second, to a tenth of it."""

    __slots__ = ("_period", "_sums", "_total")

    def __init__(self) -> None:
        self._period = 0
        self._sums = [0] * PERIODS
        self._total = 0

    def add(self, octets: int, now: float) -> None:
        """Note octets that are sent now."""
        self._advance(now)
        self._sums[self._period % PERIODS] += octets
        self._total += octets

    def total(self, now: float) -> int:
        """Return the octets of the last second."""
        self._advance(now)
        return self._total

    def _advance(self, now: float) -> None:
        period = int(now / PERIOD)
        for each in range(max(self._period + 1, period - PERIODS + 1), period + 1):
            self._total -= self._sums[each % PERIODS]
            self._sums[each % PERIODS] = 0
        self._period = max(self._period, period)

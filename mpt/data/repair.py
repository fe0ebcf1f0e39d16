"""Sending again: what a path has lost, what hangs on a path that has fallen silent, and the end of a burst.

Always true:

- A packet is sent again TRIES times at most, and not if it would arrive more than TOO_LATE after it was sent first, by
  the least delay. What was sent again may be sent again when that is lost.
- In a second no more than SHARE of the octets that were sent are sent again, and BURST beside.
- A copy of a packet that hangs on a path goes over another one, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from mpt.data.flight import Entry
from mpt.data.rooms import RecentOctets, Room, Rooms

TRIES: Final = 3
TOO_LATE: Final = 0.300  # s
SHARE: Final = 0.15
BURST: Final = 45_420  # octets: 30 large packets
PATIENCE: Final = 4  # doublings of the time without news after which a path is asked again

Send = Callable[[Entry, Room, float], bool]  # send the content of an entry over a path; False: its socket is full
Fitting = Callable[[Entry], frozenset[int] | None]


class Repair:
    """The repair of one connection, over `rooms`. `send` sends the content of an entry again over a path, and returns
    whether its socket took it; `fitting` returns the paths that carry it, None: all."""

    __slots__ = ("_fitting", "_rooms", "_send", "_sent", "_sent_again", "_waiting", "late", "refused", "resent")

    def __init__(self, rooms: Rooms, sent: RecentOctets, send: Send, fitting: Fitting) -> None:
        self._rooms = rooms
        self._sent = sent
        self._sent_again = RecentOctets()
        self._send = send
        self._fitting = fitting
        self._waiting: deque[Entry] = deque()  # lost, and no socket had room
        self.resent = self.late = self.refused = 0

    def lost(self, entry: Entry, now: float) -> None:
        """Send again what a path has lost, if it is repaired."""
        other = entry.other
        if other is not None:  # now it is the only one
            other.is_copied, other.other, entry.other = False, None, None
        else:
            self.keep([entry])
            self.go(now)

    def keep(self, entries: list[Entry]) -> None:
        """Send these with the next `go`, if they are repaired."""
        for entry in entries:
            if entry.content is not None and not entry.is_copied and entry.tries < TRIES:
                self._waiting.append(entry)

    def go(self, now: float) -> None:
        """Send what was lost, as far as sockets have room."""
        while self._waiting:
            entry = self._waiting[0]
            fitting = self._fitting(entry)
            room = self._rooms.for_bulk(entry.size, now, fitting)
            room = room or self._rooms.at_once(entry.size, now, fitting, bounded=False)
            if room is None and self._is_young(entry, 0.0, now):
                return
            self._waiting.popleft()
            if room is None or not self._is_young(entry, self._lag(room), now):
                self.late += 1
            elif not self._may(entry.size, now):
                self.refused += 1
            elif self._send(entry, room, now):
                self._went(entry, room, now)
            else:
                self._waiting.appendleft(entry)

    def copy(self, hanging: Room, now: float, bounded: bool) -> int:
        """Send everything that hangs on a path over others, once; `bounded`: as far as the share of repair allows.
        Return how many packets went."""
        count = 0
        for entry in hanging.flight.repaired():
            room = self._rooms.at_once(entry.size, now, self._fitting(entry), besides=hanging, bounded=False)
            if room is None:
                break
            if entry.tries >= TRIES or not self._is_young(entry, self._lag(room), now):
                self.late += 1
                entry.content = None
            elif bounded and not self._may(entry.size, now):
                self.refused += 1
                break
            elif self._send(entry, room, now):
                entry.is_copied = True
                self._went(entry, room, now)
                count += 1
        return count

    def _lag(self, room: Room) -> float:
        """Return how much later than over the fastest path something arrives that goes over this one now."""
        return room.arrival() - min(each.limits.delay for each in self._rooms.live)

    def _is_young(self, entry: Entry, lag: float, now: float) -> bool:
        return now - entry.first + lag <= TOO_LATE

    def _may(self, size: int, now: float) -> bool:
        return self._sent_again.total(now) + size <= SHARE * self._sent.total(now) + BURST

    def _went(self, entry: Entry, room: Room, now: float) -> None:
        self._sent_again.add(entry.size, now)
        self.resent += 1
        room.resent += 1

    @property
    def waits(self) -> bool:
        """Return whether something waits for a socket."""
        return bool(self._waiting)


def tail_due(room: Room) -> float | None:
    """Return when a path has brought no news for too long, so that its last packets may be lost; None: none is due."""
    oldest = room.flight.oldest()
    if oldest is None:
        return None
    return max(oldest.sent, room.progress_at, room.asked_at) + room.limits.rto * (1 << min(room.asked, PATIENCE))

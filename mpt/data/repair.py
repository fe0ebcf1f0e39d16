"""Sending again: what a path has lost, what hangs on a path that has fallen silent, and the end of a burst.

Always true:

- A packet is sent again TRIES times at most, and not if it would arrive more than TOO_LATE after it was sent first, by
  the least delay. What was sent again may be sent again when that is lost.
- In a second no more than SHARE of the octets that were sent are sent again, and BURST beside. A rescue is counted, but
  never refused.
- A copy of a packet that hangs on a path goes over another one, once.
- It goes before all packets that wait, but it waits for room, too: a whole window at once would be a queue for others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
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
        self._waiting: dict[Room | None, deque[Entry]] = {}  # by the path over which it must not go
        self.resent = self.late = self.refused = 0

    def lost(self, entries: Iterable[Entry], now: float) -> None:
        """Let what is lost go again, if it is repaired, with the next `go`."""
        for entry in entries:
            other = entry.other
            if other is not None:  # now that one is the only one
                other.is_copied, other.other, entry.other = False, None, None
            elif entry.content is not None and not entry.is_copied:
                self._keep(entry, None, now, bounded=True)

    def copy(self, hanging: Room, now: float, bounded: bool) -> int:
        """Let everything that hangs on a path go over others, too, once; `bounded`: as far as the share of repair
        allows. Return how many packets these are."""
        if all(room is hanging for room in self._rooms.live):
            return 0
        return sum(self._keep(entry, hanging, now, bounded) for entry in hanging.flight.repaired())

    def _keep(self, entry: Entry, hanging: Room | None, now: float, bounded: bool) -> bool:
        """Let an entry wait for room, unless it is too old, or was sent again too often, or too much is."""
        if entry.tries >= TRIES or now - entry.first > TOO_LATE:
            self.late += 1
            entry.content = None
            return False
        if bounded and self._sent_again.total(now) + entry.size > SHARE * self._sent.total(now) + BURST:
            self.refused += 1
            return False
        self._sent_again.add(entry.size, now)
        entry.is_copied = hanging is not None
        self._waiting.setdefault(hanging, deque()).append(entry)
        return True

    def go(self, now: float) -> None:
        """Send what waits, as far as there is room."""
        for hanging, entries in tuple(self._waiting.items()):
            while entries:
                entry = entries[0]
                room = self._rooms.for_repair(entry.size, now, self._fitting(entry), hanging)
                lag = 0.0 if room is None else self._lag(room)
                if now - entry.first + lag > TOO_LATE:
                    self.late += 1
                elif room is None:
                    break
                elif self._send(entry, room, now):
                    self.resent += 1
                    room.resent += 1
                else:
                    continue  # its socket is full: another path, or later
                entries.popleft()
            if not entries:
                del self._waiting[hanging]

    def _lag(self, room: Room) -> float:
        """Return how much later than over the fastest path something arrives that goes over this one now."""
        return room.arrival() - min(each.limits.delay for each in self._rooms.live)

    def deadline(self) -> float | None:
        """Return when `go` must be called, whatever happens; None: nothing waits."""
        due: list[float] = []
        for hanging, entries in self._waiting.items():
            opens = self._rooms.repair_opens_at(entries[0].size, self._fitting(entries[0]), hanging)
            due.append(opens if opens is not None else entries[0].first + 2 * TOO_LATE)  # then it is dropped
        return min(due, default=None)


def tail_due(room: Room) -> float | None:
    """Return when a path has brought no news for too long, so that its last packets may be lost; None: none is due."""
    oldest = room.flight.oldest()
    if oldest is None:
        return None
    return max(oldest.sent, room.progress_at, room.asked_at) + room.limits.rto * (1 << min(room.asked, PATIENCE))

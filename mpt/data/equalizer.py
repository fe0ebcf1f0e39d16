"""Making the paths of one connection equally late, so that connections inside the tunnel see one steady delay.

While traffic is sparse, packets of a fast path wait for nothing; while it is dense, they wait for the slow path. A TCP
connection whose first packets took the fast path believes in its short round trip, and congestion control then goes
wrong (BBR keeps a twentieth of the rate for its ten seconds; CUBIC leaves slow start). So a packet of a faster path is
held back by the difference before it enters the reorder buffer.

`lag` is how much later a path is than the fastest. No field on the wire gives it; two observations do:

- A packet fills a gap, and its successor came over another path: the difference of their arrival times is the
  difference of the paths. Dense traffic gives this hundreds of times a second, in both directions.
- A host sends the keepalives of all its paths in one moment, so their arrivals differ by the delays of the paths. This
  is known before the first data, but for whole intervals: at intervals of 0.1 s, 60 ms earlier looks like 40 ms later.
  Of two readings that are both possible, the one that is nearer to what was believed before is taken, and none if
  both are about as near.

Nothing is held back for a path that brings a small part of the packets: a backup line would make all the others late.
Differences beyond `limit` (seconds) are not levelled out. A wrong estimate costs no more than `limit` in delay, and no
packet.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from typing import Final

GAP_GAIN: Final = 1 / 8  # of one observation; dense traffic makes hundreds a second
KEEPALIVE_GAIN: Final = 1 / 2
NEARER: Final = 7 / 16  # of an interval; at 1/2 two readings are equally near, and timers are not exact
NEGLIGIBLE: Final = 0.003  # s; less than the scheduling noise of the hosts, and not worth a timer
SHARE: Final = 0.75  # of max_buffdelay for levelling; the rest is for waiting for gaps
DOUBT: Final = 10.0  # s without belief in keepalives, the first time that they were wrong
LONGEST_DOUBT: Final = 640.0  # s; doubt doubles each time

Delayed = tuple[int, bytes, Hashable, float, int | None, int]  # sequence, packet, path, time of arrival, key, sent
Line = deque[tuple[float, Delayed]]  # by the time when each is due


class Equalizer:
    """The delay line before a reorder buffer; if more than `capacity` packets wait in it, the first goes on early."""

    __slots__ = (
        "_believes_from",
        "_capacity",
        "_doubt",
        "_intervals",
        "_is_dense",
        "_keepalives",
        "_lag",
        "_limit",
        "_lines",
        "_minor",
        "_waiting",
        "shifts",
    )

    def __init__(self, limit: float, capacity: int) -> None:
        self._limit = limit
        self._capacity = capacity
        self._lag: dict[Hashable, float] = {}
        self._keepalives: dict[Hashable, float] = {}  # when each path last brought one
        self._intervals: dict[Hashable, float] = {}  # s, between the last two of each path
        self._lines: defaultdict[Hashable, Line] = defaultdict(deque)
        self._waiting = 0
        self._minor: frozenset[Hashable] = frozenset()
        self._believes_from = 0.0  # when keepalives are believed again
        self._doubt = DOUBT
        self._is_dense = False  # gaps were filled since the last keepalives: gaps tell more
        self.shifts: dict[Hashable, float] = {}  # path -> s to hold its packets back, more than 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def longest_shift(self) -> float:
        """Return for how many seconds packets of the fastest path are held back now."""
        return max(self.shifts.values(), default=0.0)

    @property
    def is_full(self) -> bool:
        """Return whether no more packets may wait."""
        return self._waiting >= self._capacity

    def delay(
        self, sequence: int, packet: bytes, path: Hashable, now: float, key: int | None = None, sent: int = 0
    ) -> None:
        """Let a packet of a path in `shifts` wait.

        A path keeps its order: no packet overtakes an earlier one when the shift becomes smaller.
        """
        line = self._lines[path]
        due = now + self.shifts.get(path, 0.0)
        line.append((max(due, line[-1][0]) if line else due, (sequence, packet, path, now, key, sent)))
        self._waiting += 1

    def due(self, now: float) -> Delayed | None:
        """Return the next packet whose time has come, or None."""
        if not self._waiting:
            return None
        path, line = min(((path, line) for path, line in self._lines.items() if line), key=_first_due)
        if line[0][0] > now:
            return None
        self._waiting -= 1
        _, delayed = line.popleft()
        if not line and self.shifts.get(path) == 0.0:
            del self.shifts[path]  # it has run empty
        return delayed

    def next_deadline(self) -> float | None:
        """Return when the next packet is due, or None."""
        return min((line[0][0] for line in self._lines.values() if line), default=None) if self._waiting else None

    def path_up(self, path: Hashable, is_minor: bool = False) -> None:
        """Note that `path` may bring packets. `is_minor`: it has brought a small part of them so far."""
        if path not in self._lag:
            self._lag[path] = 0.0
            self._minor = self._minor | {path} if is_minor else self._minor - {path}

    def path_down(self, path: Hashable) -> None:
        """Note that `path` brings no packets any more: the others need not be as late."""
        if self._lag.pop(path, None) is not None:
            self._keepalives.pop(path, None)
            self._intervals.pop(path, None)
            self._update()

    def gap_filled(self, path: Hashable, waiting_path: Hashable, later: float) -> None:
        """Note that a packet over `path` came `later` (seconds, perhaps negative) than the one after it over
        `waiting_path`."""
        if path in self._lag and waiting_path in self._lag:
            self._is_dense = True
            self._lag[path] += GAP_GAIN * (self._lag[waiting_path] + later - self._lag[path])
            if self.shifts or abs(self._lag[path]) > NEGLIGIBLE / 2:  # else nobody has to wait, whatever the others are
                self._update()

    def came_late(self, path: Hashable, now: float) -> None:
        """Note that a packet over `path` came too late for its place.

        If it was held back here, the estimate is badly wrong, or this packet was an exception. Forget the estimate and
        disbelieve keepalives for a time: the peer may not send them together.
        """
        if path not in self.shifts:
            return
        if now - self._believes_from > LONGEST_DOUBT:  # it was right for long
            self._doubt = DOUBT
        self._believes_from = now + self._doubt
        self._doubt = min(2 * self._doubt, LONGEST_DOUBT)
        self._lag = dict.fromkeys(self._lag, 0.0)
        self._update()

    def parts_changed(self, minor: frozenset[Hashable]) -> None:
        """Note which paths bring a small part of the packets."""
        self._minor = minor
        self._update()

    def keepalive(self, path: Hashable, now: float) -> None:
        """Note a keepalive over `path`. If it completes those that were sent together, learn from them."""
        if path not in self._lag:
            return
        self._intervals[path] = now - self._keepalives.get(path, now)
        self._keepalives[path] = now
        interval = min(self._intervals.get(each, 0.0) for each in self._lag)  # one that was lost makes a longer one
        arrivals = [self._keepalives.get(each, 0.0) for each in self._lag]
        first = min(arrivals)
        changes = [arrival - first - lag for arrival, lag in zip(arrivals, self._lag.values(), strict=True)]
        if len(arrivals) < 2 or not self._were_together(now - first, max(changes) - min(changes), interval):
            return
        if not self._is_dense and now >= self._believes_from:
            for each, change in zip(self._lag, changes, strict=True):
                self._lag[each] += change * (KEEPALIVE_GAIN if self._lag[each] else 1.0)
            self._update()
        self._is_dense = False

    def _were_together(self, spread: float, change: float, interval: float) -> bool:
        """Return whether keepalives that arrived within `spread` were sent together, and not an `interval` apart.

        `change`: by how much the differences of the paths would then have changed.
        """
        near = NEARER * interval
        is_only_reading = spread < near and interval - spread > self._limit
        return spread < self._limit and (change < near or is_only_reading)

    def _update(self) -> None:
        """Count from the fastest path again, and see who has to wait for how long."""
        fastest = min(self._lag.values(), default=0.0)
        for path, lag in self._lag.items():
            self._lag[path] = min(lag - fastest, self._limit)
        slowest = max((lag for path, lag in self._lag.items() if path not in self._minor), default=0.0)
        self.shifts = {path: slowest - lag for path, lag in self._lag.items() if slowest - lag > NEGLIGIBLE}
        for path in self._lag:
            if self._lines[path]:
                self.shifts.setdefault(path, 0.0)  # what waits must run out, also while more and more comes


def _first_due(item: tuple[Hashable, Line]) -> float:
    return item[1][0][0]

"""The rate of a path, by the peer's clock and the octets that it counted.

- *Delivered* is the rate of the last 100 ms: what the line carried, not what it could. Its greatest value of 500 ms is
  the *peak*.
- *Capacity* is the rate of reports in a row through which the queue never ran empty. It is true whatever the demand
  was, and alone may make a window smaller.
- *Round* is what was acknowledged in the last round trip: the only rate that keeps up with a slow start.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mpt.control.extremes import Least

SPAN: Final = 0.100  # s of a rate
SHORTEST_SPAN: Final = 0.040  # s of a delivered rate
SHORTEST_BUSY: Final = 0.025  # s of a capacity
PEAK: Final = 0.500  # s
EMPTY_QUEUE: Final = 0.004  # s
BUSY_OCTETS: Final = 6_000  # octets of a report that begins a busy time; a probe alone is none
GAP: Final = 1.0  # s between two reports after which nothing can be said
FORGET_CAPACITY: Final = 3.0  # s
_CLOCK: Final = 1 << 32  # microseconds


class RateMeter:
    """The rates of one path in octets a second; 0.0: unknown."""

    __slots__ = (
        "_busy",
        "_clock",
        "_history",
        "_octets",
        "_peaks",
        "_rounds",
        "_total",
        "capacity",
        "capacity_at",
        "delivered",
        "peak",
    )

    def __init__(self) -> None:
        self.delivered = 0.0
        self.peak = 0.0
        self.capacity = 0.0
        self.capacity_at = 0.0
        self._clock: int | None = None  # of the last report
        self._octets = 0
        self._total = 0.0  # s of the peer's clock since the first report
        self._history: deque[tuple[float, int]] = deque()  # (s, octets)
        self._busy: deque[tuple[float, int]] = deque()
        self._peaks = Least(PEAK)  # negative
        self._rounds: deque[tuple[float, int]] = deque()  # (our time, octets acknowledged)

    def take(self, now: float, clock: int, octets: int, queue: float, came: bool, empty: float = EMPTY_QUEUE) -> int:
        """Take a report: the peer's clock, the octets that it has counted, the queue in seconds, and whether anything
        came; a queue of up to `empty` seconds is none. Return the octets since the last one; -1: it counts anew."""
        if self._clock is None:
            self._clock, self._octets = clock, octets
            self._history.append((0.0, octets))
            return 0
        elapsed = (clock - self._clock) % _CLOCK / 1e6
        arrived = octets - self._octets
        self._clock, self._octets = clock, octets
        if arrived < 0:
            self._restart(octets)
            return -1
        self._total += elapsed
        self._measure(now, octets)
        self._measure_busy(now, octets, arrived, queue > empty, came)
        if now - self.capacity_at > FORGET_CAPACITY and self.delivered > self.capacity:
            self.capacity = 0.0
        return arrived

    def acknowledge(self, now: float, octets: int, round_trip: float) -> int:
        """Take newly acknowledged octets. Return those of the last round."""
        rounds = self._rounds
        rounds.append((now, octets))
        while rounds[0][0] < now - round_trip:
            rounds.popleft()
        return sum(each for _, each in rounds)

    def fresh_capacity(self, now: float, age: float) -> float:
        """Return the capacity if it was measured within `age` seconds, else 0.0."""
        return self.capacity if now - self.capacity_at < age else 0.0

    def _restart(self, octets: int) -> None:
        self._history.clear()
        self._history.append((self._total, octets))
        self._busy.clear()
        self._rounds.clear()

    def _measure(self, now: float, octets: int) -> None:
        history, at = self._history, self._total
        history.append((at, octets))
        while len(history) > 2 and at - history[1][0] >= SPAN:
            history.popleft()
        span = at - history[0][0]
        if span > GAP:
            self._restart(octets)
        elif span >= SHORTEST_SPAN:
            self.delivered = (octets - history[0][1]) / span
            self._peaks.add(now, -self.delivered)
        self.peak = -(self._peaks.get(now) or 0.0)

    def _measure_busy(self, now: float, octets: int, arrived: int, queues: bool, came: bool) -> None:
        busy, at = self._busy, self._total
        if not queues or not (arrived > BUSY_OCTETS or (busy and came)):
            busy.clear()
            return
        busy.append((at, octets))
        while len(busy) > 2 and at - busy[1][0] >= SPAN:
            busy.popleft()
        span = at - busy[0][0]
        if span >= SHORTEST_BUSY:
            self.capacity, self.capacity_at = (octets - busy[0][1]) / span, now

"""The delay of a path: what the line takes, what its noise adds, and what waits in its queue.

Delays are differences between two clocks that nobody has set: the peer's, and the one of the stamps. It is the same
difference on all paths of a connection, so their delays can be compared with each other, and with nothing else.

- The *base* is the least delay of ten seconds; under load, when the queue never empties by itself, of the last second:
  drains make it true (`PathEstimator`). A step of the line (a satellite's hand-over) is so learned within a second.
- The *noise* is how much the delay varies without load, but for the latest sample. It is no queue. Under load it is
  what of that the base does not contain: a line with jitter is as late as its latest packets, if it keeps the order and
  carries many. Without this its jitter would be taken for a queue, and the window would shrink for ever. The noise of
  the round trip is the same.
- The *queue* is the least delay of a report, less base and noise. Its least value of four reports is the calm one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mpt.control.extremes import Least

TICKS_A_SECOND: Final = 16_000
_TURN: Final = 1 << 16  # ticks
_BELOW: Final = TICKS_A_SECOND  # ticks that a delay may lie below the reference; the rest of a turn, above
_CLOCK: Final = 1 << 32  # microseconds
_HALF_CLOCK: Final = 1 << 31
LONG: Final = 10.0  # s
SHORT: Final = 1.0  # s, and
ROUNDS: Final = 4  # round trips
LARGEST_NOISE: Final = 0.060  # s
CALM_REPORTS: Final = 4
IDLE_SAMPLES: Final = 32
USUAL: Final = 0.95  # of these; the latest one may be an accident of a busy machine


class Scale:
    """Delays of one connection in seconds, from ticks modulo 2^16; they are unwound around a reference, which follows
    the least delay and so the drift of the clocks."""

    __slots__ = ("_reference",)

    def __init__(self) -> None:
        self._reference: int | None = None  # ticks, not modulo anything

    def seconds(self, ticks: int) -> float:
        """Return a delay of `ticks` modulo 2^16: at most 1 s less than the reference, at most 3 s more."""
        if self._reference is None:
            self._reference = ticks
        ahead = (ticks - self._reference + _BELOW) % _TURN - _BELOW
        return (self._reference + ahead) / TICKS_A_SECOND

    def follow(self, least: float) -> None:
        """Note the least delay of all paths."""
        self._reference = round(least * TICKS_A_SECOND)

    def forget(self) -> None:
        """Begin anew, with another clock at the peer."""
        self._reference = None


class PeerClock:
    """When a report was made, by our clock: as if it had come back over the quickest way, however late it came."""

    __slots__ = ("_at", "_least", "_total")

    def __init__(self) -> None:
        self._at: int | None = None  # its clock in the newest report, microseconds modulo 2^32
        self._total = 0.0  # s of it, not modulo anything
        self._least = Least(LONG)  # our time of arrival - its clock

    def made(self, now: float, clock: int) -> float:
        """Return when a report with `clock` that came now would have come by the quickest way."""
        if self._at is None:
            self._at = clock
        ahead = ((clock - self._at + _HALF_CLOCK) % _CLOCK - _HALF_CLOCK) / 1e6
        at = self._total + ahead
        if ahead > 0:
            self._at, self._total = clock, at
        late = now - at - (self._least.get(now) or 0.0)
        if abs(late) > LONG:  # another clock
            self._least.clear()
        self._least.add(now, now - at)
        return at + (self._least.get(now) or 0.0)


class _Level:
    """The base and the noise of a delay."""

    __slots__ = ("_ceiling", "_idle", "_largest", "_long", "_short", "base", "noise")

    def __init__(self, largest_noise: float) -> None:
        self._largest = largest_noise
        self.base: float | None = None
        self.noise = 0.0
        self._long, self._short = Least(LONG), Least(SHORT)
        self._idle: deque[float] = deque(maxlen=IDLE_SAMPLES)  # excesses without load
        self._ceiling = 0.0  # base and noise without load

    def add(self, now: float, delay: float) -> None:
        """Take the delay of a report."""
        self._long.add(now, delay)
        self._short.add(now, delay)

    def look(self, now: float, delay: float | None, window: float, under_load: bool, idle: bool) -> None:
        """Bring base and noise up to date; the short time is `window` seconds."""
        self._short.window = window
        long = self._long.get(now)
        self.base = self._short.get(now) if under_load else long
        if self.base is None or long is None:
            return
        if idle and delay is not None:
            self._idle.append(min(max(0.0, delay - self.base), self._largest))
        noise = sorted(self._idle)[int(USUAL * len(self._idle))] if self._idle else 0.0
        if under_load:
            self.noise = max(0.0, min(self._ceiling, long + noise) - self.base)
        else:
            self.noise, self._ceiling = noise, long + noise

    @property
    def jitter(self) -> float:
        """Return the most by which the delay varied without load, of the last samples."""
        return max(self._idle, default=0.0)

    def clear(self) -> None:
        """Forget all but the noise."""
        self._long.clear()
        self._short.clear()


class DelayMeter:
    """The delays of one path in seconds; `base` and `rtt` are None until they are known."""

    __slots__ = (
        "_delay",
        "_recent",
        "_trip",
        "calm",
        "queue",
    )

    def __init__(self) -> None:
        self.queue = 0.0
        self.calm = 0.0
        self._delay, self._trip = _Level(LARGEST_NOISE), _Level(2 * LARGEST_NOISE)
        self._recent: deque[float] = deque(maxlen=CALM_REPORTS)

    @property
    def base(self) -> float | None:
        """Return the base of the delay, one way."""
        return self._delay.base

    @property
    def jitter(self) -> float:
        """Return the most by which the delay one way varied without load."""
        return self._delay.jitter

    @property
    def rtt(self) -> float | None:
        """Return the base of the round trip."""
        return self._trip.base

    @property
    def noise(self) -> float:
        """Return what the delay varies by beyond its base."""
        return self._delay.noise

    @property
    def trip_noise(self) -> float:
        """Return what the round trip varies by beyond its base."""
        return self._trip.noise

    def take(self, now: float, delay: float | None, rtt: float | None, loaded_for: float | None, idle: bool) -> None:
        """Take the least delay and the round trip of a report. `loaded_for`: s, None without load; `idle`: what came
        were single datagrams on an empty line, so that their delay shows the noise."""
        if rtt is not None:
            self._trip.add(now, rtt)
        if delay is not None:
            self._delay.add(now, delay)
        trip = self.rtt
        window = SHORT + (ROUNDS * trip if trip is not None else 0.0)  # a drain shows itself a round later
        under_load = loaded_for is not None and loaded_for > SHORT
        self._trip.look(now, rtt, window, under_load, idle)
        self._delay.look(now, delay, window, under_load, idle)
        if delay is None or self.base is None:
            return
        self.queue = max(0.0, delay - self.base - self.noise)
        self._recent.append(self.queue)
        self.calm = min(self._recent)

    def rebase(self) -> None:
        """Forget all but the noise: what comes next is the base."""
        self._delay.clear()
        self._trip.clear()
        self._recent.clear()
        self.queue = self.calm = 0.0

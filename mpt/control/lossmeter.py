"""How many of the peer's keepalives are lost on the way here, over one path.

The peer's interval is not on the wire and need not be ours, so it is learned from the times between keepalives. What
must hold:

- Lost keepalives make gaps that are multiples of the interval, between gaps that are the interval itself. Gaps count
  only once the interval itself has come after them: a peer that has changed its interval no longer shows the old
  one, and the new one is learned.
- Delay is not loss: a gap that is too long and the shorter gaps after it are measured as one span.
- Silence is not loss: a gap counts as `LONGEST` intervals at most, and fewer than `RUNS` gaps prove nothing, unless
  each lacks a single keepalive. A peer that was stopped or restarted makes one gap.
- Gaps that show no interval, because jitter is too large, are no measurement.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

SHORTEST_TIME: Final = 10.0  # s that a measurement covers at least
FEWEST: Final = 40  # keepalives that it covers at least: the standard error of 30 per cent is 7 then
LONGEST: Final = 6  # intervals that one gap counts as, at most
RUNS: Final = 4  # gaps in a measurement that prove loss; fewer long ones are accidents
NEAR: Final = 0.15  # of the interval: how far a gap may be off a multiple of it
RECENT: Final = 16  # gaps from which the interval is learned
LEARNED_FROM: Final = 8  # gaps at least
LEARN_EVERY: Final = 4  # gaps that are not the interval: looking costs a tenth of a millisecond
LOST_SIGHT: Final = 64  # gaps in which the interval is not seen
SUPPORT: Final = 0.2  # share of the gaps that must be the interval itself
CHANGED: Final = 0.75  # the same for a longer interval than the known one: chance alone hides that for a while
COHERENT: Final = 0.75  # share of the gaps that must be multiples of it


class LossMeter:
    """The keepalives of one path as they arrive; all times are monotonic seconds."""

    __slots__ = (
        "_covered",
        "_enough",
        "_entries",
        "_gaps",
        "_interval",
        "_last",
        "_lost",
        "_run",
        "_run_time",
        "_runs",
    )

    def __init__(self) -> None:
        self._interval = 0.0  # 0: not known
        self._enough = math.inf  # intervals that a measurement covers at least
        self._run: list[float] = []  # the gaps since the interval was last seen
        self._run_time = 0.0
        self.restart()

    @property
    def interval(self) -> float | None:
        """Return the peer's keepalive interval in seconds; None while it cannot be seen."""
        return self._interval or None

    def restart(self) -> None:
        """Forget everything but the interval."""
        self._last: float | None = None
        self._gaps: deque[float] = deque(maxlen=RECENT)
        self._forget_measurement()

    def loss(self) -> float | None:
        """Return the share of the latest keepalives that was lost, 0 to 1; None: unknown."""
        if not self._interval or self._covered < self._enough or self._runs < min(RUNS, self._lost):
            return None
        return max(self._lost, 0) / self._covered

    def heard(self, now: float) -> None:
        """Note a keepalive."""
        last, self._last = self._last, now
        if last is None:
            return
        gap = now - last
        self._gaps.append(gap)
        interval = self._interval
        if interval and abs(gap - interval) <= NEAR * interval:
            self._interval += (gap - interval) / RECENT
            if self._run:
                self._end_run()
            self._note(1, 0)
        else:
            self._run.append(gap)
            self._run_time += min(gap, LONGEST * interval)
            if len(self._run) % LEARN_EVERY == 0:
                self._learn()

    def _end_run(self) -> None:
        """Note that the interval is unchanged: the gaps since it was last seen were delay or loss."""
        sent = max(round(self._run_time / self._interval), 1)
        self._note(sent, sent - len(self._run))
        self._run, self._run_time = [], 0.0

    def _note(self, sent: int, lost: int) -> None:
        """Note `sent` intervals, in which `lost` keepalives are missing; keep no more than two measurements."""
        self._entries.append((sent, lost))
        self._covered += sent
        if lost:
            self._lost += lost
            self._runs += lost > 0
        while self._covered > 2 * self._enough:
            sent, lost = self._entries.popleft()
            self._covered -= sent
            if lost:
                self._lost -= lost
                self._runs -= lost > 0

    def _learn(self) -> None:
        """Look whether the peer has another interval now, after a gap that is not the known one."""
        if not self._interval or len(self._run) >= LOST_SIGHT:
            self._set(interval_of(self._gaps))
        elif (longer := interval_of(self._run[-LEARNED_FROM:], CHANGED)) is not None:
            self._set(longer)
        elif len(self._gaps) == RECENT and not _is_coherent(self._gaps, self._interval):
            self._set(interval_of(self._gaps))

    def _set(self, interval: float | None) -> None:
        """Measure by another interval, and forget the measurement by the old one."""
        self._interval = interval or 0.0
        self._enough = max(FEWEST, SHORTEST_TIME / interval) if interval else math.inf
        self._forget_measurement()

    def _forget_measurement(self) -> None:
        self._entries: deque[tuple[int, int]] = deque()  # intervals, and the keepalives that are missing in them
        self._covered = self._lost = self._runs = 0  # the sums over `_entries`
        self._run, self._run_time = [], 0.0


def interval_of(gaps: Sequence[float], support: float = SUPPORT) -> float | None:
    """Return the keepalive interval behind `gaps` (all in seconds); None if they show none.

    It is the shortest time that enough gaps are and most are multiples of. Loss up to 70 per cent is no hindrance,
    jitter wider than `NEAR` is one.
    """
    if len(gaps) < LEARNED_FROM:
        return None
    enough = max(3.0, support * len(gaps))
    ordered = sorted(gaps)
    for shortest in ordered:
        alike = [gap for gap in ordered if shortest <= gap <= shortest * (1 + 2 * NEAR)]
        interval = alike[len(alike) // 2]
        if len(alike) >= enough and interval > 0 and _is_coherent(ordered, interval):
            return interval
    return None


def _is_coherent(gaps: Sequence[float], interval: float) -> bool:
    """Return whether `gaps` are multiples of `interval`. Gaps near 0 do not count: their keepalives were late."""
    room = NEAR * interval
    bunched = sum(gap <= room for gap in gaps)
    multiples = sum(gap > room and abs(gap - round(gap / interval) * interval) <= room for gap in gaps)
    return multiples >= COHERENT * (len(gaps) - bunched) and bunched <= len(gaps) // 2

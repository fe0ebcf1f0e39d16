"""Whether a path is there: death by silence, return, and the pause of one that flaps.

- A path is *suspect* when much is under way on it, and reports tell of no progress although something should have
  arrived `DOUBT` ago; or when the peer says so of its own datagrams. It is asked with a probe. Meanwhile packets go
  over others, copies of what is under way, too. With the first progress all is as before: suspicion costs little.
- A path is *silent* when the peer's reports tell of no progress although something should have arrived `SILENCE` ago;
  or when no report tells of it for that time and more. It is probed first: what was lost at the end of a burst looks
  the same. So a loaded path dies in a few round trips, and nothing depends on keepalives.
- A link event, or the state of the path (keepalives, the operator), takes it *away* at once.
- A path that was taken down by hand was not lost.
- A silent path is probed. With the first progress it is *returning*: copies first, until it has shown what it carries.
- A path that dies again within a minute after its return waits for 1, 2, 4 … 60 s before it may return.

The table is drawn in tests/control/test_presence.py: states PRESENT, SUSPECT, SILENT, AWAY, RETURNING.
"""

from __future__ import annotations

import enum
from typing import Final

DOUBT: Final = 0.030  # s without progress after which a path is suspect, and probed
ANSWER: Final = 0.020  # s more than its delay that a probe has
SILENCE: Final = 0.100  # s without progress after which it is silent, if the probe had its time
NO_REPORT: Final = 0.250  # s more, when no report comes at all: a lightly loaded path has one in 200 ms
MOST_QUEUE: Final = 0.200  # s of queue for which is waited
FIRST_PROBE: Final = 0.100  # s
PROBE_GROWTH: Final = 1.5
SLOWEST_PROBE: Final = 1.0  # s
FIRST_PAUSE: Final = 1.0  # s
LONGEST_PAUSE: Final = 60.0  # s
TRUSTED: Final = 60.0  # s of presence after which a death is the first one again


class State(enum.Enum):
    """Where a path is."""

    PRESENT = enum.auto()
    SUSPECT = enum.auto()
    SILENT = enum.auto()
    AWAY = enum.auto()
    RETURNING = enum.auto()


class Presence:
    """One path from `now` on; `is_there`: it may be used already."""

    __slots__ = (
        "_asked_at",
        "_asks",
        "_died_at",
        "_moved_at",
        "_not_before",
        "_pause",
        "_probe_at",
        "_probe_pause",
        "deaths",
        "since",
        "state",
    )

    def __init__(self, now: float, is_there: bool = True) -> None:
        self.state = State.PRESENT if is_there else State.AWAY
        self.since = now
        self.deaths = 0
        self._moved_at = now
        self._asked_at = 0.0
        self._asks = False
        self._died_at = -TRUSTED
        self._pause = 0.0
        self._not_before = now
        self._probe_at = now
        self._probe_pause = FIRST_PROBE

    @property
    def is_live(self) -> bool:
        """Return whether anything may go over the path."""
        return self.state in (State.PRESENT, State.RETURNING)

    @property
    def is_there(self) -> bool:
        """Return whether the path is live, or will be so with its next progress."""
        return self.is_live or self.state is State.SUSPECT

    @property
    def waits_until(self) -> float:
        """Return when a silent path may return at the earliest."""
        return self._not_before

    def moved(self, now: float) -> None:
        """Note that the peer has got further numbers of the path."""
        self._moved_at = now
        if self.state is State.SUSPECT:
            self._enter(State.PRESENT, now)
        elif self.state is State.SILENT and now >= self._not_before:
            self._enter(State.RETURNING, now)

    def is_doubtful(self, now: float, oldest: float | None, rtt: float, queue: float) -> bool:
        """Return whether a report that came now, without progress, makes the path suspect."""
        return self.state is State.PRESENT and self._overdue(now, oldest, rtt, queue) > DOUBT

    def suspect(self, now: float) -> None:
        """Note that the path is suspect; it is to be probed."""
        if self.state is State.PRESENT:
            self._enter(State.SUSPECT, now)
            self._asks = True

    def is_overdue(self, now: float, oldest: float | None, rtt: float, queue: float) -> bool:
        """Return whether a report that came now, without progress, shows that the path is silent. What was lost at the
        end of a burst looks the same: so the path is asked with a probe first."""
        return self._is_overdue(now, oldest, rtt, queue, SILENCE)

    def is_unheard(self, now: float, oldest: float | None, rtt: float, queue: float) -> bool:
        """Return whether the lack of reports shows now that the path is silent."""
        return self._is_overdue(now, oldest, rtt, queue, SILENCE + NO_REPORT)

    def asks(self, now: float) -> bool:
        """Return whether a doubtful path is to be probed now; then it is."""
        if self._asks:
            self._asks, self._asked_at = False, now
            return True
        return False

    def silence(self, now: float) -> None:
        """Note that the path is silent."""
        if self.is_there:
            self._die(now)
            self._enter(State.SILENT, now)

    def leave(self, now: float, by_hand: bool = False) -> None:
        """Note that the path may not be used: a link event, keepalives, the operator, `by_hand`."""
        if self.state is State.AWAY:
            return
        if self.is_there and not by_hand:
            self._die(now)
        self._enter(State.AWAY, now)

    def come_back(self, now: float) -> None:
        """Note that the path may be used again, or for the first time: then there is no death to be feared again."""
        if self.state is State.AWAY:
            self._moved_at = now  # what was lost before says nothing about it
        if self.state is State.AWAY and not self.deaths:
            self._enter(State.PRESENT, now)
        elif self.state is State.AWAY:
            self._enter(State.RETURNING if now >= self._not_before else State.SILENT, now)

    def prove(self, now: float) -> None:
        """Note that a returning path has shown what it carries."""
        if self.state is State.RETURNING:
            self._enter(State.PRESENT, now)

    def expect(self, now: float) -> None:
        """Note that the peer uses the path again: so it is worth a probe now."""
        if self.state is State.SUSPECT:
            self._asks = True
        self._probe_at, self._probe_pause = now, FIRST_PROBE

    def wants_probe(self, now: float) -> bool:
        """Return whether a silent path is to be probed now; then it is."""
        if self.state is not State.SILENT or now < self._probe_at:
            return False
        self._probe_at = now + self._probe_pause
        self._probe_pause = min(self._probe_pause * PROBE_GROWTH, SLOWEST_PROBE)
        return True

    def _is_overdue(self, now: float, oldest: float | None, rtt: float, queue: float, silence: float) -> bool:
        overdue = self._overdue(now, oldest, rtt, queue)
        if overdue > DOUBT and self._asked_at < self._moved_at:
            self._asks = True
        delay = rtt + min(queue, MOST_QUEUE)
        return overdue > silence and self._moved_at <= self._asked_at < now - delay - ANSWER

    def _overdue(self, now: float, oldest: float | None, rtt: float, queue: float) -> float:
        """Return for how long something should have arrived; 0.0: nothing should have."""
        if oldest is None or not self.is_there:
            return 0.0
        return min(now - oldest - rtt - min(queue, MOST_QUEUE), now - self._moved_at)

    def _die(self, now: float) -> None:
        self.deaths += 1
        again = now - self._died_at < TRUSTED + self._pause
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE) if again else 0.0
        self._died_at = now
        self._not_before = now + self._pause

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self.since = now
        if state is State.SILENT:
            self._probe_at, self._probe_pause = now, FIRST_PROBE

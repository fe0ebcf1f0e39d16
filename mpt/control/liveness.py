"""Decides when a sealed path is asked for a sign of life, and when it is silent (session 5).

- A keepalive goes when nothing else was sent for `keepalive_time`, so that no NAT on the way forgets the path.
- The path is *asked*: a keepalive with the flag goes, three times within `PATIENCE`, until anything is heard. It is
  asked when somebody says so (`ask`: another address of ours, an interface that has returned, a resumed machine, a
  silent sibling), when packets go and nothing comes for `DOUBT`, and when nothing comes for nearly the dead time.
- A path that does not answer is *silent* when the patience is over. The patience is longer on a line that has lately
  taken longer to answer. A silent path is asked again and again, with growing pauses.
- The end that begins the sessions takes a new source port after 10 s without an answer, and again later, and later
  still: an entry of a NAT on the way may be stuck, and the new port leaves it behind.

The data path knows what went and what came, so `check` is told these times. Anything that opens is an answer.
"""

from __future__ import annotations

import enum
from typing import Final

ASKS: Final = 3  # keepalives with the flag, until the path is silent
PATIENCE: Final = 1.0  # s from the first of them to the verdict
SLOWER: Final = 2.0  # on a slow line the patience is so many times its latest answer
LONGEST_PATIENCE: Final = 10.0  # s
DOUBT: Final = 2.0  # s in which packets go and nothing comes; also the longest time between two looks
FIRST_PAUSE: Final = 1.0  # s between two asks of a silent path; doubled each time
LONGEST_PAUSE: Final = 15.0  # s
STUCK_TIME: Final = 10.0  # s without an answer until a new source port is taken; doubled each time
LONGEST_STUCK_TIME: Final = 300.0  # s
SLEEP: Final = 1.0  # s; a machine that stood still for less has not slept


class Step(enum.Enum):
    """What is to be done for a path now."""

    KEEPALIVE = enum.auto()  # send a keepalive
    ASK = enum.auto()  # send a keepalive with the ask flag
    SILENT = enum.auto()  # the path has fallen silent: use it no more; `ask` its siblings, too
    NEW_SOURCE_PORT = enum.auto()  # open another socket for it, on another port of ours


class Liveness:
    """One path from `now` on, in seconds. A `keepalive_time` of 0 sends none; with a `dead_time` of 0 nothing is asked
    without a reason, and nothing falls silent. `begins`: this end begins the sessions."""

    __slots__ = (
        "_answer_time",
        "_asked_at",
        "_asks",
        "_began",
        "_begins",
        "_dead_time",
        "_due",
        "_heard",
        "_keepalive_time",
        "_looked",
        "_pause",
        "_sent",
        "_stuck_at",
        "_stuck_time",
        "is_silent",
    )

    def __init__(self, keepalive_time: float, dead_time: float, begins: bool, now: float) -> None:
        self._keepalive_time = keepalive_time
        self._dead_time = dead_time
        self._begins = begins
        self._heard = self._sent = self._looked = now
        self._answer_time = 0.0  # of a slow line
        self._began: float | None = None  # when the path was asked; None: it owes no answer
        self._asks = 0  # since then
        self._asked_at = self._due = now  # the latest ask, and the next
        self._pause = FIRST_PAUSE
        self._stuck_at = self._stuck_time = 0.0
        self.is_silent = False

    @property
    def is_asked(self) -> bool:
        """Return whether the path owes an answer."""
        return self._began is not None

    def ask(self, now: float) -> None:
        """Note a reason to doubt the path: it is asked from now on. The time of a stuck entry goes on."""
        if self._began is None:
            self._stuck_time = STUCK_TIME
            self._stuck_at = now + STUCK_TIME
        self._began = self._due = now
        self._asks = 0
        self._pause = FIRST_PAUSE

    def check(self, now: float, last_sent: float, last_heard: float) -> list[Step]:
        """Return the steps that are due, in their order.

        `last_sent` is when the last packet went over the path, `last_heard` when the last datagram came that opened.
        """
        self._looked = now
        self._sent = max(self._sent, last_sent)
        if last_heard > self._heard:
            self._note(last_heard)
        steps: list[Step] = []
        if self._began is None and self._is_doubtful(now, last_sent):
            self.ask(now)
        if self._began is not None:
            steps += self._asked(now, self._began)
        elif self._keepalive_time and now >= self._sent + self._keepalive_time:
            steps.append(Step.KEEPALIVE)
        if Step.KEEPALIVE in steps or Step.ASK in steps:
            self._sent = now
        return steps

    def next_deadline(self) -> float | None:
        """Return when to call `check` next; None: not before somebody asks."""
        deadlines = []
        if self._began is not None:
            deadlines.append(self._due)
            if self._dead_time and not self.is_silent:
                deadlines.append(self._began + self._patience)
            if self._begins:
                deadlines.append(self._stuck_at)
        else:
            if self._keepalive_time:
                deadlines.append(self._sent + self._keepalive_time)
            if self._dead_time:
                doubted = self._heard + DOUBT  # if packets go
                deadlines.append(doubted if doubted > self._looked else self._looked + DOUBT)
        return min(deadlines, default=None)

    @property
    def _patience(self) -> float:
        return min(max(PATIENCE, SLOWER * self._answer_time), LONGEST_PATIENCE)

    def _is_doubtful(self, now: float, last_sent: float) -> bool:
        if not self._dead_time:
            return False
        if last_sent > self._heard and now >= self._heard + DOUBT:
            return True
        return now - self._heard >= self._dead_time - self._patience

    def _note(self, last_heard: float) -> None:
        """Note a sign of life. An answer to the first asks counts from the first of them: it may have been slow."""
        self._heard = last_heard
        if self._began is None or last_heard <= self._began:
            return
        took = last_heard - (self._began if self._asks <= ASKS else self._asked_at)
        self._answer_time = max(took, self._answer_time / 2)
        self._began = None
        self.is_silent = False

    def _asked(self, now: float, began: float) -> list[Step]:
        """Return the steps for a path that owes an answer."""
        steps: list[Step] = []
        if self._begins and now >= self._stuck_at:
            self._stuck_time = min(2 * self._stuck_time, LONGEST_STUCK_TIME)
            self._stuck_at = now + self._stuck_time
            self._due = now
            steps.append(Step.NEW_SOURCE_PORT)
        if now >= self._due:
            self._asks += 1
            self._asked_at = now
            if self._asks < ASKS:
                self._due = now + self._patience / ASKS
            else:
                self._due = now + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            steps.append(Step.ASK)
        if self._dead_time and not self.is_silent and now >= began + self._patience:
            self.is_silent = True
            steps.append(Step.SILENT)
        return steps


class Sleep:
    """Finds out that the machine has slept, by two of its clocks, in seconds: CLOCK_MONOTONIC stands meanwhile,
    CLOCK_BOOTTIME goes on (clock_gettime(2))."""

    def __init__(self, monotonic: float, boottime: float) -> None:
        self._difference = boottime - monotonic

    def look(self, monotonic: float, boottime: float) -> float:
        """Return how long the machine has slept since the last look; 0.0: it has not."""
        slept = boottime - monotonic - self._difference
        if slept < SLEEP:
            return 0.0
        self._difference += slept
        return slept

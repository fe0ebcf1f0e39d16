"""Rate traces: what a line carries from moment to moment, as it was recorded or is made up from a seed.

A trace file has a line for each step: ``seconds rate [delay [loss]]``; the rate is in Mbit/s of Ethernet frames, the
delay in ms one way, the loss in percent, as in a `Shape`. Blank lines and all after ``#`` are left out. A trace begins
again at its end.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from mpt.errors import ConfigError

STEP = 0.05  # seconds of a step of a made trace; below some 20 ms a TCP stream sees no difference
SLOT = 15.0  # seconds between two hand-overs of a Starlink terminal, at :12, :27, :42 and :57 of each minute


@dataclass(frozen=True)
class Step:
    """So many `seconds` at one rate; a delay or loss of None is the line's own. A rate of 0 holds all frames back."""

    seconds: float
    rate_mbit: float
    delay_ms: float | None = None
    loss_percent: float | None = None


@dataclass(frozen=True)
class Trace:
    """The steps of a line; after the last one the first begins again."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not any(step.rate_mbit > 0 for step in self.steps):
            raise ConfigError("a trace needs a step with a rate above 0")
        for step in self.steps:
            numbers = (step.rate_mbit, step.delay_ms or 0.0, step.loss_percent or 0.0)
            if not (math.isfinite(step.seconds) and step.seconds > 0 and all(0 <= each < math.inf for each in numbers)):
                raise ConfigError(f"a step lasts longer than 0 seconds and has no negative number: {step}")

    @cached_property
    def ends(self) -> list[float]:
        """Return when each step ends, in seconds from the beginning of the first."""
        return list(accumulate(step.seconds for step in self.steps))

    @property
    def seconds(self) -> float:
        """Return how long it lasts before it begins again."""
        return self.ends[-1]

    @property
    def mean_mbit(self) -> float:
        """Return its mean rate."""
        return sum(step.seconds * step.rate_mbit for step in self.steps) / self.seconds

    def step_at(self, seconds: float) -> Step:
        """Return the step that holds `seconds` after the line began."""
        return self.steps[bisect_right(self.ends, seconds % self.seconds) % len(self.steps)]

    def capacity_mbit(self, start: float, end: float) -> float:
        """Return the mean rate from `start` to `end`, in seconds after the line began: what a full line carries."""
        return (self._megabits(end) - self._megabits(start)) / (end - start)

    def _megabits(self, until: float) -> float:
        """Return what passes from the first step until that second."""
        rounds, rest = divmod(until, self.seconds)
        total = rounds * self.mean_mbit * self.seconds
        begin = 0.0
        for step, end in zip(self.steps, self.ends, strict=True):
            total += step.rate_mbit * max(0.0, min(rest, end) - begin)
            begin = end
        return total

    def as_text(self) -> str:
        """Return it as a trace file."""
        lines = []
        for step in self.steps:
            numbers = [step.seconds, step.rate_mbit]
            if step.delay_ms is not None or step.loss_percent is not None:
                numbers.append(step.delay_ms or 0.0)
            if step.loss_percent is not None:
                numbers.append(step.loss_percent)
            lines.append(" ".join(f"{number:.6g}" for number in numbers))
        return "\n".join([*lines, ""])


def parse(text: str) -> Trace:
    """Return the trace of a trace file's `text`; ConfigError with the number of the line that is none."""
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
            steps.append(Step(*values))
        except (ValueError, TypeError):
            raise ConfigError(f"line {number} of the trace is not: seconds rate [delay [loss]]: {line!r}") from None
    return Trace(tuple(steps))


def steps_of(*rates: tuple[float, float]) -> Trace:
    """Return a trace of (seconds, rate in Mbit/s) alone."""
    return Trace(tuple(Step(seconds, rate) for seconds, rate in rates))


def lte(seed: int, seconds: float, mean_mbit: float) -> Trace:
    """Return a line like LTE on the move: the rate wanders over an order of magnitude, dips, and stops at hand-overs.

    The logarithm of the rate returns to its mean with a time constant of 2 s and wanders by a factor of 1.8; every 20 s
    or so nothing passes for 0.1 to 0.5 s. Winstein et al., "Stochastic Forecasts Achieve High Throughput and Low Delay
    over Cellular Networks" (NSDI 2013), show such lines: changes by half within a second, and outages.
    """
    draw = random.Random(f"lte {seed}")
    pull, spread = STEP / 2.0, math.log(1.8)
    level, left = draw.gauss(0, spread), 0.0

    def rate(_: float) -> Step:
        nonlocal level, left
        level += -pull * level + spread * math.sqrt(2 * pull) * draw.gauss(0, 1)
        if left <= 0 and draw.random() < STEP / 20:
            left = draw.uniform(0.1, 0.5)
        left -= STEP
        fading = draw.uniform(0.7, 1.3)  # the scheduler of the cell, from moment to moment
        return Step(STEP, 0.0 if left > 0 else math.exp(level) * fading)

    return _scaled(_series(seconds, rate), mean_mbit)


def starlink(seed: int, seconds: float, mean_mbit: float, delay_ms: float = 25.0) -> Trace:
    """Return a line like Starlink: every 15 s another delay and rate, after a tenth of a second of almost nothing.

    `delay_ms` is the mean delay one way; a hand-over moves it by up to ± 40 % and the rate by ± 35 %. Huston, "A
    transport protocol's view of Starlink" (APNIC 2024): steps of 30 to 80 ms of round trip each 15 s, and 1 % of loss.
    """
    draw = random.Random(f"starlink {seed}")
    until, delay, share = 0.0, delay_ms, 1.0
    begins = draw.uniform(0, SLOT)

    def rate(at: float) -> Step:
        nonlocal until, delay, share
        if at + begins >= until:
            until += SLOT
            delay, share = delay_ms * draw.uniform(0.6, 1.4), draw.uniform(0.65, 1.35)
        handing_over = until - SLOT <= at + begins < until - SLOT + 0.1
        dip = 0.1 if handing_over else (0.4 if draw.random() < 0.01 else 1.0)
        loss = 5.0 if handing_over else 0.1
        return Step(STEP, share * dip * draw.uniform(0.85, 1.15), delay, loss)

    return _scaled(_series(seconds, rate), mean_mbit)


def dsl(seed: int, seconds: float, mean_mbit: float) -> Trace:
    """Return a line like DSL that others of the house use too: one rate, less 10 to 60 % for seconds at a time."""
    draw = random.Random(f"dsl {seed}")
    until, share = 0.0, 1.0

    def rate(at: float) -> Step:
        nonlocal until, share
        if at >= until:
            until = at + draw.expovariate(1 / 5.0)
            share = 1.0 if share < 1.0 else 1.0 - draw.uniform(0.1, 0.6)
        return Step(STEP, share)

    return _scaled(_series(seconds, rate), mean_mbit)


MAKERS: dict[str, Callable[[int, float, float], Trace]] = {"lte": lte, "starlink": starlink, "dsl": dsl}


def _series(seconds: float, rate: Callable[[float], Step]) -> list[Step]:
    return [rate(number * STEP) for number in range(max(round(seconds / STEP), 1))]


def _scaled(steps: Sequence[Step], mean_mbit: float) -> Trace:
    """Return the steps with that mean rate; they last equally long."""
    factor = mean_mbit * len(steps) / sum(step.rate_mbit for step in steps)
    return Trace(tuple(Step(step.seconds, step.rate_mbit * factor, step.delay_ms, step.loss_percent) for step in steps))

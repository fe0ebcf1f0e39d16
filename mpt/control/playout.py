"""Which paths may carry bulk, and when ordered packets are delivered: one plan for all paths of a connection.

- *Admission*: a path that is later than the earliest by more than the delay budget carries no bulk.
- *Hold*: the peer waits for a gap as long as a repair can still come: the spread of the paths, a queue, and two round
  trips of the best one.
- *Playout*: half equalizing. A sender of TCP keeps at most twice its least round trip under way, or leaves its slow
  start when the round trip grows by an eighth. So a path that is much slower than that cannot be filled, however good
  the scheduler is. TCP packets that come early are held until two round trips that TCP sees are a little more than one
  of the slowest path. It costs latency of TCP only, and only where the lines are far apart.
- *Levelling*: a path whose delay varies is as late under load as its latest packets, if it keeps the order. A sender of
  TCP that has seen its lucky packets takes this for a queue, and leaves its slow start. So TCP packets, and pure
  acknowledgements where nothing is equalized, always come as late as that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from mpt.control.delays import TICKS_A_SECOND
from mpt.control.estimator import REPORT, TARGET

BUDGET: Final = 0.110  # s; the default of `delay_budget`
LONGEST_HOLD: Final = 0.300  # s
HOLD_ROOM: Final = 0.020  # s
REPAIRS: Final = 2  # resends for which a gap waits
HALF: Final = 0.55
SMALL_SPREAD: Final = 0.002  # s; no playout below
PROBABLE: Final = 0.5  # of the round trip of the fastest path
STEP: Final = 0.0005  # s that the playout moves
STEP_TIME: Final = 0.010  # s, in so much time
NOISY: Final = 0.006  # s of noise beyond the spread that is levelled
HARDLY: Final = 0.25  # of the round trip of the fastest path
LARGEST_LEVELLING: Final = 0.040  # s


class PathDelays(NamedTuple):
    """What is known of a live path, in seconds: one-way base (comparable), noise, queue, base of the round trip."""

    base: float
    noise: float
    queue: float
    rtt: float


def admits(delays: PathDelays, least: float, budget: float) -> bool:
    """Return whether a path may carry bulk beside one with the `least` base."""
    return delays.base - least <= budget


def hold_of(admitted: Iterable[PathDelays], live: Iterable[PathDelays]) -> float:
    """Return how long a gap is waited for, in seconds."""
    bases = [each.base for each in admitted]
    spread = max(bases, default=0.0) - min(bases, default=0.0)
    best = min((each.rtt + each.queue for each in live), default=0.0)
    return min(LONGEST_HOLD, spread + TARGET + HOLD_ROOM + REPAIRS * (1.25 * best + REPORT))


def wanted_levelling(admitted: Sequence[PathDelays], probable: Iterable[PathDelays], most: float) -> float:
    """Return by how much the noise of paths is levelled, in seconds: at most `most`. It grows without load alone: a
    round trip that grows in a slow start ends it. So the `probable` paths count that are hardly later."""
    if not admitted:
        return 0.0
    fastest = min(admitted)
    near = [each for each in probable if each.base - fastest.base <= HARDLY * fastest.rtt]
    bases = [each.base for each in (*admitted, *near)]
    noise = max(each.base + each.noise for each in (*admitted, *near)) - fastest.base
    return min(noise, most, LARGEST_LEVELLING) if noise - (max(bases) - min(bases)) > NOISY else 0.0


def wanted_playout(
    admitted: Sequence[PathDelays], probable: Iterable[PathDelays] = (), levelling: float = 0.0
) -> float | None:
    """Return the one-way delay before which ordered packets are not delivered, comparable with bases; None: none.

    The `probable` paths carry no bulk yet, but may soon: a playout that grows in a slow start ends it. So they count if
    they make the round trip that TCP sees not much longer.
    """
    if not admitted:
        return None
    wanted = equalized(admitted)
    likely = equalized([*admitted, *probable])
    fastest = min(admitted)
    if likely is not None and likely - fastest.base <= PROBABLE * fastest.rtt:
        wanted = max(likely, wanted or likely)
    if levelling:
        level = fastest.base + levelling
        wanted = level if wanted is None else max(wanted, level)
    return wanted


def equalized(paths: Sequence[PathDelays]) -> float | None:
    """Return the playout for which TCP can fill all these paths; None: it can without one."""
    fastest = min(paths)
    spread = max(each.base for each in paths) - fastest.base
    need = HALF * (fastest.rtt + spread + (TARGET if spread > SMALL_SPREAD else 0.0)) - fastest.rtt
    return fastest.base + min(need, spread) if need > SMALL_SPREAD else None


class Playout:
    """The playout of one connection: it follows what is wanted in small steps, so that no flow sees a jump."""

    __slots__ = ("_at", "value")

    def __init__(self) -> None:
        self.value: float | None = None  # s, comparable with the bases
        self._at = 0.0

    def follow(self, wanted: float | None, now: float) -> None:
        """Move towards `wanted`."""
        if wanted is None or self.value is None:
            self.value = wanted
        else:
            most = STEP * min((now - self._at) / STEP_TIME, 10.0)
            self.value += min(max(wanted - self.value, -most), most)
        self._at = now

    def ticks(self) -> int | None:
        """Return it as message 42 tells it."""
        return None if self.value is None else round(self.value * TICKS_A_SECOND) & 0xFFFF

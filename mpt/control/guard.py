"""The guard of a connection: never worse than its best line alone.

Every `SPAN` with waiting packets it compares what arrived, without copies and resends, with what the best path alone
carries. Below `SHARE` of that, the path that harms most is taken out, for 10 s, and longer each time that it happens
again. Without waiting packets it says nothing: then the sender did not want more.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple

SPAN: Final = 2.0  # s
SHARE: Final = 0.95
WAITING: Final = 0.8  # share of the looks in which packets waited
FIRST_BAN: Final = 10.0  # s
LONGEST_BAN: Final = 60.0  # s
FORGET: Final = 120.0  # s without harm after which a path is trusted anew


class Carried(NamedTuple):
    """A path now: octets that it carried since its beginning, and of these repeated ones; its rate in octets a second
    (0.0: unknown), its harm (s of delay, noise and loss), and whether it carries bulk."""

    octets: float
    repeated: float
    rate: float
    harm: float
    admitted: bool


class Guard:
    """The guard of one connection."""

    __slots__ = ("_bans", "_began", "_first", "_looks", "_until", "_waited")

    def __init__(self) -> None:
        self._began: float | None = None
        self._first: dict[Hashable, Carried] = {}
        self._looks = self._waited = 0
        self._until: dict[Hashable, float] = {}
        self._bans: dict[Hashable, float] = {}

    def is_out(self, path: Hashable, now: float) -> bool:
        """Return whether the path is taken out now."""
        return now < self._until.get(path, 0.0)

    def out_until(self, path: Hashable) -> float:
        """Return until when the path is taken out; 0.0: it never was."""
        return self._until.get(path, 0.0)

    def look(self, paths: Mapping[Hashable, Carried], waits: bool, now: float) -> Hashable | None:
        """Take a look, some hundred times a second. Return the path that is taken out now, or None."""
        if self._began is None or paths.keys() != self._first.keys() or now - self._began > 2 * SPAN:
            self._begin(paths, now)
            return None
        if any(paths[key].admitted != self._first[key].admitted for key in paths):
            self._begin(paths, now)
            return None
        self._looks += 1
        self._waited += waits
        if now - self._began < SPAN:
            return None
        out = self._judge(paths, now)
        self._begin(paths, now)
        return out

    def _begin(self, paths: Mapping[Hashable, Carried], now: float) -> None:
        self._began, self._first = now, dict(paths)
        self._looks = self._waited = 0

    def _judge(self, paths: Mapping[Hashable, Carried], now: float) -> Hashable | None:
        used = [key for key, path in paths.items() if path.admitted]
        if len(used) < 2 or self._waited < WAITING * self._looks or self._began is None:
            return None
        useful = sum(
            (path.octets - path.repeated) - (self._first[key].octets - self._first[key].repeated)
            for key, path in paths.items()
        )
        best = max(used, key=lambda key: paths[key].rate)
        if useful >= SHARE * paths[best].rate * (now - self._began):
            return None
        worst = max((key for key in used if key != best), key=lambda key: paths[key].harm)
        ban = self._bans.get(worst, 0.0)
        if now - self._until.get(worst, -FORGET) > FORGET:
            ban = 0.0
        self._bans[worst] = min(max(2 * ban, FIRST_BAN), LONGEST_BAN)
        self._until[worst] = now + self._bans[worst]
        return worst

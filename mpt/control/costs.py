"""Which cost classes of paths are open: the next one only when the cheaper ones are full or gone (RFC 8157).

A class is full when packets wait although every open path is as full as it may be, for `FULL_TIME`. It is closed again
when the cheaper ones have had room for `ROOM_TIME`. While a class is closed, its paths carry probes only. While it is
open, its paths come after the cheaper ones: they take what those have no room for.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

FULL_TIME: Final = 0.2  # s
ROOM_TIME: Final = 2.0  # s
PENALTY: Final = 0.1  # s of delay a class: more than a cheaper path's queue, less than a repair may take


class Cost(enum.IntEnum):
    """The cost classes, the cheapest first."""

    FREE = 0
    METERED = 1
    BACKUP = 2


class OpenClasses:
    """The open cost classes of one connection: all up to `dearest`."""

    __slots__ = ("_full_since", "_room_since", "dearest")

    def __init__(self) -> None:
        self.dearest = Cost.FREE
        self._full_since: float | None = None
        self._room_since: float | None = None

    def look(self, live: Iterable[int], waits: bool, now: float) -> None:
        """Take the costs of the paths that are there, and whether packets `waits` for room on the open ones."""
        costs = sorted(set(live))
        if not costs:
            return
        if self.dearest not in costs or costs[0] > self.dearest:
            cheaper = [cost for cost in costs if cost <= self.dearest]
            self._open(cheaper[-1] if cheaper else costs[0])
        self._full_since = (self._full_since if self._full_since is not None else now) if waits else None
        if waits:
            self._room_since = None
        elif self._room_since is None:
            self._room_since = now
        at = costs.index(self.dearest)
        if self._full_since is not None and now - self._full_since >= FULL_TIME and at + 1 < len(costs):
            self._open(costs[at + 1])
        elif self._room_since is not None and now - self._room_since >= ROOM_TIME and at > 0:
            self._open(costs[at - 1])

    def _open(self, cost: int) -> None:
        self.dearest = Cost(cost)
        self._full_since = self._room_since = None

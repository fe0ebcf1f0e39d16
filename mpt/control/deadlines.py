"""The deadlines of many things, of which each has one: the next of them is found without a look at all."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_SLACK = 64  # entries that may be out of date, beside as many as there are deadlines


class Deadlines(Generic[T]):
    """Times in monotonic seconds, one an item."""

    def __init__(self) -> None:
        self._times: dict[T, float] = {}
        self._heap: list[tuple[float, int, T]] = []  # entries may be out of date: `_times` decides
        self._numbers = itertools.count()  # items need no order

    def __len__(self) -> int:
        """Return how many items have a deadline."""
        return len(self._times)

    def set(self, item: T, time: float) -> None:
        """Give `item` this deadline in place of its earlier one."""
        if self._times.get(item) == time:
            return
        self._times[item] = time
        heapq.heappush(self._heap, (time, next(self._numbers), item))
        if len(self._heap) > 2 * len(self._times) + _SLACK:
            self._heap = [(time, next(self._numbers), item) for item, time in self._times.items()]
            heapq.heapify(self._heap)

    def discard(self, item: T) -> None:
        """Forget `item`."""
        self._times.pop(item, None)

    def next(self) -> float | None:
        """Return the earliest deadline; None: there is none."""
        while self._heap:
            time, _, item = self._heap[0]
            if self._times.get(item) == time:
                return time
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> list[T]:
        """Return the items whose deadline has come, the earliest first; they have none any more."""
        items = []
        while (time := self.next()) is not None and time <= now:
            item = heapq.heappop(self._heap)[2]
            del self._times[item]
            items.append(item)
        return items

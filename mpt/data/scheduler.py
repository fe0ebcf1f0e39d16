"""Which path carries the next packet: the weighted cycle of the draft (section 5.1).

The draft keeps a sum s[i] for every path i, all zero at first. With L the least common multiple of the weights, the
next packet goes to the path where s[i] + L / weight[i] is smallest, the lowest index first, and s[i] becomes that
value. A cycle has sum(weights) / gcd(weights) packets; at its end all s[i] equal L, which is the same as a fresh
start. So a heap of the next values, one entry a path, gives cycles of any length without a table of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from heapq import heapify, heapreplace
from math import lcm


class WeightedCycle:
    """An endless sequence of path indices, shared out by weight at every moment of the cycle.

    `weights` holds (index, weight) of the usable paths, weight >= 1. The share of a path that is left out goes to the
    others in proportion.
    """

    __slots__ = ("_heap", "_steps")

    def __init__(self, weights: Sequence[tuple[int, int]]) -> None:
        common = lcm(*(weight for _, weight in weights))
        self._steps = {index: common // weight for index, weight in weights}
        self._heap = sorted((step, index) for index, step in self._steps.items())

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        """Return the index of the path that carries the next packet; StopIteration without paths."""
        if not self._heap:
            raise StopIteration
        reached, index = self._heap[0]
        heapreplace(self._heap, (reached + self._steps[index], index))
        return index

    def next_of(self, fitting: Container[int]) -> int | None:
        """Return the first of the next indices that is in `fitting`; those before it have had their turns. None: there
        is none."""
        chosen = min((entry for entry in self._heap if entry[1] in fitting), default=None)
        if chosen is None:
            return None
        for place, entry in enumerate(self._heap):
            reached, index = entry
            step = self._steps[index]
            if entry == chosen:
                self._heap[place] = (reached + step, index)
            elif index not in fitting and entry < chosen:
                reached += (chosen[0] - reached) // step * step
                self._heap[place] = (reached, index) if (reached, index) > chosen else (reached + step, index)
        heapify(self._heap)
        return chosen[1]

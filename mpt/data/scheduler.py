"""Which path carries the next packet: the weighted cycle of the draft (section 5.1).

The draft keeps a sum s[i] for every path i, all zero at first. With L the least common multiple of the weights, the
next packet goes to the path where s[i] + L / weight[i] is smallest, the lowest index first, and s[i] becomes that
value. A cycle has sum(weights) / gcd(weights) packets; at its end all s[i] equal L, which is the same as a fresh
start. So a heap of the next values, one entry a path, gives cycles of any length without a table of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapreplace
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

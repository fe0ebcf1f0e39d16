"""How far a stream of numbered packets came out of order (RFC 4737), and how late."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Order:
    """Of the packets that came: the share that is reordered (RFC 4737 section 4.1), and its extents (section 4.2)."""

    reordered: int
    mean_extent: float
    max_extent: int


def order_of(numbers: Sequence[int]) -> Order:
    """Return the order of packets whose `numbers` are given in the order of their arrival, each once.

    A packet is reordered if a larger number came before. Its extent is the distance, in packets, to the earliest such
    packet.
    """
    highest: list[int] = []  # the records: each larger than all before
    places: list[int] = []  # where they came
    extents: list[int] = []
    for place, number in enumerate(numbers):
        if not highest or number > highest[-1]:
            highest.append(number)
            places.append(place)
        else:
            extents.append(place - places[bisect_right(highest, number)])
    return Order(len(extents), sum(extents) / len(extents) if extents else 0.0, max(extents, default=0))


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest of `values`, of which there is one at least, that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(ceil(share * len(ordered)), 1) - 1]


def percentiles(values: Iterable[float]) -> list[float]:
    """Return the least, the 1st to 99th percentile and the greatest of `values`, 101 numbers; of nothing, nothing."""
    ordered = sorted(values)
    return [quantile(ordered, share / 100) for share in range(101)] if ordered else []

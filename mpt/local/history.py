"""The recent past of a path in bounded memory: a sample a second for ten minutes, one in ten seconds for two hours,
one in five minutes for two days.

`mpt.daemon.histories` takes the samples; status, `mpt top` and the page show them.
"""

from __future__ import annotations

from array import array
from math import isnan, nan
from typing import Any, Final, NamedTuple

SCHEMA: Final = "mpt.history/1"
LEVELS: Final = ((1, 600), (10, 720), (300, 576))  # seconds between two samples, and how many are kept


class Sample(NamedTuple):
    """One moment of a path: octets of inner packets a second out and in, round trip in seconds, loss in per cent; nan:
    not known."""

    out_rate: float
    in_rate: float
    round_trip: float = nan
    loss: float = nan


class _Level:
    """The last `count` samples, each the mean of `width` samples of the level before."""

    __slots__ = ("_columns", "_count", "_next", "_pending", "_width")

    def __init__(self, width: int, count: int) -> None:
        self._width = width
        self._count = count
        self._columns = tuple(array("f") for _ in Sample._fields)  # they grow to `count`, then they are rings
        self._next = 0
        self._pending: list[Sample] = []

    def add(self, sample: Sample) -> Sample | None:
        """Take a sample; return the one of this level that it completes, or None."""
        if self._width > 1:
            self._pending.append(sample)
            if len(self._pending) < self._width:
                return None
            sample = Sample(*(_mean(values) for values in zip(*self._pending, strict=True)))
            self._pending.clear()
        for column, value in zip(self._columns, sample, strict=True):
            if len(column) < self._count:
                column.append(value)
            else:
                column[self._next] = value
        self._next = (self._next + 1) % self._count
        return sample

    def samples(self) -> list[Sample]:
        """Return the samples, the oldest first."""
        begin = self._next if len(self._columns[0]) == self._count else 0
        return [Sample(*values) for values in zip(*(c[begin:] + c[:begin] for c in self._columns), strict=True)]


class History:
    """The samples of one path: 30 kB at the most."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        steps = [1, *(step for step, _ in LEVELS)]
        self._levels = [_Level(step // before, count) for before, (step, count) in zip(steps, LEVELS, strict=False)]

    def add(self, sample: Sample) -> None:
        """Take the sample of this second."""
        for level in self._levels:
            completed = level.add(sample)
            if completed is None:
                return
            sample = completed

    def samples(self, level: int = 0) -> list[Sample]:
        """Return the samples of one of LEVELS, the oldest first."""
        return self._levels[level].samples()

    def as_json(self) -> list[dict[str, Any]]:
        """Return the levels as plain values: `step` in seconds, and a list for each field of Sample, null: unknown."""
        plain = []
        for level, (step, _) in zip(self._levels, LEVELS, strict=True):
            samples = level.samples()
            columns = {name: [_plain(sample[place]) for sample in samples] for place, name in enumerate(Sample._fields)}
            plain.append({"step": step, **columns})
        return plain


def _mean(values: tuple[float, ...]) -> float:
    known = [value for value in values if not isnan(value)]
    return sum(known) / len(known) if known else nan


def _plain(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)

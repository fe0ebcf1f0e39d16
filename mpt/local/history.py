"""The recent past of a path, and of the inside of a connection, in bounded memory: a sample a second for ten
minutes, one in ten seconds for two hours, one in five minutes for two days.

`mpt.daemon.histories` takes the samples; status, `mpt top` and the page show them.
"""

from __future__ import annotations

from array import array
from math import isnan, nan
from typing import Any, Final, Generic, NamedTuple, TypeVar

SCHEMA: Final = "mpt.history/1"
LEVELS: Final = ((1, 600), (10, 720), (300, 576))  # seconds between two samples, and how many are kept


class Sample(NamedTuple):
    """One moment of a path: octets of inner packets a second out and in, round trip in seconds, loss in per cent; nan:
    not known."""

    out_rate: float
    in_rate: float
    round_trip: float = nan
    loss: float = nan


class Inside(NamedTuple):
    """One moment of a connection beside its lines: `round_trip` of a packet in seconds, its waits in our queue and for
    our order included; how many packets wait for their order; how long those of this second were held, in seconds:
    median and 99 %; nan: not known, or none was held."""

    round_trip: float = nan
    waiting: float = nan
    hold_p50: float = nan
    hold_p99: float = nan


_Moment = TypeVar("_Moment", Sample, Inside)


class _Level(Generic[_Moment]):
    """The last `count` samples, each the mean of `width` samples of the level before."""

    __slots__ = ("_columns", "_count", "_kind", "_next", "_pending", "_width")

    def __init__(self, kind: type[_Moment], width: int, count: int) -> None:
        self._kind: type[_Moment] = kind
        self._width = width
        self._count = count
        self._columns = tuple(array("f") for _ in kind._fields)  # they grow to `count`, then they are rings
        self._next = 0
        self._pending: list[_Moment] = []

    def add(self, sample: _Moment) -> _Moment | None:
        """Take a sample; return the one of this level that it completes, or None."""
        if self._width > 1:
            self._pending.append(sample)
            if len(self._pending) < self._width:
                return None
            sample = self._kind(*(_mean(values) for values in zip(*self._pending, strict=True)))
            self._pending.clear()
        for column, value in zip(self._columns, sample, strict=True):
            if len(column) < self._count:
                column.append(value)
            else:
                column[self._next] = value
        self._next = (self._next + 1) % self._count
        return sample

    def samples(self) -> list[_Moment]:
        """Return the samples, the oldest first."""
        begin = self._next if len(self._columns[0]) == self._count else 0
        return [self._kind(*values) for values in zip(*(c[begin:] + c[:begin] for c in self._columns), strict=True)]


class History(Generic[_Moment]):
    """The samples of one path, or of the inside of one connection: 30 kB at the most."""

    __slots__ = ("_kind", "_levels")

    def __init__(self, kind: type[_Moment]) -> None:
        self._kind: type[_Moment] = kind
        steps = [1, *(step for step, _ in LEVELS)]
        widths = [step // before for before, (step, _) in zip(steps, LEVELS, strict=False)]
        self._levels: list[_Level[_Moment]] = [
            _Level(kind, width, count) for width, (_, count) in zip(widths, LEVELS, strict=True)
        ]

    def add(self, sample: _Moment) -> None:
        """Take the sample of this second."""
        for level in self._levels:
            completed = level.add(sample)
            if completed is None:
                return
            sample = completed

    def samples(self, level: int = 0) -> list[_Moment]:
        """Return the samples of one of LEVELS, the oldest first."""
        return self._levels[level].samples()

    def as_json(self) -> list[dict[str, Any]]:
        """Return the levels as plain values: `step` in seconds, and a list for each field, null: unknown."""
        levels: list[dict[str, Any]] = []
        for level, (step, _) in zip(self._levels, LEVELS, strict=True):
            samples = level.samples()
            columns = {
                name: [plain(sample[place]) for sample in samples] for place, name in enumerate(self._kind._fields)
            }
            levels.append({"step": step, **columns})
        return levels


def _mean(values: tuple[float, ...]) -> float:
    known = [value for value in values if not isnan(value)]
    return sum(known) / len(known) if known else nan


def plain(value: float) -> float | None:
    """Return a value of a sample as JSON has it."""
    return None if isnan(value) else round(value, 4)

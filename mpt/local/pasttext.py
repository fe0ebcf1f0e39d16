"""The documents of the past as text for people: `mpt show history` and `mpt show events` without ``--json``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mpt.local.history import LEVELS
from mpt.local.statustext import age, milliseconds, rate

_COLUMNS: Final = ("PATH", "LAST", "OUT/s", "MOST", "IN/s", "MOST", "RTT", "LOSS")
_TEXT: Final = 2  # columns; the others have numbers


def events_text(document: Mapping[str, Any]) -> str:
    """Return a line for each event, the oldest first."""
    return "".join(f"{event_line(event)}\n" for event in document["events"]) or "nothing has happened since\n"


def event_line(event: Mapping[str, Any]) -> str:
    """Return a line: the local time, a mark unless the event is mere information, the text."""
    mark = "! " if event["level"] != "info" else ""
    return f"{time.strftime('%H:%M:%S', time.localtime(event['time']))} {mark}{event['text']}"


def history_text(document: Mapping[str, Any]) -> str:
    """Return a table: for each path and each level its means, and the highest rates of a sample."""
    rows = [_COLUMNS, *(row for path in document["paths"] for row in _rows(path))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < _TEXT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([f"{document['connection']}: bits a second of the packets inside", *lines]) + "\n"


def _rows(path: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    name = path["name"]
    if not path["levels"]:
        yield (name, "not kept", *("-" for _ in _COLUMNS[2:]))
    for level, (step, count) in zip(path["levels"], LEVELS, strict=False):
        samples = len(level["out_rate"])
        if not samples and step > LEVELS[0][0]:
            continue
        out, into, trip, loss = (_known(level[column]) for column in ("out_rate", "in_rate", "round_trip", "loss"))
        yield (
            name,
            age(step * min(samples, count)),
            *(
                rate(value) if value is not None else "-"
                for values in (out, into)
                for value in (_mean(values), _most(values))
            ),
            milliseconds(_mean(trip) or 0.0) if trip else "-",
            f"{_mean(loss):.3g}%" if loss else "-",
        )
        name = ""


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _most(values: Sequence[float]) -> float | None:
    return max(values, default=None)

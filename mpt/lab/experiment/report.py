"""The files of an experiment: a table for spreadsheets, everything for programs, and a few lines for people."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from mpt import __version__
from mpt.lab.experiment.measure import Measured
from mpt.lab.experiment.scenario import Point, Scenario, as_words, settings_of

SCHEMA = "mpt.lab/1"
SHOWN = (
    "mbit",
    "ratio",
    "lost_percent",
    "reordered_percent",
    "max_extent",
    "delay_p95_ms",
    "longest_gap_ms",
    "recovery_s",
)


@dataclass(frozen=True)
class Results:
    """What was measured of a scenario, in the order of the measurement."""

    scenario: Scenario
    measured: Sequence[Measured]

    def of(self, point: Point) -> list[Measured]:
        """Return the repetitions of a point."""
        return [each for each in self.measured if each.run.point == point]

    def values(self, point: Point, figure: str) -> list[float]:
        """Return a figure of each repetition of a point that has it."""
        return [each.figures[figure] for each in self.of(point) if figure in each.figures]

    @property
    def points(self) -> list[Point]:
        """Return the points that were measured."""
        return list(dict.fromkeys(each.run.point for each in self.measured))


def label(scenario: Scenario, point: Point) -> str:
    """Return what tells a point from the others: ``delay=0,20 window=0``."""
    return " ".join(f"{name}={as_words(getattr(point, name))}" for name in scenario.varied) or scenario.name


def as_csv(results: Results) -> str:
    """Return a row for each run: every setting, the repetition, every figure."""
    figures = list(dict.fromkeys(name for each in results.measured for name in each.figures))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    settings = list(settings_of(Point()))
    writer.writerow([*settings, "repetition", "emulators", "data_path_used", *figures])
    for each in results.measured:
        known = settings_of(each.run.point)
        values = (f"{each.figures[name]:.6g}" if name in each.figures else "" for name in figures)
        made_by = "+".join(dict.fromkeys(each.emulators))
        writer.writerow([*known.values(), each.run.repetition, made_by, each.data_path, *values])
    return text.getvalue()


def as_json(results: Results) -> dict[str, Any]:
    """Return everything: the scenario, the machine, each run with its settings, figures and series."""
    return {
        "schema": SCHEMA,
        "scenario": {
            "name": results.scenario.name,
            "title": results.scenario.title,
            "repetitions": results.scenario.repetitions,
            "seed": results.scenario.seed,
            "varied": results.scenario.varied,
        },
        "machine": machine(),
        "runs": [
            {
                "settings": settings_of(each.run.point),
                "repetition": each.run.repetition,
                "emulators": each.emulators,
                "data_path": each.data_path,
                "figures": {name: round(value, 6) for name, value in each.figures.items()},
                "delay_percentiles_ms": each.delays,
                "series": each.series,
            }
            for each in results.measured
        ],
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the settings."""
    return {
        "mpt": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return ""


def as_text(results: Results) -> str:
    """Return a table of the medians, a row for each point."""
    shown = [name for name in SHOWN if any(results.values(point, name) for point in results.points)]
    labels = [label(results.scenario, point) for point in results.points]
    width = max(len(each) for each in labels)
    lines = [" " * width + "".join(f"{name:>{_column(name)}}" for name in shown)]
    for text, point in zip(labels, results.points, strict=True):
        cells = (f"{median(values):.4g}" if (values := results.values(point, name)) else "" for name in shown)
        lines.append(
            text.ljust(width) + "".join(f"{cell:>{_column(name)}}" for name, cell in zip(shown, cells, strict=True))
        )
    return "\n".join(lines)


def _column(name: str) -> int:
    return max(len(name), 8) + 2  # a figure has 8 characters at most, such as 0.01371


def remaining(done: int, total: int, planned: float, spent: float, planned_so_far: float) -> str:
    """Return the time that is left, in words; what a run takes beyond its plan is as of the runs so far."""
    beyond = (spent - planned_so_far) / done if done else 3.0
    seconds = max(planned - planned_so_far, 0.0) + beyond * (total - done)
    return f"{ceil(seconds)} s left" if seconds < 100 else f"{ceil(seconds / 60)} min left"


def write(results: Results, directory: Path) -> Iterator[Path]:
    """Write ``results.csv`` and ``results.json``; yield each file."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("results.csv", as_csv(results)), ("results.json", json.dumps(as_json(results)) + "\n")):
        file = directory / name
        file.write_text(text)
        yield file

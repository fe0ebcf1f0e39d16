"""From the samples of all rounds to medians, ratios, a table for people and an object for programs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import mpt
from bench.measure import Figures
from bench.variants import Variant

NAME_WIDTH, WIDTH = 16, 9  # columns of the table
BUSY = 0.5  # load average from which the machine counts as not idle


@dataclass(frozen=True)
class Column:
    """A column of the figures `name`, with so many `digits` after the point, `over` all rounds."""

    heading: str
    name: str
    digits: int = 1
    over: Callable[[Sequence[float]], float] = median


@dataclass(frozen=True)
class Block:
    """A part of the table, a line for each variant; if `compared`, with the ratios of the first column's figure."""

    title: str
    columns: Sequence[Column]
    compared: bool = True


@dataclass
class Report:
    """The samples of each variant, by the name of the figure, one for each round; shown in `blocks`."""

    variants: Sequence[Variant]
    blocks: Sequence[Block] = ()
    samples: dict[Variant, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, variant: Variant, figures: Figures) -> None:
        """Add one sample of each of `figures`."""
        of_variant = self.samples.setdefault(variant, {})
        for name, value in figures.items():
            of_variant.setdefault(name, []).append(value)

    def value(self, variant: Variant, name: str, over: Callable[[Sequence[float]], float] = median) -> float | None:
        """Return the median of the rounds, or another figure `over` them; None if this variant has no such figure."""
        samples = self.samples.get(variant, {}).get(name)
        return over(samples) if samples else None

    def ratio(self, variant: Variant, baseline: str, name: str) -> float | None:
        """Return the median of the rounds' ratios, because a round measures both in turn; None if there are none."""
        other = variant.baselines.get(baseline)
        if other is None:
            return None
        of_variant, of_baseline = (self.samples.get(each, {}).get(name, []) for each in (variant, other))
        ratios = [above / below for above, below in zip(of_variant, of_baseline, strict=False) if below]
        return median(ratios) if ratios else None

    def as_json(self) -> dict[str, object]:
        """Return medians and samples of each variant, and every ratio to each baseline."""
        return {
            "variants": {
                variant.title: {
                    **variant.as_json(),
                    "figures": {
                        name: {"median": round(median(samples), 4), "samples": [round(sample, 4) for sample in samples]}
                        for name, samples in self.samples.get(variant, {}).items()
                    },
                    "ratios": {baseline: self._ratios(variant, baseline) for baseline in variant.baselines},
                }
                for variant in self.variants
            }
        }

    def _ratios(self, variant: Variant, baseline: str) -> dict[str, float]:
        ratios = {name: self.ratio(variant, baseline, name) for name in self.samples.get(variant, {})}
        return {name: round(ratio, 4) for name, ratio in ratios.items() if ratio is not None}

    def as_text(self) -> str:
        """Return the table, 80 columns wide at most."""
        return "\n\n".join("\n".join(lines) for lines in map(self._lines, self.blocks) if len(lines) > 1)

    def _lines(self, block: Block) -> list[str]:
        """Return a heading, then a line for each variant that has any of these figures."""
        rows = [[block.title, *(column.heading for column in block.columns)]]
        rows += [
            [f"  {variant.title}", *(self._cell(variant, column) for column in block.columns)]
            for variant in self.variants
        ]
        if block.compared:
            for baseline in dict.fromkeys(name for variant in self.variants for name in variant.baselines):
                ratios = [self.ratio(variant, baseline, block.columns[0].name) for variant in self.variants]
                if any(ratios):
                    cells = ["" if ratio is None else f"{ratio:.3g}" for ratio in ratios]
                    for row, cell in zip(rows, [_divisor(baseline), *cells], strict=True):
                        row.append(cell)
        return [_line(row) for row in rows if any(row[1:])]

    def _cell(self, variant: Variant, column: Column) -> str:
        value = self.value(variant, column.name, column.over)
        return "" if value is None else f"{value:.{column.digits}f}"


def _divisor(baseline: str) -> str:
    """Return the heading of the ratios to a baseline: its number if it has one, or its name."""
    return "/" + next((word for word in baseline.split() if word.isdigit()), baseline)


def _line(cells: Sequence[str]) -> str:
    return (f"{cells[0]:<{NAME_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells[1:])).rstrip()


def machine() -> dict[str, object]:
    """Return the facts on which the figures depend besides mpt."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "twisted": _version_of("twisted"),
        "mpt": mpt.__version__,
        "load_before": round(os.getloadavg()[0], 2),
    }


def machine_text(facts: Mapping[str, object]) -> str:
    """Return the same in a few lines, with a warning if other programs are busy."""
    load = facts["load_before"]
    lines = [
        f"{facts['cores']} × {facts['processor']}, {facts['architecture']}, Linux {facts['kernel']}",
        f"mpt {facts['mpt']}, Python {facts['python']}, Twisted {facts['twisted']}",
    ]
    if isinstance(load, float) and load > BUSY:
        lines.append(f"NOT IDLE: the load was {load:g} before the start; take the ratios, not the figures.")
    return "\n".join(lines)


def _processor() -> str:
    """Return the name that the processor gives itself; empty where it gives none (arm64)."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "core"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"

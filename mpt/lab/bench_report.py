"""From the samples of all rounds to medians, ratios, a table for people and an object for programs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import mpt
from mpt.lab.bench_measure import Figures
from mpt.lab.bench_stage import Variant

SCHEMA = "mpt.bench/1"
NAME_WIDTH, WIDTH = 16, 9  # columns of the table
BUSY = 0.5  # load average from which the machine counts as not idle
LEGEND = """\
python N, native N  the tunnel with that data path and reorder_window = N, over
                    two links like the plain one; a sends, b receives
/plain /0 /python   the first figure divided by that of the plain link, of the
                    same with window 0, of the same with the Python data path,
                    round by round; then the median
CPU s/GB, s/M       user and system time for 10⁹ bytes, for 10⁶ packets"""


@dataclass(frozen=True)
class Column:
    """A column of the figures `name`, with so many `digits` after the point."""

    heading: str
    name: str
    digits: int = 1


@dataclass(frozen=True)
class Block:
    """A part of the table, a line for each variant; if `compared`, with the ratios of the first column's figure."""

    title: str
    columns: Sequence[Column]
    compared: bool = True


BLOCKS = (
    Block(
        "TCP, one stream",
        (
            Column("Mbit/s", "tcp_mbit"),
            Column("CPU s/GB", "tcp_cpu_s_per_gb", 2),
            Column("of a", "tcp_cpu_s_per_gb_a", 2),
            Column("of b", "tcp_cpu_s_per_gb_b", 2),
        ),
    ),
    Block(
        "UDP, 64 bytes",
        (
            Column("packet/s", "udp64_pps", 0),
            Column("CPU s/M", "udp64_cpu_s_per_mpkt", 2),
            Column("of a", "udp64_cpu_s_per_mpkt_a", 2),
            Column("of b", "udp64_cpu_s_per_mpkt_b", 2),
        ),
    ),
    Block("Ping, ms", (Column("median", "ping_ms", 3), Column("99 %", "ping_p99_ms", 3))),
    Block(
        "Memory, MB",
        (
            Column("start a", "rss_start_mb_a"),
            Column("start b", "rss_start_mb_b"),
            Column("after a", "rss_load_mb_a"),
            Column("after b", "rss_load_mb_b"),
            Column("peak a", "rss_peak_mb_a"),
            Column("peak b", "rss_peak_mb_b"),
        ),
        compared=False,
    ),
)


@dataclass
class Report:
    """What was measured: of each variant, by the name of the figure, the sample of each round."""

    variants: Sequence[Variant]
    samples: dict[Variant, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, variant: Variant, figures: Figures) -> None:
        """Add one sample of each of `figures`."""
        of_variant = self.samples.setdefault(variant, {})
        for name, value in figures.items():
            of_variant.setdefault(name, []).append(value)

    def median(self, variant: Variant, name: str) -> float | None:
        """The median of the rounds; None for what this variant does not have."""
        samples = self.samples.get(variant, {}).get(name)
        return median(samples) if samples else None

    def ratio(self, variant: Variant, baseline: str, name: str) -> float | None:
        """The median of the rounds' ratios, as a round measures both one after the other; None if there are none."""
        other = variant.baselines.get(baseline)
        if other is None:
            return None
        of_variant, of_baseline = (self.samples.get(each, {}).get(name, []) for each in (variant, other))
        ratios = [above / below for above, below in zip(of_variant, of_baseline, strict=False) if below]
        return median(ratios) if ratios else None

    def as_json(self) -> dict[str, object]:
        """Medians and samples of each variant, and every ratio to each baseline."""
        return {
            "variants": {
                variant.title: {
                    "data_plane": variant.data_plane,
                    "reorder_window": variant.reorder_window,
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
        """The table, 80 columns wide at most."""
        return "\n\n".join(["\n".join(self._lines(block)) for block in BLOCKS] + [LEGEND])

    def _lines(self, block: Block) -> list[str]:
        """A heading, then a line for each variant that has any of these figures."""
        rows = [[block.title, *(column.heading for column in block.columns)]]
        rows += [[f"  {variant.title}", *(self._cell(variant, column) for column in block.columns)]
                 for variant in self.variants]  # fmt: skip
        if block.compared:
            for baseline in dict.fromkeys(name for variant in self.variants for name in variant.baselines):
                ratios = [self.ratio(variant, baseline, block.columns[0].name) for variant in self.variants]
                if any(ratios):
                    cells = ["" if ratio is None else f"{ratio:.3g}" for ratio in ratios]
                    for row, cell in zip(rows, [f"/{baseline.split()[-1]}", *cells], strict=True):
                        row.append(cell)
        return [_line(row) for row in rows if any(row[1:])]

    def _cell(self, variant: Variant, column: Column) -> str:
        value = self.median(variant, column.name)
        return "" if value is None else f"{value:.{column.digits}f}"


def _line(cells: Sequence[str]) -> str:
    return (f"{cells[0]:<{NAME_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells[1:])).rstrip()


def machine() -> dict[str, object]:
    """What the figures depend on besides mpt."""
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
    """The same in a few lines, with a warning when others are at work on it."""
    load = facts["load_before"]
    lines = [
        f"{facts['cores']} × {facts['processor']}, {facts['architecture']}, Linux {facts['kernel']}",
        f"mpt {facts['mpt']}, Python {facts['python']}, Twisted {facts['twisted']}",
    ]
    if isinstance(load, float) and load > BUSY:
        lines.append(f"NOT IDLE: the load was {load:g} before the start; take the ratios, not the figures.")
    return "\n".join(lines)


def _processor() -> str:
    """The name that the processor gives itself; empty where it gives none (arm64)."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "core"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"

"""``scripts/bench``: what the tunnel carries beside what the plain link carries, on this machine, in one run.

Every round measures one thing on every variant before it goes to the next thing, so that a machine that is busy for a
while is so for all of them; the figures are medians of the rounds. With --soak it watches the memory instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mpt.errors import MptError
from mpt.lab import privileges
from mpt.lab.bench_measure import (
    PINGS,
    Effort,
    Figures,
    memory_after_load,
    memory_at_start,
    require_programs,
    round_trip,
    tcp,
    udp,
)
from mpt.lab.bench_report import SCHEMA, Report, machine, machine_text
from mpt.lab.bench_soak import soak
from mpt.lab.bench_stage import MTU, PATHS, WINDOW, Stage, Variant, build, native_is_built, variants
from mpt.lab.lab import Lab

MEASURES: tuple[Callable[[Stage, Effort], Figures], ...] = (round_trip, tcp, udp)
QUICK = Effort(seconds=1.0, pings=50)


def parser() -> argparse.ArgumentParser:
    """The options of ``scripts/bench``."""
    options = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the plain link and the tunnel over two such links, on each data path, with and without"
        " reordering: TCP, small UDP packets, ping, CPU and memory. docs/performance.md tells how to read it.",
    )
    options.add_argument("--rounds", type=int, default=3, metavar="N", help="the figures are medians of N rounds [3]")
    options.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each TCP stream [5]")
    options.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options.add_argument("--soak", type=float, metavar="S", help="load the tunnel for S seconds and watch its memory")
    options.add_argument("--data-plane", choices=["python", "native"], help="only this data path [all that are built]")
    options.add_argument("--json", metavar="FILE", help="write the figures there as JSON; -: to standard output")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with `arguments` (default: the command line); 0: it was measured, and a soak found nothing wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    try:
        if options.rounds < 1 or options.seconds < 1 or (options.soak is not None and options.soak < 20):
            raise MptError("at least 1 round of 1 second, or a soak of 20 seconds")
        privileges.obtain("mpt.lab.bench", words)
        require_programs()
        return _soak(options) if options.soak is not None else _compare(options)
    except MptError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/bench: interrupted; everything is removed", file=sys.stderr)
        return 130


def measure(lab: Lab, compared: Sequence[Variant], rounds: int, effort: Effort, say: Callable[[str], None]) -> Report:
    """Set all variants up, and take every measure of every variant in each round; `say` is told each outcome."""
    report = Report(compared)
    stages = [build(lab, variant) for variant in compared]
    for stage in stages:
        report.add(stage.variant, memory_at_start(stage))
    for number in range(1, rounds + 1):
        for take in MEASURES:
            for stage in stages:
                figures = take(stage, effort)
                report.add(stage.variant, figures)
                name, value = next(iter(figures.items()))
                say(f"round {number} of {rounds}   {stage.variant.title:<12} {name:<10} {value:10.6g}")
    for stage in stages:
        report.add(stage.variant, memory_after_load(stage))
    return report


def _compare(options: argparse.Namespace) -> int:
    rounds, effort = (1, QUICK) if options.quick else (options.rounds, Effort(options.seconds, PINGS))
    facts = machine()
    with Lab() as lab:
        report = measure(lab, variants(options.data_plane), rounds, effort, _say)
    settings = {"rounds": rounds, "seconds": effort.seconds, "pings": effort.pings, "mtu": MTU, "paths": PATHS}
    _publish(options.json, facts, report.as_text(), {"settings": settings, **report.as_json()})
    return 0


def _soak(options: argparse.Namespace) -> int:
    facts = machine()
    plane = options.data_plane or ("native" if native_is_built() else "python")
    with Lab() as lab:
        outcome = soak(build(lab, Variant(plane, WINDOW)), options.soak, _say)
    text = f"the {plane} data path, reorder_window = {WINDOW}\n{outcome.as_text()}"
    _publish(options.json, facts, text, {"soak": {"data_plane": plane, **outcome.as_json()}})
    return 0 if outcome.is_right else 1


def _publish(to: str | None, facts: dict[str, object], text: str, figures: dict[str, object]) -> None:
    """The table for people, and the object wherever it is wanted; on standard output only one of them."""
    print(f"{machine_text(facts)}\n\n{text}", file=sys.stderr if to == "-" else sys.stdout)
    if to is None:
        return
    date = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"schema": SCHEMA, "date": date, "machine": facts, **figures}) + "\n"
    if to == "-":
        sys.stdout.write(line)
    else:
        Path(to).write_text(line)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

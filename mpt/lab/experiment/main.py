"""``mpt lab``: run an experiment from a scenario file, name the scenarios that come with mpt."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mpt.errors import ConfigError, MptError
from mpt.lab import privileges
from mpt.lab.experiment import plots
from mpt.lab.experiment.measure import Measured, Run, measure
from mpt.lab.experiment.report import Results, as_text, label, remaining, write
from mpt.lab.experiment.scenario import SHIPPED, Scenario, load, shipped


def parser() -> argparse.ArgumentParser:
    """Return the options of ``mpt lab``."""
    options = argparse.ArgumentParser(prog="mpt lab", description="Experiments in namespaces of this machine.")
    commands = options.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="measure a scenario", description="Measure a scenario; write tables and plots."
    )
    run.add_argument("scenario", metavar="SCENARIO", help="a file, or one of: " + ", ".join(shipped()))
    run.add_argument("--output", type=Path, metavar="DIR", help="for the files [./lab-NAME]")
    run.add_argument("--repetitions", type=int, metavar="N", help="instead of the scenario's")
    run.add_argument("--seconds", type=float, metavar="S", help="of each stream, instead of the scenario's")
    run.add_argument("--no-plots", action="store_true", help="tables only; plots need matplotlib (extra: lab)")
    commands.add_parser("list", help="name the scenarios that come with mpt")
    show = commands.add_parser("show", help="print a scenario that comes with mpt, to change it")
    show.add_argument("scenario", choices=shipped())
    return options


def main(arguments: Sequence[str]) -> int:
    """Run ``mpt lab`` with `arguments`. Return the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "list":
            for name in shipped():
                print(f"{name:<18}{load(name).title}")
        elif options.command == "show":
            print((SHIPPED / f"{options.scenario}.ini").read_text(), end="")
        else:
            _run(options, arguments)
    except MptError as error:
        print(f"mpt lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mpt lab: interrupted; everything is removed", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    scenario = chosen(options)
    draws = not options.no_plots
    if draws and not plots.available():
        raise MptError(f"{plots.TO_HAVE_THEM}; or write --no-plots")
    output = options.output or Path(f"lab-{scenario.name}")
    privileges.obtain("mpt.cli.main", ["lab", *arguments])
    file = Path(options.scenario)
    results = Results(scenario, measured(scenario, file.parent if file.exists() else SHIPPED))
    print(as_text(results))
    for written in write(results, output):
        print(f"written: {written}")
    for drawn in plots.draw(results, output) if draws else ():
        print(f"drawn: {drawn}")


def chosen(options: argparse.Namespace) -> Scenario:
    """Return the scenario that the options name, with their changes. Raises ConfigError."""
    scenario = load(options.scenario)
    if options.repetitions is not None:
        if options.repetitions < 1:
            raise ConfigError(f"--repetitions {options.repetitions}: must be a number from 1")
        scenario = replace(scenario, repetitions=options.repetitions)
    if options.seconds is not None:
        changed = replace(scenario.base, seconds=options.seconds)
        if options.seconds < max(0.5, 0.0 if changed.pull is None else changed.plug_at):
            raise ConfigError(f"--seconds {options.seconds:g}: must be from 0.5, and not before plug_at")
        scenario = replace(scenario, base=changed)
    return scenario


def measured(scenario: Scenario, directory: Path) -> list[Measured]:
    """Measure all points, each repetition of all before the next, and tell the time that is left."""
    runs = [Run(point, repetition) for repetition in range(scenario.repetitions) for point in scenario.points]
    planned = [run.point.warmup + run.point.seconds for run in runs]
    began = time.monotonic()
    found: list[Measured] = []
    for number, run in enumerate(runs):
        spent = time.monotonic() - began
        left = remaining(number, len(runs), sum(planned), spent, sum(planned[:number]))
        words = f"[{number + 1}/{len(runs)}, {left}] {label(scenario, run.point)}"
        print(words, end=": ", file=sys.stderr, flush=True)
        each = measure(run, scenario.seed, directory)
        print(f"{each.figures['mbit']:.1f} Mbit/s", file=sys.stderr, flush=True)
        found.append(each)
    return found

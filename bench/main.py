"""``scripts/bench``: the tunnel measured beside the plain link, on this machine, in one run.

It goes part by part. Every round takes one measure of every variant of the part before the next measure, so that a
machine that is busy for a while is busy for all variants. The figures are medians of the rounds. With --soak it loads
the tunnel for a long time instead, and with --lines it measures it over lines as people have them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import scale, sealedscale, targets
from bench.clients import ManyConnections, build_clients
from bench.lines.main import add_options as add_line_options
from bench.lines.main import run as run_lines
from bench.lines.report import listing
from bench.measure import Effort, memory_after_load, memory_at_start, require_programs
from bench.parts import LEGEND, NAMES, Part, parts
from bench.report import Report, machine, machine_text
from bench.scale import MAX_SCALE, MIN_SCALE
from bench.soak.course import soak
from bench.variants import MTU, WINDOW, Stage, Variant, WireGuard, build
from bench.wireguard import build_wireguard
from mpt.accel.choice import native_is_built
from mpt.errors import MptError
from mpt.lab import privileges
from mpt.lab.lab import Lab

SCHEMA = "mpt.bench/2"
QUICK = Effort(seconds=1, pings=50, tries=0, events=1)


def parser() -> argparse.ArgumentParser:
    """Return the options of ``scripts/bench``."""
    options = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the plain link and the tunnel over such links, on each data path: TCP, UDP, ping, CPU and"
        " memory, with and without reordering, under load, by the number of paths and of connections."
        " docs/performance.md tells how to read it.",
    )
    options.add_argument("--rounds", type=int, metavar="N", help="the figures are medians of N rounds [3, lines 1]")
    options.add_argument("--seconds", type=int, default=3, metavar="S", help="of each TCP stream [3]")
    options.add_argument("--only", type=_names, default=NAMES, metavar="PART,..", help=f"of {', '.join(NAMES)} [all]")
    options.add_argument("--quick", action="store_true", help="one short round of fewer variants: does it work at all?")
    options.add_argument("--soak", type=float, metavar="S", help="instead, S seconds of loads, flaps and reloads")
    options.add_argument("--scale", type=int, metavar="N", help="instead, what a server of N connections costs")
    options.add_argument("--sealed", action="store_true", help="with --scale: sealed clients that all begin at once")
    options.add_argument("--seed", type=int, default=1, metavar="N", help="of the events of the soak [1]")
    options.add_argument("--preload", default="", metavar="FILES", help="libraries of a sanitizer, for its daemons")
    options.add_argument("--data-plane", choices=["python", "native"], help="only this data path [all that are built]")
    options.add_argument("--json", metavar="FILE", help="write the figures there as JSON; -: to standard output")
    add_line_options(options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with `arguments` (default: the command line); return 0 if it was measured and a soak found no fault."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    if options.rounds is None:
        options.rounds = 1 if options.lines else 3
    try:
        if options.rounds < 1 or options.seconds < 1 or (options.soak is not None and options.soak < 20):
            raise MptError("at least 1 round of 1 second, or a soak of 20 seconds")
        if options.scale is not None and not MIN_SCALE <= options.scale <= MAX_SCALE:
            raise MptError(f"a server of {MIN_SCALE} to {MAX_SCALE} connections")
        if options.sealed and options.scale is None:
            raise MptError("--sealed is a way of --scale")
        if options.list:
            print(listing())
            return 0
        privileges.obtain("bench.main", words)
        require_programs()
        if options.lines:
            return _lines(options)
        if options.scale is not None:
            return _scale(options)
        return _soak(options) if options.soak is not None else _compare(options)
    except MptError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/bench: interrupted; everything is removed", file=sys.stderr)
        return 130


def measure(part: Part, rounds: int, effort: Effort, say: Callable[[str], None]) -> Report:
    """Set the variants of `part` up, take every measure of each in each round, and remove them; `say` is told each."""
    report = Report(part.variants, part.blocks)
    with Lab() as lab:
        stages = [_build(lab, variant) for variant in part.variants]
        for stage in stages:
            report.add(stage.variant, memory_at_start(stage))
        for number in range(1, rounds + 1):
            for take in part.measures:
                for stage in stages:
                    figures = take(stage, effort)
                    report.add(stage.variant, figures)
                    name, value = next(iter(figures.items()))
                    of = f"{part.name:<12}{stage.variant.title:<13}"
                    say(f"round {number} of {rounds}   {of} {name:<14}{value:10.6g}")
        for stage in stages:
            report.add(stage.variant, memory_after_load(stage))
    return report


def _build(lab: Lab, variant: Variant) -> Stage:
    match variant:
        case ManyConnections():
            return build_clients(lab, variant)
        case WireGuard():
            return build_wireguard(lab, variant)
        case _:
            return build(lab, variant)


def _compare(options: argparse.Namespace) -> int:
    rounds, effort = (1, QUICK) if options.quick else (options.rounds, Effort(options.seconds))
    built = ["python", *(["native"] if native_is_built() else [])]
    planes = [options.data_plane] if options.data_plane else built
    facts = machine()
    reports = {
        part.name: measure(part, rounds, effort, _say)
        for part in parts(planes, quick=options.quick)
        if part.name in options.only
    }
    verdicts = targets.verdicts(reports)
    texts = [*(report.as_text() for report in reports.values()), LEGEND, targets.as_text(verdicts)]
    figures = {
        "settings": {"rounds": rounds, "seconds": effort.seconds, "pings": effort.pings, "mtu": MTU},
        "parts": {name: report.as_json() for name, report in reports.items()},
        "targets": targets.as_json(verdicts),
    }
    _publish(options.json, facts, "\n\n".join(text for text in texts if text), figures)
    return 0


def _names(text: str) -> tuple[str, ...]:
    """Return the parts that `text` names."""
    names = tuple(text.split(","))
    if wrong := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"there is no part {wrong[0]!r}, only {', '.join(NAMES)}")
    return names


def _soak(options: argparse.Namespace) -> int:
    facts = machine()
    plane = options.data_plane or ("native" if native_is_built() else "python")
    with Lab() as lab:
        outcome = soak(lab, plane, options.soak, options.seed, _say, options.preload)
    text = f"the {plane} data path, reorder_window = {WINDOW}\n{outcome.as_text()}"
    _publish(options.json, facts, text, {"soak": {"data_plane": plane, **outcome.as_json()}})
    return 0 if outcome.is_right else 1


def _lines(options: argparse.Namespace) -> int:
    facts = machine()
    text, figures = run_lines(options, 1 if options.quick else options.rounds, _say)
    _publish(options.json, facts, text, figures)
    return 0


def _scale(options: argparse.Namespace) -> int:
    facts = machine()
    planes = [options.data_plane] if options.data_plane else ["python", *(["native"] if native_is_built() else [])]
    measured = {}
    kind = "sealed clients" if options.sealed else "connections"
    names: Sequence[str] = sealedscale.NAMES if options.sealed else scale.NAMES
    for plane in planes:
        _say(f"a server of {options.scale} {kind}, {plane}")
        measured[plane] = (sealedscale if options.sealed else scale).measure(plane, options.scale)
    lines = [f"{'':20}" + "".join(f"{plane:>12}" for plane in planes)]
    lines += [f"{name:20}" + "".join(f"{measured[plane][name]:12.3f}" for plane in planes) for name in names]
    _publish(options.json, facts, "\n".join(lines), {"scale": {kind.replace(" ", "_"): options.scale, **measured}})
    return 0


def _publish(to: str | None, facts: dict[str, object], text: str, figures: dict[str, object]) -> None:
    """Print the table for people, and write the object where it is wanted; standard output gets one of them."""
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

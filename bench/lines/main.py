"""``scripts/bench --lines``: from the options to the text and the figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.lines.plots import draw, require_matplotlib
from bench.lines.report import LEGEND, Results, verdicts, verdicts_json, verdicts_text
from bench.lines.runner import TOGETHER, measure, plan
from bench.lines.stages import CONTROLS, STAGES, WAYS, Stage
from bench.lines.ways import Choice, has_mptcp
from mpt.errors import MptError
from mpt.model import SCHEDULERS

NO_MPTCP = "kernel MPTCP: not measured, this kernel has none or it is switched off (net.mptcp.enabled)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that go with --lines."""
    lines = parser.add_argument_group("lines", "lines as people have them; --quick, --rounds and --json hold here too")
    lines.add_argument("--lines", action="store_true", help="instead, the stages: profiles, loss, LTE, death and so on")
    lines.add_argument("--list", action="store_true", help="with --lines: name the stages and the parts, and end")
    lines.add_argument("--stage", type=_names, metavar="NAME,..", help="stages or parts [all]")
    lines.add_argument("--scheduler", choices=SCHEDULERS, help="of the connections [as it is without a word of it]")
    lines.add_argument("--cc", choices=CONTROLS, help="only this congestion control [both]")
    lines.add_argument("--way", choices=WAYS, action="append", help="only this way, may be repeated [all]")
    lines.add_argument("--plots", metavar="DIRECTORY", help="draw rate, queue and share of each tunnel there, as SVG")
    lines.add_argument(
        "--together", type=float, default=TOGETHER, metavar="MBIT", help=f"of lines measured at a time [{TOGETHER:g}]"
    )


def run(options: argparse.Namespace, rounds: int, say: Callable[[str], None]) -> tuple[str, dict[str, object]]:
    """Measure what `options` name; return the text for people and the figures for programs."""
    ways = [way for way in options.way or WAYS if way != "mptcp" or has_mptcp()]
    stages = [stage for stage in chosen(options.stage) if stage.is_quick or not options.quick or options.stage]
    stages = [stage.shortened() for stage in stages] if options.quick else stages
    runs = plan(stages, [options.cc] if options.cc else CONTROLS, ways)
    if not runs:
        raise MptError("nothing to measure: these stages do not have such ways, or such a congestion control")
    choice = Choice(options.data_plane, options.scheduler)
    if options.plots:
        require_matplotlib()
    results = Results(measure(runs, rounds, options.together, choice, say, sampled=bool(options.plots)))
    for each in results.measured:
        if each.samples:
            say(f"drawn: {draw(each, Path(options.plots))}")
    judged = verdicts(results)
    emulators = sorted({each.emulator for each in results.measured})
    notes = [f"delays by: {', '.join(emulators)} (native, python: mpt/lab/netem; kernel: netem)"]
    notes += [] if has_mptcp() else [NO_MPTCP]
    text = "\n\n".join(each for each in (results.as_text(), LEGEND, "\n".join(notes), verdicts_text(judged)) if each)
    settings = {"rounds": rounds, "together_mbit": options.together, "quick": options.quick, **asdict(choice)}
    figures = {"settings": settings, "mptcp": has_mptcp(), **results.as_json(), "targets": verdicts_json(judged)}
    return text, {"lines": figures}


def chosen(names: Sequence[str] | None) -> list[Stage]:
    """Return the stages of these names or of these parts; all for None."""
    return [stage for stage in STAGES if names is None or {stage.name, stage.part} & set(names)]


def _names(text: str) -> tuple[str, ...]:
    known = {word for stage in STAGES for word in (stage.name, stage.part)}
    names = tuple(text.split(","))
    if wrong := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no stage {wrong[0]!r}: scripts/bench --lines --list")
    return names

"""A run in pictures, as SVG: what each path carries, its queue and its share over time. Needs matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.lines.runner import Measured
from bench.lines.samples import carried_mbit
from mpt.errors import MptError

COLOURS = ("#2166ac", "#d6604d", "#4dac26", "#7b3294")
TO_HAVE_IT = "--plots needs matplotlib: pip install matplotlib, or the extra of mpt's checkout: pip install -e .[lab]"
AVERAGED = 3  # samples of what is carried: one alone jumps with the bursts of TCP


def require_matplotlib() -> None:
    """Raise MptError unless it is installed."""
    if find_spec("matplotlib") is None:
        raise MptError(TO_HAVE_IT)


def draw(measured: Measured, directory: Path) -> Path:
    """Draw the samples of a run into `directory`; return the file, which is named by its stage and control."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "mpt", "font.size": 9, "path.simplify_threshold": 0.5})
    from matplotlib import pyplot

    stage, control = measured.run.stage, measured.run.control
    figure, (carried, queue, share) = pyplot.subplots(3, 1, sharex=True, figsize=(8, 6), layout="constrained")
    times = [sample.at - measured.began for sample in measured.samples]
    _draw_carried(carried, measured, times)
    for number in range(len(measured.samples[0].paths)):
        paths = [sample.paths[number] for sample in measured.samples]
        queue.plot(times, [_number(path.queue_ms) for path in paths], color=COLOURS[number])
    shares = [[_number(path.share) for path in sample.paths] for sample in measured.samples]
    share.stackplot(times, *zip(*shares, strict=True), colors=COLOURS)
    carried.set_ylabel("Mbit/s")
    queue.set_ylabel("queue of the line, ms")
    share.set_ylabel("share")
    share.set_xlabel("seconds")
    for panel in (carried, queue, share):
        panel.set_xlim(0, times[-1])
        panel.set_ylim(0)
        for event in stage.events:
            panel.axvline(event.at, color="black", linewidth=0.8, linestyle=":")
    figure.suptitle(f"{stage.title}; {control.upper()}, {measured.figures['mbit']:.1f} Mbit/s inside")
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{stage.name}-{control}.svg"
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return file


def _draw_carried(panel: Any, measured: Measured, times: list[float]) -> None:
    """Draw what each path carries, what the daemon takes its rate to be, and what the line gives."""
    for number, shape in enumerate(measured.run.stage.lines):
        colour, name = COLOURS[number], "AB"[number]
        rates = carried_mbit(measured.samples, number)
        smooth = [sum(rates[max(n - AVERAGED + 1, 0) : n + 1]) / min(n + 1, AVERAGED) for n in range(len(rates))]
        known = [sample.paths[number].rate_mbit for sample in measured.samples]
        line = [shape.trace.step_at(max(at, 0)).rate_mbit if shape.trace else shape.rate_mbit or 0 for at in times]
        panel.step(times, line, color=colour, linewidth=0.6, alpha=0.6, linestyle="--", label=f"line {name} gives")
        panel.plot(times, smooth, color=colour, label=f"{name} carries")
        if any(rate is not None for rate in known):
            panel.plot(
                times, [_number(each) for each in known], color=colour, linestyle=":", label=f"{name} is taken for"
            )
    panel.legend(loc="lower right", ncols=2, fontsize=7)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value

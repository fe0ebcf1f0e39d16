"""An experiment in pictures, each as PNG and SVG. Needs matplotlib, the extra ``lab``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from mpt.lab.experiment.report import Results, label
from mpt.lab.experiment.scenario import Point, as_words

TO_HAVE_THEM = "plots need matplotlib: pip install 'mpt-tunnel[lab]' (in a checkout: pip install -e .[lab])"
PANELS = 12  # of a picture; more points are in the table only
X_AXES: dict[str, tuple[str, Callable[[Point], float]]] = {
    "delay": ("difference of the delays, ms", lambda point: point.delay_difference),
    "jitter": ("jitter, ± ms", lambda point: max(point.jitter)),
    "loss": ("loss of the worst path, %", lambda point: max(point.loss)),
    "paths": ("paths", lambda point: point.paths),
    "rate": ("sum of the rates, Mbit/s", lambda point: sum(point.rates)),
    "window": ("reorder window, packets", lambda point: float(point.window or 0)),
    "streams": ("streams", lambda point: point.streams),
}
FIGURES = {
    "ratio": "share of the sum of the line rates",
    "mbit": "Mbit/s",
    "reordered_percent": "reordered packets, % (RFC 4737)",
    "max_extent": "largest reordering extent, packets (RFC 4737)",
}


def available() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(results: Results, directory: Path) -> Iterator[Path]:
    """Draw what the results have; yield each file."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "mpt", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
    pictures = {"throughput": _throughput(results), "delay": _delays(results)}
    for figure, words in FIGURES.items():
        pictures[figure] = _against(results, figure, words)
    for name, picture in pictures.items():
        if picture is not None:
            for ending in ("png", "svg"):
                file = directory / f"{name}.{ending}"
                picture.savefig(file, dpi=120, metadata={"Date": None} if ending == "svg" else None)
                yield file


def _throughput(results: Results) -> Any:
    """Each path and the stream over time, a panel for each point, of its first repetition."""
    from matplotlib.figure import Figure

    points = results.points[:PANELS]
    columns = min(len(points), 3)
    rows = -(-len(points) // columns)
    picture = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    for place, point in enumerate(points, 1):
        axes = picture.add_subplot(rows, columns, place)
        series = results.of(point)[0].series
        times = [row[0] for row in series]
        for path in range(point.paths):
            axes.plot(times, [row[1 + path] for row in series], linewidth=0.9, label=f"path_{path}")
        axes.plot(times, [row[-1] for row in series], color="black", linewidth=1.4, label="stream")
        axes.set_title(label(results.scenario, point), fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("s")
        axes.set_ylabel("Mbit/s")
        if place == 1:
            axes.legend(fontsize=7, loc="lower right")
    return picture


def _delays(results: Results) -> Any:
    """The distribution of the delays of UDP packets."""
    points = [point for point in results.points if results.of(point)[0].delays][:PANELS]
    if not points:
        return None
    from matplotlib.figure import Figure

    picture = Figure(figsize=(6.4, 4), layout="constrained")
    axes = picture.add_subplot()
    for point in points:
        delays = results.of(point)[0].delays
        axes.plot(delays, range(len(delays)), label=label(results.scenario, point))
    axes.set_xlabel("delay one way, ms")
    axes.set_ylabel("% of the packets that came")
    axes.legend(fontsize=7)
    return picture


def _against(results: Results, figure: str, words: str) -> Any:
    """A figure against the first key of the sweep that has numbers; the median, and bars from least to greatest."""
    x_name = next((name for name in results.scenario.varied if name in X_AXES), None)
    points = [point for point in results.points if results.values(point, figure)]
    if x_name is None or len(points) < 2:
        return None
    from matplotlib.figure import Figure

    x_words, x_of = X_AXES[x_name]
    lines: dict[str, list[tuple[float, list[float]]]] = {}
    for point in points:
        others = [name for name in results.scenario.varied if name != x_name]
        name = " ".join(f"{other}={as_words(getattr(point, other))}" for other in others)
        lines.setdefault(name, []).append((x_of(point), results.values(point, figure)))
    picture = Figure(figsize=(6.4, 4), layout="constrained")
    axes = picture.add_subplot()
    for name, samples in lines.items():
        xs = [x for x, _ in samples]
        middles = [median(values) for _, values in samples]
        below = [middle - min(values) for middle, (_, values) in zip(middles, samples, strict=True)]
        above = [max(values) - middle for middle, (_, values) in zip(middles, samples, strict=True)]
        axes.errorbar(xs, middles, yerr=[below, above], marker="o", capsize=3, label=name or None)
    axes.set_xlabel(x_words)
    axes.set_ylabel(words)
    axes.set_ylim(bottom=0)
    axes.set_title(results.scenario.title, fontsize=9)
    if any(lines):
        axes.legend(fontsize=7)
    return picture

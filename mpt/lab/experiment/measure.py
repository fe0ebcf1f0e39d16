"""One run of an experiment: two hosts, their paths and daemons, the stream, and what was seen of it."""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mpt.errors import ConfigError, HostError
from mpt.lab import traces
from mpt.lab.experiment.scenario import AUTO, Point
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Link, Shape
from mpt.lab.numbered import Numbered
from mpt.lab.transfer import Progress, Transfer, rate_between
from mpt.lab.tunnel import Description, Tunnel, fit_of, rates_of

SAMPLE = 0.1  # seconds
RECOVERED = 0.9  # share of the rate before the pull
WINDOW = 0.5  # seconds over which a rate is told
FRAME, IP, UDP, GRE = 14, {4: 20, 6: 40}, 8, 8  # octets of headers
FIRST_PORT = 5300
TUNNELS = {4: ("10.0.0.1/24", "10.0.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}
DATA_PATH = re.compile(r"data path[ :=is]*\b(native|python)\b")


@dataclass(frozen=True)
class Run:
    """A point, and which of its repetitions."""

    point: Point
    repetition: int


@dataclass(frozen=True)
class Measured:
    """The figures of a run, and what passed in each tenth of a second.

    `series` are rows: the time in seconds since the stream began, Mbit/s of frames on each path, and of the stream's
    payload. `delays` are percentiles in ms, 101 numbers, of a UDP stream. `emulators`: who made the delays of each path
    (kernel, native or python). `data_path`: of the daemons.
    """

    run: Run
    figures: dict[str, float]
    series: list[list[float]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    emulators: list[str] = field(default_factory=list)
    data_path: str = ""


def measure(run: Run, seed: int, directory: Path) -> Measured:
    """Make the lab of a run, let the stream pass, remove it all. Files of traces are beside the scenario, in
    `directory`. Raises HostError if something does not work at all."""
    point = run.point
    shapes = [shape_of(point, path, seed + run.repetition, directory) for path in range(point.paths)]
    with Lab(seed=seed + run.repetition) as lab:
        a, b = lab.host("a"), lab.host("b")
        links = lab.cables(a, b, shapes)
        description = describe(point, shapes, links)
        tunnel = Tunnel(description, lab.directory)
        tunnel.wait_for_answer(20.0)
        time.sleep(2 * description.dead)  # so that each path is known to work
        for link in links:
            link.begin_trace()
        address = description.address_of("b", point.inner)
        passing = _udp if point.protocol == "udp" else _tcp
        figures, series, delays = passing(point, shapes, a, b, links, address)
        emulators = [link.emulator for link in links]
        found = DATA_PATH.search(tunnel.processes[0].output() + tunnel.processes[0].errors())
        codes = tunnel.stop()
    if any(code not in (0, -15) for code in codes):
        raise HostError(f"the daemons ended with {codes}")
    return Measured(run, figures, series, delays, emulators, found.group(1) if found else "")


def shape_of(point: Point, path: int, seed: int, directory: Path) -> Shape:
    """Return the line of a path. Raises ConfigError for a trace that is none."""
    rate = point.of_path("rate", path)
    return Shape(
        rate_mbit=rate,
        delay_ms=point.of_path("delay", path),
        jitter_ms=point.of_path("jitter", path),
        loss_percent=point.of_path("loss", path),
        reorder=point.overtaking,
        queue_ms=point.of_path("queue", path),
        trace=_trace(point.of_path("trace", path), seed * 100 + path, point.warmup + point.seconds, rate, directory),
    )


def _trace(name: str, seed: int, seconds: float, rate: float, directory: Path) -> traces.Trace | None:
    if not name:
        return None
    if name in traces.MAKERS:
        return traces.MAKERS[name](seed, seconds, rate)
    try:
        return traces.parse((directory / name).read_text())
    except OSError as error:
        kinds = ", ".join(traces.MAKERS)
        raise ConfigError(f"trace = {name}: {error.strerror}; write {kinds} or the name of a file") from error


def describe(point: Point, shapes: list[Shape], links: list[Link]) -> Description:
    """Return the tunnel of a point; what is auto follows from the rates and the delays."""
    fit = fit_of(shapes)
    weights = fit.weights if point.weights is AUTO else [point.of_path("weights", path) for path in range(point.paths)]
    extra = {"general": [f"data_plane = {point.data_plane}"]}
    if point.scheduler:
        extra["connection"] = [f"scheduler = {point.scheduler}"]
    return Description(
        links,
        tunnel_ipv4=TUNNELS[4] if point.inner == 4 else None,
        tunnel_ipv6=TUNNELS[6] if point.inner == 6 else None,
        outer=point.outer,
        weights=weights,
        keepalive=fit.keepalive,
        dead=fit.dead,
        reorder_window=fit.reorder_window if point.window is AUTO else point.window,
        max_buffdelay_msec=fit.max_buffdelay_msec if point.hold is AUTO else point.hold,
        mtu=point.mtu,
        sealed=point.sealed,
        extra=extra,
    )


Seen = tuple[dict[str, float], list[list[float]], list[float]]


class _Watch:
    """Reads the counters of the paths, and pulls and plugs the path that the point names."""

    def __init__(self, point: Point, links: list[Link], began: float) -> None:
        self._links, self.began = links, began
        self._steps: list[tuple[float, Callable[[], None]]] = []
        if point.pull is not None:
            link = links[point.pull]
            start = began + point.warmup
            self._steps = [(start + point.pull_at, link.pull), (start + point.plug_at, link.plug)]
        self._read = [self._counters()]

    def look(self) -> None:
        """Wait for the next tenth of a second, then read."""
        time.sleep(SAMPLE)
        while self._steps and time.monotonic() >= self._steps[0][0]:
            self._steps.pop(0)[1]()
        self._read.append(self._counters())

    def series(self, streams: Sequence[Sequence[Progress]]) -> list[list[float]]:
        """Return the rows of `Measured.series`; `streams` are what each stream had received, and when."""
        rows = []
        for old, new in pairwise(self._read):
            lasted = new[0] - old[0]
            carried = [max(last - first, 0) for first, last in zip(old[1:], new[1:], strict=True)]
            carried.append(sum(bytes_at(stream, new[0]) - bytes_at(stream, old[0]) for stream in streams))
            rows.append([round(new[0] - self.began, 3), *(round(each * 8e-6 / lasted, 3) for each in carried)])
        return rows

    def shares(self) -> list[float]:
        """Return the share of each path in what all have carried."""
        carried = [last - first for first, last in zip(self._read[0][1:], self._read[-1][1:], strict=True)]
        return [each / max(sum(carried), 1) for each in carried]

    def _counters(self) -> list[float]:
        return [time.monotonic(), *(float(link.carried_bytes()[0]) for link in self._links)]


def bytes_at(stream: Sequence[Progress], at: float) -> float:
    """Return what a stream had received at a time, from the reports around it."""
    place = bisect_right(stream, at, key=lambda progress: progress.at)
    if place == 0 or place == len(stream):
        return stream[-1].bytes if stream and place else 0.0
    before, after = stream[place - 1], stream[place]
    return before.bytes + (after.bytes - before.bytes) * (at - before.at) / (after.at - before.at)


def _tcp(point: Point, shapes: list[Shape], a: Host, b: Host, links: list[Link], address: str) -> Seen:
    streams = [
        Transfer(
            a, b, address, seconds=point.seconds, warmup=point.warmup, port=FIRST_PORT + number,
            congestion=point.congestion or None,
        )
        for number in range(point.streams)
    ]  # fmt: skip
    watch = _Watch(point, links, streams[0].started)
    while any(stream.running for stream in streams):
        watch.look()
    results = [stream.finish() for stream in streams]
    figures = {
        "mbit": sum(result.mbit for result in results),
        "longest_gap_ms": max(result.longest_gap for result in results) * 1000,
    }
    if point.pull is not None:
        figures |= _recovery(point, streams[0].progress, watch.began + point.warmup)
    series = watch.series([stream.progress for stream in streams])
    return _with_shares(figures, point, shapes, watch), series, []


def _recovery(point: Point, progress: list[Progress], start: float) -> dict[str, float]:
    """Return the rates before the pull and meanwhile, and the seconds until the rate is there again after the plug."""
    before = rate_between(progress, start, start + point.pull_at)
    meanwhile = rate_between(progress, start + point.pull_at, start + point.plug_at)
    at, end = point.plug_at, point.seconds - WINDOW
    while at < end and rate_between(progress, start + at, start + at + WINDOW) < RECOVERED * before:
        at += SAMPLE
    return {"before_mbit": before, "pulled_mbit": meanwhile, "recovery_s": at - point.plug_at}


def _udp(point: Point, shapes: list[Shape], a: Host, b: Host, links: list[Link], address: str) -> Seen:
    headers = IP[point.inner] + UDP + FRAME + IP[point.outer] + UDP + GRE
    payload = point.udp_octets / (point.udp_octets + headers)
    mbit = sum(rates_of(shapes)) * payload if point.udp_mbit is AUTO else point.udp_mbit
    stream = Numbered(a, b, address, seconds=point.seconds, mbit=mbit, octets=point.udp_octets)
    watch = _Watch(point, links, time.monotonic())
    while stream.running:
        watch.look()
    came = stream.finish()
    figures = {
        "mbit": came.mbit,
        "sent_mbit": came.sent * point.udp_octets * 8e-6 / point.seconds,
        "lost_percent": 100 * (1 - came.received / max(came.sent, 1)),
        "twice": float(came.twice),
        "reordered_percent": 100 * came.order.reordered / max(came.received, 1),
        "mean_extent": came.order.mean_extent,
        "max_extent": float(came.order.max_extent),
    }
    if came.delays:
        figures |= {"delay_p50_ms": came.delays[50], "delay_p95_ms": came.delays[95], "delay_max_ms": came.delays[100]}
    return _with_shares(figures, point, shapes, watch), watch.series([stream.progress]), came.delays


def _with_shares(figures: dict[str, float], point: Point, shapes: list[Shape], watch: _Watch) -> dict[str, float]:
    """Add the rate as a share of the sum of the line rates, and each path's share of what was carried."""
    rates = sum(
        shape.trace.capacity_mbit(point.warmup, point.warmup + point.seconds) if shape.trace else shape.rate_mbit or 0.0
        for shape in shapes
    )
    figures["ratio"] = figures["mbit"] / rates
    return figures | {f"share_{path}": share for path, share in enumerate(watch.shares())}

"""The goals of the native data path, and the verdicts on them: ratios within one run, and delays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.clients import ManyConnections
from bench.hostile import KINDS
from bench.parts import LOAD_KEEPALIVE
from bench.report import Report
from bench.variants import WINDOW, ManyPaths, Sealed, Variant

RELATIONS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}
NATIVE = Variant("native", WINDOW)
CLIENTS = ManyConnections("native", WINDOW, connections=100)
LOADED = Variant("native", WINDOW, LOAD_KEEPALIVE)
SEALED = Sealed("native", WINDOW)
ADAPTIVE = Sealed("native", WINDOW, scheduler="adaptive")


@dataclass(frozen=True)
class Target:
    """The figure `name` of `variant` in a part, divided by its `baseline`'s figure; if None, `over` the rounds."""

    title: str
    part: str
    variant: Variant
    baseline: str | None
    name: str
    relation: Literal["≥", "≤", "<"]
    bound: float
    over: Callable[[Sequence[float]], float] = median

    def measured(self, reports: Mapping[str, Report]) -> float | None:
        """Return the figure or the ratio; None if it was not measured in this run."""
        report = reports.get(self.part)
        if report is None:
            return None
        if self.baseline is None:
            return report.value(self.variant, self.name, self.over)
        return report.ratio(self.variant, self.baseline, self.name)

    def is_met(self, measured: float) -> bool:
        """Return whether `measured` is good enough."""
        return RELATIONS[self.relation](measured, self.bound)


TARGETS = (
    Target("TCP 1, of the Python data path's", "tcp", NATIVE, "python", "tcp1_mbit", "≥", 10),
    Target("TCP 1, of the plain link's", "tcp", NATIVE, "plain", "tcp1_mbit", "≥", 0.25),
    Target("TCP 1, window on, of window off", "tcp", NATIVE, "window 0", "tcp1_mbit", "≥", 1 / 1.05),
    Target("TCP 1, CPU for a byte, of Python's", "tcp", NATIVE, "python", "tcp1_cpu_s_per_gb", "≤", 1 / 8),
    Target("UDP 64, packets, of Python's", "udp", NATIVE, "python", "udp64_pps", "≥", 2),
    Target("UDP 64, CPU for a packet, of Python's", "udp", NATIVE, "python", "udp64_cpu_s_per_mpkt", "≤", 0.5),
    Target("ping, idle, of Python's", "ping", NATIVE, "python", "ping_ms", "≤", 1),
    Target("ping under load, 99 %, ms", "load", LOADED, None, "load_ping_p99_ms", "<", 10),
    Target("latest keepalive of a under load, ms", "load", LOADED, None, "load_keepalive_late_ms_a", "≤", 50, max),
    Target("latest keepalive of b under load, ms", "load", LOADED, None, "load_keepalive_late_ms_b", "≤", 50, max),
    Target("slowest command to a under load, ms", "load", LOADED, None, "load_command_max_ms_a", "≤", 50, max),
    Target("slowest command to b under load, ms", "load", LOADED, None, "load_command_max_ms_b", "≤", 50, max),
    Target("latest keepalive, other cable, ms", "events", LOADED, None, "events_cable_late_ms", "≤", 100, max),
    Target("latest keepalive, new address, ms", "events", LOADED, None, "events_address_late_ms", "≤", 100, max),
    Target("latest keepalive, new gateway, ms", "events", LOADED, None, "events_default_late_ms", "≤", 100, max),
    Target("8 paths, of 2", "paths", ManyPaths("native", WINDOW, paths=8), "2 paths", "tcp1_mbit", "≥", 0.8),
    Target("100 connections, 1 stream, of 1", "connections", CLIENTS, "1 connection", "tcp1_mbit", "≥", 0.8),
    Target("100 connections, 8 streams, of 1", "connections", CLIENTS, "1 connection", "spread_mbit", "≥", 0.8),
    Target("TCP 1, AES-128-GCM, of the same without keys", "sealed", SEALED, "open", "tcp1_mbit", "≥", 0.75),
    Target("TCP 1, adaptive, of scheduler = cycle", "sealed", ADAPTIVE, "cycle", "tcp1_mbit", "≥", 0.95),
    Target("TCP 1, AES-128-GCM, of wireguard-go's", "sealed", SEALED, "wg", "tcp1_mbit", "≥", 6),
    *(Target(f"TCP 1, attacked by {kind}", "hostile", SEALED, None, f"{kind}_share", "≥", 0.9) for kind in KINDS),
)


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured."""

    target: Target
    measured: float

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.target.is_met(self.measured)


def verdicts(reports: Mapping[str, Report]) -> list[Verdict]:
    """Return the verdicts on all targets for which this run has figures; `reports` are by the names of the parts."""
    measured = [(target, target.measured(reports)) for target in TARGETS]
    return [Verdict(target, value) for target, value in measured if value is not None]


def as_text(given: Sequence[Verdict]) -> str:
    """Return a line for each, 80 columns at most; nothing if there are none."""
    if not given:
        return ""
    lines = [f"Targets: the native data path, reorder_window = {WINDOW}"]
    for each in given:
        target = each.target
        met = "met" if each.is_met else "NOT met"
        lines.append(f"  {target.title:<40}{each.measured:>9.3g}   {target.relation} {target.bound:<6.3g} {met}")
    return "\n".join(lines)


def as_json(given: Sequence[Verdict]) -> list[dict[str, object]]:
    """Return an object for each."""
    return [
        {
            "target": each.target.title,
            "measured": round(each.measured, 4),
            "relation": each.target.relation,
            "bound": round(each.target.bound, 4),
            "met": each.is_met,
        }
        for each in given
    ]

"""The measurements: each takes a stage and gives figures, a number under each name.

Names that end in ``_a`` and ``_b`` are of the sending and the receiving daemon; without an end, of both together.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from mpt.errors import HostError
from mpt.lab.bench_stage import Stage, memory_of
from mpt.lab.process import Process

Figures = dict[str, float]

PORT = 5201
UDP_PAYLOAD = 64  # bytes
UDP_SECONDS = 2.0  # of each rate that is tried, at most
MORE = 1.2  # the next rate offered, as a multiple of the best that arrived
MISSES = 2  # tries in a row that bring no more: that was the best
TRIES = 10
PINGS, PING_INTERVAL = 200, 0.01  # seconds
PROGRAMS = {"iperf3": "iperf3", "ping": "iputils-ping"}  # and Debian's packages


@dataclass(frozen=True)
class Effort:
    """How long to measure: seconds of each stream, and a number of pings."""

    seconds: float = 5.0
    pings: int = PINGS


def require_programs() -> None:
    """HostError, with what to install, unless the programs that make the traffic are here."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise HostError(f"programs are missing: apt-get install {' '.join(missing)}")


def tcp(stage: Stage, effort: Effort) -> Figures:
    """One TCP stream: payload in Mbit/s, CPU seconds per 10^9 bytes of payload."""
    spent = _CpuMeter(stage)
    end = iperf(stage, "-t", f"{effort.seconds:g}")["end"]["sum_received"]
    return {
        "tcp_mbit": end["bits_per_second"] / 1e6,
        **spent.per("tcp_cpu_s_per_gb", end["bytes"] / 1e9),
    }


def udp(stage: Stage, effort: Effort) -> Figures:
    """Small UDP packets at the rate at which most arrive: received by the far application in a second, CPU per 10^6.

    More than that only costs the CPU that the daemons need, as everything here shares the same cores; so the search
    begins at what survives a flood and goes up from there until it does not get better.
    """
    seconds = f"{min(effort.seconds, UDP_SECONDS):g}"

    def offer(rate: float) -> Figures:
        spent = _CpuMeter(stage)
        bits = f"{rate * UDP_PAYLOAD * 8:.0f}"  # 0: as fast as it can
        end = iperf(stage, "-u", "-l", str(UDP_PAYLOAD), "-b", bits, "-t", seconds)["end"]["sum"]
        received = end["packets"] - end["lost_packets"]
        return {
            "udp64_pps": received / end["seconds"],
            "udp64_offered_pps": rate or end["packets"] / end["seconds"],
            **spent.per("udp64_cpu_s_per_mpkt", received / 1e6),
        }

    return climb(offer)


def climb(offer: Callable[[float], Figures]) -> Figures:
    """The figures of the offered rate at which most arrived; rate 0 is the flood that everything begins with."""
    best, misses = offer(0), 0
    for _ in range(TRIES):
        figures = offer(best["udp64_pps"] * MORE)
        if figures["udp64_pps"] > best["udp64_pps"]:
            best, misses = figures, 0
        else:
            misses += 1
        if misses == MISSES:
            break
    return best


def round_trip(stage: Stage, effort: Effort) -> Figures:
    """The ping round trip of an idle tunnel, in ms."""
    argv = ["ping", "-n", "-i", f"{PING_INTERVAL:g}", "-c", str(effort.pings), stage.address]
    times = [float(found) for found in re.findall(r" time=([\d.]+) ms", stage.a.run(argv))]
    return {"ping_ms": quantile(times, 0.5), "ping_p99_ms": quantile(times, 0.99)}


def memory_at_start(stage: Stage) -> Figures:
    """Resident memory of each daemon before any load, in MB."""
    return {f"rss_start_mb_{side}": memory_of(process)[0] for side, process in _sides(stage)}


def memory_after_load(stage: Stage) -> Figures:
    """Resident memory of each daemon now, and its peak until now, in MB."""
    figures = {}
    for side, process in _sides(stage):
        figures[f"rss_load_mb_{side}"], figures[f"rss_peak_mb_{side}"] = memory_of(process)
    return figures


def iperf(stage: Stage, *arguments: str) -> dict[str, Any]:
    """Run iperf3 from a to b and give its JSON; HostError if it fails."""
    argv = ["iperf3", "--server", "--one-off", "--forceflush", "--bind", stage.address, "--port", str(PORT)]
    server = stage.b.start(argv)
    try:
        server.wait_for_output("listening", 10)
        argv = ["iperf3", "--client", stage.address, "--port", str(PORT), "--json", *arguments]
        result: dict[str, Any] = json.loads(stage.a.run(argv))
    finally:
        server.stop()
        stage.b.processes.remove(server)
    return result


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed; HostError if there are none."""
    if not values:
        raise HostError("not one ping was answered")
    return sorted(values)[max(ceil(share * len(values)), 1) - 1]


def _sides(stage: Stage) -> list[tuple[str, Process]]:
    """The daemons of `stage` with the end of the names of their figures."""
    return list(zip("ab", stage.daemons, strict=False))  # a plain stage has none


class _CpuMeter:
    """What both daemons spend from now on, user and system time."""

    def __init__(self, stage: Stage) -> None:
        self._sides = _sides(stage)
        self._before = [process.cpu_seconds() for _, process in self._sides]

    def per(self, name: str, units: float) -> Figures:
        """CPU seconds for each of `units`: together under `name`, and of each end."""
        if not self._sides or not units:
            return {}
        each = {
            f"{name}_{side}": (process.cpu_seconds() - before) / units
            for (side, process), before in zip(self._sides, self._before, strict=True)
        }
        return {name: sum(each.values()), **each}

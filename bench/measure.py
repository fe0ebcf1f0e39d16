"""The measurements: each takes a stage and gives figures, a number under each name.

Names that end in ``_a`` and ``_b`` are of the sending and the receiving daemon; without an end, of both together.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from bench.variants import Stage
from mpt.errors import HostError
from mpt.lab.iperf import iperf3, result
from mpt.lab.process import Process
from mpt.lab.reordering import quantile as quantile_of

Figures = dict[str, float]

STREAM_END = 20.0  # seconds that a stream may last longer than it should
UDP_SECONDS = 1.0  # of each rate that is tried
UDP_BUFFER = 2 << 20  # bytes; iperf3's default of 208 KB takes 270 small packets: 2 ms of 135,000 a second
BUFFER_LIMITS = (Path("/proc/sys/net/core/rmem_max"), Path("/proc/sys/net/core/wmem_max"))
MORE = 1.2  # the next rate offered, as a multiple of the best that arrived
MISSES = 2  # tries in a row that bring no more end the search
PINGS, PING_INTERVAL = 200, 0.01  # seconds
LOST_MS = 1000.0  # the time of a ping without an answer
PROGRAMS = {"iperf3": "iperf3", "ping": "iputils-ping", "tcpdump": "tcpdump"}  # and Debian's packages


@dataclass(frozen=True)
class Effort:
    """How long to measure: seconds of each stream, pings, rates that are tried beyond the UDP flood, at most, and
    how often each event happens."""

    seconds: float = 3.0
    pings: int = PINGS
    tries: int = 10
    events: int = 3


Measure = Callable[[Stage, Effort], Figures]


def require_programs() -> None:
    """Raise HostError with the packages to install, unless the programs that make the traffic are here."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise HostError(f"programs are missing: apt-get install {' '.join(missing)}")


def tcp(stage: Stage, effort: Effort, streams: int = 1, *, back: bool = False) -> Figures:
    """Measure TCP streams from a to b, or `back`: payload in Mbit/s, CPU seconds per 10^9 bytes of payload."""
    name = f"tcp{streams}_back" if back else f"tcp{streams}"
    spent = _CpuMeter(stage)
    words = ["--parallel", str(streams), *(["--reverse"] if back else [])]
    end = stream(stage, effort.seconds, *words)["end"]["sum_received"]
    return {
        f"{name}_mbit": end["bits_per_second"] / 1e6,
        **spent.per(f"{name}_cpu_s_per_gb", end["bytes"] / 1e9),
    }


def spread_tcp(stage: Stage, effort: Effort, streams: int) -> Figures:
    """Measure TCP streams from a, each by a separate program, spread over the stage's addresses, as `tcp` does."""
    addresses = [stage.addresses[n % len(stage.addresses)] for n in range(streams)]
    spent = _CpuMeter(stage)
    with iperf3(stage.a, stage.b, addresses, *timed(effort.seconds)) as running:
        ends = [result(client, effort.seconds + STREAM_END)["end"]["sum_received"] for client in running]
    return {
        "spread_mbit": sum(end["bits_per_second"] for end in ends) / 1e6,
        **spent.per("spread_cpu_s_per_gb", sum(end["bytes"] for end in ends) / 1e9),
    }


def udp(stage: Stage, effort: Effort, payload: int = 64) -> Figures:
    """Measure UDP packets at the rate at which most arrive: received by the far application in a second, CPU seconds
    per 10^6.

    A higher rate only takes CPU time from the daemons, as everything here shares the same cores. So the search begins
    at the rate that survives a flood and goes up until it gets no better. `payload` is in bytes.
    """
    name = f"udp{payload}"
    buffer = min(UDP_BUFFER, *(int(limit.read_text()) for limit in BUFFER_LIMITS))

    def offer(rate: float) -> Figures:
        spent = _CpuMeter(stage)
        bits = f"{rate * payload * 8:.0f}"  # 0: as fast as it can
        end = stream(stage, UDP_SECONDS, "-u", "-l", str(payload), "-b", bits, "-w", str(buffer))["end"]["sum"]
        received = end["packets"] - end["lost_packets"]
        return {
            f"{name}_pps": received / end["seconds"],
            f"{name}_offered_pps": rate or end["packets"] / end["seconds"],
            **spent.per(f"{name}_cpu_s_per_mpkt", received / 1e6),
        }

    return climb(offer, f"{name}_pps", effort.tries)


def climb(offer: Callable[[float], Figures], name: str, tries: int) -> Figures:
    """Return the figures of the offered rate at which figure `name` was largest; the first rate is 0, a flood."""
    best, misses = offer(0), 0
    for _ in range(tries):
        figures = offer(best[name] * MORE)
        if figures[name] > best[name]:
            best, misses = figures, 0
        else:
            misses += 1
        if misses == MISSES:
            break
    return best


def round_trip(stage: Stage, effort: Effort) -> Figures:
    """Measure the round trip of an idle tunnel by ping, in ms."""
    times = ping_times(stage, effort.pings)
    return {"ping_ms": quantile(times, 0.5), "ping_p99_ms": quantile(times, 0.99)}


def ping_times(stage: Stage, count: int) -> list[float]:
    """Return the round-trip times of `count` pings from a, in ms, after that many intervals and a second at most."""
    deadline = ceil(count * PING_INTERVAL) + 1
    argv = ["ping", "-n", "-i", f"{PING_INTERVAL:g}", "-c", str(count), "-w", str(deadline), stage.address]
    return times_in(stage.a.run(argv, check=False))


def times_in(said: str) -> list[float]:
    """Return the times, in ms, in the output of ping; HostError if it did not begin."""
    sent = re.search(r"^(\d+) packets transmitted", said, re.MULTILINE)
    if sent is None:
        raise HostError(f"ping failed:\n{said}")
    times = [float(found) for found in re.findall(r" time=([\d.]+) ms", said)]
    return times + [LOST_MS] * (int(sent[1]) - len(times))


def memory_at_start(stage: Stage) -> Figures:
    """Return the resident memory of each daemon before any load, in MB."""
    return {f"rss_start_mb_{side}": process.memory().resident / 1e6 for side, process in _sides(stage)}


def memory_after_load(stage: Stage) -> Figures:
    """Return the resident memory of each daemon now, and its peak until now, in MB."""
    figures: Figures = {}
    for side, process in _sides(stage):
        memory = process.memory()
        figures |= {f"rss_load_mb_{side}": memory.resident / 1e6, f"rss_peak_mb_{side}": memory.peak / 1e6}
    return figures


def stream(stage: Stage, seconds: float, *arguments: str) -> dict[str, Any]:
    """Run iperf3 from a to b for `seconds` and give its JSON; HostError if it fails."""
    with iperf3(stage.a, stage.b, [stage.address], *timed(seconds), *arguments) as (running,):
        return result(running, seconds + STREAM_END)


def timed(seconds: float) -> tuple[str, ...]:
    """Return the arguments of an iperf3 of so many seconds that gives a `result`."""
    return "--json", "--time", f"{seconds:.0f}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` of them do not exceed; HostError if there are none."""
    if not values:
        raise HostError("not one ping was answered")
    return quantile_of(values, share)


def _sides(stage: Stage) -> list[tuple[str, Process]]:
    """Return the daemons of `stage` with the end of the names of their figures."""
    return list(zip("ab", stage.daemons, strict=False))  # a plain stage has none


class _CpuMeter:
    """The user and system time of both daemons from now on."""

    def __init__(self, stage: Stage) -> None:
        self._sides = _sides(stage)
        self._before = [process.cpu_seconds() for _, process in self._sides]

    def per(self, name: str, units: float) -> Figures:
        """Return the CPU seconds for each of `units`: of both together under `name`, and of each end."""
        if not self._sides or not units:
            return {}
        each = {
            f"{name}_{side}": (process.cpu_seconds() - before) / units
            for (side, process), before in zip(self._sides, self._before, strict=True)
        }
        return {name: sum(each.values()), **each}

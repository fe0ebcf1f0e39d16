"""The soak: a changing load for a long time, while the daemons' memory is watched."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mpt.errors import HostError
from mpt.lab.bench_measure import PORT
from mpt.lab.bench_stage import WINDOW, Stage, memory_of
from mpt.lab.process import Process

LIMIT_MB = 60.0  # what a daemon may need
STEADY_MB = WINDOW * 2e-3  # growth that is none, however long the run: a reorder window that is full for the first time
WARM_UP = 60.0  # seconds at most, and a tenth of the run: caches fill, the first large batches are taken
SAMPLE_TIME = 5.0  # seconds
LOAD_TIME = 10.0  # seconds that each load lasts
LOADS: tuple[tuple[str, ...], ...] = (  # arguments of iperf3
    ("--udp", "--length", "1400", "--bitrate", "0"),  # a flood: most of it is dropped, what is held reaches its maximum
    (),
    ("--reverse",),
    ("--parallel", "4"),
    ("--bidir",),
    ("--udp", "--length", "64", "--bitrate", "10M"),
    ("--udp", "--length", "1400", "--bitrate", "200M"),
    ("--bitrate", "1M"),
)


@dataclass
class MemoryLog:
    """Resident memory of one daemon in MB, by seconds since the start; the first `warm_up` seconds do not count."""

    warm_up: float
    samples: list[tuple[float, float]] = field(default_factory=list)

    def counting(self) -> list[tuple[float, float]]:
        """The samples after the warm-up."""
        return [sample for sample in self.samples if sample[0] >= self.warm_up]

    @property
    def largest(self) -> float:
        """The largest sample of all, the warm-up included."""
        return max(size for _, size in self.samples)

    @property
    def slope(self) -> float:
        """MB a minute, by the line of least squares through the samples after the warm-up."""
        return slope(self.counting()) * 60

    @property
    def growth(self) -> float:
        """MB that this line rises from the warm-up to the end."""
        counting = self.counting()
        return self.slope * (counting[-1][0] - counting[0][0]) / 60 if counting else 0.0

    @property
    def is_right(self) -> bool:
        """Whether the daemon stayed below the limit and did not grow."""
        return self.largest < LIMIT_MB and self.growth < STEADY_MB

    def as_json(self) -> dict[str, object]:
        """In MB and kB of 1000 bytes."""
        counting = self.counting()
        return {
            "start_mb": round(counting[0][1], 3),
            "end_mb": round(counting[-1][1], 3),
            "max_mb": round(self.largest, 3),
            "slope_kb_per_min": round(self.slope * 1000, 2),
            "growth_mb": round(self.growth, 3),
            "samples": [[round(at, 1), round(size, 3)] for at, size in self.samples],
        }


@dataclass(frozen=True)
class Soak:
    """The outcome: the memory of daemon a and b, the loads that were carried, and those that iperf3 gave up."""

    seconds: float
    logs: Sequence[MemoryLog]
    loads: int
    failed: int

    @property
    def is_right(self) -> bool:
        """Whether both daemons stayed below the limit and did not grow, and no load failed."""
        return all(log.is_right for log in self.logs) and not self.failed

    def as_json(self) -> dict[str, object]:
        """The object under "soak"."""
        return {
            "seconds": self.seconds,
            "limit_mb": LIMIT_MB,
            "loads": self.loads,
            "failed_loads": self.failed,
            "passed": self.is_right,
            "daemons": {side: log.as_json() for side, log in zip("ab", self.logs, strict=True)},
        }

    def as_text(self) -> str:
        """A line for each daemon and the verdict."""
        lines = [f"{'Soak, MB':<12}{'start':>8}{'end':>8}{'max':>8}{'growth':>8}{'kB/min':>8}"]
        for side, log in zip("ab", self.logs, strict=True):
            (_, start), (_, end) = log.counting()[0], log.counting()[-1]
            figures = "".join(f"{size:8.2f}" for size in (start, end, log.largest, log.growth))
            lines.append(f"  {f'daemon {side}':<10}{figures}{log.slope * 1000:8.1f}")
        lines.append(f"{self.loads} loads in {self.seconds:g} s" + (f", {self.failed} FAILED" if self.failed else ""))
        under = all(log.largest < LIMIT_MB for log in self.logs)
        grows = any(log.growth >= STEADY_MB for log in self.logs)
        lines.append(
            f"resident memory {'stayed under' if under else 'EXCEEDED'} {LIMIT_MB:g} MB"
            f" and {'GREW' if grows else 'did not grow'}"
        )
        return "\n".join(lines)


def soak(stage: Stage, seconds: float, say: Callable[[str], None]) -> Soak:
    """Load `stage` for `seconds`; `say` is told each load and what the daemons need then."""
    logs = [MemoryLog(min(WARM_UP, seconds / 10)) for _ in stage.daemons]
    loads = _Loads(stage)
    server = stage.b.start(["iperf3", "--server", "--forceflush", "--bind", stage.address, "--port", str(PORT)])
    server.wait_for_output("listening", 10)
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        loads.keep_going(seconds - elapsed)
        for log, process in zip(logs, stage.daemons, strict=True):
            log.samples.append((elapsed, memory_of(process)[0]))
        say(f"{elapsed:5.0f} s   {' '.join(f'{log.samples[-1][1]:6.2f}' for log in logs)} MB   {loads.current}")
        time.sleep(min(SAMPLE_TIME, max(seconds - elapsed, 0.1)))
    loads.stop()
    server.stop()
    return Soak(seconds, logs, loads.count, loads.failed)


class _Loads:
    """One iperf3 client after the other, with the loads in turn."""

    def __init__(self, stage: Stage) -> None:
        self.count = self.failed = 0
        self.current = ""
        self._stage = stage
        self._turn: Iterator[tuple[str, ...]] = itertools.cycle(LOADS)
        self._client: Process | None = None

    def keep_going(self, left: float) -> None:
        """Start the next load when the last one has ended."""
        if self._client is not None:
            if self._client.running:
                return
            self._ended(self._client)
        load = next(self._turn)
        self.current = " ".join(load) or "one TCP stream"
        argv = ["iperf3", "--client", self._stage.address, "--port", str(PORT)]
        self._client = self._stage.a.start([*argv, "--time", f"{max(min(LOAD_TIME, left), 1):.0f}", *load])

    def stop(self) -> None:
        """Let the last load come to its end."""
        if self._client is not None:
            try:
                self._client.wait(2 * LOAD_TIME)
            except HostError:
                pass  # it is stopped below, and counts as failed
            self._ended(self._client)

    def _ended(self, client: Process) -> None:
        self.count += 1
        self.failed += client.stop() != 0
        self._stage.a.processes.remove(client)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line of least squares through `points` (x, y); 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0

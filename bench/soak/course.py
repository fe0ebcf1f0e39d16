"""The soak: changing loads, failing paths and changed configurations for a long time.

Every octet of every file has to arrive as it was sent, the daemons have to live on, silently, with counters that add
up, and their memory must not grow.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.soak.events import Flaps, Reloads, Say, happened
from bench.soak.loads import LOADS, carry
from bench.soak.memory import LIMIT_MB, WARM_UP, MemoryLog
from bench.soak.stage import SoakStage
from bench.soak.warmup import fill_windows
from mpt.errors import HostError
from mpt.lab.lab import Lab

SAMPLE_TIME = 5.0  # seconds
LOAD_TIME = 10.0  # seconds that iperf3 lasts, and a twelfth of a short soak
SHORTEST_LOAD = 2.0
TICK = 0.2


@dataclass
class Counts:
    """The loads and events of a soak so far; events by their kind."""

    loads: int = 0
    transfers: int = 0
    bytes_checked: int = 0
    flaps: Mapping[str, int] = field(default_factory=Counter)
    reloads: Mapping[str, int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Soak:
    """The outcome: the memory of daemon a and b, the counts, and every failure.

    `sanitized`: the daemons ran with a sanitizer, which keeps freed memory: their memory is not judged.
    """

    seconds: float
    seed: int
    logs: Sequence[MemoryLog]
    counts: Counts
    failures: Sequence[str] = ()
    sanitized: bool = False

    @property
    def is_right(self) -> bool:
        """Return whether nothing failed, and both daemons stayed below the limit and did not grow."""
        return not self.failures and (self.sanitized or all(log.is_right for log in self.logs))

    def as_json(self) -> dict[str, object]:
        """Return the object under "soak"."""
        counts = self.counts
        return {
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "sanitized": self.sanitized,
            "limit_mb": LIMIT_MB,
            "loads": counts.loads,
            "transfers": counts.transfers,
            "bytes_checked": counts.bytes_checked,
            "flaps": dict(counts.flaps),
            "reloads": dict(counts.reloads),
            "failures": list(self.failures),
            "passed": self.is_right,
            "daemons": {side: log.as_json() for side, log in zip("ab", self.logs, strict=True)},
        }

    def as_text(self) -> str:
        """Return a line for each count, the failures, and the verdict on the memory of each daemon."""
        counts = self.counts
        lines = [
            f"{self.seconds:.0f} s, seed {self.seed}",
            f"{counts.loads:6} loads",
            f"{counts.transfers:6} files, {counts.bytes_checked:,} octets, every one as it was sent",
            f"{sum(counts.flaps.values()):6} flaps: {_by_kind(counts.flaps)}",
            f"{sum(counts.reloads.values()):6} reloads: {_by_kind(counts.reloads)}",
            *(f"FAILED: {failure}" for failure in self.failures),
        ]
        if not self.failures:
            lines.append("nothing failed")
        return "\n".join([*lines, *self._memory_lines()])

    def _memory_lines(self) -> list[str]:
        if not all(log.counting() for log in self.logs):
            return ["resident memory is not judged: the soak broke off in its warm-up"]
        if self.sanitized:
            return ["resident memory is not judged: a sanitizer keeps what is freed"]
        lines = [f"{'Memory, MB':<12}{'start':>8}{'end':>8}{'max':>8}{'growth':>8}{'kB/min':>8}"]
        for side, log in zip("ab", self.logs, strict=True):
            (_, start), (_, end) = log.counting()[0], log.counting()[-1]
            figures = "".join(f"{size:8.2f}" for size in (start, end, log.largest, log.growth))
            lines.append(f"  {f'daemon {side}':<10}{figures}{log.slope * 1000:8.1f}")
        under = all(log.largest < LIMIT_MB for log in self.logs)
        grows = any(log.grows for log in self.logs)
        verdict = f"{'stayed under' if under else 'EXCEEDED'} {LIMIT_MB:g} MB and {'GREW' if grows else 'did not grow'}"
        return [*lines, f"resident memory {verdict}"]


def soak(lab: Lab, data_plane: str, seconds: float, seed: int, say: Callable[[str], None], preload: str = "") -> Soak:
    """Set a stage up in `lab` and load it for `seconds` and until the last load is over.

    Each load and event is given to `say`. With the libraries `preload` the daemons run with a sanitizer.
    """
    say(f"seed {seed}")
    stage = SoakStage(lab, data_plane, preload)
    return _Course(stage, seconds, seed, say, sanitized=bool(preload)).run()


class _Course:
    """One soak: the loads one after the other, beside them the flaps, the reloads and the samples."""

    def __init__(self, stage: SoakStage, seconds: float, seed: int, say: Say, sanitized: bool) -> None:
        self._stage, self._seconds, self._seed, self._say_line = stage, seconds, seed, say
        self._sanitized = sanitized
        self._started = time.monotonic()
        self._failures: list[str] = []
        self._flaps = Flaps(stage, seconds, seed, self._say, self._fail)
        self._reloads = Reloads(stage, seconds, seed, self._say, self._fail)
        self._counts = Counts(flaps=self._flaps.done, reloads=self._reloads.done)
        self._logs = [MemoryLog(min(WARM_UP, seconds / 2)) for _ in stage.daemons]

    def run(self) -> Soak:
        """Run until the last load and the last event are over, or a daemon has ended; HostError if it cannot begin."""
        self._say("load     all windows full")
        fill_windows(self._stage)
        try:
            asyncio.run(self._all())
        except* HostError as errors:
            self._fail_all(map(str, errors.exceptions))
        self._fail_all(self._stage.troubles())
        self._fail_all(self._stage.stop())
        return Soak(self._elapsed, self._seed, self._logs, self._counts, self._failures, self._sanitized)

    async def _all(self) -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(over))
            tasks.create_task(self._flaps.run(over))
            tasks.create_task(self._reloads.run(over))
            await self._carry_loads()
            over.set()

    async def _watch(self, over: asyncio.Event) -> None:
        """Take the samples; HostError, which ends the soak, if a daemon has ended."""
        while True:
            for log, process in zip(self._logs, self._stage.daemons, strict=True):
                if not process.running:
                    raise HostError("a daemon has ended, the soak breaks off")
                log.samples.append((self._elapsed, process.memory().resident / 1e6))
            if await happened(over, SAMPLE_TIME):
                return

    async def _carry_loads(self) -> None:
        seconds = max(min(LOAD_TIME, self._seconds / len(LOADS)), SHORTEST_LOAD)
        for load in itertools.cycle(LOADS):
            while load.is_udp and not self._flaps.is_quiet:
                await asyncio.sleep(TICK)
            if self._elapsed >= self._seconds:
                return
            self._say(f"load     {load.title}")
            began = self._elapsed
            carried = await carry(self._stage, load, seconds)
            self._fail_all(f"load {load.title}: {failure}" for failure in carried.failures)
            self._counts.loads += 1
            self._counts.transfers += carried.files
            self._counts.bytes_checked += carried.octets
            self._fail_all(self._stage.troubles())
            memory = " ".join(f"{log.samples[-1][1]:.2f}" for log in self._logs)
            files = f", {carried.files} files, {carried.octets:,} octets right" if carried.files else ""
            self._say(f"         … {load.title}: {self._elapsed - began:.1f} s{files}; {memory} MB")

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _say(self, line: str) -> None:
        self._say_line(f"{self._elapsed:6.1f} s  {line}")

    def _fail(self, failure: str) -> None:
        self._failures.append(failure)
        self._say(f"FAILED   {failure}")

    def _fail_all(self, failures: Iterable[str]) -> None:
        for failure in failures:
            self._fail(failure)


def _by_kind(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "none"

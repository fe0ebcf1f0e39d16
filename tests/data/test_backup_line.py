"""A line that carries a small part of the packets does not hold up the others: simulated lines, seeded."""

from __future__ import annotations

from random import Random

import pytest

from mpt.data.ordering import Ordering
from mpt.data.scheduler import WeightedCycle

WINDOW, MAX_DELAY = 1000, 0.2
KEEPALIVE = 0.5  # s
MAIN = 0.010  # s one way
JITTER = 0.002  # s, of every line; a line keeps its order
PACKETS = {50.0: 1500, 1000.0: 6000, 4000.0: 8000}


class Lines:
    """A sender at `rate` packets a second over lines with a weight, a delay in s and a share of loss each."""

    def __init__(self, *lines: tuple[int, float, float], seed: int = 1) -> None:
        self.lines = lines
        self.random = Random(seed)
        self.ordering = Ordering(WINDOW, MAX_DELAY)
        self.sent: dict[int, float] = {}
        self.latency: dict[int, float] = {}
        self.lost = 0
        for path in range(len(lines)):
            self.ordering.path_up(path, 0.0)

    def run(self, rate: float, seconds: float) -> Lines:
        """Send, with keepalives from a second before, and wait until nothing waits."""
        cycle = WeightedCycle([(path, weight) for path, (weight, _, _) in enumerate(self.lines)])
        newest = [0.0] * len(self.lines)
        events: list[tuple[float, int, int, int]] = []  # time, order, path, number or -1 for a keepalive

        def send(time: float, path: int, number: int) -> None:
            _, delay, loss = self.lines[path]
            if self.random.random() < loss and number >= 0:
                self.lost += 1
                return
            newest[path] = max(newest[path], time + delay + self.random.random() * JITTER)
            events.append((newest[path], len(events), path, number))

        keepalives = int((seconds + 1) / KEEPALIVE)
        plan = [(index * KEEPALIVE, -1) for index in range(keepalives)]
        plan += [(1.0 + number / rate, number) for number in range(int(rate * seconds))]
        for time, number in sorted(plan):
            if number < 0:
                for path in range(len(self.lines)):
                    send(time, path, number)
            else:
                self.sent[number] = time
                send(time, next(cycle), number)
        for time, _, path, number in sorted(events):
            self._until(time)
            if number < 0:
                self.ordering.keepalive(path, time)
            else:
                self._deliver(time, self.ordering.arrive(number, number.to_bytes(4, "big"), path, time))
        self._until(float("inf"))
        return self

    def _until(self, time: float) -> None:
        while (deadline := self.ordering.next_deadline()) is not None and deadline <= time:
            self._deliver(deadline, self.ordering.deadline_reached(deadline))

    def _deliver(self, time: float, packets: object) -> None:
        for packet in packets:  # type: ignore[attr-defined]
            number = int.from_bytes(packet, "big")
            self.latency[number] = time - self.sent[number]

    def quantile(self, part: float, learned: int = 100) -> float:
        """Return the latency, in s, that `part` of the packets do not exceed.

        Without the first `learned` ones and those of the first MAX_DELAY: then the parts of the lines are not known.
        """
        begun = self.sent[0] + MAX_DELAY + 2 * MAIN
        found = sorted(
            latency for number, latency in self.latency.items() if number >= learned and self.sent[number] > begun
        )
        return found[int(part * (len(found) - 1))]

    @property
    def dropped(self) -> float:
        """Return the part of the packets that arrived, and were dropped."""
        arrived = len(self.sent) - self.lost
        return 1 - len(self.latency) / arrived


@pytest.mark.parametrize("weight", [10_000, 100])
@pytest.mark.parametrize("backup", [0.005, 0.010, 0.030, 0.060], ids=lambda delay: f"{delay * 1000:.0f} ms")
@pytest.mark.parametrize("rate", [50, 1000, 4000])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_lossy_line_with_a_backup_is_as_fast_as_alone(weight: int, backup: float, rate: float, seed: int) -> None:
    """A main line that loses 1 % beside one of small weight: 95 % of the packets come within 10 ms of what the main
    line alone would take, and none is dropped but those of the backup."""
    lines = Lines((weight, MAIN, 0.01), (1, backup, 0.0), seed=seed).run(rate, PACKETS[rate] / rate)
    assert lines.quantile(0.95) <= MAIN + JITTER + 0.010
    assert lines.dropped <= 1.5 / weight


@pytest.mark.parametrize("backup", [0.010, 0.030, 0.060])
@pytest.mark.parametrize("loss", [0.0, 0.001])
def test_what_a_line_of_small_weight_brings_is_waited_for(backup: float, loss: float) -> None:
    """Where the main line loses little, the packets of a line of small weight are not lost for coming later."""
    lines = Lines((100, MAIN, loss), (1, backup, 0.0)).run(1000, 10)
    assert lines.dropped <= 0.1 / 100


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_many_equal_lines_are_all_waited_for(loss: float) -> None:
    """Where each carries a small part because there are so many, none of it is dropped, and few of them lose."""
    lines = Lines(*((1, MAIN + n * 0.001, loss) for n in range(24))).run(4000, 3)
    assert lines.dropped <= 0.001
    assert lines.quantile(0.95) <= MAIN + 0.024 + JITTER + 0.010

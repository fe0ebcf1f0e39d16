"""A network in memory and in virtual time: lines with rates, queues, delays and losses, and the clock that they share.

Nothing here sleeps, and every draw comes from a seed: a run is the same every time. Rates are octets a second, sizes
octets, times seconds. A line carries any object; who sends says how many octets it has.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

MBIT = 125_000.0  # octets a second
START = 1000.0  # s; the monotonic clock of a machine that has run for a while

Steps = Sequence[tuple[float, float]]  # (seconds from the start, value from then on), in order


class Simulation:
    """Virtual time: calls that are due at a time happen in order."""

    def __init__(self) -> None:
        self.origin = self.now = START
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call `call` when it is `when`, or at once if that is past; calls of one time keep their order."""
        self._count += 1
        heappush(self._due, (max(when, self.now), self._count, call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call `call` in so many seconds."""
        self.at(self.now + seconds, call, *arguments)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time go by, at most `seconds`; stop early when `until` holds. Return whether it did."""
        end = self.now + seconds
        due = self._due
        while due and due[0][0] <= end:
            self.now, _, call, arguments = heappop(due)
            call(*arguments)
            if until is not None and until():
                return True
        self.now = end
        return False


class Line:
    """One direction of a line. The order is kept, as by netem with a rate.

    `rate` is octets a second, or steps of it; `delay` seconds, or steps; `queue` octets that may wait; each datagram is
    late by up to twice `jitter`, and lost with the probability `loss`. What is changed holds for what is sent then.
    """

    def __init__(
        self,
        simulation: Simulation,
        rate: float | Steps,
        delay: float | Steps,
        queue: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._simulation = simulation
        self._rates: Steps = [(0.0, rate)] if isinstance(rate, float | int) else rate
        self._delays: Steps = [(0.0, delay)] if isinstance(delay, float | int) else delay
        self._delay_starts = [start for start, _ in self._delays]
        self._step = 0
        self._origin = simulation.now
        self.queue = queue or max(0.08 * max(value for _, value in self._rates), 15_000)
        self.jitter = jitter
        self.loss = loss
        self.is_up = True
        self.reorders = False  # whether jitter may change the order
        self._random = random.Random(seed)
        self._free = 0.0  # when the last datagram has left the queue
        self._last = 0.0  # when it arrives
        self._waiting: deque[tuple[float, int]] = deque()  # (leaves, size)
        self._backlog = 0
        self._cuts = 0
        self.deliver: Callable[[Any], None] = lambda _: None
        self.sent = self.dropped = self.lost = self.arrived = 0  # octets

    def set_rate(self, rate: float) -> None:
        """Change the rate for what is sent from now on."""
        self._rates, self._step = [(0.0, rate)], 0

    def set_delay(self, delay: float) -> None:
        """Change the delay."""
        self._delays, self._delay_starts = [(0.0, delay)], [0.0]

    def cut(self) -> None:
        """Lose everything from now on, and what is under way."""
        self.is_up = False
        self._cuts += 1

    def mend(self) -> None:
        """Carry again, with an empty queue."""
        self.is_up = True
        self._free = self._simulation.now
        self._waiting.clear()
        self._backlog = 0

    def send(self, datagram: Any, size: int) -> None:
        """Take a datagram of `size` octets."""
        now = self._simulation.now
        self.sent += size
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._backlog -= waiting.popleft()[1]
        if not self.is_up or (self.loss and self._random.random() < self.loss):
            self.lost += size
            return
        if self._backlog + size > self.queue:
            self.dropped += size
            return
        leaves = self._served(max(self._free, now), size)
        self._free = leaves
        self._backlog += size
        waiting.append((leaves, size))
        delay = self._delays[max(0, bisect_right(self._delay_starts, leaves - self._origin) - 1)][1]
        arrives = leaves + delay
        if self.jitter:
            arrives += self.jitter * (2 * self._random.random() - 1)
        if not self.reorders:
            arrives = max(arrives, self._last)
        self._last = arrives
        self._simulation.at(arrives, self._arrive, datagram, size, self._cuts)

    def _served(self, begin: float, size: int) -> float:
        """Return when a datagram has left whose first octet leaves at `begin`."""
        rates, octets = self._rates, float(size)
        at = begin - self._origin
        while True:
            while self._step + 1 < len(rates) and rates[self._step + 1][0] <= at:
                self._step += 1
            rate = rates[self._step][1]
            if self._step + 1 == len(rates):
                return self._origin + at + octets / rate
            end = rates[self._step + 1][0]
            if octets <= rate * (end - at):
                return self._origin + at + octets / rate
            octets -= rate * (end - at)
            at = end

    def _arrive(self, datagram: Any, size: int, cuts: int) -> None:
        if cuts == self._cuts:
            self.arrived += size
            self.deliver(datagram)

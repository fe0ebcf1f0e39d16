"""A line as a fluid, which reports every 10 ms: enough for the estimate of a path, and quick."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mpt.limits import Report

STEP = 0.010
DATAGRAM = 1500


@dataclass
class FluidLine:
    """A line of `rate` octets a second and `delay` seconds each way; `loss` is the share that it loses by itself,
    `most` the octets that its queue takes."""

    rate: float
    delay: float = 0.020
    loss: float = 0.0
    most: float = 1e9
    path: object = 0
    now: float = 1000.0
    clock_ahead: int = 123_456  # ticks
    _queue: float = 0.0
    _sent: float = 0.0
    _arrived: float = 0.0
    _lost: float = 0.0
    _known: float = 0.0  # octets of which the sender knows
    _coming: deque[tuple[float, float, float, float]] = field(default_factory=deque)  # (when, octets, lost, delay)
    _told: float = 0.0
    _limited_at: float = 0.0
    _sends: deque[tuple[float, float]] = field(default_factory=deque)

    @property
    def in_flight(self) -> float:
        """Return the octets under way, as far as the sender knows."""
        return self._sent - self._known

    @property
    def queue(self) -> float:
        """Return the seconds that the line's queue holds."""
        return self._queue / self.rate

    def step(self, window: float, pace: float = 0.0, demand: float = 1e12) -> Report:
        """Let 10 ms go by: send `demand` octets a second as far as window and pace allow; return the report."""
        self.now += STEP
        room = max(window - self.in_flight, 0.0)
        if pace:
            room = min(room, pace * STEP)
        wanted = demand * STEP
        if wanted > room:
            self._limited_at = self.now
        sent = min(wanted, room)
        self._sent += sent
        self._sends.append((self.now, self._sent))
        radio = sent * self.loss
        full = max(self._queue + sent - radio - self.most, 0.0)
        self._queue += sent - radio - full
        out = min(self._queue, self.rate * STEP)
        delay = self.delay + self._queue / self.rate
        self._queue -= out
        self._coming.append((self.now + self.delay, out, radio + full, delay))
        return self._report()

    def _report(self) -> Report:
        acked = lost = 0.0
        least: float | None = None
        while self._coming and self._coming[0][0] + self.delay <= self.now + 1e-9:
            _, out, gone, delay = self._coming.popleft()
            self._arrived += out
            acked += out
            lost += gone
            if out:
                least = delay if least is None else min(least, delay)
        self._known += acked + lost
        while len(self._sends) > 1 and self._sends[0][1] <= self._known:
            self._sends.popleft()
        ticks = None if least is None else (round(least * 16_000) + self.clock_ahead) & 0xFFFF
        self._lost += lost
        packets = int(self._lost / DATAGRAM)
        newly_lost = packets - int((self._lost - lost) / DATAGRAM)
        return Report(
            path=self.path,
            at=self.now,
            clock=round((self.now - self.delay) * 1e6) & 0xFFFFFFFF,
            packets=int(self._arrived / DATAGRAM),
            octets=int(self._arrived),
            acked=int(acked),
            lost=newly_lost,
            least=ticks,
            median=ticks,
            rtt=None if least is None else least + self.delay,
            in_flight=int(self.in_flight),
            limited_at=self._limited_at,
            oldest=self._sends[0][0] if self.in_flight > 1 else None,
            settled_moved=acked > 0,
        )

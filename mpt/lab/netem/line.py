"""A line: the delay, then the bottleneck with its queue. `line.c` is the same in C, and a test compares the two.

A frame waits its delay (`DelayLine`), then joins the queue of the bottleneck, or is lost if that is full. The
bottleneck sends one frame after the other at its rate. So frames leave at the times at which the kernel's netem with a
rate lets them go: the later of the last frame's end and the own delay's, and the time on the wire after it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from mpt.lab.netem.delayline import DelayLine


@dataclass(frozen=True)
class Settings:
    """The settings of a line; `Shape.wire_settings` makes them. Seconds, shares, octets and bits a second.

    `rate` 0 means: no bottleneck. With `steps` of (end, rate, delay, loss), ends counted from `began` on, the rate is
    the step's and so are the delay and the loss, unless they are negative; after the last end the first step begins
    again. `queue_octets` and `queue_frames` limit the queue, 0: this one does not. A line that is not `open` loses all.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: bool = False
    open: bool = True
    rate: float = 0.0
    queue_octets: int = 0
    queue_frames: int = 0
    began: float = 0.0
    steps: tuple[tuple[float, float, float, float], ...] = ()


class Line:
    """One direction of a link by its `Settings`; every method takes the time of the monotonic clock."""

    def __init__(self, seed: int = 0) -> None:
        self._delays = DelayLine(seed=seed)
        self._queue: deque[bytes] = deque()
        self._octets = 0
        self._leaves = math.inf  # when the first of the queue has left
        self._full_lost = 0
        self.adjust(Settings(), 0.0)

    @property
    def frames_lost(self) -> int:
        """Return how many frames were lost, of chance or of a full queue."""
        return self._delays.frames_lost + self._full_lost

    def adjust(self, settings: Settings, now: float) -> None:
        """Take over `settings`; the first frame of the queue begins anew at its new rate."""
        self._settings = settings
        self._ends = [step[0] for step in settings.steps]
        if not settings.open:
            self._delays.clear()
            self._queue.clear()
            self._octets = 0
        self._leaves = self._finish(now, self._queue[0]) if self._queue else math.inf

    def put(self, frame: bytes, now: float) -> None:
        """Note that a frame arrived at `now`; it waits or is lost."""
        settings = self._settings
        if not settings.open:
            return
        delay, loss = settings.delay, settings.loss
        if settings.steps:
            _, _, own_delay, own_loss = settings.steps[self._index(self._position(now))]
            delay, loss = own_delay if own_delay >= 0 else delay, own_loss if own_loss >= 0 else loss
        self._delays.adjust(delay, settings.jitter, loss, settings.reorder)
        self._delays.put(frame, now)

    def next_deadline(self) -> float:
        """Return when something is due; infinity while nothing waits."""
        entered = self._delays.next_deadline()
        return self._leaves if entered is None else min(self._leaves, entered)

    def take_due(self, now: float) -> Iterator[bytes]:
        """Take out the frames that have left until `now`, in their order."""
        while (due := self.next_deadline()) <= now:
            if self._leaves <= due:
                frame = self._queue.popleft()
                self._octets -= len(frame)
                self._leaves = self._finish(due, self._queue[0]) if self._queue else math.inf
                yield frame
            else:
                frame = self._delays.take()
                if not self._queue and not self._settings.rate and not self._settings.steps:
                    yield frame
                else:
                    self._enqueue(frame, due)

    def _enqueue(self, frame: bytes, at: float) -> None:
        settings = self._settings
        octets, frames = settings.queue_octets, settings.queue_frames
        if (octets and self._octets + len(frame) > octets) or (frames and len(self._queue) >= frames):
            self._full_lost += 1
            return
        self._queue.append(frame)
        self._octets += len(frame)
        if len(self._queue) == 1:
            self._leaves = self._finish(at, frame)

    def _finish(self, start: float, frame: bytes) -> float:
        """Return when `frame` has left if it begins at `start`."""
        bits, steps = len(frame) * 8.0, self._settings.steps
        if not steps:
            return start + bits / self._settings.rate if self._settings.rate else start
        position, time = self._position(start), start
        index = self._index(position)
        while True:
            end, rate, _, _ = steps[index]
            left = end - position
            if rate * left >= bits:
                return time + bits / rate
            bits -= rate * left
            time += left
            index += 1
            position = end
            if index == len(steps):
                index, position = 0, 0.0

    def _position(self, now: float) -> float:
        """Return the seconds since the first step began last."""
        return max(now - self._settings.began, 0.0) % self._ends[-1]

    def _index(self, position: float) -> int:
        return min(bisect_right(self._ends, position), len(self._ends) - 1)

"""A wire as a queue with deadlines: every frame waits the delay, some are lost, and the others keep their order.

Always true: each frame taken out was put in, and comes out once; no frame leaves before its deadline; without
`reorder` frames leave in the order of their arrival, whatever the jitter (a frame drawn early waits for its
predecessor). `line.c` is the same in C.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from mpt.lab.netem.dice import Dice

MAX_HELD = 50_000  # frames; 100 ms of 6 Gbit/s: memory has to end somewhere


class DelayLine:
    """One direction of a link.

    `delay` and `jitter` are seconds (each frame waits ``delay ± jitter``, uniform, never less than nothing), `loss` is
    a share from 0 to 1. The same `seed` and the same frames give the same losses.
    """

    def __init__(
        self,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        reorder: bool = False,
        seed: int = 0,
    ) -> None:
        self.frames_lost = 0
        self._dice = Dice(seed)
        self._heap: list[tuple[float, int, bytes]] = []  # the count keeps equal deadlines in order
        self._count = 0
        self._last_deadline = -math.inf
        self.adjust(delay, jitter, loss, reorder)

    def adjust(self, delay: float, jitter: float = 0.0, loss: float = 0.0, reorder: bool = False) -> None:
        """Change the line for the frames to come; those inside keep their deadlines."""
        self.delay, self.jitter, self.loss, self.reorder = delay, jitter, loss, reorder

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, frame: bytes, now: float) -> None:
        """Note that a frame arrived at `now`; it is lost here or waits."""
        if (self.loss and self._dice.roll() < self.loss) or len(self) >= MAX_HELD:
            self.frames_lost += 1
            return
        deadline = now + self.delay
        if self.jitter:
            deadline = max(now, deadline + self.jitter * (2.0 * self._dice.roll() - 1.0))
        if not self.reorder:
            deadline = self._last_deadline = max(deadline, self._last_deadline)
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, frame))

    def next_deadline(self) -> float | None:
        """Return when the next frame is due; None while nothing waits."""
        return self._heap[0][0] if self._heap else None

    def take(self) -> bytes:
        """Take out the frame that is due at `next_deadline`, which must not be None."""
        return heapq.heappop(self._heap)[2]

    def take_due(self, now: float) -> Iterator[bytes]:
        """Take out the frames whose deadline has come, earliest first."""
        while self._heap and self._heap[0][0] <= now:
            yield self.take()

    def clear(self) -> None:
        """Lose the frames inside."""
        self._heap.clear()

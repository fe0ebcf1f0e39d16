"""A wire as a queue with deadlines: every frame waits the delay, some are lost, and the others keep their order.

Always true: each frame taken out was put in, and comes out once; no frame leaves before its deadline; without
`reorder` frames leave in the order of their arrival, whatever the jitter (a frame drawn early waits for its
predecessor).
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterator

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
        self._random = random.Random(seed)
        self._fifo: deque[tuple[float, bytes]] = deque()
        self._heap: list[tuple[float, int, bytes]] = []  # only with reorder; the count keeps equal deadlines in order
        self._count = 0
        self._last_deadline = 0.0
        self.adjust(delay, jitter, loss, reorder)

    def adjust(self, delay: float, jitter: float = 0.0, loss: float = 0.0, reorder: bool = False) -> None:
        """Change the line for the frames to come; those inside keep their deadlines."""
        self.delay, self.jitter, self.loss, self.reorder = delay, jitter, loss, reorder

    def __len__(self) -> int:
        return len(self._fifo) + len(self._heap)

    def put(self, frame: bytes, now: float) -> None:
        """Note that a frame arrived at `now`; it is lost here or waits."""
        if (self.loss and self._random.random() < self.loss) or len(self) >= MAX_HELD:
            self.frames_lost += 1
            return
        deadline = now + self.delay
        if self.jitter:
            deadline = max(now, deadline + self._random.uniform(-self.jitter, self.jitter))
        if self.reorder:
            self._count += 1
            heapq.heappush(self._heap, (deadline, self._count, frame))
            return
        if deadline < self._last_deadline:
            deadline = self._last_deadline
        self._last_deadline = deadline
        self._fifo.append((deadline, frame))

    def take_due(self, now: float) -> Iterator[bytes]:
        """Take out the frames whose deadline has come, earliest first."""
        fifo, heap = self._fifo, self._heap
        while fifo and fifo[0][0] <= now:
            yield fifo.popleft()[1]
        while heap and heap[0][0] <= now:
            yield heapq.heappop(heap)[2]

    def next_deadline(self) -> float | None:
        """Return when the next frame is due; None while nothing waits."""
        deadlines = [queue[0][0] for queue in (self._fifo, self._heap) if queue]
        return min(deadlines, default=None)

    def clear(self) -> None:
        """Lose the frames inside."""
        self._fifo.clear()
        self._heap.clear()

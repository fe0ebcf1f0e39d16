"""A reorder buffer under a clock, and what must always hold of it, checked after every call."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from mpt.data.candidates import CANDIDATES
from mpt.data.reorder import ReorderBuffer
from mpt.wire.serial import MASK

ROUNDING = 1e-9  # s


class Line:
    """Arrivals in, deliveries out. A packet is known by its position: its number on the wire without the modulus.

    `out`: what was delivered, as (time, label); the label is the position, or what the test called the packet.
    """

    def __init__(
        self,
        window: int = 64,
        max_delay: float = 0.1,
        paths: Sequence[Hashable] = (),
        now: float = 1000.0,
        has_stamps: bool = False,
    ) -> None:
        self.buffer = ReorderBuffer(window, max_delay, has_stamps=has_stamps)
        self.now = now
        self.out: list[tuple[float, int | str]] = []
        self.arrived: dict[int, float] = {}  # number of the arrival -> time
        self._labels: list[int | str] = []
        for path in paths:
            self.buffer.path_up(path, now)

    def arrive(
        self,
        position: int,
        path: Hashable = "a",
        label: str | None = None,
        at: float | None = None,
        key: int | None = None,
        sent: int = 0,
    ) -> list[int | str]:
        """A packet with the number of `position` comes over `path`, at time `at` (default: now): what that delivers."""
        if at is not None:
            self.wait_until(at)
        number = len(self._labels)
        self._labels.append(position if label is None else label)
        self.arrived[number] = self.now
        packet = number.to_bytes(8, "big")
        delivered = [*self.buffer.arrive(position & MASK, packet, path, self.now, None, key, sent)]
        if key is not None and (deadline := self.buffer.next_deadline()) is not None and deadline <= self.now:
            delivered += self.buffer.deadline_reached(self.now)  # the packet ended the wait of another stream
        return self._delivered(delivered)

    def wait(self, seconds: float) -> list[int | str]:
        """Let time go by, with a wake-up at each deadline; return the delivered labels."""
        return self.wait_until(self.now + seconds)

    def wait_until(self, time: float) -> list[int | str]:
        delivered: list[int | str] = []
        while (deadline := self.buffer.next_deadline()) is not None and deadline <= time:
            self.now = deadline
            delivered += self._delivered(self.buffer.deadline_reached(deadline))
        self.now = time
        return delivered

    def path_up(self, path: Hashable) -> None:
        self.buffer.path_up(path, self.now)

    def path_down(self, path: Hashable) -> list[int | str]:
        return self._delivered(self.buffer.path_down(path, self.now))

    def flush(self) -> list[int | str]:
        return self._delivered(self.buffer.flush())

    @property
    def delivered(self) -> list[int | str]:
        """The labels of everything delivered so far."""
        return [label for _, label in self.out]

    @property
    def dropped(self) -> dict[str, int]:
        return {reason: count for reason, count in self.buffer.dropped.items() if count}

    @property
    def waited(self) -> float:
        """The longest time that a packet delivered so far was held."""
        return self._waited

    _waited = 0.0

    def _delivered(self, packets: Iterable[bytes]) -> list[int | str]:
        labels: list[int | str] = []
        for packet in packets:
            number = int.from_bytes(packet, "big")
            self._waited = max(self._waited, self.now - self.arrived.pop(number))  # KeyError: delivered twice
            labels.append(self._labels[number])
        self.out += [(self.now, label) for label in labels]
        buffer, deadline = self.buffer, self.buffer.next_deadline()
        assert deadline is None or deadline > self.now
        assert buffer.held <= buffer.window + CANDIDATES
        assert len(self._labels) == len(self.out) + buffer.held + sum(buffer.dropped.values())
        return labels

"""Putting the packets of one connection back in order (RFC 2890 section 2.2, guide `reorder_window`, draft section 6).

Sequence numbers are modulo 2^32 on the wire; here they are unwrapped to *positions*, plain integers that only grow.
What always holds:

- `expected` is the position after the last one delivered; None until the first packet, which is taken as it comes.
- Every held packet lies ahead of `expected`, and at most `window` are held.
- No packet is held longer than `max_delay` after its own arrival; then the gaps before it count as lost.
- A full buffer delivers its head (and what follows that without a gap), never everything.
- A gap is not waited for when every path that carries the stream has brought a later packet: a path keeps its own
  order, so nothing can fill that gap any more. A path that turns out not to keep its order suspends this rule for a
  while.
- A number far from all that (more than a window ahead of the newest; or behind, after a silence) is a stray: it is kept
  aside and changes nothing. Only a second stray that agrees with it moves the stream. So a restarted peer is followed,
  while one forged or corrupted number neither stalls the stream nor resets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from typing import Final

from mpt.wire.serial import ahead

RESTART_SILENCE: Final = 0.25  # s beyond max_delay without a good packet; before that, what is behind is late
STRAYS_KEPT: Final = 4  # so that a forger cannot keep a restarted peer from being recognised by alternating with it
PATH_MEMORY: Final = 10.0  # s; a path that brought nothing for so long, and for a window of packets, is not waited for
DISTRUST: Final = 10.0  # s; how long a path's reordering suspends the rule of passed gaps
GAPS_REMEMBERED: Final = 64  # to tell a late packet from a duplicate

Delivery = Sequence[bytes]


class _Progress:
    """How far one path has brought the stream, and when it last brought something."""

    __slots__ = ("position", "time")

    def __init__(self, position: int, time: float) -> None:
        self.position = position
        self.time = time


def _ignore(*_: object) -> None:
    """Nobody wants to know."""


class ReorderBuffer:
    """The reorder window of one connection: `window` in packets (>= 1), `max_delay` in seconds.

    `dropped` counts what was not delivered, by reason: "late", "duplicate", "stray". `gap_filled` is told that a
    packet over one path came so many seconds later than the one that follows it in order over another, `came_late` that
    one over a path came after its turn.
    """

    __slots__ = (
        "_arrivals",
        "_held",
        "_last_good",
        "_newest",
        "_order",
        "_paths",
        "_skipped",
        "_strays",
        "_suspended_until",
        "came_late",
        "dropped",
        "expected",
        "gap_filled",
        "max_delay",
        "window",
    )

    def __init__(
        self,
        window: int,
        max_delay: float,
        gap_filled: Callable[[Hashable, Hashable, float], None] = _ignore,
        came_late: Callable[[Hashable], None] = _ignore,
    ) -> None:
        self.gap_filled = gap_filled
        self.came_late = came_late
        self.window = window
        self.max_delay = max_delay
        self.expected: int | None = None
        self.dropped = {"late": 0, "duplicate": 0, "stray": 0}
        self._held: dict[int, tuple[bytes, Hashable, float]] = {}  # position -> packet, path, time of arrival
        self._order: list[int] = []  # heap of the positions held; delivered ones leave it late
        self._arrivals: deque[tuple[float, int]] = deque()  # (time, position), oldest first; gone ones leave it late
        self._newest = -1  # the furthest position accepted
        self._last_good = 0.0
        self._paths: dict[Hashable, _Progress] = {}
        self._suspended_until = 0.0  # the rule of passed gaps does not hold before this time
        self._skipped: deque[tuple[int, int]] = deque(maxlen=GAPS_REMEMBERED)  # [first, end) of gaps given up
        self._strays: deque[tuple[int, bytes, Hashable]] = deque(maxlen=STRAYS_KEPT)  # (sequence, packet, path)

    @property
    def held(self) -> int:
        """How many packets wait here, the strays that are kept aside included."""
        return len(self._held) + len(self._strays)

    def arrive(
        self, sequence: int, packet: bytes, path: Hashable, now: float, arrived: float | None = None
    ) -> Delivery:
        """Take one packet; give back those that are to be delivered now, in order. `arrived`: when it came, if before
        now."""
        expected = self.expected
        if expected is None:
            expected = self._start(sequence, now)
        position = expected + ahead(sequence, expected)
        if position == expected and not self._held:  # the usual case, in order and nothing waiting
            self.expected = position + 1
            self._newest = position
            self._last_good = now
            self._path_brought(path, position, now)
            return (packet,)
        if position < expected:
            return self._behind(sequence, packet, path, position, now)
        if position - self._newest > self.window:
            return self._stray(sequence, packet, path, now)
        if position in self._held:
            self.dropped["duplicate"] += 1
            return ()
        return self._ahead(packet, path, position, now, now if arrived is None else arrived)

    def deadline_reached(self, now: float) -> Delivery:
        """Deliver in order everything up to the newest packet whose time is over; nothing when woken early."""
        delivery: list[bytes] = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            overdue = self._arrivals[0][1]
            while overdue in self._held:
                self._skip_gap(delivery)
        return delivery

    def next_deadline(self) -> float | None:
        """When `deadline_reached` must be called next; None when nothing is held."""
        if not self._held:
            return None
        while self._arrivals[0][1] not in self._held:
            self._arrivals.popleft()
        return self._arrivals[0][0] + self.max_delay

    def path_up(self, path: Hashable, now: float) -> None:
        """`path` may carry the stream from now on: gaps wait for it."""
        if path not in self._paths:
            self._paths[path] = _Progress(-1 if self.expected is None else self.expected - 1, now)

    def path_down(self, path: Hashable) -> Delivery:
        """`path` carries the stream no longer: gaps need not wait for it. Gives back what that sets free."""
        self._paths.pop(path, None)
        delivery: list[bytes] = []
        self._skip_passed_gaps(delivery, self._last_good)
        return delivery

    def flush(self) -> Delivery:
        """Everything held, in order, gaps ignored."""
        delivery: list[bytes] = []
        while self._held:
            self._skip_gap(delivery)
        return delivery

    def _start(self, sequence: int, now: float) -> int:
        """The first packet of a stream: it is the one expected, and no path has brought anything yet."""
        self.expected = sequence
        self._newest = sequence - 1
        self._last_good = now
        for progress in self._paths.values():
            progress.position = self._newest
        return sequence

    def _path_brought(self, path: Hashable, position: int, now: float) -> None:
        progress = self._paths.get(path)
        if progress is None:
            self._paths[path] = _Progress(position, now)
        else:
            progress.time = now
            if position > progress.position:
                progress.position = position

    def _ahead(self, packet: bytes, path: Hashable, position: int, now: float, arrived: float) -> Delivery:
        """In the window, but out of order or while others wait."""
        delivery: list[bytes] = []
        self._last_good = now
        if position > self._newest:
            self._newest = position
        self._path_brought(path, position, now)
        if position == self.expected:
            following = self._held.get(position + 1)
            if following is not None and following[1] != path:
                self.gap_filled(path, following[1], arrived - following[2])
            delivery.append(packet)
            self._advance(delivery, position)
        else:
            self._held[position] = packet, path, arrived
            heappush(self._order, position)
            if len(self._order) > 2 * self.window + GAPS_REMEMBERED:  # most of them have been delivered
                self._order = sorted(self._held)
            self._arrivals.append((now, position))
            if len(self._held) > self.window:
                self._skip_gap(delivery)
        self._skip_passed_gaps(delivery, now)
        return delivery

    def _advance(self, delivery: list[bytes], position: int) -> None:
        """`position` is being delivered: append what follows it without a gap, and expect the one after that."""
        position += 1
        while position in self._held:
            delivery.append(self._held.pop(position)[0])
            position += 1
        self.expected = position
        if not self._held:
            self._arrivals.clear()
            self._order.clear()

    def _head(self) -> int:
        """The lowest position held; something must be held."""
        while self._order[0] not in self._held:
            heappop(self._order)
        return self._order[0]

    def _skip_gap(self, delivery: list[bytes]) -> None:
        """Give up the gap before the head: deliver the head and what follows it without a gap."""
        head = self._head()
        if self.expected is not None:
            self._skipped.append((self.expected, head))
        delivery.append(self._held.pop(head)[0])
        self._advance(delivery, head)

    def _skip_passed_gaps(self, delivery: list[bytes], now: float) -> None:
        """Give up every gap that no path can fill any more."""
        if now < self._suspended_until:
            return
        while self._held and self.expected is not None and self._is_passed(self.expected, now):
            self._skip_gap(delivery)

    def _is_passed(self, position: int, now: float) -> bool:
        """Whether every path that is waited for has brought `position` or something from behind it.

        This is asked for every packet that is held, and ends at the first path that has not.
        """
        passed = False
        for progress in self._paths.values():
            if now - progress.time < PATH_MEMORY or self._newest - progress.position <= self.window:
                if progress.position < position:
                    return False
                passed = True
        return passed

    def _behind(self, sequence: int, packet: bytes, path: Hashable, position: int, now: float) -> Delivery:
        if now - self._last_good > self.max_delay + RESTART_SILENCE:
            return self._stray(sequence, packet, path, now)
        if not any(first <= position < end for first, end in self._skipped):
            self.dropped["duplicate"] += 1
            return ()
        self.dropped["late"] += 1
        self.came_late(path)
        progress = self._paths.get(path)
        if progress is not None and position < progress.position:
            self._suspended_until = now + DISTRUST
        self._path_brought(path, position, now)
        return ()

    def _stray(self, sequence: int, packet: bytes, path: Hashable, now: float) -> Delivery:
        """A number from elsewhere: keep it aside, or follow it if an earlier stray agrees with it."""
        for stray in self._strays:
            if stray[0] == sequence:
                self.dropped["duplicate"] += 1
                return ()
            if abs(ahead(sequence, stray[0])) <= self.window:
                self._strays.remove(stray)
                pair = sorted((stray, (sequence, packet, path)), key=lambda one: ahead(one[0], sequence))
                return self._follow(pair, now)
        if len(self._strays) == STRAYS_KEPT:
            self.dropped["stray"] += 1
        self._strays.append((sequence, packet, path))
        return ()

    def _follow(self, pair: list[tuple[int, bytes, Hashable]], now: float) -> Delivery:
        """The stream goes on at the two strays that agree: deliver what is left of the old one, then start there."""
        delivery = list(self.flush())
        self.dropped["stray"] += len(self._strays)
        self._strays.clear()
        self._skipped.clear()
        self.expected = None
        for sequence, packet, path in pair:
            delivery += self.arrive(sequence, packet, path, now)
        return delivery

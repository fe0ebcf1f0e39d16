"""Putting the packets of one connection back in order (RFC 2890 section 2.2, guide `reorder_window`, draft section 6).

Sequence numbers are modulo 2^32 on the wire; here they are unwrapped to *positions*, plain integers that only grow. A
*run* is a row of held packets without a gap. Always true:

- `expected` is the position after the last one delivered; None until the first packet, which is taken as it comes.
- Every held packet lies ahead of `expected`, and at most `window` are held.
- A gap is waited for no longer than `longest_wait` after the first packet behind it was put here.
- A full buffer delivers its first run, never everything.
- A gap is waited for only while a path could fill it. A path keeps its own order, so a path that has brought a later
  packet cannot. A path that brings a small part of the packets is given the time in which it has filled gaps lately. If
  it brings hardly anything, or little beside the loss on the other paths, it is given SHORT_WAIT. All gaps are waited
  for while a path is found not to keep its order, and for `longest_wait` after the first packet since a path came up.
- A packet behind `expected` is late if its gap was given up, else a duplicate. If so many gaps were given up that they
  are not remembered, it is late if it is in the order of its path.
- A number that does not fit is a stray (`mpt.data.candidates`): more than a window ahead of the newest; behind, after a
  silence; or behind by more than NEAR and a window, and out of the order of its path. So a restarted peer is followed
  at its second packet, and a forger who sends fewer packets than the peer neither stalls the stream nor moves it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from typing import Final

from mpt.data.candidates import Candidates, Stray
from mpt.data.counters import Reason
from mpt.wire.serial import ahead

RESTART_SILENCE: Final = 0.25  # s beyond max_delay without a good packet; before that, a packet behind is late
NEAR: Final = 10_000  # positions beyond the window: 0.1 s of 1 Gbit/s, lost in one piece or late
PATH_MEMORY: Final = 10.0  # s; a path that brought nothing for so long, and for a window of packets, is not waited for
DISTRUST: Final = 10.0  # s; how long a path's reordering suspends the rules about paths
GAPS_REMEMBERED: Final = 64

GOOD_PART: Final = 1 / 16  # of all packets; the next one of such a path comes soon and tells whether a gap is lost
FAIR_PART: Final = 1 / 4  # of an equal part, where there are many paths: it is a good part, too
POOR_PART: Final = 1 / 256  # a path that brings less brings hardly anything
MANY: Final = 3  # times as much as the loss; then a missing packet is more likely to come than not
SHORT_WAIT: Final = 0.005  # s; above the jitter of lines that are equally late
PATIENCE_GAIN: Final = 1.5  # of the longest time in which a path has filled a gap of late
PATIENCE_DECAY: Final = 7 / 8  # of that time, at each gap that the path fills
REVIEW: Final = 64  # packets after which the parts of the paths are looked at again

Delivery = Sequence[bytes]


class _Progress:
    """The progress of one path: its furthest position, the time of its last packet, its share of the recent packets,
    and how long the gaps that it filled had waited (seconds; None: not known)."""

    __slots__ = ("count", "filled_in", "position", "time")

    def __init__(self, position: int, time: float) -> None:
        self.position = position
        self.time = time
        self.count = 0
        self.filled_in: float | None = None


def _ignore(*_: object) -> None:
    """Do nothing."""


class ReorderBuffer:
    """The reorder window of one connection: `window` in packets (>= 1), `max_delay` in seconds.

    `dropped` counts by reason the packets that were not delivered: "late", "duplicate", "stray". Three functions are
    called: `gap_filled` when a packet over one path came so many seconds later than its successor over another path;
    `came_late` when a packet over a path came after its turn; `parts_changed` with the paths that bring a small part.
    """

    __slots__ = (
        "_brought",
        "_candidates",
        "_entries",
        "_held",
        "_last_good",
        "_learned_at",
        "_lost",
        "_memory",
        "_newest",
        "_order",
        "_paths",
        "_silence",
        "_skipped",
        "_suspended_until",
        "_total",
        "came_late",
        "dropped",
        "expected",
        "gap_filled",
        "longest_wait",
        "minor",
        "parts_changed",
        "window",
    )

    def __init__(
        self,
        window: int,
        max_delay: float,
        gap_filled: Callable[[Hashable, Hashable, float], None] = _ignore,
        came_late: Callable[[Hashable, float], None] = _ignore,
        parts_changed: Callable[[frozenset[Hashable]], None] = _ignore,
    ) -> None:
        self.gap_filled = gap_filled
        self.came_late = came_late
        self.parts_changed = parts_changed
        self.longest_wait = max_delay  # less than max_delay if packets have waited elsewhere before
        self.expected: int | None = None
        self.dropped = dict.fromkeys((Reason.LATE, Reason.DUPLICATE, Reason.STRAY), 0)
        self.minor: frozenset[Hashable] = frozenset()  # the paths that bring less than GOOD_PART
        self.window = window
        self._silence = max_delay + RESTART_SILENCE
        self._candidates = Candidates(window, max_delay, self.dropped)
        self._held: dict[int, tuple[bytes, Hashable, float]] = {}  # position -> packet, path, time of arrival
        self._order: list[int] = []  # heap of the positions held; delivered ones leave it late
        self._entries: deque[tuple[float, int]] = deque()  # (time of being put here, position); gone ones leave it late
        self._newest = -1  # the furthest position accepted
        self._last_good = 0.0
        self._suspended_until = 0.0  # the rules about paths do not hold before this time
        self._skipped: deque[tuple[int, int]] = deque(maxlen=GAPS_REMEMBERED)  # [first, end) of gaps given up
        self._paths: dict[Hashable, _Progress] = {}
        self._brought = 0  # packets of this stream
        self._memory = 8 * window + 16 * REVIEW  # packets; a path may be silent for a window and keep its part
        self._total = 0  # the sum of the paths' counts
        self._lost = 0  # positions given up, in the same memory
        self._learned_at: float | None = None  # before this time the parts are not known; None: no packet since path_up

    @property
    def held(self) -> int:
        """Return how many packets wait here, the kept strays included."""
        return len(self._held) + self._candidates.kept

    def arrive(
        self, sequence: int, packet: bytes, path: Hashable, now: float, arrived: float | None = None
    ) -> Delivery:
        """Take one packet; return the packets to deliver now, in order.

        `sequence` is below 2^32; `arrived` is when the packet came, if that was before `now`.
        """
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
        if arrived is None:
            arrived = now
        if position < expected:
            stray = Stray(sequence, packet, path, arrived, self._brought)
            return self._behind(stray, position, expected - position, now)
        if position - self._newest > self.window:
            stray = Stray(sequence, packet, path, arrived, self._brought)
            return self._stray(stray, position - self._newest <= self.window + NEAR, now)
        if position in self._held:
            self.dropped[Reason.DUPLICATE] += 1
            return ()
        return self._ahead(packet, path, position, now, arrived)

    def deadline_reached(self, now: float) -> Delivery:
        """Give up the gaps whose time is over; return the packets to deliver. Woken early, do nothing."""
        delivery: list[bytes] = []
        self._give_up_gaps(delivery, now)
        delivery += self._candidates.deadline_reached(now, self._brought)
        return delivery

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` must be called next; None when nothing is held."""
        stray = self._candidates.next_deadline()
        if not self._held:
            return stray
        gap = self._gap_deadline()
        return gap if stray is None else min(gap, stray)

    def path_up(self, path: Hashable, now: float) -> None:
        """Note that `path` may carry the stream from now on: gaps wait for it. The parts of all paths may change."""
        if path not in self._paths:
            self._paths[path] = _Progress(-1 if self.expected is None else self.expected - 1, now)
            for progress in self._paths.values():
                progress.count = 1
            self._total = len(self._paths)
            self._lost = 0
            self._learned_at = None

    def path_down(self, path: Hashable, now: float) -> Delivery:
        """Note that `path` carries the stream no longer: gaps need not wait for it. Return the packets set free."""
        progress = self._paths.pop(path, None)
        if progress is not None:
            self._total -= progress.count
            self.minor -= {path}
        delivery: list[bytes] = []
        self._give_up_gaps(delivery, now)
        return delivery

    def flush(self) -> Delivery:
        """Return everything held, in order, without the gaps. Strays are dropped."""
        self._candidates.clear()
        delivery: list[bytes] = []
        while self._held:
            self._skip_gap(delivery)
        return delivery

    def _start(self, sequence: int, now: float) -> int:
        """Begin a stream: expect its first packet; no path has brought anything yet."""
        self.expected = sequence
        self._newest = sequence - 1
        self._last_good = now
        for progress in self._paths.values():
            progress.position = self._newest
        return sequence

    def _path_brought(self, path: Hashable, position: int, now: float) -> None:
        progress = self._paths.get(path)
        if progress is None:
            progress = self._paths[path] = _Progress(position, now)
        progress.time = now
        progress.count += 1
        if position > progress.position:
            progress.position = position
        self._total += 1
        self._brought += 1
        if self._learned_at is None:
            self._learned_at = now + self.longest_wait
        if self._brought % REVIEW == 0:
            self._review()

    def _review(self) -> None:
        """Let old packets count for less, and tell which paths bring little."""
        if self._total > self._memory:
            for progress in self._paths.values():
                progress.count //= 2
            self._total = sum(progress.count for progress in self._paths.values())
            self._lost //= 2
        good = self._good_count()
        minor = frozenset(
            path
            for path, progress in self._paths.items()
            if progress.count < (good if path in self.minor else good / 2)
        )
        if minor != self.minor:
            self.minor = minor
            self.parts_changed(minor)

    def _ahead(self, packet: bytes, path: Hashable, position: int, now: float, arrived: float) -> Delivery:
        """Take a packet in the window that is out of order, or comes while others wait."""
        delivery: list[bytes] = []
        self._last_good = now
        if position > self._newest:
            self._newest = position
        self._path_brought(path, position, now)
        if position == self.expected:
            self._note_filled(path, position, now, arrived)
            delivery.append(packet)
            self._advance(delivery, position)
        else:
            self._held[position] = packet, path, arrived
            heappush(self._order, position)
            if len(self._order) > 2 * self.window + GAPS_REMEMBERED:  # most of them have been delivered
                self._order = sorted(self._held)
            self._entries.append((now, position))
            if len(self._held) > self.window:
                self._skip_gap(delivery)
        self._give_up_gaps(delivery, now)
        return delivery

    def _note_filled(self, path: Hashable, position: int, now: float, arrived: float) -> None:
        """Note how long the gap at `position` had waited, and how much later its packet came than its successor."""
        progress = self._paths[path]
        waited = now - self._first_entry()
        progress.filled_in = max(waited, PATIENCE_DECAY * (progress.filled_in or 0.0))
        following = self._held.get(position + 1)
        if following is not None and following[1] != path:
            self.gap_filled(path, following[1], arrived - following[2])

    def _advance(self, delivery: list[bytes], position: int) -> None:
        """Note that `position` is being delivered: append the run behind it, and expect the position after that."""
        position += 1
        while position in self._held:
            delivery.append(self._held.pop(position)[0])
            position += 1
        self.expected = position
        if not self._held:
            self._entries.clear()
            self._order.clear()

    def _head(self) -> int:
        """Return the lowest position held; something must be held."""
        while self._order[0] not in self._held:
            heappop(self._order)
        return self._order[0]

    def _first_entry(self) -> float:
        """Return when the first of the packets held was put here, and with it the first gap seen."""
        while self._entries[0][1] not in self._held:
            self._entries.popleft()
        return self._entries[0][0]

    def _skip_gap(self, delivery: list[bytes]) -> None:
        """Give up the gap before the head: deliver the first run."""
        head = self._head()
        if self.expected is not None and self.expected < head:
            self._skipped.append((self.expected, head))
            self._lost += head - self.expected
        delivery.append(self._held.pop(head)[0])
        self._advance(delivery, head)

    def _give_up_gaps(self, delivery: list[bytes], now: float) -> None:
        while self._held and self._gap_deadline() <= now:
            self._skip_gap(delivery)

    def _gap_deadline(self) -> float:
        """Return when the first gap is given up; something must be held. A past time: no path could fill it."""
        seen = self._first_entry()
        end = seen + self.longest_wait
        expected = self.expected
        if not self._paths or expected is None:
            return end
        patience, learned_at, good = 0.0, 0.0, self._good_count()
        for progress in self._paths.values():
            if progress.position < expected and (
                self._last_good - progress.time < PATH_MEMORY or self._newest - progress.position <= self.window
            ):
                if progress.count >= good or self._learned_at is None:
                    return end
                learned_at = self._learned_at
                patience = max(patience, self._patience(progress))
        return min(end, max(seen + patience, learned_at, self._suspended_until))

    def _good_count(self) -> float:
        """Return how many packets a path must have brought lately to carry a good part; there must be paths."""
        return self._total * min(GOOD_PART, FAIR_PART / len(self._paths))

    def _patience(self, progress: _Progress) -> float:
        """Return how many seconds a gap waits for a path of small part that has not passed it."""
        count = progress.count
        if count == 0:
            return 0.0
        if count < self._total * POOR_PART or count < MANY * (self._lost + 1):
            return SHORT_WAIT
        if progress.filled_in is None:
            return self.longest_wait
        return PATIENCE_GAIN * progress.filled_in + SHORT_WAIT

    def _behind(self, stray: Stray, position: int, behind: int, now: float) -> Delivery:
        """Take a packet whose turn is over, `behind` positions ago: it is late, a duplicate or a stray."""
        progress = self._paths.get(stray.path)
        is_next = progress is not None and position > progress.position
        if self._is_silent(now) or (behind > self.window + NEAR and not is_next):
            return self._stray(stray, False, now)
        if not self._was_given_up(position, is_next):
            self.dropped[Reason.DUPLICATE] += 1
            return ()
        self.dropped[Reason.LATE] += 1
        self.came_late(stray.path, now)
        self._lost = max(0, self._lost - 1)
        if progress is not None:
            progress.filled_in = None
            if not is_next:
                self._suspended_until = now + DISTRUST
        self._path_brought(stray.path, position, now)
        return ()

    def _was_given_up(self, position: int, is_next: bool) -> bool:
        """Return whether the gap of `position` was given up; for old gaps, whether its path never brought it."""
        if any(first <= position < end for first, end in self._skipped):
            return True
        return is_next and len(self._skipped) == GAPS_REMEMBERED and position < self._skipped[0][0]

    def _is_silent(self, now: float) -> bool:
        return now - self._last_good > self._silence

    def _stray(self, stray: Stray, is_loss: bool, now: float) -> Delivery:
        """Take a number that does not fit; `is_loss`: it lies as far ahead as a burst of loss leads."""
        first = self._candidates.arrive(stray, is_loss or self._is_silent(now))
        if not first:
            return ()
        delivery = list(self.flush())
        self._skipped.clear()
        self._lost = 0
        self.expected = None
        for sequence, packet, path, arrived, _ in first:
            delivery += self.arrive(sequence, packet, path, now, arrived)
        return delivery

"""Putting the packets of one number space in order (RFC 2890 section 2.2, guide `reorder_window`, draft section 6).

Sequence numbers are modulo 2^32 on the wire; here they are unwrapped to *positions*, plain integers that only grow. A
*run* is a row of held packets without a gap. Always true:

- `expected` is the position after the last one delivered; None until the first packet, which is taken as it comes.
- Every held packet lies ahead of `expected`, and all streams of a connection together hold at most a window.
- A gap is waited for no longer than `longest_wait` after the first packet behind it was put here.
- A full window delivers the first run of the stream that began to wait first, never everything.
- A gap is waited for only while a path could fill it. A path keeps its own order, so a path that has brought a later
  packet cannot: a later one of this stream, or one of any stream that was sent after the packet behind the gap. A path
  that brings a small part of the packets is given the time in which it has filled gaps lately. If it brings hardly
  anything, or little beside the loss on the other paths, it is given SHORT_WAIT. While a path is
  found not to keep its order, a gap is given as long as its packets took. All gaps are waited for until `longest_wait`
  after the first packet since a path came up.
- A packet behind `expected` is late if its gap was given up, else a duplicate. If so many gaps were given up that they
  are not remembered, it is late if it is in the order of its path.
- A number does not fit if it is more than a window ahead of the newest; behind, after a silence; or behind by more than
  NEAR and a window, and out of the order of its path. It is a stray (`mpt.data.candidates`). So a restarted peer is
  followed at its second packet, and a forger who sends fewer packets than the peer neither stalls the stream nor moves
  it.

Packets of a sealed connection have stamps, and nobody forges them or sends them twice. So there are no candidates:

- A number that goes back in a packet sent after all others, or far ahead, begins the stream anew at once.
- If it was sent before others, it is an old one. Behind, it is late as above, but delivered as it comes if it lies
  before the first number that is known here. Far ahead, it is a stray and dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from typing import Final

from mpt.data.candidates import Candidates, Stray
from mpt.data.counters import Reason
from mpt.data.knowledge import NOTHING_SENT, PATH_MEMORY, Knowledge
from mpt.wire.serial import ahead

RESTART_SILENCE: Final = 0.25  # s beyond max_delay without a good packet; before that, a packet behind is late
NEAR: Final = 10_000  # positions beyond the window: 0.1 s of 1 Gbit/s, lost in one piece or late
DISTRUST: Final = 10.0  # s; how long a path's reordering is remembered
GAPS_REMEMBERED: Final = 64

Delivery = Sequence[bytes]


class Shared:
    """What the streams of one connection share: the knowledge about the paths, the window, counts of drops by reason.

    `gap_filled`, `came_late`: see `mpt.data.reorder.ReorderBuffer`.
    """

    __slots__ = ("came_late", "dropped", "gap_filled", "held", "known", "waiting", "window")

    def __init__(
        self,
        window: int,
        known: Knowledge,
        gap_filled: Callable[[Hashable, Hashable, float], None],
        came_late: Callable[[Hashable, float], None],
    ) -> None:
        self.window = window
        self.known = known
        self.gap_filled = gap_filled
        self.came_late = came_late
        self.dropped = dict.fromkeys((Reason.LATE, Reason.DUPLICATE, Reason.STRAY), 0)
        self.held = 0  # packets, of all streams
        self.waiting: dict[Stream, None] = {}  # the streams that hold packets, by when they began to wait


_Held = tuple[bytes, Hashable, float, int]  # a packet that waits: its path, when it came, when it was sent
_Gap = tuple[int, int, float]  # [first, end), and when its wait began


class Stream:
    """One number space. `silence`: seconds without a packet after which a lower number may be a restarted peer's.
    `candidates`: None if packets have stamps."""

    __slots__ = (
        "_candidates",
        "_entries",
        "_first",
        "_held",
        "_known",
        "_newest",
        "_newest_sent",
        "_order",
        "_positions",
        "_shared",
        "_silence",
        "_skipped",
        "brought",
        "expected",
        "last_good",
    )

    def __init__(self, shared: Shared, silence: float, candidates: Candidates | None) -> None:
        self._shared = shared
        self._known = shared.known
        self._silence = silence
        self._candidates = candidates
        self.expected: int | None = None
        self.last_good = 0.0
        self.brought = 0  # packets of this stream
        self._first = 0  # the position of the first packet
        self._newest = -1  # the furthest position accepted
        self._newest_sent = NOTHING_SENT
        self._positions = dict.fromkeys(shared.known.paths, -1)  # the furthest of each path
        self._held: dict[int, _Held] = {}  # by position
        self._order: list[int] = []  # heap of the positions held; delivered ones leave it late
        self._entries: deque[tuple[float, int]] = deque()  # (time of being put here, position); gone ones leave it late
        self._skipped: list[_Gap] = []  # the last gaps given up

    def arrive(
        self, sequence: int, packet: bytes, path: Hashable, now: float, arrived: float | None, sent: int
    ) -> Delivery:
        """Take one packet; return the packets to deliver now, in order."""
        expected = self.expected
        if expected is None:
            expected = self._start(sequence, now)
        position = expected + ahead(sequence, expected)
        if position == expected and not self._held:  # the usual case, in order and nothing waiting
            self.expected = position + 1
            self._newest = self._positions[path] = position
            self.last_good = now
            self.brought += 1
            if sent > self._newest_sent:
                self._newest_sent = sent
            self._known.brought(path, now, sent)
            return (packet,)
        if arrived is None:
            arrived = now
        if position < expected:
            stray = Stray(sequence, packet, path, arrived, self.brought)
            return self._behind(stray, sent, position, expected - position, now)
        if position - self._newest > self._shared.window:
            stray = Stray(sequence, packet, path, arrived, self.brought)
            return self._stray(stray, sent, position - self._newest <= self._shared.window + NEAR, now)
        if position in self._held:
            self._shared.dropped[Reason.DUPLICATE] += 1
            return ()
        return self._ahead((packet, path, arrived, sent), position, now)

    def _start(self, sequence: int, now: float) -> int:
        """Begin a stream: expect its first packet; no path has brought anything yet."""
        self.expected = self._first = sequence
        self._newest = sequence - 1
        self.last_good = now
        self._positions = dict.fromkeys(self._known.paths, self._newest)
        return sequence

    def _path_brought(self, path: Hashable, position: int, now: float, sent: int) -> None:
        self.brought += 1
        furthest = self._positions.get(path)
        if furthest is None or position > furthest:
            self._positions[path] = position
        if sent > self._newest_sent:
            self._newest_sent = sent
        self._known.brought(path, now, sent)

    def _ahead(self, held: _Held, position: int, now: float) -> Delivery:
        """Take a packet in the window that is out of order, or comes while others wait."""
        packet, path, arrived, sent = held
        delivery: list[bytes] = []
        self.last_good = now
        if position > self._newest:
            self._newest = position
        self._path_brought(path, position, now, sent)
        if position == self.expected:
            self._note_filled(path, position, now, arrived)
            delivery.append(packet)
            self._advance(delivery, position)
        else:
            self._hold(held, position, now)
            if self._shared.held > self._shared.window:
                next(iter(self._shared.waiting)).skip_gap(delivery)
        self.give_up_gaps(delivery, now)
        return delivery

    def _hold(self, held: _Held, position: int, now: float) -> None:
        self._held[position] = held
        self._shared.held += 1
        self._shared.waiting.setdefault(self)
        heappush(self._order, position)
        if len(self._order) > 2 * self._shared.window + GAPS_REMEMBERED:  # most of them have been delivered
            self._order = sorted(self._held)
        self._entries.append((now, position))

    def _note_filled(self, path: Hashable, position: int, now: float, arrived: float) -> None:
        """Note how long the gap at `position` had waited, and how much later its packet came than its successor."""
        self._known.filled(path, now - self._first_entry())
        following = self._held.get(position + 1)
        if following is not None and following[1] != path:
            self._shared.gap_filled(path, following[1], arrived - following[2])

    def _advance(self, delivery: list[bytes], position: int) -> None:
        """Note that `position` is being delivered: append the run behind it, and expect the position after that."""
        position += 1
        before = len(delivery)
        while position in self._held:
            delivery.append(self._held.pop(position)[0])
            position += 1
        self.expected = position
        self._shared.held -= len(delivery) - before
        if not self._held:
            self._entries.clear()
            self._order.clear()
            del self._shared.waiting[self]

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

    def skip_gap(self, delivery: list[bytes]) -> None:
        """Give up the gap before the head: deliver the first run. Something must be held."""
        head = self._head()
        if self.expected is not None and self.expected < head:
            self._skipped.append((self.expected, head, self._first_entry()))
            del self._skipped[:-GAPS_REMEMBERED]
            self._known.lost += head - self.expected
        delivery.append(self._held.pop(head)[0])
        self._shared.held -= 1
        self._advance(delivery, head)

    def give_up_gaps(self, delivery: list[bytes], now: float) -> None:
        """Deliver what waits behind gaps whose time is over."""
        while self._held and self.gap_deadline() <= now:
            self.skip_gap(delivery)

    def gap_deadline(self) -> float:
        """Return when the first gap is given up; something must be held. A past time: no path could fill it."""
        known = self._known
        seen = self._first_entry()
        end = seen + known.longest_wait
        expected = self.expected
        if not known.paths or expected is None:
            return end
        sent = self._held[self._head()][3] if self._candidates is None else 0
        patience, learned_at, good = known.patience_with_reordering(seen), 0.0, known.good_count()
        for path, progress in known.paths.items():
            has_passed = self._positions.get(path, -1) >= expected or progress.sent > sent
            if not has_passed and (self.last_good - progress.time < PATH_MEMORY or not known.is_silent(progress)):
                if progress.count >= good or known.learned_at is None:
                    return end
                learned_at = known.learned_at
                patience = max(patience, known.patience(progress))
        return min(end, max(seen + patience, learned_at))

    def _behind(self, stray: Stray, sent: int, position: int, behind: int, now: float) -> Delivery:
        """Take a packet whose turn is over, `behind` positions ago: it is late, a duplicate or a stray."""
        furthest = self._positions.get(stray.path)
        is_next = furthest is not None and position > furthest
        if self._candidates is None:
            if sent > self._newest_sent:
                return self._begin_anew([stray], sent, now)
            if position < self._first:
                self._path_brought(stray.path, position, now, sent)
                return (stray.packet,)
        elif self._is_silent(now) or (behind > self._shared.window + NEAR and not is_next):
            return self._stray(stray, sent, False, now)
        gap = self._gap_given_up(position, is_next)
        if gap is None:
            self._shared.dropped[Reason.DUPLICATE] += 1
            return ()
        self._shared.dropped[Reason.LATE] += 1
        self._shared.came_late(stray.path, now)
        self._known.came_late(stray.path)
        if furthest is not None and not is_next:
            self._known.reordered(now - gap[2], now, DISTRUST)
        self._path_brought(stray.path, position, now, sent)
        delivery: list[bytes] = []
        self.give_up_gaps(delivery, now)
        return delivery

    def _gap_given_up(self, position: int, is_next: bool) -> _Gap | None:
        """Return the gap of `position` if it was given up; if it is old and new to its path, the oldest gap known."""
        for gap in self._skipped:
            if gap[0] <= position < gap[1]:
                return gap
        is_old = len(self._skipped) == GAPS_REMEMBERED and position < self._skipped[0][0]
        return self._skipped[0] if is_next and is_old else None

    def _is_silent(self, now: float) -> bool:
        return now - self.last_good > self._silence

    def _stray(self, stray: Stray, sent: int, is_loss: bool, now: float) -> Delivery:
        """Take a number that does not fit; `is_loss`: it lies as far ahead as a burst of loss leads."""
        if self._candidates is None:
            if sent < self._newest_sent:
                self._shared.dropped[Reason.STRAY] += 1
                return ()
            first = [stray]
        else:
            first = self._candidates.arrive(stray, is_loss or self._is_silent(now))
        return self._begin_anew(first, sent, now) if first else ()

    def _begin_anew(self, first: list[Stray], sent: int, now: float) -> Delivery:
        """Go on with the packets `first`; what is held goes before."""
        delivery = self.flush()
        self.forget()
        self._known.lost = 0
        for sequence, packet, path, arrived, _ in first:
            delivery += self.arrive(sequence, packet, path, now, arrived, sent)
        return delivery

    def flush(self) -> list[bytes]:
        """Return everything held, in order, without the gaps. Strays are dropped."""
        if self._candidates is not None:
            self._candidates.clear()
        delivery: list[bytes] = []
        while self._held:
            self.skip_gap(delivery)
        return delivery

    def forget(self) -> None:
        """Take the next number as it comes. Nothing may be held."""
        self.expected = None
        self._skipped.clear()

    def path_up(self, path: Hashable) -> None:
        """Note that `path` may bring packets of this stream from now on."""
        self._positions[path] = -1 if self.expected is None else self.expected - 1

    def path_down(self, path: Hashable) -> None:
        """Note that `path` brings no packets of this stream any more."""
        self._positions.pop(path, None)

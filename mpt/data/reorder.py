"""The reorder window of one connection: its streams, by their keys (RFC 2890 section 2.1: a key is a flow).

A plain connection is one stream. A sealed one has a stream for each key that its packets bring: a gap in one never
delays another (`mpt.data.stream`). Always true:

- All streams together hold at most `window` packets.
- At most STREAMS are known. If there are more, the longest silent one is forgotten, and delivers what it holds.
- A stream that was silent for FORGET is forgotten when its next packet comes, which is taken as it comes.
- What is known about paths is known to all streams (`mpt.data.knowledge`). So a packet of one may end the wait of
  another: then `next_deadline` is in the past.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from mpt.data.candidates import Candidates
from mpt.data.counters import Reason
from mpt.data.knowledge import Knowledge
from mpt.data.stream import RESTART_SILENCE, Delivery, Shared, Stream

STREAMS: Final = 1024
FORGET: Final = 10.0  # s; the last packet of a stream may be lost: its next ones do not wait for it for ever


def _ignore(*_: object) -> None:
    """Do nothing."""


class ReorderBuffer:
    """The reorder window of one connection: `window` in packets (>= 1), `max_delay` in seconds.

    `has_stamps`: packets come with the time when they were sent, and not from strangers. `known`: what is known about
    the paths. `only`: the stream of the packets without a key. `dropped` counts by reason the packets that were not
    delivered: "late", "duplicate", "stray".

    Three functions are called: `gap_filled` when a packet over one path came so many seconds later than its successor
    over another path; `came_late` when a packet over a path came after its turn; `parts_changed` with the paths that
    bring a small part.
    """

    __slots__ = ("_candidates", "_newest_key", "_shared", "_silence", "_streams", "dropped", "known", "only", "window")

    def __init__(
        self,
        window: int,
        max_delay: float,
        gap_filled: Callable[[Hashable, Hashable, float], None] = _ignore,
        came_late: Callable[[Hashable, float], None] = _ignore,
        parts_changed: Callable[[frozenset[Hashable]], None] = _ignore,
        has_stamps: bool = False,
    ) -> None:
        self.window = window
        self.known = Knowledge(window, max_delay, parts_changed)
        self._shared = Shared(window, self.known, gap_filled, came_late)
        self.dropped: dict[Reason, int] = self._shared.dropped
        self._silence = max_delay + RESTART_SILENCE
        self._candidates = None if has_stamps else Candidates(window, max_delay, self.dropped)
        self.only = Stream(self._shared, self._silence, self._candidates)
        self._streams: OrderedDict[int, Stream] = OrderedDict()  # by key, the longest silent one first
        self._newest_key: int | None = None

    @property
    def expected(self) -> int | None:
        """Return the position that the packets without a key have reached; None before the first."""
        return self.only.expected

    @property
    def held(self) -> int:
        """Return how many packets wait here, the kept strays included."""
        return self._shared.held + (self._candidates.kept if self._candidates is not None else 0)

    def arrive(
        self,
        sequence: int,
        packet: bytes,
        path: Hashable,
        now: float,
        arrived: float | None = None,
        key: int | None = None,
        sent: int = 0,
    ) -> Delivery:
        """Take one packet; return the packets to deliver now, in the order of each stream.

        `sequence` is below 2^32, in the number space of `key`; `arrived` is when the packet came, if that was before
        `now`; `sent` is when it was sent (`mpt.data.knowledge`).
        """
        if key is None:
            return self.only.arrive(sequence, packet, path, now, arrived, sent)
        stream = self._streams.get(key)
        if stream is None:
            return [*self._make_room(), *self._begin(key).arrive(sequence, packet, path, now, arrived, sent)]
        if key != self._newest_key:
            self._streams.move_to_end(key)
            self._newest_key = key
        if now - stream.last_good > FORGET and stream not in self._shared.waiting:
            stream.forget()
        return stream.arrive(sequence, packet, path, now, arrived, sent)

    def _make_room(self) -> Delivery:
        """Forget the longest silent stream if there are STREAMS; return what it held."""
        if len(self._streams) < STREAMS:
            return ()
        _, oldest = self._streams.popitem(last=False)
        return oldest.flush()

    def _begin(self, key: int) -> Stream:
        self._streams[key] = Stream(self._shared, self._silence, None)
        self._newest_key = key
        return self._streams[key]

    def deadline_reached(self, now: float) -> Delivery:
        """Give up the gaps whose time is over; return the packets to deliver. Woken early, do nothing."""
        delivery = self._give_up_gaps(now)
        if self._candidates is not None:
            delivery += self._candidates.deadline_reached(now, self.only.brought)
        return delivery

    def _give_up_gaps(self, now: float) -> list[bytes]:
        delivery: list[bytes] = []
        for stream in tuple(self._shared.waiting):
            stream.give_up_gaps(delivery, now)
        return delivery

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` must be called next; None when nothing is held."""
        gap = min((stream.gap_deadline() for stream in self._shared.waiting), default=None)
        stray = self._candidates.next_deadline() if self._candidates is not None else None
        return gap if stray is None else stray if gap is None else min(gap, stray)

    def path_up(self, path: Hashable, now: float) -> None:
        """Note that `path` may carry packets from now on: gaps wait for it. The parts of all paths may change."""
        if self.known.up(path, now):
            for stream in (self.only, *self._streams.values()):
                stream.path_up(path)

    def path_down(self, path: Hashable, now: float) -> Delivery:
        """Note that `path` carries packets no longer: gaps need not wait for it. Return the packets set free."""
        self.known.down(path)
        for stream in (self.only, *self._streams.values()):
            stream.path_down(path)
        return self._give_up_gaps(now)

    def flush(self) -> Delivery:
        """Return everything held, in the order of each stream, without the gaps. Strays are dropped."""
        delivery = self.only.flush()
        for stream in tuple(self._shared.waiting):
            delivery += stream.flush()
        return delivery

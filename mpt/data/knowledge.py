"""What is known about the paths of one connection: which part of the packets each brings, how far it is, how soon it
fills a gap. All streams of the connection teach it, and all use it (`mpt.data.stream`).

*Sent* is the peer's clock in a packet's stamp, unwrapped (`mpt.data.ordering`); 0 where packets have no stamps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

PATH_MEMORY: Final = 10.0  # s; a path that brought nothing for so long, and for a window of packets, is not waited for
GOOD_PART: Final = 1 / 16  # of all packets; the next one of such a path comes soon and tells whether a gap is lost
FAIR_PART: Final = 1 / 4  # of an equal part, where there are many paths: it is a good part, too
POOR_PART: Final = 1 / 256  # a path that brings less brings hardly anything
MANY: Final = 3  # times as much as the loss; then a missing packet is more likely to come than not
SHORT_WAIT: Final = 0.005  # s; above the jitter of lines that are equally late
PATIENCE_GAIN: Final = 1.5  # of the longest time in which a path has filled a gap of late
PATIENCE_DECAY: Final = 7 / 8  # of that time, at each gap that the path fills
REVIEW: Final = 64  # packets after which the parts of the paths are looked at again

NOTHING_SENT: Final = -(1 << 62)  # before every stamp


class Progress:
    """The progress of one path: when its last packet came and was sent, how many packets all paths had brought by
    then, its share of the recent packets, and how long the gaps that it filled had waited (seconds; None: unknown)."""

    __slots__ = ("brought_by_all", "count", "filled_in", "sent", "time")

    def __init__(self, time: float, brought_by_all: int) -> None:
        self.time = time
        self.sent = NOTHING_SENT
        self.brought_by_all = brought_by_all
        self.count = 0
        self.filled_in: float | None = None


class Knowledge:
    """What is known about the paths of one connection. `parts_changed` is called with the paths that bring little."""

    __slots__ = (
        "_brought",
        "_memory",
        "_parts_changed",
        "_total",
        "_window",
        "learned_at",
        "longest_wait",
        "lost",
        "minor",
        "paths",
        "reordered_by",
        "reorders_until",
    )

    def __init__(self, window: int, max_delay: float, parts_changed: Callable[[frozenset[Hashable]], None]) -> None:
        self._parts_changed = parts_changed
        self._window = window
        self._memory = 8 * window + 16 * REVIEW  # packets; a path may be silent for a window and keep its part
        self._brought = 0  # packets, of all paths
        self._total = 0  # the sum of the paths' counts
        self.lost = 0  # positions given up, in the same memory
        self.paths: dict[Hashable, Progress] = {}
        self.minor: frozenset[Hashable] = frozenset()  # the paths that bring less than GOOD_PART
        self.longest_wait = max_delay  # less than max_delay if packets have waited elsewhere before
        self.reorders_until = 0.0  # a path is believed not to keep its order before this time
        self.reordered_by = 0.0  # s; so long after the wait for them began, its packets came
        self.learned_at: float | None = None  # before it the parts are not known; None: no packet since a path came up

    def up(self, path: Hashable, now: float) -> bool:
        """Note that `path` may bring packets from now on: the parts of all paths may change. False: it was up."""
        if path in self.paths:
            return False
        self.paths[path] = Progress(now, self._brought)
        for progress in self.paths.values():
            progress.count = 1
        self._total = len(self.paths)
        self.lost = 0
        self.learned_at = None
        return True

    def down(self, path: Hashable) -> None:
        """Note that `path` brings packets no longer."""
        progress = self.paths.pop(path, None)
        if progress is not None:
            self._total -= progress.count
            self.minor -= {path}

    def brought(self, path: Hashable, now: float, sent: int) -> None:
        """Note that `path` brought a packet."""
        progress = self.paths.get(path)
        if progress is None:
            progress = self.paths[path] = Progress(now, 0)
        self._brought += 1
        progress.time = now
        progress.sent = sent
        progress.brought_by_all = self._brought
        progress.count += 1
        self._total += 1
        if self.learned_at is None:
            self.learned_at = now + self.longest_wait
        if self._brought % REVIEW == 0:
            self._review()

    def _review(self) -> None:
        """Let old packets count for less, and tell which paths bring little."""
        if self._total > self._memory:
            for progress in self.paths.values():
                progress.count //= 2
            self._total = sum(progress.count for progress in self.paths.values())
            self.lost //= 2
        good = self.good_count()
        minor = frozenset(
            path for path, progress in self.paths.items() if progress.count < (good if path in self.minor else good / 2)
        )
        if minor != self.minor:
            self.minor = minor
            self._parts_changed(minor)

    def filled(self, path: Hashable, waited: float) -> None:
        """Note that `path` filled a gap that had waited so many seconds."""
        progress = self.paths[path]
        progress.filled_in = max(waited, PATIENCE_DECAY * (progress.filled_in or 0.0))

    def came_late(self, path: Hashable) -> None:
        """Note that a packet over `path` came after its gap was given up."""
        self.lost = max(0, self.lost - 1)
        if path in self.paths:
            self.paths[path].filled_in = None

    def reordered(self, waited: float, now: float, believed: float) -> None:
        """Note that a path did not keep its order, which is believed for so many seconds: a packet came so many after
        the wait for it began, when its gap had been given up."""
        before = self.reordered_by if now < self.reorders_until else 0.0
        self.reordered_by = max(waited, before)
        self.reorders_until = now + believed

    def patience_with_reordering(self, seen: float) -> float:
        """Return how many seconds a gap that was seen then waits, though all paths have passed it."""
        return PATIENCE_GAIN * self.reordered_by + SHORT_WAIT if seen < self.reorders_until else 0.0

    def is_silent(self, progress: Progress) -> bool:
        """Return whether a path has brought nothing for a window of packets. If not for PATH_MEMORY either, no gap
        waits for it."""
        return self._brought - progress.brought_by_all > self._window

    def good_count(self) -> float:
        """Return how many packets a path must have brought lately to carry a good part; there must be paths."""
        return self._total * min(GOOD_PART, FAIR_PART / len(self.paths))

    def patience(self, progress: Progress) -> float:
        """Return how many seconds a gap waits for a path of small part that has not passed it."""
        count = progress.count
        if count == 0:
            return 0.0
        if count < self._total * POOR_PART or count < MANY * (self.lost + 1):
            return SHORT_WAIT
        if progress.filled_in is None:
            return self.longest_wait
        return PATIENCE_GAIN * progress.filled_in + SHORT_WAIT

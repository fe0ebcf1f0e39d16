"""Finds the largest datagram that passes a sealed path (session 4; after RFC 8899).

A *size* is the octets of a whole datagram: of the UDP payload, the envelope included. A round sends a probe of the size
in question, and then a small one. A probe that was seen has passed. A round counts against its size if only the small
probe was seen. So loss and silence say little about sizes, and a dead path nothing.

    ASSUMED    nothing is known yet. The largest size is taken for good, and probed at once.
    SEARCHING  some size is too large. `size` is the largest that has passed, or BASE. Halves of the rest are probed.
    SETTLED    `size` is known. While the path is in use it is probed again now and then, and in any case soon if
               somebody doubts it. If it does not pass any more, the path is a black hole for it: the search begins anew
               from BASE. Every `RAISE_TIME` the largest size is tried again.

A size is too large after `TRIES` rounds that count against it; a size that has passed before, after `CONFIRM_TRIES`, as
a full queue drops large datagrams first.

The data path follows `size`. The TUN follows `settled`, which falls at once and rises only when a search has ended.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from mpt.wire import seal

BASE: Final = 1200  # octets that nearly every path carries (RFC 8899 section 5.1.2)
FLOOR: Final = 548  # octets taken for good anyway: IPv4's 576 (RFC 791 section 3.1) less its header and UDP's
GRAIN: Final = 4  # octets; a search ends when less is in question
TRIES: Final = 3  # RFC 8899 section 5.1.2, MAX_PROBES
CONFIRM_TRIES: Final = 5
WAIT: Final = 0.5  # s; a round, on a quick line
SLOWER: Final = 2.0  # on a slow line a round takes so many times the latest answer
LONGEST_WAIT: Final = 5.0  # s
LONGEST_PAUSE: Final = 60.0  # s between two rounds of a silent path
CONFIRM_TIME: Final = 60.0  # s between two looks at a settled size
RAISE_TIME: Final = 600.0  # s (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER)
DOUBT_TIME: Final = 5.0  # s between two doubts that count
SMALL: Final = seal.OVERHEAD + 3  # octets; the smallest probe
SMALLEST_MTU: Final = 1280  # octets of a packet (RFC 8200 section 5)


class State(enum.Enum):
    """The knowledge about a path."""

    ASSUMED = enum.auto()
    SEARCHING = enum.auto()
    SETTLED = enum.auto()


class PathMtu:
    """One path whose datagrams have at most `largest` octets, from `now` on (monotonic seconds).

    `size` and `settled` may change by every call.
    """

    def __init__(self, largest: int, now: float) -> None:
        self._doubted = now - DOUBT_TIME
        self._is_doubtful = False  # somebody doubts it, and it has neither passed nor failed since
        self.begin_anew(largest, now)

    def begin_anew(self, largest: int, now: float) -> None:
        """Note that the path goes another way now, or has another largest size: nothing is known of it any more."""
        self._largest = max(largest, FLOOR)
        self.state = State.ASSUMED
        self.size = self.settled = self._largest
        self._too_large = self._largest + 1
        self._has_passed = False  # `size`
        self._probed: int | None = None  # in the latest round, which may be over
        self._began = now  # the latest round
        self._over: float | None = None  # the end of the round
        self._wait = WAIT
        self._small_seen = False
        self._count = 0  # of the rounds against the probed size
        self._pause = WAIT
        self._due = now  # of the next round
        self._raise_at = now + RAISE_TIME

    def doubt(self, now: float) -> None:
        """Note a sign that large datagrams are lost, or that a silent path is back: look soon.

        Anybody may have forged it, so few such signs count.
        """
        if self._over is None and now - self._doubted >= DOUBT_TIME:
            self._doubted = self._due = now
            self._is_doubtful = True

    def seen(self, size: int, now: float) -> None:
        """Note that the peer has seen a probe of `size` octets."""
        if self._probed is None:
            return
        if size == SMALL:
            self._small_seen = True
            self._wait = min(max(WAIT, SLOWER * (now - self._began)), LONGEST_WAIT)
            self._pause = WAIT
        if size == self._probed:
            self._over = None
            self._passed(size, now)

    def deadline_reached(self, now: float, in_use: bool = True) -> list[int]:
        """Return the sizes of the probes to send now, in their order. `in_use`: packets go over the path."""
        if self._over is not None:
            if now < self._over:
                return []
            self._over = None
            self._end_round(now)
        if now < self._due:
            return []
        if self.state is State.SETTLED and not (in_use or self._is_doubtful):
            self._due = now + CONFIRM_TIME
            return []
        if self.state is State.SETTLED and now >= self._raise_at and self.size < self._largest:
            self.state = State.SEARCHING
            self._too_large = self._largest + 1
        self._probed = self._candidate()
        self._began = now
        self._over = now + self._wait
        self._small_seen = False
        return [self._probed, SMALL]

    def next_deadline(self) -> float:
        """Return when to call `deadline_reached` next."""
        return self._due if self._over is None else self._over

    def _candidate(self) -> int:
        """Return the next size in question."""
        if self.state is State.SETTLED or not self._has_passed:
            return self.size
        if self._too_large > self._largest:
            return self._largest
        return (self._too_large + self.size) // 2

    def _passed(self, size: int, now: float) -> None:
        self._count = 0
        self._is_doubtful = False
        self._due = now
        if size >= self.size:
            self.size = size
            self._has_passed = True
        self._settle_if_known(now)

    def _end_round(self, now: float) -> None:
        """Note that the probed size was not seen in time."""
        assert self._probed is not None
        if not self._small_seen:
            self._due = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return
        self._due = now
        self._count += 1
        if self._count >= (CONFIRM_TRIES if self._has_passed and self._probed <= self.size else TRIES):
            self._count = 0
            self._failed(self._probed, now)

    def _failed(self, size: int, now: float) -> None:
        """Note that `size` is too large: the end of a search, or the end of what was taken for good."""
        self.state = State.SEARCHING
        self._is_doubtful = False
        self._too_large = size
        if size <= self.size:
            self.size = min(size, BASE if size > BASE else FLOOR)
            self.settled = min(self.settled, self.size)
            self._has_passed = self.size == FLOOR
        self._settle_if_known(now)

    def _settle_if_known(self, now: float) -> None:
        if not self._has_passed or self._too_large - self.size > GRAIN:
            return
        if self.state is not State.SETTLED:
            self.state = State.SETTLED
            self.settled = self.size
            self._raise_at = now + RAISE_TIME
        self._due = now + CONFIRM_TIME


def tunnel_mtu(sizes: Iterable[int], frame: int) -> int | None:
    """Return the MTU of a tunnel over paths that have `settled` at these sizes; None without any.

    `frame` is the octets of a datagram that are no packet. It is the smallest that all paths carry. A path that does
    not even carry the smallest packet of IPv6 is left out: it carries what fits, as long as there is another one.
    """
    mtus = [size - frame for size in sizes]
    return min((mtu for mtu in mtus if mtu >= SMALLEST_MTU), default=max(mtus, default=None))

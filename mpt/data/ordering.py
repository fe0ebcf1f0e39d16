"""In order and steadily: the equalizer and the reorder buffer of one connection, one behind the other.

A packet of a path that is faster than the slowest is held back first (`mpt.data.equalizer`). Then it takes its place in
the order of its stream (`mpt.data.reorder`). Both together hold it no longer than `max_delay`.

The packets of a sealed connection have *stamps*: the peer's clock in 1/16 ms, modulo 2^16 (session 3). Here they are
unwrapped to *sent*, a plain integer: as a stamp stands for the time nearest to the one that is due by our own clock, no
packet may be under way for two seconds longer than the one before it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from mpt.data.counters import Reason
from mpt.data.equalizer import SHARE, Delayed, Equalizer
from mpt.data.reorder import ReorderBuffer
from mpt.data.stream import Delivery
from mpt.wire.seal import STAMPS_A_SECOND

STAMP_MODULUS: Final = 0x10000


class Ordering:
    """The order of one connection: every packet with a sequence number passes it.

    `window` in packets (>= 1), `max_delay` in seconds; `has_stamps`: it is sealed. Set `is_behind` while packets are
    read later than they came: their times then tell nothing about the paths.
    """

    __slots__ = ("_came", "_equalizer", "_has_stamps", "_max_delay", "_only", "_reorder", "_sent",
                 "_shift", "_shift_until", "is_behind")  # fmt: skip

    def __init__(self, window: int, max_delay: float, has_stamps: bool = False) -> None:
        self._max_delay = max_delay
        self._has_stamps = has_stamps
        self._equalizer = Equalizer(SHARE * max_delay, window)
        self._reorder = ReorderBuffer(
            window, max_delay, self._gap_filled, self._equalizer.came_late, self._equalizer.parts_changed, has_stamps
        )
        self._only = self._reorder.only
        self._sent, self._came = 0, 0.0  # of the last packet with a stamp
        self._shift, self._shift_until = 0.0, 0.0  # for how long packets that may still wait were held back
        self.is_behind = False

    @property
    def held(self) -> int:
        """Return how many packets wait here."""
        return len(self._equalizer) + self._reorder.held

    @property
    def dropped(self) -> dict[Reason, int]:
        """Return how many packets were not delivered, by reason."""
        return self._reorder.dropped

    def arrive(
        self, sequence: int, packet: bytes, path: Hashable, now: float, key: int | None = None, stamp: int = 0
    ) -> Delivery:
        """Take one packet; return the packets to deliver now, in the order of each stream.

        `key`: the stream whose number `sequence` is; None: the one without a key. `stamp` is the peer's, 0 .. 65535.
        """
        sent = self._unwrapped(stamp, now) if self._has_stamps else 0
        if path not in self._equalizer.shifts:
            if key is None:  # the usual case on plain connections
                return self._only.arrive(sequence, packet, path, now, None, sent)
            return self._reorder.arrive(sequence, packet, path, now, None, key, sent)
        delivery: Delivery = ()
        if self._equalizer.is_full and (first := self._equalizer.due(float("inf"))) is not None:
            # Let the oldest go: the new one would overtake its path. Then the new one may not have to wait.
            delivery = self._enter(first, now)
            if path not in self._equalizer.shifts:
                return [*delivery, *self._reorder.arrive(sequence, packet, path, now, None, key, sent)]
        self._equalizer.delay(sequence, packet, path, now, key, sent)
        return delivery

    def _unwrapped(self, stamp: int, now: float) -> int:
        due = self._sent + int((now - self._came) * STAMPS_A_SECOND)
        self._came = now
        self._sent = due + (stamp - due + STAMP_MODULUS // 2) % STAMP_MODULUS - STAMP_MODULUS // 2
        return self._sent

    def _enter(self, delayed: Delayed, now: float) -> Delivery:
        """Let a packet that was held back take its place in the order."""
        sequence, packet, path, arrived, key, sent = delayed
        return self._reorder.arrive(sequence, packet, path, now, arrived, key, sent)

    def deadline_reached(self, now: float) -> Delivery:
        """Return the packets that have waited long enough; nothing when woken early."""
        delivery: list[bytes] = []
        if (shift := self._equalizer.longest_shift) >= self._shift or now > self._shift_until:
            self._shift, self._shift_until = shift, now + self._max_delay
        self._reorder.known.longest_wait = self._max_delay - self._shift
        while (delayed := self._equalizer.due(now)) is not None:
            delivery += self._enter(delayed, now)
        delivery += self._reorder.deadline_reached(now)
        return delivery

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` must be called next; None when nothing waits."""
        line, gap = self._equalizer.next_deadline(), self._reorder.next_deadline()
        return gap if line is None else line if gap is None else min(line, gap)

    def _gap_filled(self, path: Hashable, waiting_path: Hashable, later: float) -> None:
        if not self.is_behind:
            self._equalizer.gap_filled(path, waiting_path, later)

    def keepalive(self, path: Hashable, now: float) -> None:
        """Note a keepalive over `path`."""
        if not self.is_behind:
            self._equalizer.keepalive(path, now)

    def path_up(self, path: Hashable, now: float) -> None:
        """Note that `path` may bring packets from now on."""
        self._reorder.path_up(path, now)
        self._equalizer.path_up(path, path in self._reorder.known.minor)

    def path_down(self, path: Hashable, now: float) -> Delivery:
        """Note that `path` brings no packets any more. Return the packets that need not wait for it."""
        self._equalizer.path_down(path)
        return self._reorder.path_down(path, now)

    def flush(self) -> Delivery:
        """Return everything that waits, in the order of each stream, without the gaps; strays are dropped."""
        delivery: list[bytes] = []
        while (delayed := self._equalizer.due(float("inf"))) is not None:
            delivery += self._enter(delayed, delayed[3])
        delivery += self._reorder.flush()
        return delivery

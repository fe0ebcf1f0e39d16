"""How much may wait to be sent over one socket, so that a slow line does not hold packets for seconds.

The kernel charges a datagram to its socket until the interface has sent it. So the limit of the send buffer bounds the
queues of this host before the line. The limit follows the line's rate:

- While more waits than the line drains in `TARGET`, the line is the bottleneck, and the limit is just that much.
- While little of the limit is used, or it drains sooner, the line is not the bottleneck: the limit grows until it is
  as large as it began.

A datagram beyond the limit is dropped at once: TCP learns early that the line is full, and nobody else waits for it.
"""

from __future__ import annotations

from typing import Final

TARGET: Final = 0.08  # s
PERIOD: Final = 0.1  # s between two looks at least
STALE: Final = 1.0  # s; a longer period says nothing of the rate
SMALLEST: Final = 32 << 10  # octets; one message more than the limit always fits
CHARGE: Final = 1.3  # the kernel charges that for an octet of a full packet, its own headers included
GROWTH: Final = 1.5  # a period
NEWS: Final = 0.1  # share by which a limit must change to be set
SMOOTHING: Final = 0.5  # of the rate


class SendQueue:
    """The queue of one socket; `largest` (octets) is the first and the largest limit."""

    __slots__ = ("_at", "_rate", "_sent", "_waiting", "largest", "limit")

    def __init__(self, largest: int) -> None:
        self.largest = self.limit = largest
        self._at = 0.0
        self._sent = self._waiting = 0
        self._rate: float | None = None  # octets a second as the kernel charges them, while the line is the bottleneck

    def look(self, now: float, sent: int, waiting: int) -> int | None:
        """Return a new limit in octets; None while the old one holds.

        `sent` octets were given to the socket since its beginning. `waiting` octets, as the kernel charges them, have
        not left yet. `now` is monotonic seconds.
        """
        elapsed, given = now - self._at, sent - self._sent
        drained = given * CHARGE - (waiting - self._waiting)
        self._at, self._sent, self._waiting = now, sent, waiting
        if not PERIOD / 2 <= elapsed <= STALE or given < 0:
            return None
        rate = max(drained, 0.0) / elapsed
        if waiting > rate * TARGET and waiting > SMALLEST:
            self._rate = rate if self._rate is None else self._rate + SMOOTHING * (rate - self._rate)
            return self._set(self._rate * TARGET)
        if waiting < self.limit / 4:
            self._rate = None
            return self._set(self.limit * GROWTH)
        if rate * TARGET > self.limit:
            return self._set(min(self.limit * GROWTH, rate * TARGET))
        return None

    def _set(self, wanted: float) -> int | None:
        limit = min(max(int(wanted), SMALLEST), self.largest)
        if abs(limit - self.limit) <= NEWS * self.limit and limit != self.largest:
            return None
        changed, self.limit = limit != self.limit, limit
        return limit if changed else None

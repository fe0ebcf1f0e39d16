"""How many command datagrams are looked at, and whose, before anything that costs.

A datagram takes a token from the bucket of its source address. A bucket fills with time, up to its burst. Addresses to
which no path of ours leads take another token from the bucket that all such addresses share, so that a flood under
many addresses leaves the peers alone. A flood under one address leaves everybody else alone. Of the addresses, only
those that sent last are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from mpt.model import Address

MAX_ADDRESSES: Final = 1024  # the one that has been silent longest is forgotten: its next bucket is full


class Allowance(NamedTuple):
    """How fast a bucket fills, in tokens a second, and how many it holds."""

    rate: float
    burst: float


PEER: Final = Allowance(100.0, 1024.0)  # a pulled cable of 256 connections: two rounds each, reported twice
STRANGER: Final = Allowance(20.0, 40.0)  # ten creates a second
ALL_STRANGERS: Final = Allowance(200.0, 400.0)  # at some 0.2 ms each, 4 % of a core
LOG_LINES: Final = Allowance(0.1, 20.0)  # on what others say, which can be forged, or said with the published key


class Bucket:
    """A full bucket of tokens at time `now`, in monotonic seconds."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._tokens = allowance.burst
        self._at = now

    def take(self, allowance: Allowance, now: float) -> bool:
        """Take a token; return whether there was one."""
        self._tokens = min(allowance.burst, self._tokens + (now - self._at) * allowance.rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Admission:
    """Decides whether a datagram from an address is looked at; `is_peer(address)`: a path of ours leads there."""

    def __init__(self, is_peer: Callable[[Address], bool]) -> None:
        self._is_peer = is_peer
        self._buckets: OrderedDict[Address, Bucket] = OrderedDict()  # the one used last is at the end
        self._strangers: Bucket | None = None

    def admits(self, source: Address, now: float) -> bool:
        """Return whether to look at a datagram that has come from `source` at `now`."""
        is_peer = self._is_peer(source)
        allowance = PEER if is_peer else STRANGER
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = Bucket(allowance, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(source)
        return bucket.take(allowance, now) and (is_peer or self._admits_stranger(now))

    def _admits_stranger(self, now: float) -> bool:
        if self._strangers is None:
            self._strangers = Bucket(ALL_STRANGERS, now)
        return self._strangers.take(ALL_STRANGERS, now)

"""Which command datagrams are looked at: a bound for each source address, before anything costs.

A datagram takes a token from the bucket of its source address. A bucket fills with time, up to its burst. Addresses to
which no path of ours leads take another token from the bucket that all such addresses share, so that a flood under
many addresses leaves the peers alone. A flood under one address leaves everybody else alone. Only the latest addresses
are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from mpt.model import Address

# A forgotten address begins with a full bucket again, so strangers must not be able to displace a peer
MAX_PEERS: Final = 4096
MAX_STRANGERS: Final = 1024


class Allowance(NamedTuple):
    """How fast a bucket fills, in tokens a second, and how many it holds."""

    rate: float
    burst: float


PEER: Final = Allowance(5000.0, 10000.0)  # a forger may use its address: at some 0.1 ms each, half a core, 1 ms a turn
STRANGER: Final = Allowance(20.0, 40.0)  # ten creates a second
ALL_STRANGERS: Final = Allowance(200.0, 400.0)  # at some 0.2 ms each, 4 % of a core
LOG_LINES: Final = Allowance(0.1, 20.0)  # about messages that can be forged, or signed with the published key


class Bucket:
    """A bucket of tokens, full at `now` (monotonic seconds)."""

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


class Buckets:
    """A bucket for each of at most `most` addresses: beyond that, the address that is silent longest is forgotten."""

    def __init__(self, allowance: Allowance, most: int) -> None:
        self._allowance = allowance
        self._most = most
        self._buckets: OrderedDict[Address, Bucket] = OrderedDict()  # the latest at the end

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._buckets)

    def take(self, address: Address, now: float) -> bool:
        """Take a token of `address`; return whether there was one."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = Bucket(self._allowance, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        return bucket.take(self._allowance, now)


class Admission:
    """Decides which datagrams are looked at. `is_peer(address)` says whether a path of ours leads there."""

    def __init__(self, is_peer: Callable[[Address], bool]) -> None:
        self._is_peer = is_peer
        self._peers = Buckets(PEER, MAX_PEERS)
        self._strangers = Buckets(STRANGER, MAX_STRANGERS)
        self._all_strangers: Bucket | None = None

    def admits(self, source: Address, now: float) -> bool:
        """Return whether to look at a datagram that has come from `source` at `now`."""
        if self._is_peer(source):
            return self._peers.take(source, now)
        if self._all_strangers is None:
            self._all_strangers = Bucket(ALL_STRANGERS, now)
        return self._strangers.take(source, now) and self._all_strangers.take(ALL_STRANGERS, now)

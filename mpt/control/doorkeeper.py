"""How many handshakes strangers may begin here, and when they must first show that their address is theirs (session 2).

A handshake is half-open until TLS has authenticated the peer. There are at most MOST half-open ones, and MOST_FROM_ONE
from an IPv4 address or IPv6 /64. While more than half of either are in use, a first datagram is only answered with a
token, for which nothing is kept here; the handshake begins when the token comes back from the same address and port.
So whoever forges addresses, also that of one peer, takes no more than half of the places there are for it.
"""

from __future__ import annotations

import enum
import secrets
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from mpt.wire.token import is_ours

MOST: Final = 256
MOST_FROM_ONE: Final = 8
TOKEN_KEY: Final = 32  # octets


class Verdict(enum.Enum):
    """What to do with the first datagram of a handshake."""

    OPEN = enum.auto()  # begin the handshake
    OPEN_VALIDATED = enum.auto()  # begin it; its address is known to be right
    RETRY = enum.auto()  # answer with a token alone
    FULL = enum.auto()  # answer nothing


class Doorkeeper:
    """The count of half-open handshakes. An `address` is that of a socket: host, port, and what IPv6 has behind."""

    def __init__(self, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self.token_key = random(TOKEN_KEY)
        self._from: Counter[object] = Counter()

    def __len__(self) -> int:
        """Return how many handshakes are half-open."""
        return self._from.total()

    def verdict(self, address: tuple[Any, ...], token: bytes, now: float) -> Verdict:
        """Return what to do with a first datagram from `address` with `token`, perhaps empty."""
        from_it = self._from[_source(address)]
        if len(self) >= MOST or from_it >= MOST_FROM_ONE:
            return Verdict.FULL
        if token and is_ours(token, self.token_key, address, now):
            return Verdict.OPEN_VALIDATED
        return Verdict.RETRY if len(self) > MOST // 2 or from_it > MOST_FROM_ONE // 2 else Verdict.OPEN

    def opened(self, address: tuple[Any, ...]) -> None:
        """Note that a handshake with `address` is half-open."""
        self._from[_source(address)] += 1

    def closed(self, address: tuple[Any, ...]) -> None:
        """Note that a handshake that was `opened` with `address` is half-open no longer."""
        source = _source(address)
        self._from[source] -= 1
        if self._from[source] <= 0:
            del self._from[source]


def _source(address: tuple[Any, ...]) -> object:
    """Return what is counted as one source: an IPv4 address, or the first 64 bits of an IPv6 address."""
    host = ip_address(str(address[0]).partition("%")[0])
    return host if host.version == 4 else int(host) >> 64

"""How many handshakes strangers may begin here, and when they must first show that their address is theirs (session 2).

A handshake is half-open until TLS has authenticated the peer. There are at most MOST half-open ones, and MOST_FROM_ONE
from an IPv4 address or IPv6 /64. While more than half of either are in use, a first datagram is only answered with a
token, for which nothing is kept here; the handshake begins when the token comes back from the same address and port.
So whoever forges addresses, also that of one peer, takes no more than half of the places there are for it.
"""

from __future__ import annotations

import enum
import hmac
import secrets
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

MOST: Final = 256
MOST_FROM_ONE: Final = 8
SECRET_LIFE: Final = 120.0  # s
TOKEN_LIFE: Final = 10.0  # s: a whole handshake
_TIME_LENGTH: Final = 8
_MAC_LENGTH: Final = 16
TOKEN_LENGTH: Final = _TIME_LENGTH + _MAC_LENGTH


class Verdict(enum.Enum):
    """What to do with the first datagram of a handshake."""

    OPEN = enum.auto()  # begin the handshake
    OPEN_VALIDATED = enum.auto()  # begin it; its address is known to be right
    RETRY = enum.auto()  # answer with a token alone
    FULL = enum.auto()  # answer nothing


class Doorkeeper:
    """The count of half-open handshakes. An `address` is that of a socket: host, port, and what IPv6 has behind."""

    def __init__(self, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._random = random
        self._from: Counter[object] = Counter()
        self._secrets: dict[int, bytes] = {}  # by the number of their two minutes

    def __len__(self) -> int:
        """Return how many handshakes are half-open."""
        return self._from.total()

    def verdict(self, address: tuple[Any, ...], token: bytes, now: float) -> Verdict:
        """Return what to do with a first datagram from `address` with `token`, perhaps empty."""
        from_it = self._from[_source(address)]
        if len(self) >= MOST or from_it >= MOST_FROM_ONE:
            return Verdict.FULL
        if token and self._is_ours(token, address, now):
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

    def token(self, address: tuple[Any, ...], now: float) -> bytes:
        """Return the token for `address`: the time, and a proof that we have made it."""
        time = int(now * 1000).to_bytes(_TIME_LENGTH, "big")
        return time + self._proof(self._secret(now), time, address)

    def _is_ours(self, token: bytes, address: tuple[Any, ...], now: float) -> bool:
        time, proof = token[:_TIME_LENGTH], token[_TIME_LENGTH:]
        made = int.from_bytes(time, "big") / 1000
        if len(token) != TOKEN_LENGTH or not now - TOKEN_LIFE <= made <= now:
            return False
        return hmac.compare_digest(proof, self._proof(self._secret(made), time, address))

    def _secret(self, at: float) -> bytes:
        """Return the secret of the two minutes of `at`, which is at most TOKEN_LIFE ago."""
        number = int(at // SECRET_LIFE)
        if number not in self._secrets:
            self._secrets = {each: secret for each, secret in self._secrets.items() if each == number - 1}
            self._secrets[number] = self._random(32)
        return self._secrets[number]

    def _proof(self, secret: bytes, time: bytes, address: tuple[Any, ...]) -> bytes:
        text = f"{address[0]} {address[1]}".encode()
        return hmac.digest(secret, time + text, "sha256")[:_MAC_LENGTH]


def _source(address: tuple[Any, ...]) -> object:
    """Return what is counted as one source: an IPv4 address, or the first 64 bits of an IPv6 address."""
    host = ip_address(str(address[0]).partition("%")[0])
    return host if host.version == 4 else int(host) >> 64

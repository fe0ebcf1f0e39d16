"""The gate of handshake datagrams: which of them control is told of (session 2).

A stranger costs a look-up, or a hash. The first datagram of a handshake, which names no session index of ours, passes

    with a token of ours, or
    while not too many pass without one; the next ones are answered with a token here, and control never hears of them.

So a flood of first datagrams, from whatever addresses, costs little and keeps nobody out: one repetition or another of
an initiator gets its token. A sender whose address is his, by a token or because he names an index, has an allowance of
his own: one of `SOURCES`, found by a hash of the address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mpt.data.counters import Reason
from mpt.data.toobig import Allowance
from mpt.errors import DecodeError
from mpt.wire import seal, token

FIRSTS: Final = 100.0  # a second without a token, at some 40 µs each in control
FIRSTS_AT_ONCE: Final = 200.0
RETRIES: Final = 5000.0  # a second, at some 8 µs each here; so of a flood of 10,000 every second one is answered
RETRIES_AT_ONCE: Final = 1000.0
PROVEN: Final = 100.0  # a second from one address that is the sender's; a handshake takes some six
PROVEN_AT_ONCE: Final = 200.0
SOURCES: Final = 256


class Retried(NamedTuple):
    """A datagram that is answered with this `retry`."""

    retry: bytes


class Gate:
    """The gate of one tunnel."""

    def __init__(self) -> None:
        self._identity: bytes | None = None
        self._token_key = b""
        self._expected: dict[int, bytes] = {}  # our session index -> mac1 key
        self._firsts = Allowance(FIRSTS, FIRSTS_AT_ONCE)
        self._retries = Allowance(RETRIES, RETRIES_AT_ONCE)
        self._proven = [Allowance(PROVEN, PROVEN_AT_ONCE) for _ in range(SOURCES)]

    def set_identity(self, mac1_key: bytes | None, token_key: bytes) -> None:
        """Take first datagrams for this key; the tokens are made with `token_key`, of 32 octets."""
        self._identity = mac1_key
        self._token_key = token_key

    def expect(self, answers: Mapping[int, bytes]) -> None:
        """Take datagrams to these indexes."""
        self._expected = dict(answers)

    def check(self, datagram: bytes, source: tuple[Any, ...], now: float) -> Reason | Retried | None:
        """Return why a datagram of kind HANDSHAKE or RETRY does not pass; None: it does."""
        try:
            index = seal.named_index(datagram)
        except DecodeError:
            return Reason.SEAL_TRUNCATED
        key = self._identity if index is None else self._expected.get(index)
        if key is None:
            return Reason.HANDSHAKE_UNEXPECTED
        if not seal.has_mac1(key, datagram):
            return Reason.HANDSHAKE_MAC
        if index is not None or token.is_ours(seal.token_of(datagram), self._token_key, source, now):
            return None if self._of(source).take(now) else Reason.HANDSHAKE_FLOOD
        if self._firsts.take(now):
            return None
        if not self._retries.take(now):
            return Reason.HANDSHAKE_FLOOD
        initiator = int.from_bytes(datagram[4:8], "big")
        return Retried(seal.Retry(initiator, token.token(self._token_key, source, now)).encode(key))

    def _of(self, source: tuple[Any, ...]) -> Allowance:
        """Return the allowance of an IPv4 address, or the first 64 bits of an IPv6 address."""
        octets = token.octets(str(source[0]))
        high, low = (int.from_bytes(each, "big") for each in (octets[:4], octets[4:8]))
        folded = high ^ low or int.from_bytes(octets[12:], "big")
        first, second = (int.from_bytes(self._token_key[at : at + 4], "big") for at in (0, 4))
        return self._proven[((folded ^ first) * (second | 1) & 0xFFFFFFFF) >> 24]

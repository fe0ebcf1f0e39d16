"""The token of a retry: the proof that its bearer receives at the address that he sends from (session 2).

Only its maker reads a token: 8 octets of time, in ms, and a mac of time, address and port with the maker's key. Nothing
is kept for it.
"""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct
from typing import Any, Final

from mpt.wire.seal import MAC_LENGTH, mac1

LIFE: Final = 10.0  # s: a whole handshake
_BOUND: Final = Struct("!Q16sH")
_TIME_LENGTH: Final = 8
LENGTH: Final = _TIME_LENGTH + MAC_LENGTH


def token(key: bytes, address: tuple[Any, ...], now: float) -> bytes:
    """Return the token for the socket `address` (host, port, and what IPv6 has behind); `key` has 32 octets."""
    return _token(key, address, int(now * 1000))


def is_ours(shown: bytes, key: bytes, address: tuple[Any, ...], now: float) -> bool:
    """Return whether `shown` was made with `key`, for this address, in the last `LIFE` seconds."""
    made = int.from_bytes(shown[:_TIME_LENGTH], "big")
    age = int(now * 1000) - made
    return len(shown) == LENGTH and 0 <= age <= LIFE * 1000 and shown == _token(key, address, made)


def octets(host: str) -> bytes:
    """Return the 16 octets of a numeric host such as fe80::1%eth0; IPv4 is mapped (RFC 4291 section 2.5.5.2)."""
    packed = ip_address(host.partition("%")[0]).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def _token(key: bytes, address: tuple[Any, ...], milliseconds: int) -> bytes:
    bound = _BOUND.pack(milliseconds, octets(str(address[0])), address[1])
    return bound[:_TIME_LENGTH] + mac1(key, bound)

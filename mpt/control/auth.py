"""Authentication of command datagrams (guide table 3): none, a random number that must come back, or SHA-256.

The digest of type 2 is SHA-256 over the datagram, its octets 8 to 39 (where the digest stands) taken as zeros, and then
the key: the first 32 characters of the configured text, as ASCII, filled up with NUL. The key is not the 32 octets that
64 hexadecimal digits stand for: half of the digits count, and so does their case. The random number is hashed, too.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from mpt.errors import PeerError

DEFAULT_KEY: Final = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF"
KEY_LENGTH: Final = 32  # characters that count
_DIGEST = slice(8, 40)


def key_material(key: str) -> bytes:
    """Return the 32 octets of `key` that count."""
    return key.encode()[:KEY_LENGTH].ljust(KEY_LENGTH, b"\0")


def digest(datagram: bytes, key: str) -> bytes:
    """Return the 32 octets that belong at octet 8 of `datagram`, which is of type 2."""
    return hashlib.sha256(datagram[:8] + bytes(32) + datagram[40:] + key_material(key)).digest()


def sign(datagram: bytes, key: str) -> bytes:
    """Return `datagram`, which is of type 2, with its digest."""
    return datagram[: _DIGEST.start] + digest(datagram, key) + datagram[_DIGEST.stop :]


def verify(datagram: bytes, key: str) -> bool:
    """Return whether `datagram`, of type 2, was signed with `key`; takes the same time for every wrong digest."""
    return hmac.compare_digest(datagram[_DIGEST], digest(datagram, key))


def is_default(key: str) -> bool:
    """Return whether `key` is the key that is built into every MPT program; no key at all stands for it."""
    return not key or key_material(key) == key_material(DEFAULT_KEY)


def usable_key(key: str, allow_default: bool) -> str:
    """Return the key to use for a configured `key`; raises PeerError with the reason when that is the built-in one.

    That key stands in the published program: whoever can send us a datagram could create a connection with it.
    """
    if not is_default(key):
        return key
    if allow_default:
        return DEFAULT_KEY
    raise PeerError(
        ("there is no auth_key" if not key else "auth_key is the published default")
        + ", and the key that is built into every MPT program protects nothing: write 'auth_key = ' and 64 hexadecimal "
        "digits at both ends, or 'allow_default_key = 1' in [general] of interface.conf to let anybody in"
    )


def fresh_random() -> bytes:
    """Return the random number of a handshake: 4 octets, not all zeros, which stand for none."""
    return (secrets.randbelow(2**32 - 1) + 1).to_bytes(4, "little")

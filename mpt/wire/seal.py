"""The octets of sealed connections: the envelope of datagrams, and the datagrams of the handshake (session 2 and 3).

A first octet with bit 6 set, which no GRE header has (RFC 2784 section 2.3), tells them from plain MPT-GRE:

    40  envelope: path id, session index of the receiver, number, then stamp and content, sealed, and the tag
    41  handshake: octets of a TLS stream, and how many of the other stream have arrived
    42  retry: the responder's wish to see its token in the next datagram; it keeps nothing for that

The content of an envelope is a GRE datagram or a message (``mpt.wire.message``). Whatever the octets are, decoding
raises nothing but DecodeError.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from mpt.errors import DecodeError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

SEALED_BIT: Final = 0x40  # of the first octet; not set in GRE
ENVELOPE: Final = 0x40
HANDSHAKE: Final = 0x41
RETRY: Final = 0x42
HANDSHAKE_VERSION: Final = 1
FROM_RESPONDER: Final = 0x01  # flag of a handshake datagram

HEADER_LENGTH: Final = 12  # of the envelope; the associated data
STAMP_LENGTH: Final = 2
TAG_LENGTH: Final = 16
OVERHEAD: Final = HEADER_LENGTH + STAMP_LENGTH + TAG_LENGTH
STAMPS_A_SECOND: Final = 16_000
PATH_IDS: Final = 64  # of a session: 0 .. 63
KEY_LENGTH: Final = 32  # also where the cipher takes fewer octets
IV_LENGTH: Final = 12
NUMBERS: Final = 1 << 48  # of a session, path and direction

MAC_LENGTH: Final = 16
LARGEST_DATA: Final = 1100  # octets of a handshake datagram
LARGEST_TOKEN: Final = 255
LARGEST_HANDSHAKE: Final = 20 + LARGEST_TOKEN + LARGEST_DATA + MAC_LENGTH

_HEADER = Struct("!BBIHI")
_HANDSHAKE = Struct("!BBBBIIII")
_RETRY = Struct("!BBBBI")


# ---- keys -------------------------------------------------------------------------------------------------------


class Cipher(enum.StrEnum):
    """The AEAD ciphers, by their names in the hello object."""

    AES_128_GCM = "aes-128-gcm"
    CHACHA20_POLY1305 = "chacha20-poly1305"
    AES_256_GCM = "aes-256-gcm"

    @property
    def key_length(self) -> int:
        """Return how many octets of a key the cipher takes, from its start."""
        return 16 if self is Cipher.AES_128_GCM else 32


@dataclass(slots=True)
class SessionKeys:
    """The keys of one session: `index` is in the datagrams to us, `peer_index` in the datagrams from us.

    A key has 32 octets, an iv 12. Whoever takes the keys wipes this object, so nobody takes them twice.
    """

    index: int
    peer_index: int
    cipher: Cipher
    send_key: bytearray = field(repr=False)
    send_iv: bytearray = field(repr=False)
    receive_key: bytearray = field(repr=False)
    receive_iv: bytearray = field(repr=False)

    def __post_init__(self) -> None:
        lengths = [len(each) for each in self._secrets()]
        if lengths != [KEY_LENGTH, IV_LENGTH, KEY_LENGTH, IV_LENGTH]:
            raise ValueError(f"keys and ivs of {lengths} octets")

    def _secrets(self) -> tuple[bytearray, ...]:
        return self.send_key, self.send_iv, self.receive_key, self.receive_iv

    @property
    def is_wiped(self) -> bool:
        """Return whether somebody has taken these keys."""
        return not self.send_key

    def wipe(self) -> None:
        """Overwrite the secrets, then leave them empty."""
        for secret in self._secrets():
            secret[:] = bytes(len(secret))
            secret.clear()


def _aead(cipher: Cipher, key: bytes | bytearray | memoryview) -> AESGCM | ChaCha20Poly1305:
    """Return the AEAD object of a key; making it costs as much as sealing some packets."""
    # Here: a daemon without keys, or one whose data path seals natively, needs no AEAD of Python, and no room for it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    kind = ChaCha20Poly1305 if cipher is Cipher.CHACHA20_POLY1305 else AESGCM
    return kind(bytes(key[: cipher.key_length]))


# ---- envelope ---------------------------------------------------------------------------------------------------


class Envelope(NamedTuple):
    """The header of a sealed datagram: `session` is its index at the receiver, `number` counts from 0."""

    path_id: int
    session: int
    number: int


def is_sealed(octets: bytes) -> bool:
    """Return whether a datagram is none of GRE, or a content none of GRE: the bit is set."""
    return len(octets) > 0 and octets[0] & SEALED_BIT != 0


def stamp(now: float) -> int:
    """Return the sender's clock, `now` in seconds, as an envelope has it: in 1/16 ms modulo 2^16."""
    return int(now * STAMPS_A_SECOND) & 0xFFFF


def envelope(datagram: bytes) -> Envelope:
    """Return the header of a datagram of kind ENVELOPE. Raises DecodeError (seal_truncated)."""
    if len(datagram) < OVERHEAD:
        raise DecodeError("seal_truncated", f"{len(datagram)} octets")
    _, path_id, index, high, low = _HEADER.unpack_from(datagram)
    return Envelope(path_id, index, high << 32 | low)


class Sealer:
    """Seals the datagrams of one direction of a session; `index` is the session at the receiver.

    A number must never be used twice with one path id: whoever calls this counts.
    """

    __slots__ = ("_encrypt", "_header", "_iv")

    def __init__(self, cipher: Cipher, key: bytes | bytearray, iv: bytes | bytearray, index: int) -> None:
        self._encrypt: Callable[[bytes, bytes, bytes], bytes] = _aead(cipher, key).encrypt
        self._iv = int.from_bytes(iv, "big")
        self._header = ENVELOPE << 88 | index << 48

    def seal(self, path_id: int, number: int, stamp: int, content: bytes) -> bytes:
        """Return the datagram of `content`, with `number` in 0 .. 2^48 - 1 and `stamp` in 0 .. 2^16 - 1."""
        header = (self._header | path_id << 80 | number).to_bytes(HEADER_LENGTH, "big")
        nonce = (self._iv ^ (path_id << 64 | number)).to_bytes(IV_LENGTH, "big")
        return header + self._encrypt(nonce, stamp.to_bytes(STAMP_LENGTH, "big") + content, header)


class Opener:
    """Opens the datagrams of one direction of a session."""

    __slots__ = ("_decrypt", "_invalid", "_iv")

    def __init__(self, cipher: Cipher, key: bytes | bytearray, iv: bytes | bytearray) -> None:
        from cryptography.exceptions import InvalidTag

        self._invalid: type[Exception] = InvalidTag
        self._decrypt: Callable[[bytes, bytes, bytes], bytes] = _aead(cipher, key).decrypt
        self._iv = int.from_bytes(iv, "big")

    def open(self, header: Envelope, datagram: bytes) -> bytes | None:
        """Return the stamp (2 octets) and the content of a datagram with this `header`; None: its tag is wrong."""
        nonce = (self._iv ^ (header.path_id << 64 | header.number)).to_bytes(IV_LENGTH, "big")
        try:
            return self._decrypt(nonce, datagram[HEADER_LENGTH:], datagram[:HEADER_LENGTH])
        except self._invalid:
            return None


# ---- handshake --------------------------------------------------------------------------------------------------


def mac1_key(public_key: bytes) -> bytes:
    """Return the key of the mac1 of all handshake datagrams of the responder with this public key of 32 octets."""
    return blake2s(b"mpt mac1" + public_key).digest()


def mac1(key: bytes, octets: bytes) -> bytes:
    """Return the 16 octets that follow `octets` in a handshake datagram; `key` is a `mac1_key`."""
    return blake2s(octets, digest_size=MAC_LENGTH, key=key).digest()


def has_mac1(key: bytes, datagram: bytes) -> bool:
    """Return whether `datagram` ends with its mac1; one that is too long is not hashed, and has none."""
    octets, mac = datagram[:-MAC_LENGTH], datagram[-MAC_LENGTH:]
    return len(datagram) <= LARGEST_HANDSHAKE and compare_digest(mac1(key, octets), mac)


@dataclass(frozen=True, slots=True)
class HandshakeDatagram:
    """Octets of the sender's TLS stream from `offset` on, perhaps none: an acknowledgement.

    `sender` and `receiver` are their session indexes, `receiver` 0 while it is not known. `acknowledged` octets of the
    receiver's stream have arrived without a gap.
    """

    from_responder: bool
    sender: int
    receiver: int
    offset: int
    acknowledged: int
    token: bytes = b""
    data: bytes = b""

    def encode(self, key: bytes) -> bytes:
        """Return the datagram with its mac1; `key` is the `mac1_key` of the responder. Raises ValueError."""
        if len(self.token) > LARGEST_TOKEN or len(self.data) > LARGEST_DATA:
            raise ValueError(f"{len(self.token)} octets of token and {len(self.data)} of data")
        octets = b"".join(
            (
                _HANDSHAKE.pack(
                    HANDSHAKE,
                    HANDSHAKE_VERSION,
                    FROM_RESPONDER if self.from_responder else 0,
                    len(self.token),
                    self.sender,
                    self.receiver,
                    self.offset,
                    self.acknowledged,
                ),
                self.token,
                self.data,
            )
        )
        return octets + mac1(key, octets)


@dataclass(frozen=True, slots=True)
class Retry:
    """The responder's answer to a first datagram of the initiator's session `receiver`: send it again with `token`."""

    receiver: int
    token: bytes

    def encode(self, key: bytes) -> bytes:
        """Return the datagram with its mac1; `key` is the `mac1_key` of the responder. Raises ValueError."""
        if len(self.token) > LARGEST_TOKEN:
            raise ValueError(f"{len(self.token)} octets of token")
        octets = _RETRY.pack(RETRY, HANDSHAKE_VERSION, 0, len(self.token), self.receiver) + self.token
        return octets + mac1(key, octets)


def named_index(datagram: bytes) -> int | None:
    """Return the session index of the receiver in a handshake datagram or a retry; None in a first datagram, of an
    initiator that does not know it. Raises DecodeError (handshake_short); the mac1 is not looked at."""
    if datagram[0] == RETRY:
        if len(datagram) < _RETRY.size + MAC_LENGTH:
            raise DecodeError("handshake_short", f"{len(datagram)} octets")
        return int.from_bytes(datagram[4:8], "big")
    if len(datagram) < _HANDSHAKE.size + MAC_LENGTH:
        raise DecodeError("handshake_short", f"{len(datagram)} octets")
    index = int.from_bytes(datagram[8:12], "big")
    return index if index or datagram[2] & FROM_RESPONDER else None


def token_of(datagram: bytes) -> bytes:
    """Return the token of a handshake datagram that is long enough for `named_index`; one that is cut short is none."""
    return datagram[_HANDSHAKE.size : _HANDSHAKE.size + datagram[3]]


def decode_handshake(datagram: bytes) -> HandshakeDatagram | Retry:
    """Return a datagram of kind HANDSHAKE or RETRY whose mac1 is right. Raises DecodeError with one of the reasons
    handshake_short, handshake_version, handshake_kind, handshake_long."""
    if not datagram or datagram[0] not in (HANDSHAKE, RETRY):
        raise DecodeError("handshake_kind")
    index = named_index(datagram)
    if datagram[1] != HANDSHAKE_VERSION:
        raise DecodeError("handshake_version", str(datagram[1]))
    start = _RETRY.size if datagram[0] == RETRY else _HANDSHAKE.size
    end = start + datagram[3]
    token, data = datagram[start:end], datagram[end:-MAC_LENGTH]
    if end > len(datagram) - MAC_LENGTH:
        raise DecodeError("handshake_short", f"{len(datagram)} octets")
    if datagram[0] == RETRY:
        if data or not index:
            raise DecodeError("handshake_long" if data else "handshake_kind")
        return Retry(index, token)
    if len(data) > LARGEST_DATA:
        raise DecodeError("handshake_long", f"{len(data)} octets")
    _, _, flags, _, sender, receiver, offset, acknowledged = _HANDSHAKE.unpack_from(datagram)
    return HandshakeDatagram(bool(flags & FROM_RESPONDER), sender, receiver, offset, acknowledged, token, data)

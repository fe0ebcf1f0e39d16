"""The other end of a session: it seals what a data path is to open, and opens what it has sealed."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import NamedTuple

from mpt.wire.seal import IV_LENGTH, KEY_LENGTH, STAMP_LENGTH, Cipher, Opener, Sealer, SessionKeys, envelope

_INDEXES = count(0x1000)


class OpenedDatagram(NamedTuple):
    """What the peer reads in a datagram."""

    path_id: int
    number: int
    content: bytes


class PeerSession:
    """One session at the peer. `index` is the data path's, `peer_index` the peer's; each is new, as the keys are."""

    def __init__(self, cipher: Cipher = Cipher.AES_128_GCM, index: int | None = None) -> None:
        self.index = next(_INDEXES) if index is None else index
        self.peer_index = next(_INDEXES)
        self.cipher = cipher
        secret = self.peer_index.to_bytes(4, "big")
        self._to_us = (b"to us" + secret).ljust(KEY_LENGTH, b"*"), (b"to us" + secret).ljust(IV_LENGTH, b"*")
        self._from_us = (b"from us" + secret).ljust(KEY_LENGTH, b"*"), (b"from us" + secret).ljust(IV_LENGTH, b"*")
        self._sealer = Sealer(cipher, *self._to_us, self.index)
        self._opener = Opener(cipher, *self._from_us)
        self._numbers: Counter[int] = Counter()

    def keys(self) -> SessionKeys:
        """Return the keys for the data path; a copy each time, which only a test may have."""
        secrets = (bytearray(each) for each in (*self._from_us, *self._to_us))
        return SessionKeys(self.index, self.peer_index, self.cipher, *secrets)

    def peer_keys(self) -> SessionKeys:
        """Return the same keys for a data path that is the peer."""
        secrets = (bytearray(each) for each in (*self._to_us, *self._from_us))
        return SessionKeys(self.peer_index, self.index, self.cipher, *secrets)

    def seal(self, content: bytes, path_id: int = 0, number: int | None = None, stamp: int = 0) -> bytes:
        """Return a datagram of the peer, with the next number of the path if none is given."""
        if number is None:
            number = self._numbers[path_id]
        self._numbers[path_id] = max(self._numbers[path_id], number + 1)
        return self._sealer.seal(path_id, number, stamp, content)

    def open(self, datagram: bytes) -> OpenedDatagram:
        """Return what the data path has sealed. Raises ValueError if it is for another session or does not open."""
        header = envelope(datagram)
        opened = self._opener.open(header, datagram)
        if header.session != self.peer_index or opened is None:
            raise ValueError(f"session {header.session:08x}, not {self.peer_index:08x}, or another key")
        return OpenedDatagram(header.path_id, header.number, opened[STAMP_LENGTH:])

"""A TLS engine without cryptography: the flights of TLS 1.3, about as long, whose keys anybody could compute."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b, shake_256

from mpt.control.keyexchange import POST_QUANTUM, Failure, TlsError

_HELLO, _ANSWER, _PROOF, _SAID, _END, _ALERT = b"h", b"a", b"p", b"s", b"e", b"!"
_LENGTHS = {_HELLO: 1451, _ANSWER: 1700, _PROOF: 380, _SAID: 0, _END: 0, _ALERT: 0}
_FRAME = 1 + 4 + 16


class FakeTls:
    """One end; `public_key` is what it shows. The suite proves that the real engine passes the same tests."""

    def __init__(
        self, public_key: bytes, is_initiator: bool, accepts: Callable[[bytes], bool], group: str = POST_QUANTUM
    ) -> None:
        self.is_done = False
        self.is_closed = False
        self.peer_key: bytes | None = None
        self.group = ""
        self._group = group
        self._public_key = public_key
        self._is_initiator = is_initiator
        self._accepts = accepts
        self._unread = b""
        self._out = b""
        self._words = b""
        self._has_ended = False
        self._began = False

    def feed(self, octets: bytes) -> None:
        if self.is_closed:
            return
        self._unread += octets
        if self._is_initiator and not self._began:
            self._began = True
            self._put(_HELLO, self._public_key)
        while len(self._unread) >= _FRAME:
            kind, length = self._unread[:1], int.from_bytes(self._unread[1:5], "big")
            if length > 16384 or kind not in _LENGTHS:
                raise TlsError(Failure.TLS, "no frame")
            if len(self._unread) < _FRAME + length:
                return
            frame, self._unread = self._unread[: _FRAME + length], self._unread[_FRAME + length :]
            body = frame[_FRAME:]
            if frame[5:_FRAME] != blake2b(kind + body, digest_size=16).digest():
                self._fail(Failure.TLS)
            self._read(kind, body)

    def take(self) -> bytes:
        octets, self._out = self._out, b""
        return octets

    def say(self, octets: bytes) -> None:
        if octets:
            self._put(_SAID, octets)
        self._put(_END, b"")

    def said(self) -> bytes | None:
        return self._words if self._has_ended else None

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        secret = b"".join(sorted((self._public_key, self.peer_key or b"")))
        return shake_256(secret + label + context).digest(length)

    def close(self) -> None:
        self.is_closed = True

    def _read(self, kind: bytes, body: bytes) -> None:
        expected = (
            (_SAID, _END, _ALERT)
            if self.is_done
            else (_ANSWER, _ALERT)
            if self._is_initiator
            else (_HELLO, _PROOF, _ALERT)
        )
        if kind not in expected:
            self._fail(Failure.TLS)
        if kind == _ALERT:
            raise TlsError(Failure.REFUSED)
        if kind == _SAID:
            self._words += body
            if len(self._words) > 4096:
                raise TlsError(Failure.HELLO)
        elif kind == _END:
            self._has_ended = True
        elif kind == _HELLO:
            self._put(_ANSWER, self._public_key)
        else:
            self.peer_key = body[:32]
            if not self._accepts(self.peer_key):
                self._fail(Failure.WRONG_KEY)
            self.group = self._group
            self.is_done = True
            if self._is_initiator:
                self._put(_PROOF, self._public_key)

    def _fail(self, failure: Failure) -> None:
        self._put(_ALERT, b"")
        raise TlsError(failure)

    def _put(self, kind: bytes, body: bytes) -> None:
        body = body.ljust(_LENGTHS[kind], b"\0")
        self._out += kind + len(body).to_bytes(4, "big") + blake2b(kind + body, digest_size=16).digest() + body

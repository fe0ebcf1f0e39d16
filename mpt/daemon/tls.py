"""TLS 1.3 in memory for the handshakes of sealed connections (session 2): the only module that knows pyOpenSSL.

Each end shows a certificate that its Ed25519 key has signed itself, and looks at nothing in the peer's but the key. So
a certificate has no names, and is valid for ever. There are no tickets, no resumption and no early data. The groups of
the key exchange are left to OpenSSL: from 3.5 on X25519MLKEM768 is its first choice, before it X25519.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from OpenSSL import SSL, crypto

from mpt.control.keyexchange import Failure, TlsError

ALPN: Final = b"mpt/1"
LARGEST_SAID: Final = 4096  # octets that the peer may say inside TLS
_PIECE: Final = 16384  # octets that are moved at once; no TLS record has more
_FIRST_DAY, _LAST_DAY = datetime(2000, 1, 1), datetime(9999, 12, 31)


class TlsKey:
    """The private key of this host (32 octets), ready for handshakes; it makes the ends of TLS connections."""

    def __init__(self, private_octets: bytes) -> None:
        private_key = Ed25519PrivateKey.from_private_bytes(private_octets)
        self._context = context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_alpn_protos([ALPN])
        context.set_alpn_select_callback(_select_protocol)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
        context.use_certificate(_certificate(private_key))
        context.use_privatekey(private_key)

    def engine(self, is_initiator: bool, accepts: Callable[[bytes], bool]) -> TlsEnd:
        """Return a new end that takes only peers for whose public keys `accepts(key)` is true."""
        return TlsEnd(self._context, is_initiator, accepts)


class TlsEnd:
    """One end of a TLS connection: the `TlsEngine` of `mpt.control.keyexchange`."""

    def __init__(self, context: SSL.Context, is_initiator: bool, accepts: Callable[[bytes], bool]) -> None:
        self.is_done = False
        self.peer_key: bytes | None = None
        self.group = ""
        self._accepts = accepts
        self._said = b""
        self._has_ended = False  # the peer's stream
        self._ssl: SSL.Connection | None = SSL.Connection(context)
        self._ssl.set_app_data(self)
        if is_initiator:
            self._ssl.set_connect_state()
        else:
            self._ssl.set_accept_state()

    def feed(self, octets: bytes) -> None:
        """Take in octets of the peer, perhaps none, and go on. Raises TlsError."""
        if self._ssl is None:
            return
        try:
            if octets:
                self._ssl.bio_write(octets)
            if not self.is_done:
                self._ssl.do_handshake()
                self._check(self._ssl)
                self.is_done = True
            self._read(self._ssl)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            if not self.is_done:
                raise TlsError(Failure.REFUSED) from None
            self._has_ended = True
        except SSL.Error as error:
            raise self._fault(error) from None

    def take(self) -> bytes:
        """Return the octets that are now to be sent to the peer."""
        octets = b""
        while self._ssl is not None:
            try:
                octets += self._ssl.bio_read(_PIECE)
            except SSL.Error:  # there are no more
                break
        return octets

    def say(self, octets: bytes) -> None:
        """Put `octets` into the TLS stream, as our only and last ones. Raises TlsError."""
        if self._ssl is None:
            return
        try:
            if octets:
                self._ssl.sendall(octets)
            self._ssl.shutdown()
        except SSL.Error as error:
            raise self._fault(error) from None

    def said(self) -> bytes | None:
        """Return all octets that the peer has put into the TLS stream; None until it has ended it."""
        return self._said if self._has_ended else None

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return keying material (RFC 5705)."""
        assert self._ssl is not None
        return self._ssl.export_keying_material(label, length, context)

    def close(self) -> None:
        """Free everything."""
        self._ssl = None
        self._said = b""

    def verify(self, certificate: crypto.X509, depth: int) -> bool:
        """Return whether `certificate` shows a key that is accepted; nothing else in it counts."""
        try:
            key = certificate.to_cryptography().public_key()
        except Exception:  # whatever cryptography finds wrong in what a stranger sends
            return False
        if depth or not isinstance(key, Ed25519PublicKey):
            return False
        self.peer_key = key.public_bytes_raw()
        return self._accepts(self.peer_key)

    def _check(self, ssl: SSL.Connection) -> None:
        """Look at what the handshake has brought; raises TlsError."""
        certificate = ssl.get_peer_certificate()
        if certificate is None or not self.verify(certificate, 0):
            raise TlsError(Failure.WRONG_KEY)
        if ssl.get_alpn_proto_negotiated() != ALPN:
            raise TlsError(Failure.TLS, f"the peer does not speak {ALPN.decode()}")
        try:
            self.group = ssl.get_group_name() or ""
        except NotImplementedError:  # OpenSSL before 3.2
            self.group = ""

    def _read(self, ssl: SSL.Connection) -> None:
        """Read what the peer says until there is no more (SSL.Error); raises TlsError if it is too much."""
        while True:
            self._said += ssl.recv(LARGEST_SAID)
            if len(self._said) > LARGEST_SAID:
                raise TlsError(Failure.HELLO, f"more than {LARGEST_SAID} octets inside TLS")

    def _fault(self, error: SSL.Error) -> TlsError:
        """Return the reason why OpenSSL has ended the handshake."""
        reasons = [str(each[-1]) for each in (error.args[0] if error.args else ()) if each]
        text = ", ".join(reasons) or type(error).__name__
        if any("alert" in reason for reason in reasons):
            return TlsError(Failure.REFUSED, f"{Failure.REFUSED.value} ({text})")
        if any("certificate verify failed" in reason for reason in reasons):
            return TlsError(Failure.WRONG_KEY)
        return TlsError(Failure.TLS, f"{Failure.TLS.value}: {text}")


def _certificate(key: Ed25519PrivateKey) -> x509.Certificate:
    """Return the certificate that `key` signs for itself."""
    nobody = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(nobody).issuer_name(nobody).public_key(key.public_key())
    return builder.serial_number(1).not_valid_before(_FIRST_DAY).not_valid_after(_LAST_DAY).sign(key, None)


def _select_protocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _verify(ssl: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    end = ssl.get_app_data()
    return isinstance(end, TlsEnd) and end.verify(certificate, depth)

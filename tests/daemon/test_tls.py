"""OpenSSL behind the adapter: what it insists on. Whole handshakes are in tests/control/test_keyexchange.py."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from mpt.control.keyexchange import Failure, TlsError
from mpt.daemon import tls
from mpt.daemon.tls import TlsEnd, TlsKey
from tests.control.keypairs import HIGH, LOW, Keys


def ends(one: TlsKey, two: TlsKey, key_one: Keys = LOW, key_two: Keys = HIGH) -> tuple[TlsEnd, TlsEnd]:
    return one.engine(True, key_two.public.__eq__), two.engine(False, key_one.public.__eq__)


def talk(one: TlsEnd, two: TlsEnd) -> None:
    """Carry octets in both directions until there are none; raises TlsError."""
    one.feed(b"")
    while octets := one.take():
        two.feed(octets)
        answer = two.take()
        if answer:
            one.feed(answer)


def test_tls_1_3_with_the_best_group() -> None:
    """X25519MLKEM768 where OpenSSL has it; no older TLS, no session to resume."""
    one, two = ends(TlsKey(LOW.octets), TlsKey(HIGH.octets))
    talk(one, two)
    assert one.is_done and two.is_done and one.group == two.group == "X25519MLKEM768"
    for end in (one, two):
        ssl = end._ssl
        assert ssl is not None and ssl.get_protocol_version_name() == "TLSv1.3"
        assert ssl.get_context().get_session_cache_mode() == SSL.SESS_CACHE_OFF
    one.close()
    assert one.take() == b"" and one._ssl is None


def test_an_end_without_the_better_group_gets_x25519() -> None:
    old = TlsKey(LOW.octets)
    # pyOpenSSL has no public name for it; only this test needs it.
    assert SSL._lib.SSL_CTX_set1_curves_list(old._context._context, b"X25519") == 1  # type: ignore[attr-defined]
    one, two = ends(old, TlsKey(HIGH.octets))
    talk(one, two)
    assert one.group == two.group == "x25519"


def test_a_peer_without_a_certificate_is_refused() -> None:
    naked = TlsKey(LOW.octets)
    naked._context = context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos([tls.ALPN])
    context.set_verify(SSL.VERIFY_PEER, tls._verify)
    one, two = ends(naked, TlsKey(HIGH.octets))
    with pytest.raises(TlsError) as caught:
        talk(one, two)
    assert caught.value.failure is Failure.TLS and not two.is_done


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that offers another ALPN name, or none, does not mean us."""
    foreign = TlsKey(LOW.octets)
    foreign._context.set_alpn_protos([b"h2"])
    one, two = ends(foreign, TlsKey(HIGH.octets))
    with pytest.raises(TlsError, match="mpt/1"):
        talk(one, two)


def test_older_tls_is_refused() -> None:
    old = TlsKey(LOW.octets)
    old._context.set_min_proto_version(SSL.TLS1_2_VERSION)
    old._context.set_max_proto_version(SSL.TLS1_2_VERSION)
    one, two = ends(old, TlsKey(HIGH.octets))
    with pytest.raises(TlsError):
        talk(one, two)
    assert not two.is_done


def test_only_the_key_that_signs_counts() -> None:
    """A certificate of an accepted key behind the peer's own one is of no use."""
    liar = TlsKey(LOW.octets)
    liar._context.add_extra_chain_cert(tls._certificate(HIGH.private))
    two = TlsKey(HIGH.octets).engine(False, HIGH.public.__eq__)
    with pytest.raises(TlsError) as caught:
        talk(liar.engine(True, HIGH.public.__eq__), two)
    assert caught.value.failure is Failure.WRONG_KEY and not two.is_done and two.peer_key == LOW.public


def test_the_peer_says_a_hello_object_at_the_most() -> None:
    one, two = ends(TlsKey(LOW.octets), TlsKey(HIGH.octets))
    talk(one, two)
    one.say(b"x" * 4097)
    with pytest.raises(TlsError) as caught:
        two.feed(one.take())
    assert caught.value.failure is Failure.HELLO


def test_words_end_with_the_stream() -> None:
    """They are shown when nothing more can come."""
    one, two = ends(TlsKey(LOW.octets), TlsKey(HIGH.octets))
    talk(one, two)
    assert two.said() is None
    one.say(b"{}")
    two.feed(one.take())
    assert two.said() == b"{}"
    two.say(b"")
    one.feed(two.take())
    assert one.said() == b""

"""The octets of sealed connections: the vectors of the session specification, and whatever else may come."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.testing.strategies import mutated
from mpt.wire import seal
from mpt.wire.seal import Cipher, Envelope, HandshakeDatagram, Opener, Retry, Sealer, SessionKeys

KEY = bytes(range(0x20))
IV = bytes(range(0x60, 0x6C))
PUBLIC_KEY = bytes(range(0x20, 0x40))
CONTENT = bytes.fromhex("3000080000000123000000074500001c00010000400166dd0a0000020a0000030800f7ff00000000")
SEALED = {  # session 8
    Cipher.AES_128_GCM: "4001a1b2c3d40000000000053e36506f513359e09706eb7763a55a142f52888b2b9777428fd7ad8be51a77"
    "da0540b3442e0ab17fe5fa7d541c5e6e333b67959cbf2fe727a806",
    Cipher.CHACHA20_POLY1305: "4001a1b2c3d4000000000005871aab1081a5f1e7dfbe8d892207345c93da360504f8c6aab3ad7d"
    "3f3e1f522b257881fe7640b70fd9b07a64b319c1ff25eb35f2cadc1a293a2a",
}
HANDSHAKE = "410100000102030400000000000000000000000068656c6c6f701cf5a3d8277e74daf741dfed40bf46"


@pytest.mark.parametrize("cipher", SEALED)
def test_the_vectors_of_the_envelope(cipher: Cipher) -> None:
    """Session 8: the same octets, both ways."""
    datagram = Sealer(cipher, KEY, IV, 0xA1B2C3D4).seal(1, 5, 0x1234, CONTENT)
    assert datagram.hex() == SEALED[cipher]
    header = seal.envelope(datagram)
    assert header == (1, 0xA1B2C3D4, 5)
    assert Opener(cipher, KEY, IV).open(header, datagram) == b"\x12\x34" + CONTENT


def test_the_documentation_has_the_vectors() -> None:
    """docs/protocol.md shows the same octets."""
    lines = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text().splitlines()
    shown = {name: lines[lines.index(name) + 1] for name in ("content", "first datagram", *SEALED)}
    vectors: dict[str, str] = {"content": CONTENT.hex(), "first datagram": HANDSHAKE}
    assert shown == vectors | {cipher.value: digits for cipher, digits in SEALED.items()}


@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize(("path_id", "number"), [(0, 0), (63, 2**48 - 1), (1, 2**32)])
def test_every_number_and_path_has_its_nonce(cipher: Cipher, path_id: int, number: int) -> None:
    """A datagram opens under its own path id and number only: both are in the nonce."""
    datagram = Sealer(cipher, KEY, IV, 7).seal(path_id, number, 0xFFFF, b"content")
    header = seal.envelope(datagram)
    opener = Opener(cipher, KEY, IV)
    assert header == Envelope(path_id, 7, number)
    assert opener.open(header, datagram) == b"\xff\xffcontent"
    assert opener.open(header._replace(number=number ^ 1), datagram) is None
    assert opener.open(header._replace(path_id=path_id ^ 1), datagram) is None
    assert len(datagram) == len(b"content") + seal.OVERHEAD


@pytest.mark.parametrize("cipher", Cipher)
def test_an_octet_that_was_changed_opens_nothing(cipher: Cipher) -> None:
    """Session index, path id and number are protected as well as the content."""
    datagram = Sealer(cipher, KEY, IV, 7).seal(3, 9, 0, b"content")
    opener = Opener(cipher, KEY, IV)
    for at in range(len(datagram)):
        changed = datagram[:at] + bytes((datagram[at] ^ 0x01,)) + datagram[at + 1 :]
        assert opener.open(seal.envelope(changed), changed) is None


@pytest.mark.parametrize("length", range(seal.OVERHEAD))
def test_a_short_envelope(length: int) -> None:
    """Less than header, stamp and tag is no envelope."""
    with pytest.raises(DecodeError, match="seal_truncated"):
        seal.envelope(b"\x40" * length)


def test_the_stamp_counts_sixteenths_of_a_millisecond() -> None:
    """Modulo 2^16: after 4.096 s it begins anew."""
    assert [seal.stamp(now) for now in (0.0, 1 / 16_000, 1.0, 4.096, 4.097)] == [0, 1, 16_000, 0, 16]


def session_keys() -> SessionKeys:
    return SessionKeys(1, 2, Cipher.AES_128_GCM, *(bytearray(each) for each in (KEY, IV, KEY, IV)))


def test_keys_are_not_shown_and_are_overwritten() -> None:
    """They stand in no text, and whoever has taken them wipes them."""
    keys = session_keys()
    secrets = keys.send_key, keys.send_iv, keys.receive_key, keys.receive_iv
    assert repr(keys) == "SessionKeys(index=1, peer_index=2, cipher=<Cipher.AES_128_GCM: 'aes-128-gcm'>)"
    assert not keys.is_wiped
    keys.wipe()
    assert keys.is_wiped
    assert not any(secrets)


@pytest.mark.parametrize("member", ["send_key", "send_iv", "receive_key", "receive_iv"])
def test_keys_of_a_wrong_length(member: str) -> None:
    """A key has 32 octets, an iv 12."""
    secrets = {each: getattr(session_keys(), each) for each in ("send_key", "send_iv", "receive_key", "receive_iv")}
    with pytest.raises(ValueError, match="octets"):
        SessionKeys(1, 2, Cipher.AES_256_GCM, **secrets | {member: bytearray(16)})


# --- handshake ---


def test_the_vector_of_the_handshake() -> None:
    """Session 8: from index 01020304 to a responder with the public key 20 .. 3f."""
    key = seal.mac1_key(PUBLIC_KEY)
    begun = HandshakeDatagram(False, 0x01020304, 0, 0, 0, data=b"hello")
    assert begun.encode(key).hex() == HANDSHAKE
    assert seal.has_mac1(key, bytes.fromhex(HANDSHAKE))
    assert not seal.has_mac1(seal.mac1_key(KEY), bytes.fromhex(HANDSHAKE))
    assert seal.decode_handshake(bytes.fromhex(HANDSHAKE)) == begun
    assert seal.named_index(bytes.fromhex(HANDSHAKE)) is None


indexes = st.integers(0, 2**32 - 1)
handshakes = st.builds(
    HandshakeDatagram,
    st.booleans(),
    indexes,
    indexes,
    indexes,
    indexes,
    st.binary(max_size=255),
    st.binary(max_size=1100),
)


@given(handshakes)
def test_a_handshake_datagram_comes_back(datagram: HandshakeDatagram) -> None:
    """What is encoded is decoded."""
    octets = datagram.encode(KEY)
    assert seal.decode_handshake(octets) == datagram
    assert seal.named_index(octets) == (datagram.receiver if datagram.from_responder or datagram.receiver else None)
    assert seal.has_mac1(KEY, octets)


@given(st.integers(1, 2**32 - 1), st.binary(max_size=255))
def test_a_retry_comes_back(index: int, token: bytes) -> None:
    """What is encoded is decoded."""
    octets = Retry(index, token).encode(KEY)
    assert seal.decode_handshake(octets) == Retry(index, token)
    assert seal.named_index(octets) == index


@pytest.mark.parametrize(
    ("reason", "octets"),
    [
        ("kind", b""),
        ("kind", b"\x43" + bytes(60)),
        ("kind", b"\x42\x01\0\0\0\0\0\0" + bytes(16)),  # a retry to nobody
        ("short", b"\x41"),
        ("short", b"\x41\x01" + bytes(33)),
        ("short", b"\x42\x01" + bytes(21)),
        ("short", b"\x41\x01\0\x01" + bytes(32)),  # no room for the token
        ("version", b"\x41\x02" + bytes(40)),
        ("long", b"\x41\x01" + bytes(34 + 1101)),
        ("long", b"\x42\x01\0\0\0\0\0\x01" + bytes(17)),
    ],
)
def test_a_handshake_datagram_that_is_refused(reason: str, octets: bytes) -> None:
    """Each rule has its reason."""
    with pytest.raises(DecodeError, match=f"handshake_{reason}"):
        seal.decode_handshake(octets)


def test_what_is_too_long_is_not_sent() -> None:
    """Neither more than 255 octets of token nor more than 1100 of data."""
    for wrong in (HandshakeDatagram(False, 1, 0, 0, 0, token=bytes(256)), Retry(1, bytes(256))):
        with pytest.raises(ValueError, match="token"):
            wrong.encode(KEY)
    with pytest.raises(ValueError, match="data"):
        HandshakeDatagram(False, 1, 0, 0, 0, data=bytes(1101)).encode(KEY)


def test_damaged_datagrams() -> None:
    """Nothing but DecodeError, and no damage keeps its mac1."""
    random = Random(1)
    sound = [HandshakeDatagram(True, 1, 2, 3, 4, b"token", b"data" * 99).encode(KEY), Retry(9, bytes(24)).encode(KEY)]
    for _ in range(20_000):
        octets = mutated(random.choice(sound), random)
        assert seal.has_mac1(KEY, octets) is (octets in sound)
        try:
            seal.decode_handshake(octets)
            seal.envelope(octets)
        except DecodeError:
            pass

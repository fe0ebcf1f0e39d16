"""The messages inside a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.wire import message
from mpt.wire.message import (
    Challenge,
    Close,
    Keepalive,
    PathStatus,
    PathStatusSeen,
    Response,
    SealedMessage,
    SizeProbe,
    SizeSeen,
    decode_message,
)
from mpt.wire.seal import OVERHEAD

NONCE = bytes(range(8))


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (Keepalive(), "41" + 31 * "00"),
        (Keepalive(asks=True), "4101" + 30 * "00"),
        (Challenge(NONCE, OVERHEAD + 9), "430001020304050607"),
        (Challenge(NONCE, OVERHEAD + 12), "430001020304050607000000"),
        (Response(NONCE, OVERHEAD + 10), "44000102030405060700"),
        (PathStatus(63, up=True), "453f0000"),
        (PathStatus(2, up=False, reason=7), "45028007"),
        (PathStatusSeen(2, up=False), "460280"),
        (SizeProbe(OVERHEAD + 5), "470023" + "0000"),
        (SizeSeen(1500), "4805dc"),
        (Close(1), "4f01"),
    ],
)
def test_a_message(value: SealedMessage, octets: str) -> None:
    """Its octets, and back."""
    assert value.encode().hex() == octets
    assert decode_message(bytes.fromhex(octets)) == value


def test_a_small_size_is_no_reason_to_cut() -> None:
    """A challenge has its nonce, whatever caused it."""
    assert decode_message(Challenge(NONCE, 1).encode()) == Challenge(NONCE, OVERHEAD + 9)


def test_every_known_message_is_decoded() -> None:
    """The first octets that the data path lets through are those that can be read."""
    for first in range(256):
        octets = bytes((first,)).ljust(40, b"\0")
        if first == message.SIZE_PROBE:
            octets = SizeProbe(70).encode()
        try:
            decode_message(octets)
            known = True
        except DecodeError as error:
            assert error.reason == "message_unknown"
            known = False
        assert known is (first in message.KNOWN)


@pytest.mark.parametrize("first", sorted(message.KNOWN))
def test_a_message_cut_off(first: int) -> None:
    """One octet is no message."""
    with pytest.raises(DecodeError, match="message_short"):
        decode_message(bytes((first,)))


def test_a_size_probe_says_its_own_size() -> None:
    """Another size would report what did not arrive."""
    with pytest.raises(DecodeError, match="message_size"):
        decode_message(SizeProbe(1400).encode()[:-1])


@given(st.binary(max_size=60))
def test_any_octets(octets: bytes) -> None:
    """Nothing but DecodeError."""
    try:
        decode_message(octets)
    except DecodeError:
        pass

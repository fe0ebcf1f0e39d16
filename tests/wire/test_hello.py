"""The hello object."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.wire.hello import Hello, HelloPath, decode_hello
from mpt.wire.seal import Cipher

TUNNEL = ip_address("10.0.0.2"), ip_address("10.0.0.3")
HELLO = Hello(
    TUNNEL,
    (Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305),
    (HelloPath(0, "dsl", 10, 2), HelloPath(63)),
    1430,
    ("flow",),
    "0.1.0",
)


def member(**changes: Any) -> bytes:
    """A sound object with some members changed."""
    return json.dumps({"mpt": 1, "tunnel": ["fd00::1", "fd00::2"], "ciphers": ["aes-128-gcm"]} | changes).encode()


def test_a_hello_comes_back() -> None:
    """What is encoded is decoded, and it has the members of the specification."""
    assert decode_hello(HELLO.encode()) == HELLO
    value = json.loads(HELLO.encode())
    assert list(value) == ["mpt", "tunnel", "ciphers", "paths", "mtu", "features", "version"]
    assert value["paths"][0] == {"id": 0, "name": "dsl", "weight_in": 10, "cost": 2}


def test_what_is_not_known_is_ignored() -> None:
    """Unknown members, and ciphers that we do not have."""
    hello = decode_hello(member(ciphers=["rot13", "aes-256-gcm", "aes-256-gcm"], colour="blue"))
    assert hello == Hello((ip_address("fd00::1"), ip_address("fd00::2")), (Cipher.AES_256_GCM,))


@pytest.mark.parametrize(
    ("reason", "octets"),
    [
        ("long", member(version="x" * 4096)),
        ("json", b""),
        ("json", b"[]"),
        ("json", b"[" * 4096),
        ("json", b'{"a":' * 800),
        ("json", b"\xff{}"),
        ("version", member(mpt=2)),
        ("version", b"{}"),
        ("tunnel", member(tunnel=["10.0.0.2"])),
        ("tunnel", member(tunnel=["10.0.0.2", "10.0.0.2"])),
        ("tunnel", member(tunnel=["10.0.0.2", "fd00::1"])),
        ("tunnel", member(tunnel=[1, 2])),
        ("tunnel", member(tunnel=None)),
        ("ciphers", member(ciphers="aes-128-gcm")),
        ("ciphers", member(ciphers=[["aes-128-gcm"]])),
        ("paths", member(paths={})),
        ("paths", member(paths=[1])),
        ("paths", member(paths=[{"id": 64}])),
        ("paths", member(paths=[{"id": True}])),
        ("paths", member(paths=[{"id": 1.0}])),
        ("paths", member(paths=[{"id": 1}, {"id": 1}])),
        ("paths", member(paths=[{"id": n % 64} for n in range(65)])),
        ("paths", member(paths=[{"id": 1, "weight_in": 0}])),
        ("paths", member(paths=[{"id": 1, "cost": -1}])),
        ("paths", member(paths=[{"id": 1, "name": "a\nb"}])),
        ("paths", member(paths=[{"id": 1, "name": "\ud800"}])),
        ("member", member(mtu="1500")),
        ("member", member(mtu=float("nan"))),
        ("member", member(mtu=10**9)),
        ("member", member(features=["f"] * 33)),
        ("member", member(version="x" * 65)),
        ("member", member(version="\x1b[2J")),
    ],
)
def test_a_hello_that_is_refused(reason: str, octets: bytes) -> None:
    """Each rule has its reason."""
    with pytest.raises(DecodeError, match=f"^hello_{reason}"):
        decode_hello(octets)


def test_a_hello_that_is_too_long_is_not_sent() -> None:
    """4 KiB are the limit."""
    with pytest.raises(ValueError, match="octets"):
        Hello(TUNNEL, (), tuple(HelloPath(number, "x" * 64) for number in range(64))).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["mpt", "tunnel", "ciphers", "paths", "mtu", "features", "version"]), JSON))
def test_any_members(members: dict[str, Any]) -> None:
    """Nothing but DecodeError."""
    try:
        decode_hello(member(**members))
    except DecodeError:
        pass


@given(st.binary(max_size=60))
def test_any_octets(octets: bytes) -> None:
    """Nothing but DecodeError."""
    with pytest.raises(DecodeError):
        decode_hello(octets)

"""Authentication of command datagrams."""

from __future__ import annotations

import pytest

from mpt.control import auth
from mpt.errors import PeerError

KEY = "00112233445566778899AABBCCDDEEFFA0A1A2A3A4A5A6A7A8A9AAABACADAEAF"
CREATE_KEY = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAF"

SIGNED = {  # of the C program
    "A2, round 1, random 0": (
        KEY,
        (
            "a280022400000000dfdabd92231dfeb40745b9a9f4ad0780fa2e8ccf2ffc02ef4800fb972f14325c"
            "0104000000000000000000000000ffff0a00000300000000000000000000ffff0a00000220000000"
        ),
    ),
    "A2, round 3, random edd73302": (
        KEY,
        (
            "a2800224edd733025e0641163e824c9c0ecdbbb91dbae67e5d5b900d77e2bebca42031b3c6e8ef94"
            "0304000000000000000000000000ffff0a00000300000000000000000000ffff0a000002"
            "00000000000000000000ffff0a01010300000000000000000000ffff0a010102"
        ),
    ),
    "A3, round 1, size 1124": (
        CREATE_KEY,
        (
            "a3000224000000009e23fb0a7dd069e813ffbc866de3e2aaa9b2229542fc36f86606778c00f4cb47"
            "0104000000000000000000000000ffff0a00000300000000000000000000ffff0a00000264040000"
        ),
    ),
}


@pytest.mark.parametrize("name", SIGNED)
def test_digests_are_those_of_the_c_program(name: str) -> None:
    """The digest is over the datagram with 32 zeros in its place, and the first 32 characters of the key."""
    key, digits = SIGNED[name]
    datagram = bytes.fromhex(digits)
    assert auth.sign(datagram[:8] + bytes(32) + datagram[40:], key) == datagram
    assert auth.verify(datagram, key)


@pytest.mark.parametrize("name", SIGNED)
def test_a_change_anywhere_is_seen(name: str) -> None:
    """No octet can change, nor the key in its first 32 characters, upper and lower case included."""
    key, digits = SIGNED[name]
    datagram = bytes.fromhex(digits)
    for index in range(len(datagram)):
        assert not auth.verify(datagram[:index] + bytes([datagram[index] ^ 1]) + datagram[index + 1 :], key)
    assert not auth.verify(datagram + b"\0", key)
    assert not auth.verify(datagram[:-1], key)
    assert not auth.verify(datagram, key.lower())
    assert auth.verify(datagram, key[:32] + "another second half")


def test_a_short_key_is_filled_up_with_nul() -> None:
    """A short key ends with NUL, as a C string does."""
    assert auth.key_material("0") == b"0" + bytes(31)


@pytest.mark.parametrize("key", ["", auth.DEFAULT_KEY, auth.DEFAULT_KEY[:32], auth.DEFAULT_KEY[:32] + "FF"])
def test_the_published_key_is_refused_unless_it_is_allowed(key: str) -> None:
    """No key at all means the built-in one, which everybody knows; the refusal says what to write."""
    assert auth.usable_key(key, allow_default=True) == auth.DEFAULT_KEY
    with pytest.raises(PeerError, match="allow_default_key = 1"):
        auth.usable_key(key, allow_default=False)


def test_another_key_is_taken_as_it_is() -> None:
    """The key of the guide's example is not the built-in one."""
    key = "A0A1A2A3A4A5A6A7A8A9B0B1B2B3B4B5B6B7B8B9C0C1C2C3C4C5C6C7C8C9D1D2"
    assert auth.usable_key(key, allow_default=False) == key


def test_random_numbers_differ_and_are_never_0() -> None:
    """A random number is never 0, which stands for none."""
    numbers = {auth.fresh_random() for _ in range(100)}
    assert len(numbers) > 90
    assert all(len(number) == 4 and any(number) for number in numbers)

"""Keepalives and command datagrams, byte for byte, and everything that is no such thing."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.model import Address, AuthType
from mpt.wire import command
from mpt.wire.command import Message, Result, address_octets, decode, encode, encode_keepalive, encode_path, encode_size

A2_ROUND_1 = bytes.fromhex("a28000000104000000000000000000000000ffff0a00000300000000000000000000ffff0a00000220000000")
A2_ROUND_3 = bytes.fromhex(
    "a28000000304000000000000000000000000ffff0a00000300000000000000000000ffff0a000002"
    "00000000000000000000ffff0a01010300000000000000000000ffff0a010102"
)
FROM, TO = ip_address("10.0.0.3"), ip_address("10.0.0.2")


def test_a_keepalive_is_that_of_the_c_program() -> None:
    """The octets that a running C mptsrv at 10.0.0.2 sends to 10.0.0.3."""
    assert encode_keepalive(4, ip_address("10.0.0.2"), ip_address("10.0.0.3")) == bytes.fromhex(
        "00000800 a1000000 00040000 00000000000000000000ffff0a000002 00000000000000000000ffff0a000003"
    )


def test_a_keepalive_of_an_ipv6_tunnel() -> None:
    """An IPv6 tunnel says so in the protocol type and in the octet for the version; addresses are as they are."""
    keepalive = encode_keepalive(6, ip_address("fec0::2"), ip_address("fec0::3"))
    assert keepalive[:12].hex() == "000086dda100000000060000"
    assert keepalive[12:] == ip_address("fec0::2").packed + ip_address("fec0::3").packed
    assert len(keepalive) == 44


def test_every_address_takes_16_octets() -> None:
    """IPv4 addresses travel as ::ffff:a.b.c.d."""
    assert address_octets(ip_address("192.0.2.1")) == ip_address("::ffff:192.0.2.1").packed
    assert address_octets(ip_address("2001:db8::1")) == ip_address("2001:db8::1").packed


def test_the_rounds_of_a_path_status_change_are_those_of_the_c_program() -> None:
    """Round 1 announces 32 octets in host order, round 3 carries the two public addresses of the path."""
    message = Message(command.PATH_STATUS, 0x80, 1, 4, FROM, TO, encode_size(32))
    assert encode(message) == A2_ROUND_1
    path = encode_path(ip_address("10.1.1.3"), ip_address("10.1.1.2"))
    assert encode(replace(message, round=3, payload=path)) == A2_ROUND_3
    assert command.decode_path(decode(A2_ROUND_3).payload) == (ip_address("10.1.1.3"), ip_address("10.1.1.2"))


def test_a_round_2_of_a_live_c_server() -> None:
    """Type 1 has its random number at octet 4 and the round after it."""
    start = bytes.fromhex("a2000104a57a514b02040000")
    message = decode(start + A2_ROUND_1[8:])
    assert (message.auth_type, message.random, message.round) == (AuthType.RANDOM, bytes.fromhex("a57a514b"), 2)
    assert encode(message) == start + A2_ROUND_1[8:]


@given(
    st.sampled_from([command.PATH_STATUS, command.CREATE]),
    st.integers(0, 255),
    st.integers(1, 4),
    st.sampled_from(AuthType),
    st.binary(max_size=100),
    st.one_of(
        st.tuples(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**32 - 1).map(IPv4Address)),
        st.tuples(st.integers(2**96, 2**128 - 1).map(IPv6Address), st.integers(2**96, 2**128 - 1).map(IPv6Address)),
    ),
    st.binary(min_size=36, max_size=36),
)
def test_what_is_encoded_is_decoded(
    kind: int, value: int, number: int, auth_type: AuthType, payload: bytes, ends: tuple[Address, Address], proof: bytes
) -> None:
    """Every message comes back as it was."""
    length = command.AUTH_LENGTH[auth_type]
    proof = proof[:length].ljust(36, b"\0")
    message = Message(kind, value, number, ends[0].version, ends[0], ends[1], payload, auth_type, proof[:4], proof[4:])
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "command_short"),
        (A2_ROUND_1[:39], "command_short"),
        (b"\xa0" + A2_ROUND_1[1:], "command_unknown"),
        (b"\xa4" + A2_ROUND_1[1:], "command_unknown"),
        (b"\x45" + A2_ROUND_1[1:], "command_unknown"),
        (A2_ROUND_1[:2] + b"\x03" + A2_ROUND_1[3:], "command_auth_type"),
        (A2_ROUND_1[:2] + b"\x02" + A2_ROUND_1[3:], "command_short"),
        (A2_ROUND_1[:4] + b"\x00" + A2_ROUND_1[5:], "command_round"),
        (A2_ROUND_1[:4] + b"\x05" + A2_ROUND_1[5:], "command_round"),
        (b"\xa1" + A2_ROUND_1[1:], "command_round"),
        (A2_ROUND_1[:5] + b"\x06" + A2_ROUND_1[6:], "command_ip_version"),
        (A2_ROUND_1[:8] + b"\x20" + A2_ROUND_1[9:], "command_ip_version"),
    ],
)
def test_what_is_no_command_has_a_reason(datagram: bytes, reason: str) -> None:
    """Each way of being wrong is counted under its own name."""
    with pytest.raises(DecodeError) as caught:
        decode(datagram)
    assert caught.value.reason == reason


def test_the_length_of_the_authentication_comes_from_its_type() -> None:
    """Octet 3 may say what it likes."""
    wrong = A2_ROUND_1[:3] + b"\x24" + A2_ROUND_1[4:]
    assert decode(wrong) == decode(A2_ROUND_1)


@given(st.binary(max_size=200))
def test_any_octets_are_decoded_or_refused(datagram: bytes) -> None:
    """Nothing but DecodeError comes out of the decoders."""
    for decoder in (decode, command.decode_path, command.decode_create):
        try:
            decoder(datagram)
        except DecodeError:
            pass


def test_spoilt_commands_are_decoded_or_refused() -> None:
    """The same, for datagrams that are nearly right."""
    dice = random.Random(4754)
    for _ in range(5000):
        datagram = bytearray(A2_ROUND_3)
        for _ in range(dice.randint(1, 3)):
            datagram[dice.randrange(len(datagram))] = dice.randrange(256)
        try:
            decode(bytes(datagram[: dice.randint(30, len(datagram))]))
        except DecodeError:
            pass


def test_the_text_of_a_create_begins_with_what_the_c_server_skips() -> None:
    """The C server does not read its first 4 octets, so the fifth must still be a comment."""
    assert command.encode_create(";;;;;\n[connection]\n") == b";;;;;\n[connection]\n"
    for text in ("", "[connection]\n", ";;;;\n[connection]\n"):
        with pytest.raises(ValueError, match="5 comment characters"):
            command.encode_create(text)
    with pytest.raises(ValueError, match="too long"):
        command.encode_create(";" * (command.LARGEST_TEXT + 1))


def test_the_text_of_a_create_is_read_to_its_end_or_to_a_nul() -> None:
    """A reply of the C program may be cut within a character and ends in rubbish after a NUL."""
    assert command.decode_create(b";;;;;\nname = x\0rest") == ";;;;;\nname = x"
    assert command.decode_create(b";;;;;\nname = \xc3") == ";;;;;\nname = \N{REPLACEMENT CHARACTER}"
    for payload, reason in ((b"\x01", "create_start"), (b";" * 40_000, "create_long")):
        with pytest.raises(DecodeError) as caught:
            command.decode_create(payload)
        assert caught.value.reason == reason


def test_every_result_has_words() -> None:
    """Also one that no program we know sends."""
    assert all(command.meaning(result) for result in Result)
    assert "77" in command.meaning(77)


def test_the_examples_of_the_documentation_are_what_they_say() -> None:
    """Each datagram of docs/protocol.md is decoded and encoded to itself."""
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    examples = re.findall(r"^(.+, .+)\n([0-9a-f]{80,})$", text, re.MULTILINE)
    assert len(examples) == 6
    for what, digits in examples:
        datagram = bytes.fromhex(digits)
        if what.startswith("keepalive"):
            assert datagram == encode_keepalive(4, ip_address("10.0.0.2"), ip_address("10.0.0.3"))
        else:
            message = decode(datagram)
            assert encode(message) == datagram and f"round {message.round}" in what

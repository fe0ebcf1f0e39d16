"""Size probes: what stands behind the keepalive, and what other receivers make of it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.wire import command
from mpt.wire.command import keepalive, keepalive_tunnel
from mpt.wire.sizeprobe import SMALLEST, SizeTail, answer, decode, probe

KEEPALIVE = keepalive(4, ip_address("10.0.0.2"), ip_address("10.0.0.3"))


@pytest.mark.parametrize("size", [SMALLEST, 548, 1448, 65_000])
def test_a_probe_has_its_size_and_its_answer_names_it(size: int) -> None:
    """The size counts the four octets of GRE before the message."""
    assert len(probe(KEEPALIVE, size)) + 4 == size
    assert decode(probe(KEEPALIVE, size)) == SizeTail(False, size)
    assert decode(answer(KEEPALIVE, size)) == SizeTail(True, size)
    assert len(answer(KEEPALIVE, size)) + 4 == SMALLEST


def test_the_octets_on_the_wire() -> None:
    """The mark, the kind, a zero, the size, and zeros."""
    assert probe(KEEPALIVE, SMALLEST + 2) == KEEPALIVE + bytes.fromhex("4d505453 01 00 0036 0000")
    assert answer(KEEPALIVE, 1448) == KEEPALIVE + bytes.fromhex("4d505453 02 00 05a8")


def test_for_every_other_receiver_both_are_keepalives() -> None:
    """The name of the tunnel is found, and the datagram is decoded."""
    for message in (probe(KEEPALIVE, 1448), answer(KEEPALIVE, 1448)):
        assert keepalive_tunnel(message) == keepalive_tunnel(KEEPALIVE)
        assert command.decode(message).command == command.KEEPALIVE


def test_what_is_cut_off_does_not_count() -> None:
    """A probe that is shorter than it says, and a keepalive without a probe."""
    assert decode(probe(KEEPALIVE, 1448)[:-1]) is None
    assert decode(KEEPALIVE) is None
    assert decode(KEEPALIVE + bytes(100)) is None


@given(st.binary(max_size=200))
def test_any_octets_do_no_harm(octets: bytes) -> None:
    """They are a tail, or nothing."""
    found = decode(octets)
    assert found is None or 0 <= found.size <= 0xFFFF

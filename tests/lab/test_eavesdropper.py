"""The pure parts of the man on the line."""

from __future__ import annotations

import socket
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.lab.eavesdropper import Seen, mutated, packet, read_frame

ETHERNET = bytes(12) + b"\x08\x00"
SOURCE, DESTINATION = ("192.0.2.1", 4754), ("198.51.100.2", 40000)


@given(st.binary(max_size=200), st.integers(0, 1 << 32))
def test_a_mutation_differs(octets: bytes, seed: int) -> None:
    """Whatever the octets are."""
    assert mutated(octets, Random(seed)) != octets


@given(st.binary(max_size=1400), st.binary(max_size=40))
def test_a_forged_packet_is_read_again(payload: bytes, padding: bytes) -> None:
    """Behind a short packet a frame may have octets that belong to nobody."""
    frame = ETHERNET + packet(SOURCE, DESTINATION, payload) + padding
    assert read_frame(frame, 1.0) == Seen(SOURCE, DESTINATION, payload, 1.0)


@given(st.binary(max_size=80))
def test_any_frame_can_be_read(octets: bytes) -> None:
    """The line carries other things, too."""
    read_frame(octets, 0.0)
    read_frame(ETHERNET + b"\x45" + octets, 0.0)


@pytest.mark.parametrize("at", [0, 6, 7, 9])
def test_what_is_no_whole_udp_datagram_is_not_seen(at: int) -> None:
    """Another version, a fragment, a later one, another protocol."""
    octets = bytearray(packet(SOURCE, DESTINATION, b"hello"))
    octets[at] = {0: 0x65, 6: 0x20, 7: 1, 9: socket.IPPROTO_TCP}[at]
    assert read_frame(ETHERNET + bytes(octets), 0.0) is None

"""What is read out of packets that were seen at an interface."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.wire.sighting import Datagram, Failure, Unreachable, decode
from tests.wire.packets import icmp_packet, ip_packet, udp_packet

ENDS = [("10.1.1.2", "10.1.1.3"), ("fd01::2", "fd01::3")]


@pytest.mark.parametrize(("here", "there"), ENDS)
def test_a_datagram(here: str, there: str) -> None:
    """Where it came from, where it went, and what is in it."""
    found = decode(udp_packet(there, 40000, here, 23456, b"payload"))
    assert found == Datagram(ip_address(there), 40000, ip_address(here), b"payload")


@pytest.mark.parametrize(
    ("kind", "code", "failure"),
    [
        (3, 3, Failure.PORT),
        (3, 4, Failure.TOO_LONG),
        (3, 0, Failure.NO_WAY),
        (3, 1, Failure.NO_WAY),
        (3, 9, Failure.FORBIDDEN),
        (3, 10, Failure.FORBIDDEN),
        (3, 13, Failure.FORBIDDEN),
    ],
)
def test_an_icmp_error(kind: int, code: int, failure: Failure) -> None:
    """RFC 792 and RFC 1812: whose word it is, about which of our datagrams."""
    sent = udp_packet("10.1.1.2", 23456, "10.1.1.3", 4754, bytes(44))
    found = decode(icmp_packet("192.0.2.1", "10.1.1.2", kind, code, sent, mtu=1400))
    mtu = 1400 if failure is Failure.TOO_LONG else 0
    assert found == Unreachable(ip_address("192.0.2.1"), ip_address("10.1.1.3"), 4754, failure, mtu)


@pytest.mark.parametrize(
    ("kind", "code", "failure"),
    [(1, 4, Failure.PORT), (1, 1, Failure.FORBIDDEN), (1, 0, Failure.NO_WAY), (2, 0, Failure.TOO_LONG)],
)
def test_an_icmpv6_error(kind: int, code: int, failure: Failure) -> None:
    """RFC 4443."""
    sent = udp_packet("fd01::2", 23456, "fd01::3", 4754, bytes(44))
    found = decode(icmp_packet("fd09::1", "fd01::2", kind, code, sent, mtu=1280))
    mtu = 1280 if failure is Failure.TOO_LONG else 0
    assert found == Unreachable(ip_address("fd09::1"), ip_address("fd01::3"), 4754, failure, mtu)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(60),
        ip_packet(6, "10.1.1.3", "10.1.1.2", bytes(40)),
        ip_packet(17, "10.1.1.3", "10.1.1.2", bytes(7)),
        ip_packet(1, "10.1.1.3", "10.1.1.2", bytes(8)),  # an answer to a ping
        icmp_packet("10.1.1.3", "10.1.1.2", 3, 3, ip_packet(6, "10.1.1.2", "10.1.1.3", bytes(20))),
        icmp_packet("10.1.1.3", "10.1.1.2", 11, 0, udp_packet("10.1.1.2", 1, "10.1.1.3", 2, b"")),
    ],
)
def test_anything_else_is_nothing(packet: bytes) -> None:
    """Other protocols, other errors, and what was cut."""
    assert decode(packet) is None


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x45", b"\x60", b"\x45" + bytes(8) + b"\x01"]))
def test_whatever_the_octets_are_nothing_raises(octets: bytes, start: bytes) -> None:
    """Strangers send them."""
    decode(start + octets)

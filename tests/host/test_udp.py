"""What sockets say beside the octets: TOS, ECN, the size of joined datagrams."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time

import pytest

from mpt.host.udp import (
    ANCILLARY_ROOM,
    UDP_GRO,
    join_received,
    received_ecn,
    separated,
    stamp_received,
    stamped,
    tos_ancillary,
)

NOT_ECT, ECT_1, CE = 0, 1, 3


def test_ancillary_data() -> None:
    """An int goes in for both; what comes out of IPv4 is one octet, of IPv6 an int, of other sockets nothing."""
    four = (0xB9).to_bytes(4, sys.byteorder)
    assert tos_ancillary(("10.1.1.3", 4754), 0xB9) == [(socket.IPPROTO_IP, socket.IP_TOS, four)]
    assert tos_ancillary(("fd01::3", 4754, 0, 0), 0xB9) == [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, four)]
    assert received_ecn([(socket.IPPROTO_IP, socket.IP_TOS, b"\xbb")]) == CE
    assert received_ecn([(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, four)]) == ECT_1
    assert received_ecn([]) == NOT_ECT
    size = (socket.IPPROTO_UDP, UDP_GRO, (131).to_bytes(4, sys.byteorder))
    assert received_ecn([size]) == NOT_ECT
    assert received_ecn([size, (socket.IPPROTO_IP, socket.IP_TOS, b"\xbb")]) == CE


def test_a_socket_that_joins_nothing() -> None:
    """A kernel without UDP_GRO is no error."""
    refusing, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with refusing, other:
        with pytest.raises(OSError):  # noqa: PT011  # whatever the reason
            refusing.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        join_received(refusing, True)


class _Unable:
    """A socket of a kernel that knows no option."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))


def test_a_socket_that_stamps_nothing() -> None:
    """A kernel without SO_TIMESTAMPNS, as of an emulator or a sandbox, is no error."""
    stamp_received(_Unable())


def test_the_kernel_says_when_a_datagram_came() -> None:
    """Before all else that stands beside the octets; a clock that was set meanwhile says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        stamp_received(receiver)
        before = time.time()
        receiver.sendto(b"octets", receiver.getsockname())
        octets, ancillary, _, _ = receiver.recvmsg(100, ANCILLARY_ROOM)
        after = time.time()
    waited, rest = stamped(ancillary, after + 0.5)
    assert 0.5 <= waited <= 0.5 + after - before + 0.001
    assert separated(octets, rest) == (b"octets",) and received_ecn(rest) == NOT_ECT
    for wall in (after - 1.0, after + 10.0):
        assert stamped(ancillary, wall) == (0.0, rest)
    assert stamped(rest, after) == (0.0, rest)

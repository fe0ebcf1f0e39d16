"""UDP sockets beyond Python's `socket`: TOS octets, and datagrams joined and cut by the kernel (udp(7)).

With UDP_GRO one call brings up to 64 datagrams of one sender and one size, joined; the last may be shorter.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

UDP_SEGMENT: Final = 103  # <linux/udp.h>
UDP_GRO: Final = 104
SO_TIMESTAMPNS: Final = 35  # <asm-generic/socket.h>
SO_SNDBUFFORCE: Final = 32  # <asm-generic/socket.h>, x86-64 and arm64: beyond sysctl net.core.wmem_max
MORE_ROOM: Final = 1 << 18  # octets: more than the run that has filled a socket beyond its limit

Ancillary = tuple[int, int, bytes]
ANCILLARY_ROOM: Final = 2 * socket.CMSG_SPACE(4) + socket.CMSG_SPACE(16)  # of recvmsg(): TOS octet, size, and time
LONGEST_WAIT: Final = 1.0  # s
_TIME: Final = struct.Struct("@ll")

_ECN: Final = {
    value: number & 0x03
    for number in range(256)
    for value in (number.to_bytes(1, "big"), number.to_bytes(4, sys.byteorder))
}
_OCTETS: Final = [number.to_bytes(4, sys.byteorder) for number in range(256)]


class _Options(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


class _Limited(_Options, Protocol):
    def getsockopt(self, level: int, option: int, /) -> int: ...


class _Reader(Protocol):
    def recv(self, size: int, flags: int, /) -> bytes: ...


def tos_ancillary(address: tuple[Any, ...], tos: int) -> list[Ancillary]:
    """Return the ancillary data with which ``sendmsg`` gives a datagram to `address` the TOS octet `tos`.

    `address` has two items for IPv4 and four for IPv6 (ip(7), ipv6(7)).
    """
    if len(address) == 2:
        return [(socket.IPPROTO_IP, socket.IP_TOS, _OCTETS[tos])]
    return [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _OCTETS[tos])]


def stamped(received: Sequence[Ancillary], wall: float) -> tuple[float, Sequence[Ancillary]]:
    """Return the seconds for which a datagram has waited in its socket until `wall` (the wall clock), by the stamp of
    the kernel before all other ancillary data of ``recvmsg``, and these; 0.0 without a stamp."""
    if not received or received[0][0] != socket.SOL_SOCKET:
        return 0.0, received
    seconds, nanoseconds = _TIME.unpack(received[0][2])
    waited = wall - seconds - nanoseconds / 1e9
    return (waited if 0.0 < waited < LONGEST_WAIT else 0.0), received[1:]  # else the clock was set


def received_ecn(received: Sequence[Ancillary]) -> int:
    """Return the ECN field in the ancillary data of ``recvmsg``, where it stands last; 0 (Not-ECT) without one."""
    if not received or received[-1][0] == socket.IPPROTO_UDP:
        return 0
    return _ECN.get(received[-1][2], 0)


def separated(octets: bytes, ancillary: Sequence[Ancillary]) -> Sequence[bytes]:
    """Return the datagrams in `octets` of ``recvmsg``: one, unless `ancillary` begins with the size of joined ones."""
    if not ancillary or ancillary[0][0] != socket.IPPROTO_UDP:
        return (octets,)
    size = int.from_bytes(ancillary[0][2], sys.byteorder)
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def join_received(data_socket: _Options, wanted: bool) -> None:
    """Let the kernel join the datagrams that `data_socket` receives, or not; before Linux 5.0 it cannot."""
    try:
        data_socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, int(wanted))
    except OSError:
        pass


def stamp_received(data_socket: _Options) -> None:
    """Let the kernel stamp the datagrams that `data_socket` receives (socket(7)); an emulated one may be unable to."""
    try:
        data_socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        pass


def is_empty(data_socket: _Reader) -> bool:
    """Return whether nothing waits in `data_socket`, neither a datagram nor an error."""
    try:
        data_socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass  # an error waits there, and perhaps more
    return False


@contextmanager
def more_room(data_socket: _Limited) -> Iterator[None]:
    """Let MORE_ROOM octets more wait in `data_socket` for a while. Raises OSError."""
    limit = data_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2  # the kernel doubles it, for its headers
    limit_waiting(data_socket, limit + MORE_ROOM)
    try:
        yield
    finally:
        limit_waiting(data_socket, limit)


def limit_waiting(data_socket: _Options, octets: int) -> None:
    """Let `octets`, which the kernel doubles for its headers, wait in `data_socket`, and one message more.

    Raises OSError.
    """
    try:
        data_socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, octets)
    except PermissionError:
        data_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, octets)


def can_segment() -> bool:
    """Return whether the kernel cuts runs of datagrams; before Linux 4.18 it would send a run as one datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
        except OSError:
            return False
        return True

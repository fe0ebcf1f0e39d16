"""rtnetlink(7) as octets: requests, listings and events, where pyroute2 would take a hundred times as long.

A listing of 30,000 routes takes some 15 ms here. So an event may cost a listing, and a daemon that adds some thousand
routes at its start is ready in time. A `Message` is a place in the received octets; its values
are decoded only when they are wanted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mpt.errors import HostError

# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_addr.h>
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSGERR_ATTR_MSG: Final = 1
SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTMGRP_LINK: Final = 0x1
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV4_ROUTE: Final = 0x40
RTMGRP_IPV6_IFADDR: Final = 0x100
RTMGRP_IPV6_ROUTE: Final = 0x400
SO_ATTACH_FILTER: Final = 26  # <asm-generic/socket.h>

HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
LINK: Final = struct.Struct("=BBHiII")  # struct ifinfomsg: family, -, type, index, flags, change
ADDRESS: Final = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefixlen, flags, scope, index
ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type,
NEXT_HOP: Final = struct.Struct("=HBBi")  # flags; struct rtnexthop: len, flags, hops, index
_START: Final = struct.Struct("=IH")  # of a header: length, type
_ATTRIBUTE: Final = struct.Struct("=HH")
_INT: Final = struct.Struct("=i")
_KIND_OF_ATTRIBUTE: Final = 0x3FFF  # the other bits are two flags

# Each daemon takes one of these as the rtm_protocol of its routes (Netlink.claim_routes). No other program's list has
# them (/etc/iproute2/rt_protos, FRRouting, BIRD, systemd).
ROUTE_PROTOCOLS: Final = range(150, 158)

NO_CONDITION: Final[Mapping[int, int]] = {}

_BUFFER: Final = 1 << 16
_DUMP_ATTEMPTS: Final = 10  # the kernel marks a listing that changed under way, and we ask again
_EVENTS_AT_ONCE: Final = 1000
_PATIENCE: Final = 5.0  # s; the kernel answers at once


class Message(NamedTuple):
    """One netlink message: its type, and where its body starts and ends in `octets`."""

    kind: int
    octets: bytes
    start: int
    end: int

    def attributes(self, head: int) -> dict[int, bytes]:
        """Return the attributes behind a body of `head` octets."""
        return attributes(self.octets, self.start + head, self.end)


class RequestSocket:
    """A socket for requests to the kernel, one at a time, of the network namespace of the thread that makes it.

    Raises OSError if the kernel has none. Its methods raise OSError, too, if the kernel refuses, or is silent for 5 s.
    """

    def __init__(self, source: socket.socket | None = None) -> None:
        self._socket = source or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_PATIENCE)
        self._sequence = 0
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            with suppress(OSError):  # an older kernel: it says less, and lists more than was asked for
                self._socket.setsockopt(SOL_NETLINK, option, 1)

    def change(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Make a change. Raises OSError with the kernel's number, and its words if it has any."""
        self._send(kind, body, flags | NLM_F_ACK)
        octets, _ = self._receive()
        for answer, start, end in _places(octets):
            if answer == NLMSG_ERROR:
                _raise_error(octets, start, end)

    def listing(self, kind: int, body: bytes, where: Mapping[int, int] = NO_CONDITION) -> list[Message]:
        """Return the messages that `kind` and `body` ask for, if they fulfil `where`.

        `where` maps a place in the body to the value of its octet. For speed, the condition that most messages fail
        stands first. Raises OSError if the kernel refuses, HostError if the list changes under way every time.
        """
        for _ in range(_DUMP_ATTEMPTS):
            found, is_whole = self._list(kind, body, where)
            if is_whole:
                return found
        raise HostError("the state of the network changes faster than the kernel lists it")

    def close(self) -> None:
        """Give up the socket."""
        self._socket.close()

    def _list(self, kind: int, body: bytes, where: Mapping[int, int]) -> tuple[list[Message], bool]:
        """Return the list, and whether nothing changed under way."""
        self._send(kind, body, NLM_F_DUMP)
        conditions = [(HEADER.size + place, value) for place, value in where.items()]
        found: list[Message] = []
        is_whole = True
        while True:
            octets, flags = self._receive()
            is_whole = is_whole and not flags & NLM_F_DUMP_INTR
            message, end = 0, len(octets)
            while message < end:  # without a function call for each of thousands of routes
                length, answer = _START.unpack_from(octets, message)
                if answer <= NLMSG_DONE:
                    if answer == NLMSG_DONE:
                        return found, is_whole
                    if answer == NLMSG_ERROR:
                        _raise_error(octets, message + HEADER.size, message + length)
                else:
                    for place, value in conditions:
                        if octets[message + place] != value:
                            break
                    else:
                        found.append(Message(answer, octets, message + HEADER.size, message + length))
                message += (max(length, HEADER.size) + 3) & ~3

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        header = HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.sendto(header + body, (0, 0))

    def _receive(self) -> tuple[bytes, int]:
        """Return the next part of the answer and its flags; the rest of an earlier answer is passed over."""
        while True:
            octets = self._socket.recv(_BUFFER)
            _, _, flags, sequence, _ = HEADER.unpack_from(octets)
            if sequence == self._sequence:
                return octets, flags


@dataclass(slots=True)
class Changes:
    """The contents of some events.

    `interfaces`: the indexes of changed interfaces. `routes`: a default route or a route of mpt has changed. `lost`:
    the socket was full, so anything may have changed.
    """

    interfaces: set[int] = field(default_factory=set)
    routes: bool = False
    lost: bool = False

    def __bool__(self) -> bool:
        return bool(self.interfaces or self.routes or self.lost)

    def __or__(self, other: Changes) -> Changes:
        return Changes(self.interfaces | other.interfaces, self.routes or other.routes, self.lost or other.lost)


class EventSocket:
    """A non-blocking socket that becomes readable when a link, an address, a default route or a route of mpt changes.

    `messages` counts the events. The kernel does not send events of other routes, of which a host may have thousands.
    """

    def __init__(self, source: socket.socket) -> None:
        self._socket = source
        self.messages = 0

    @classmethod
    def open(cls) -> EventSocket:
        """Return an open socket, in the network namespace of this thread. Raises OSError."""
        source = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        with suppress(OSError):  # without the filter, other routes are read and passed over
            _attach_filter(source)
        addresses, routes = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE
        source.bind((0, RTMGRP_LINK | addresses | routes))
        return cls(source)

    def fileno(self) -> int:
        """Return the descriptor, for a reactor."""
        return self._socket.fileno()

    def read(self) -> Changes:
        """Return the changes since the last call; after very many events, the first of them. Raises HostError."""
        changes = Changes()
        for _ in range(_EVENTS_AT_ONCE):
            try:
                octets = self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise HostError(f"cannot watch the interfaces: {error.strerror}") from error
                changes.lost = True
                continue
            for kind, start, _ in _places(octets):
                self.messages += 1
                if kind in (RTM_NEWROUTE, RTM_DELROUTE):
                    changes.routes |= _is_interesting(kind, octets, start)
                elif kind in (RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR):
                    changes.interfaces.add(_INT.unpack_from(octets, start + 4)[0])
        return changes

    def close(self) -> None:
        """Give up the socket."""
        self._socket.close()


def event(kind: int, body: bytes) -> bytes:
    """Return the octets of an event, as the kernel would send it."""
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


def attribute(kind: int, value: bytes | int) -> bytes:
    """Return one attribute (struct rtattr), padded; an int is 32 bits wide."""
    octets = value if isinstance(value, bytes) else struct.pack("=I", value)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(octets), kind) + octets + bytes(-len(octets) % 4)


def attributes(octets: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return the values of the attributes between `start` and `end`, by type."""
    found = {}
    while start + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(octets, start)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _KIND_OF_ATTRIBUTE] = octets[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
    return found


def _places(octets: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the messages in `octets`: type, start and end of the body."""
    place, end = 0, len(octets)
    while place + HEADER.size <= end:
        length, kind = _START.unpack_from(octets, place)
        if length < HEADER.size:
            return
        yield kind, place + HEADER.size, place + length
        place += (length + 3) & ~3


def _raise_error(octets: bytes, start: int, end: int) -> None:
    """Raise the OSError that an NLMSG_ERROR stands for; number 0 is an acknowledgement, and raises nothing."""
    number = -_INT.unpack_from(octets, start)[0]
    if number == 0:
        return
    said = attributes(octets, start + _INT.size + HEADER.size, end).get(NLMSGERR_ATTR_MSG, b"")
    raise OSError(number, said.rstrip(b"\0").decode("utf-8", "replace") or os.strerror(number))


def _is_interesting(kind: int, octets: bytes, start: int) -> bool:
    """Return whether an event is about a default route, or about the end of a route of mpt."""
    _, destination_length, _, _, _, protocol, *_ = ROUTE.unpack_from(octets, start)
    return destination_length == 0 or (kind == RTM_DELROUTE and protocol in ROUTE_PROTOCOLS)


def _attach_filter(events: socket.socket) -> None:
    """Let the kernel hold back the events of routes for which `_is_interesting` is False (socket(7), bpf(4))."""
    load_half, load_octet, if_equal, if_at_least, give = 0x28, 0x30, 0x15, 0x35, 0x06
    kind, length, protocol = 4, HEADER.size + 1, HEADER.size + 5
    # each: the operation, how many to skip if it holds and if not, its operand; a message is given whole or not at all
    program = [
        (load_half, 0, 0, kind),
        (if_equal, 4, 0, socket.htons(RTM_NEWROUTE)),
        (if_equal, 0, 6, socket.htons(RTM_DELROUTE)),
        (load_octet, 0, 0, protocol),
        (if_at_least, 1, 0, ROUTE_PROTOCOLS.stop),
        (if_at_least, 3, 0, ROUTE_PROTOCOLS.start),
        (load_octet, 0, 0, length),
        (if_equal, 1, 0, 0),
        (give, 0, 0, 0),
        (give, 0, 0, 0xFFFFFFFF),
    ]
    octets = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(octets, len(octets))
    events.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HL", len(program), ctypes.addressof(code)))

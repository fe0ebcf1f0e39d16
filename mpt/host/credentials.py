"""Who is at the other end of a local channel: the kernel's word, not the client's.

A unix socket tells its peer's credentials itself (unix(7), SO_PEERCRED). A UDP datagram from a loopback address does
not. Its socket is looked up afterwards: by NETLINK_SOCK_DIAG (sock_diag(7)), or, on a kernel without udp_diag, in
/proc/net/udp and /proc/net/udp6. The look-up finds who has the address and port *now*. Another user may have sent from
there and closed the socket, so an address alone proves nothing. A socket that is *connected* to
the port that received the datagram shows that its owner talks to that port. A sender without a socket, and sockets of
several users, count as nobody.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

from mpt.model import Address

ROOT: Final = 0

# <asm-generic/socket.h> and <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h>; x86-64 and arm64
SO_PEERGROUPS: Final = 59
NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST, NLM_F_DUMP = 0x001, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
ANY_STATE: Final = 0xFFFFFFFF
INET_DIAG_SKV6ONLY: Final = 11  # attribute: one octet; the kernel tells it of sockets that are not connected

_PEER = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_REQUEST_HEAD = struct.Struct("=BBBxI")  # struct inet_diag_req_v2: family, protocol, extensions, states
_SOCKET_ID = struct.Struct("!HH16s16s12x")  # struct inet_diag_sockid: ports, addresses, then interface and cookie
_MESSAGE_HEAD = struct.Struct("=BBBB")  # struct inet_diag_msg: family, state, timer, retransmits; an id follows
_MESSAGE_TAIL = struct.Struct("=IIIII")  # and after it: expires, receive queue, send queue, uid, inode
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_MESSAGE_LENGTH = _MESSAGE_HEAD.size + _SOCKET_ID.size + _MESSAGE_TAIL.size
_DEADLINE = 1.0  # seconds; the kernel answers a dump at once
_MOST_PEER_GROUPS = 1024  # octets, for 256 groups: Python's getsockopt takes no more


class Caller(NamedTuple):
    """The process at the other end of a unix socket when it connected; `groups` are its supplementary ones."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def caller_of(unix_socket: socket.socket) -> Caller:
    """Return who connected to `unix_socket`; raises OSError unless it is a connected unix socket."""
    pid, uid, gid = _PEER.unpack(unix_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    try:
        groups = unix_socket.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MOST_PEER_GROUPS)
    except OSError:  # more groups, or a kernel before 4.13
        return Caller(pid, uid, gid, groups_of(uid))
    return Caller(pid, uid, gid, frozenset(group for (group,) in struct.iter_unpack("=I", groups)))


def groups_of(uid: int) -> frozenset[int]:
    """Return all groups of the user `uid` in the system's user database; none for a user it does not know."""
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OSError):
        return frozenset()


def caller_may_change(caller: Caller, group: int) -> bool:
    """Return whether `caller` may change things: root and `group`, the group of the control socket, may."""
    return caller.uid == ROOT or caller.gid == group or group in caller.groups


def user_may_change(uid: int | None, group: int) -> bool:
    """Return whether the user `uid` may change things; None, an unknown user, may not."""
    return uid is not None and (uid == ROOT or group in groups_of(uid))


# ---- UDP ------------------------------------------------------------------------------------------------------------


class UdpSender(NamedTuple):
    """The user who sent a datagram. `is_connected`: the sender's socket is connected to the port that received it."""

    uid: int
    is_connected: bool


class _Socket(NamedTuple):
    """A UDP socket of this network namespace; `peer` is unspecified and `peer_port` 0 while it is not connected."""

    address: Address
    port: int
    peer: Address
    peer_port: int
    uid: int
    v6only: bool = False
    inode: int = 0  # 0: not known
    drops: int = 0  # datagrams that found no room


def udp_sender(address: Address, port: int, receiver_port: int) -> UdpSender | None:
    """Return who has sent a datagram from `address` and `port` of this host to `receiver_port` at a loopback address.

    ::ffff:127.0.0.1 is the same as 127.0.0.1. None if no socket is there (any more), or if sockets of several users
    could have sent it.
    """
    address = _plain(address)
    families = (socket.AF_INET, socket.AF_INET6) if address.version == 4 else (socket.AF_INET6,)
    try:
        sockets = [each for family in families for each in _diagnosed_sockets(family, port)]
    except OSError:
        sockets = [each for family in families for each in listed_sockets(family)]
    senders = [each for each in sockets if each.port == port and _could_send_from(each, address)]
    if len({each.uid for each in senders}) != 1:
        return None
    connected = all(each.peer_port == receiver_port and _plain(each.peer).is_loopback for each in senders)
    return UdpSender(senders[0].uid, connected)


def _could_send_from(found: _Socket, address: Address) -> bool:
    """Return whether a socket can send from `address`. A socket at :: sends IPv4, too, unless it is IPv6 only."""
    if found.v6only and address.version == 4:
        return False
    return _plain(found.address) == address or found.address.is_unspecified


def _plain(address: Address) -> Address:
    """Return the IPv4 address in an IPv6 one, or the address itself."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _diagnosed_sockets(family: int, port: int) -> Iterator[_Socket]:
    """Yield the UDP sockets of `family` on `port`, from sock_diag; raises OSError if the kernel has none for UDP."""
    request = _REQUEST_HEAD.pack(family, socket.IPPROTO_UDP, 0, ANY_STATE)
    request += _SOCKET_ID.pack(port, 0, bytes(16), bytes(16))
    header = _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_DEADLINE)
        netlink.sendto(header + request, (0, 0))
        while True:
            for kind, payload in _messages(netlink.recv(65536)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", payload)[0], "sock_diag")
                if kind == SOCK_DIAG_BY_FAMILY and len(payload) >= _MESSAGE_LENGTH:
                    yield _diagnosed(family, payload)


def _diagnosed(family: int, message: bytes) -> _Socket:
    """Return the socket that a struct inet_diag_msg and its attributes describe."""
    port, peer_port, *addresses = _SOCKET_ID.unpack_from(message, _MESSAGE_HEAD.size)
    *_, uid, _ = _MESSAGE_TAIL.unpack_from(message, _MESSAGE_HEAD.size + _SOCKET_ID.size)
    address, peer = (IPv4Address(each[:4]) if family == socket.AF_INET else IPv6Address(each) for each in addresses)
    v6only = any(kind == INET_DIAG_SKV6ONLY and value[:1] == b"\1" for kind, value in _attributes(message))
    return _Socket(address, port, peer, peer_port, uid, v6only)


def _attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute behind a struct inet_diag_msg."""
    octets = message[_MESSAGE_LENGTH:]
    while len(octets) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(octets)
        if length < _ATTRIBUTE.size:
            return
        yield kind, octets[_ATTRIBUTE.size : length]
        octets = octets[(length + 3) & ~3 :]


def _messages(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each netlink message in `octets`."""
    while len(octets) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(octets)
        if length < _HEADER.size:
            return
        yield kind, octets[_HEADER.size : length]
        octets = octets[(length + 3) & ~3 :]


def listed_sockets(family: int, directory: Path = Path("/proc/net")) -> Iterator[_Socket]:
    """Yield all UDP sockets of `family`, from /proc (proc(5)); none where there is no such file."""
    try:
        lines = (directory / ("udp" if family == socket.AF_INET else "udp6")).read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        # sl, local and remote address, status, queues, timer, retransmits, uid, timeout, inode, ...; not IPV6_V6ONLY
        _, own, peer, _, _, _, _, uid, _, inode, *rest = line.split()
        drops = int(rest[-1]) if rest else 0
        yield _Socket(*_proc_end(own), *_proc_end(peer), int(uid), inode=int(inode), drops=drops)


def _proc_end(text: str) -> tuple[Address, int]:
    """Return address and port. /proc writes an address as hexadecimal words of four octets, in the machine's order."""
    digits, _, port = text.partition(":")
    words = [int(digits[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(digits), 8)]
    packed = b"".join(words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed), int(port, 16)

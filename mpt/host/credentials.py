"""Who is at the other end of a local channel: the kernel's word, not the client's.

A unix socket tells its peer's credentials itself (unix(7), SO_PEERCRED). A UDP datagram from a loopback address does
not; there the owner of the socket that it came from is looked up: by NETLINK_SOCK_DIAG (sock_diag(7)), or, on a kernel
without udp_diag, in /proc/net/udp and /proc/net/udp6. A sender that has closed its socket already has no owner, and
several owners of one address are as good as none: both are refused. Between the datagram and the look-up a port may
change hands, so the unix socket is the surer way.
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

_PEER = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_REQUEST_HEAD = struct.Struct("=BBBxI")  # struct inet_diag_req_v2: family, protocol, extensions, states
_SOCKET_ID = struct.Struct("!HH16s16s12x")  # struct inet_diag_sockid: ports, addresses, then interface and cookie
_MESSAGE_HEAD = struct.Struct("=BBBB")  # struct inet_diag_msg: family, state, timer, retransmits; an id follows
_MESSAGE_TAIL = struct.Struct("=IIIII")  # and after it: expires, receive queue, send queue, uid, inode
_MESSAGE_LENGTH = _MESSAGE_HEAD.size + _SOCKET_ID.size + _MESSAGE_TAIL.size
_DEADLINE = 1.0  # seconds; the kernel answers a dump at once
_MOST_PEER_GROUPS = 1024  # octets: what Python's getsockopt takes at most, 256 groups


class Peer(NamedTuple):
    """The process at the other end of a unix socket when it connected; `groups` are its supplementary ones."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def peer_of(unix_socket: socket.socket) -> Peer:
    """Who connected to `unix_socket`. Raises OSError on what is no connected unix socket."""
    pid, uid, gid = _PEER.unpack(unix_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    try:
        groups = unix_socket.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MOST_PEER_GROUPS)
    except OSError:  # more groups than that, or a kernel before 4.13
        return Peer(pid, uid, gid, groups_of(uid))
    return Peer(pid, uid, gid, frozenset(group for (group,) in struct.iter_unpack("=I", groups)))


def groups_of(uid: int) -> frozenset[int]:
    """All groups of the user `uid`, as the system's user database has them; none for a user it does not know."""
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OSError):
        return frozenset()


def peer_may_change(peer: Peer, group: int) -> bool:
    """Whether `peer` may change things: root and `group`, the group of the control socket, may."""
    return peer.uid == ROOT or peer.gid == group or group in peer.groups


def user_may_change(uid: int | None, group: int) -> bool:
    """The same for the owner of a UDP socket; None, nobody in particular, may not."""
    return uid is not None and (uid == ROOT or group in groups_of(uid))


# ---- UDP ------------------------------------------------------------------------------------------------------------


class _Socket(NamedTuple):
    """A UDP socket of this network namespace, as far as it matters here."""

    address: Address  # it is bound to; unspecified: to any
    port: int
    uid: int


def udp_sender_uid(address: Address, port: int) -> int | None:
    """The user who owns the UDP socket that a datagram from `address` and `port`, of this host, has come from.

    ::ffff:127.0.0.1 is the same as 127.0.0.1. None if there is no such socket (any more), or if sockets of several
    users could have sent it.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    families = (socket.AF_INET, socket.AF_INET6) if address.version == 4 else (socket.AF_INET6,)
    try:
        sockets = [each for family in families for each in _diagnosed_sockets(family, port)]
    except OSError:
        sockets = [each for family in families for each in _listed_sockets(family)]
    owners = {each.uid for each in sockets if each.port == port and _could_send_from(each.address, address)}
    return owners.pop() if len(owners) == 1 else None


def _could_send_from(bound: Address, address: Address) -> bool:
    """Whether a socket `bound` to that address sends from `address`; one bound to :: sends IPv4, too."""
    if isinstance(bound, IPv6Address) and bound.ipv4_mapped is not None:
        bound = bound.ipv4_mapped
    return bound == address or bound.is_unspecified


def _diagnosed_sockets(family: int, port: int) -> Iterator[_Socket]:
    """The UDP sockets of `family` on `port`, from the kernel's sock_diag; raises OSError if it has none for UDP."""
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
                    source_port, _, source, _ = _SOCKET_ID.unpack_from(payload, _MESSAGE_HEAD.size)
                    *_, uid, _ = _MESSAGE_TAIL.unpack_from(payload, _MESSAGE_HEAD.size + _SOCKET_ID.size)
                    bound = IPv4Address(source[:4]) if family == socket.AF_INET else IPv6Address(source)
                    yield _Socket(bound, source_port, uid)


def _messages(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink messages in `octets`: type and payload of each."""
    while len(octets) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(octets)
        if length < _HEADER.size:
            return
        yield kind, octets[_HEADER.size : length]
        octets = octets[(length + 3) & ~3 :]


def _listed_sockets(family: int, directory: Path = Path("/proc/net")) -> Iterator[_Socket]:
    """All UDP sockets of `family`, from /proc (proc(5)); none where there is no such file."""
    try:
        lines = (directory / ("udp" if family == socket.AF_INET else "udp6")).read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        # sl, local address, remote address, status, queues, timer, retransmits, uid, ...
        _, local, _, _, _, _, _, uid, *_ = line.split()
        address, _, port = local.partition(":")
        yield _Socket(_proc_address(address), int(port, 16), int(uid))


def _proc_address(digits: str) -> Address:
    """The address that /proc writes as hexadecimal words of four octets, each in the machine's own order."""
    words = [int(digits[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(digits), 8)]
    packed = b"".join(words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)

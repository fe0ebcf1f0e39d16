"""Tries how this host reaches a peer: whether a UDP port answers that nobody listens, and how long packets get through.

A port is tried with an empty datagram, which every program drops. No answer means little: a program that listens and a
firewall that drops are both silent.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Final

from mpt.facts import Target
from mpt.model import Address

PATIENCE: Final = 0.7  # s; the round trip of a satellite
LARGEST: Final = 9000  # octets; longer packets are not tried
SMALLEST: Final = {4: 576, 6: 1280}  # RFC 791, RFC 8200

_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE, _IP_MTU = 10, 3, 14  # linux/in.h
_IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE, _IPV6_MTU = 23, 3, 24  # linux/in6.h
_ECHO: Final = {4: (8, 0), 6: (128, 129)}  # types of ICMP request and answer (RFC 792, RFC 4443)
_HEADERS: Final = {4: 20 + 8, 6: 40 + 8}  # octets of IP and ICMP

_MEANINGS: Final = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.EHOSTUNREACH: "no way leads there",
    errno.ENETUNREACH: "no route leads there",
    errno.EACCES: "a firewall refuses it",
    errno.EPERM: "the firewall of this host refuses it",
    errno.EADDRNOTAVAIL: "the local address is not there",
    errno.ENODEV: "there is no such interface",
}


def try_ports(targets: Iterable[Target], patience: float = PATIENCE) -> dict[tuple[Address, int], str]:
    """Return for each peer and port what is wrong, "" for nothing that can be seen; `patience` seconds for all."""
    outcomes: dict[tuple[Address, int], str] = {}
    waiting: dict[int, tuple[Target, socket.socket]] = {}
    with ExitStack() as opened:
        poll = select.poll()
        for target in dict.fromkeys(targets):
            outcomes.setdefault((target.peer, target.port), "")
            try:
                sender = opened.enter_context(_connected(target))
                sender.send(b"")
            except OSError as error:
                outcomes[target.peer, target.port] = _meaning(error)
                continue
            waiting[sender.fileno()] = target, sender
            poll.register(sender, select.POLLIN | select.POLLERR)
        deadline = time.monotonic() + patience
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _event in poll.poll(1000 * left):
                poll.unregister(descriptor)
                target, sender = waiting.pop(descriptor)
                if number := sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    outcomes[target.peer, target.port] = _meaning(OSError(number, os.strerror(number)))
    return outcomes


def _connected(target: Target) -> socket.socket:
    """Return a socket that sends to the target as the path would, from another port. Raises OSError."""
    found = socket.socket(socket.AF_INET if target.peer.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        found.setblocking(False)
        _tie(found, target)
        found.connect((str(target.peer), target.port))
    except OSError:
        found.close()
        raise
    return found


def _tie(found: socket.socket, target: Target) -> None:
    if target.interface:
        with suppress(PermissionError):  # an older kernel wants CAP_NET_RAW for it
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, target.interface.encode() + b"\0")
    if target.local is not None:
        found.bind((str(target.local), 0))


def _meaning(error: OSError) -> str:
    return _MEANINGS.get(error.errno or 0, error.strerror or str(error))


# ---- how long packets get through -----------------------------------------------------------------------------------


def path_mtu(target: Target, mtu: int, patience: float = PATIENCE) -> int | None:
    """Return the longest packet, in octets, that gets to the peer and whose answer comes back; `mtu` is the
    interface's. None: the peer answers no ping, or we have no right to ask."""
    try:
        with _echo_socket(target) as asked:
            largest, smallest = min(mtu, LARGEST), SMALLEST[target.peer.version]
            began = time.monotonic()
            if not _passes(asked, target, smallest, patience):
                return None
            patience = min(patience, 0.1 + 3 * (time.monotonic() - began))
            good, bad = smallest, largest + 1
            while good < bad - 1:
                size = largest if bad == largest + 1 else (good + bad) // 2
                if _passes(asked, target, size, patience):
                    good = size
                else:
                    known = _known_mtu(asked, target.peer.version)
                    bad = min(size, known + 1) if good <= known else size
                    if bad == known + 1 and _passes(asked, target, known, patience):
                        return known
            return good
    except OSError:
        return None


def _echo_socket(target: Target) -> socket.socket:
    version = target.peer.version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    found = socket.socket(family, socket.SOCK_RAW, protocol)
    try:
        if version == 4:
            found.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        else:
            found.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE)
        found.setblocking(False)
        _tie(found, target)
        found.connect((str(target.peer), 0))
    except OSError:
        found.close()
        raise
    return found


def _passes(asked: socket.socket, target: Target, size: int, patience: float) -> bool:
    """Return whether an echo request of `size` octets, with its IP header, comes back as its answer."""
    version = target.peer.version
    request, answer = _ECHO[version]
    number = size & 0xFFFF
    body = bytes(size - _HEADERS[version])
    identity = os.getpid() & 0xFFFF
    message = struct.pack("!BBHHH", request, 0, 0, identity, number) + body
    if version == 4:  # over IPv6 the kernel adds the checksum
        message = struct.pack("!BBHHH", request, 0, _checksum(message), identity, number) + body
    try:
        asked.send(message)
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            return False
        raise
    deadline = time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([asked], [], [], left)[0]:
            return False
        try:
            found = asked.recv(LARGEST + 64)
        except OSError:  # an ICMP error about this one
            return False
        start = 4 * (found[0] & 0xF) if version == 4 and found else 0
        if len(found) >= start + 8:
            kind, _code, _sum, got, sequence = struct.unpack_from("!BBHHH", found, start)
            if (kind, got, sequence) == (answer, identity, number):
                return True
    return False


def _known_mtu(asked: socket.socket, version: int) -> int:
    """Return the MTU of the way to the peer as the kernel knows it now."""
    level, option = (socket.IPPROTO_IP, _IP_MTU) if version == 4 else (socket.IPPROTO_IPV6, _IPV6_MTU)
    try:
        known: int = asked.getsockopt(level, option)
    except OSError:
        return LARGEST
    return known


def _checksum(octets: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets[: len(octets) & ~1]))
    total += octets[-1] << 8 if len(octets) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

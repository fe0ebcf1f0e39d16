"""Addresses between Python and C: struct mpt_address of _api.h, struct sockaddr_in and sockaddr_in6 of Linux."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mpt.model import Address

NOBODY: Final = {"version": 0}  # a struct mpt_address that is none


def address_fields(address: Address) -> dict[str, Any]:
    """Return the fields of the struct mpt_address of `address`."""
    return {"version": address.version, "octets": address.packed.ljust(16, b"\0")}


def _octets(host: str) -> tuple[int, bytes, int]:
    """Return the family, octets and zone index of a numeric host such as fe80::1%eth0."""
    plain, _, zone = host.partition("%")
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    index = 0 if not zone else int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return family, socket.inet_pton(family, plain), index


def host_fields(host: str) -> dict[str, Any]:
    """Return the same for a numeric host."""
    family, octets, _ = _octets(host)  # a socket with link-local peers is bound to their zone
    return {"version": 4 if family == socket.AF_INET else 6, "octets": octets.ljust(16, b"\0")}


def sockaddr(remote: tuple[Any, ...]) -> bytes:
    """Return the struct sockaddr_in or sockaddr_in6 of an address for ``sendto``."""
    host, port, *rest = remote
    family, octets, zone = _octets(host)
    head = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET:
        return head + octets + bytes(8)
    flow, scope = (*rest, 0, 0)[:2]
    return head + struct.pack("!I", flow) + octets + struct.pack("=I", scope or zone)


def from_sockaddr(name: bytes) -> tuple[Any, ...]:
    """Return the address of a struct sockaddr as ``recvfrom`` gives it; () if it has none."""
    family, port = struct.unpack_from("=H", name)[0], struct.unpack_from("!H", name, 2)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(family, name[4:8]), port
    if family != socket.AF_INET6:
        return ()
    flow, scope = struct.unpack_from("!I", name, 4)[0], struct.unpack_from("=I", name, 24)[0]
    return socket.inet_ntop(family, name[8:24]), port, flow, scope


def name_for(descriptor: int, remote: tuple[Any, ...]) -> bytes:
    """Return the struct sockaddr of `remote`; nothing for a connected socket without addresses."""
    with sharing(descriptor) as shared:
        return sockaddr(remote) if shared.family in (socket.AF_INET, socket.AF_INET6) else b""


@contextmanager
def sharing(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for somebody else's descriptor."""
    shared = socket.socket(fileno=descriptor)
    try:
        yield shared
    finally:
        shared.detach()

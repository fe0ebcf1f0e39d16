"""The interfaces of this host, as far as a new configuration needs them: which lead somewhere, and their addresses.

By ioctl and /proc, in the network namespace of the caller: pyroute2 alone would take a third of a second.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

from mpt.model import InterfaceAddress

PROC: Final = Path("/proc/net")

_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFNETMASK, _SIOCETHTOOL = 0x8913, 0x8915, 0x891B, 0x8946  # linux/sockios.h
_ETHTOOL_GDRVINFO = 0x3  # linux/ethtool.h
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8  # linux/if.h
_RTF_UP = 0x1  # linux/route.h
_GLOBAL = "00"  # scope of an address in if_inet6
_NO_LINES = {"tun", "bridge", "wireguard", "dummy"}  # drivers of interfaces that are no way to the Internet


@dataclass(frozen=True, slots=True)
class Line:
    """An interface that is up and may carry a path; `is_default`: a default route leads over it."""

    name: str
    addresses: tuple[InterfaceAddress, ...]
    is_default: bool


def lines() -> list[Line]:
    """Return the interfaces that are up and may carry a path, in the kernel's order."""
    default = default_interfaces(_text(PROC / "route"), _text(PROC / "ipv6_route"))
    sixth = ipv6_addresses(_text(PROC / "if_inet6"))
    found: list[Line] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _index, name in socket.if_nameindex():
            (flags,) = struct.unpack_from("H", _ask(asked, _SIOCGIFFLAGS, name), 16)
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK and _driver(asked, name) not in _NO_LINES:
                found.append(Line(name, (*_ipv4(asked, name), *sixth.get(name, ())), name in default))
    return found


def default_interfaces(route: str, ipv6_route: str) -> set[str]:
    """Return the interfaces of the default routes in the texts of /proc/net/route and /proc/net/ipv6_route."""
    rows = [line.split() for line in route.splitlines()[1:]]
    found = {row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000" and int(row[3], 16) & _RTF_UP}
    rows = [line.split() for line in ipv6_route.splitlines()]
    default = {row[9] for row in rows if len(row) > 9 and row[0] == "0" * 32 and row[1] == "00"}
    return (found | default) - {"lo"}


def ipv6_addresses(if_inet6: str) -> dict[str, list[IPv6Interface]]:
    """Return the global IPv6 addresses in the text of /proc/net/if_inet6, by interface."""
    found: dict[str, list[IPv6Interface]] = {}
    for address, _index, length, scope, _flags, name in (line.split() for line in if_inet6.splitlines()):
        if scope == _GLOBAL:
            found.setdefault(name, []).append(IPv6Interface((bytes.fromhex(address), int(length, 16))))
    return found


def chosen(wanted: str | None, everything: bool, found: Iterable[Line]) -> list[Line]:
    """Return the lines for the paths: those `wanted`, separated by commas, `everything`, or those with a default route.

    If nothing is said and there is one line only, it is that one. Raises ValueError, whose text says what there is.
    """
    by_name = {line.name: line for line in found}
    there = f"there are {', '.join(sorted(by_name))}" if by_name else "there is none that is up"
    if wanted is not None:
        names = list(dict.fromkeys(filter(None, wanted.split(","))))
        if missing := [name for name in names if name not in by_name]:
            raise ValueError(f"--paths {missing[0]}: there is no such interface that is up; {there}")
        if not names:
            raise ValueError(f"--paths needs the names of interfaces, with commas between; {there}")
        return [by_name[name] for name in names]
    usual = [line for line in by_name.values() if line.is_default or everything or len(by_name) == 1]
    if not usual:
        raise ValueError(f"no default route says which interface leads to the peer: name it with --paths; {there}")
    return usual


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # without IPv6 in the kernel
        return ""


def _ask(asked: socket.socket, request: int, name: str) -> bytes:
    """Return what the kernel says about an interface, nothing if it has gone or has none of it."""
    try:
        return fcntl.ioctl(asked, request, struct.pack("16s24x", name.encode()))
    except OSError:
        return bytes(40)


def _ipv4(asked: socket.socket, name: str) -> list[IPv4Interface]:
    address, mask = (_ask(asked, request, name)[20:24] for request in (_SIOCGIFADDR, _SIOCGIFNETMASK))
    return [IPv4Interface((address, int.from_bytes(mask, "big").bit_count()))] if any(address) else []


def _driver(asked: socket.socket, name: str) -> str:
    """Return the name of the driver, "" if it does not say."""
    answer = array("B", struct.pack("I192x", _ETHTOOL_GDRVINFO))  # struct ethtool_drvinfo, which the kernel fills
    try:
        fcntl.ioctl(asked, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), answer.buffer_info()[0]))
    except OSError:
        return ""
    return answer[4:36].tobytes().split(b"\0")[0].decode("ascii", "replace")

"""Gathers what is known about this host (`mpt.facts`): interfaces, routes, sockets, the kernel and its settings."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from mpt.errors import HostError
from mpt.facts import HostFacts, UdpSocket
from mpt.host.credentials import listed_sockets
from mpt.host.netlink import Netlink
from mpt.model import Route

TUN_DEVICE: Final = Path("/dev/net/tun")
PROC: Final = Path("/proc")
SPEEDS: Final = Path("/sys/class/net")
SYSCTLS: Final = (
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_congestion_control",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.all.forwarding",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
)
SYSCTLS_OF_AN_INTERFACE: Final = ("net.ipv4.conf.{}.rp_filter", "net.ipv6.conf.{}.disable_ipv6")


def survey(daemon: int = 0, has_native: bool = True, proc: Path = PROC) -> HostFacts | None:
    """Return what is known about this host; None if the kernel hides its interfaces. `daemon` is the process that
    answers here; `has_native` says whether the native data path was built."""
    netlink = Netlink()
    try:
        interfaces = netlink.snapshot()
        routes = dict(_default_routes(netlink, interfaces))
    except (HostError, OSError):
        return None
    finally:
        netlink.close()
    return HostFacts(
        interfaces=interfaces,
        default_routes=routes,
        speeds={name: speed for name in interfaces if (speed := _speed(name))},
        udp_sockets=udp_sockets(proc),
        sysctls=sysctls(interfaces, proc / "sys"),
        kernel=kernel_version(os.uname().release),
        tun_device=tun_fault(),
        is_root=os.geteuid() == 0,
        has_native=has_native,
        daemon=daemon,
    )


def _default_routes(netlink: Netlink, interfaces: Iterable[str]) -> Iterator[tuple[tuple[str, int], Route]]:
    for name in interfaces:
        for version in (4, 6):
            if name != "lo" and (route := netlink.default_route(name, version)) is not None:
                yield (name, version), route


def _speed(interface: str) -> int:
    """Return what the driver says, in Mbit/s; 0 if it says nothing."""
    try:
        return max(0, int((SPEEDS / interface / "speed").read_text()))
    except (OSError, ValueError):
        return 0


def kernel_version(release: str) -> tuple[int, int]:
    """Return the first two numbers of a release, (0, 0) if there are none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def sysctls(interfaces: Iterable[str], root: Path = PROC / "sys") -> dict[str, str]:
    """Return the settings of the kernel that matter here, as far as it has them."""
    names = [*SYSCTLS, *(each.format(name) for name in interfaces for each in SYSCTLS_OF_AN_INTERFACE)]
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = (root / _file_of(name)).read_text().strip()
        except OSError:
            continue
    return found


def _file_of(name: str) -> str:
    """Return the file of a sysctl; only the name of an interface may have dots of its own."""
    head, conf, rest = name.partition(".conf.")
    interface, _, key = rest.rpartition(".")
    return "/".join([head.replace(".", "/"), "conf", interface, key]) if conf else name.replace(".", "/")


def tun_fault(device: Path = TUN_DEVICE) -> str:
    """Return why the tunnel device cannot be opened, "" if it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or "it cannot be opened"
    return ""


# ---- sockets --------------------------------------------------------------------------------------------------------


def udp_sockets(proc: Path = PROC) -> tuple[UdpSocket, ...]:
    """Return the UDP sockets of this network namespace; with root's rights also their processes."""
    owners = dict(_owners(proc))
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for each in listed_sockets(family, proc / "net"):
            pid, program = owners.get(each.inode, (0, ""))
            found.append(UdpSocket(each.address, each.port, pid, program, each.drops))
    return tuple(found)


def _owners(proc: Path) -> Iterator[tuple[int, tuple[int, str]]]:
    """Yield inode, process and program of each open socket that we may see."""
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        with suppress(OSError):  # it has ended, or is not ours to see
            program = (directory / "comm").read_text().strip()
            for descriptor in (directory / "fd").iterdir():
                if match := re.fullmatch(r"socket:\[(\d+)\]", _link(descriptor)):
                    yield int(match[1]), (int(directory.name), program)


def _link(descriptor: Path) -> str:
    """Return what a descriptor is of, "" if it has been closed meanwhile."""
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""

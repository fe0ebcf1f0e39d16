"""The tunnel interface: a TUN device with its MTU, addresses and queue (guide 2.6.2, Linux tuntap.rst)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Any

from mpt.errors import HostError
from mpt.host.netlink import NetlinkApi
from mpt.host.system import System
from mpt.model import TunnelConfig

DEVICE = "/dev/net/tun"

# <linux/if_tun.h>; the numbers are the same on x86-64 and arm64
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_BACKPRESSURE = 0x0080  # a full queue stops the senders, instead of dropping; a kernel of 2026 or later has it
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUNGETIFF = 0x800454D2
TUNSETOFFLOAD = 0x400454D0
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_TCP = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
_OFFLOADS: tuple[tuple[int, frozenset[str]], ...] = (  # in the order of asking, the most first
    (_TCP | TUN_F_USO4 | TUN_F_USO6, frozenset({"join_tcp", "join_udp"})),
    (_TCP, frozenset({"join_tcp"})),
    (TUN_F_CSUM, frozenset()),
    (0, frozenset()),
)

_IFREQ = struct.Struct("16sH22x")  # struct ifreq: the interface's name, then its flags


class Tun:
    """An open tunnel interface, which exists as long as `fd` is open; `fd` does not block."""

    device = DEVICE

    def __init__(self, fd: int, name: str, system: System) -> None:
        self.fd = fd
        self.name = name
        self._system = system

    def close(self) -> None:
        """Remove the interface, and with it its addresses and routes. A second call does nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._system.close(fd)


def open_tun(config: TunnelConfig, system: System, netlink: NetlinkApi, flags: int = IFF_TUN | IFF_NO_PI) -> Tun:
    """Make the interface that `config` describes and bring it up; its `fd` reads and writes IP packets.

    `flags` are for TUNSETIFF; IFF_BACKPRESSURE and IFF_VNET_HDR are left out where the machine refuses them. Raises
    HostError if it refuses anything else, and then leaves nothing behind.
    """
    fd = _open_device(system)
    try:
        name = _create_interface(fd, config.name, flags, system, netlink)
        netlink.configure_tunnel(name, config.mtu, config.queue_length)
        for address in config.addresses:
            netlink.add_address(name, address, check_duplicates=False)
        netlink.set_link(name, up=True)
    except BaseException:
        system.close(fd)
        raise
    return Tun(fd, name, system)


def _open_device(system: System) -> int:
    try:
        return system.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            advice = "load the driver with: modprobe tun (or give a container: --device /dev/net/tun)"
            raise HostError(f"there is no {DEVICE}: {advice}") from error
        if error.errno in (errno.EPERM, errno.EACCES):
            raise HostError(
                f"no privilege to open {DEVICE}: run as root, or let this user: chmod 666 {DEVICE}"
            ) from error
        raise HostError(f"cannot open {DEVICE}: {error.strerror}") from error


def _create_interface(fd: int, name: str, flags: int, system: System, netlink: NetlinkApi) -> str:
    """Attach `fd` to a new interface and return its name; the kernel completes a pattern such as tun%d."""
    try:
        answer = system.ioctl(fd, TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    except OSError as error:
        for optional in (IFF_BACKPRESSURE, IFF_VNET_HDR):
            if error.errno == errno.EINVAL and flags & optional:
                return _create_interface(fd, name, flags & ~optional, system, netlink)
        if error.errno in (errno.EPERM, errno.EACCES):
            text = f"no privilege to create the interface {name}: run as root or with CAP_NET_ADMIN"
        elif error.errno == errno.EBUSY:
            text = f"the interface {name} is in use by another program: stop it, or give this tunnel another name"
        elif error.errno == errno.EINVAL and name in netlink.snapshot():
            text = f"there is an interface {name} already, of another kind: give this tunnel another name"
        else:
            text = f"the kernel refuses to create the interface {name}: {error.strerror}"
        raise HostError(text) from error
    created: bytes = _IFREQ.unpack(answer)[0]
    return created.rstrip(b"\0").decode()


def ask_offloads(tun: int, wanted: bool, ioctl: Callable[[int, int, Any], Any] = fcntl.ioctl) -> frozenset[str]:
    """Ask an open TUN for as many offloads as it has, or for none unless `wanted`.

    Return its offloads: "vnet_hdr" (every packet has a virtio_net_hdr), "join_tcp" and "join_udp" (it takes
    super-packets). A socket that stands for a TUN has none.
    """
    try:
        answer = ioctl(tun, TUNGETIFF, bytes(_IFREQ.size))
    except OSError:
        return frozenset()
    _, flags = _IFREQ.unpack(answer)
    if not flags & IFF_VNET_HDR:
        return frozenset()
    for features, offloads in _OFFLOADS if wanted else _OFFLOADS[-1:]:
        try:
            ioctl(tun, TUNSETOFFLOAD, features)
        except OSError:
            continue  # an older kernel knows less
        return offloads | {"vnet_hdr"}
    return frozenset({"vnet_hdr"})

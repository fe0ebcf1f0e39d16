"""System calls without a system: TUN devices and UDP sockets in memory, which fail when a test says so."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from mpt.host import tun
from mpt.host.system import System
from mpt.testing.netlink import FakeNetlink
from mpt.testing.tun import FakeTun


class FakeSystem(System):
    """The machine with the interfaces of `netlink`.

    `tuns`: the open tunnel interfaces by name. `sockets`: the open sockets, oldest first. Both are empty again when the
    program has closed everything. File descriptors are real (of socketpairs), so that a reactor can poll them.
    """

    def __init__(self, netlink: FakeNetlink | None = None) -> None:
        self.netlink = netlink or FakeNetlink()
        self.tuns: dict[str, FakeTun] = {}
        self.sockets: list[FakeSocket] = []
        self.is_dumpable = True
        self.on_sent: Callable[[bytes], None] = lambda datagram: None  # hears every datagram of the program
        self._devices: dict[int, FakeTun] = {}  # by file descriptor; a device is a tunnel only once it is in `tuns`
        self._script: defaultdict[str, deque[int | None]] = defaultdict(deque)

    def fail(self, call: str, *errors: int | None) -> None:
        """Let the next calls of `call` (open, read, ioctl, bind, sendto ...) fail with these errnos; None: succeed."""
        self._script[call].extend(errors)

    def follow_script(self, call: str) -> None:
        """Raise the error that fail() has planned for this `call`, if any."""
        planned = self._script[call]
        if planned and (number := planned.popleft()) is not None:
            raise OSError(number, os.strerror(number))

    @property
    def open_devices(self) -> int:
        """Return how many file descriptors of /dev/net/tun are open."""
        return len(self._devices)

    # --- the system calls --------------------------------------------------------------------------------------------

    def forbid_dumps(self) -> None:
        self.is_dumpable = False

    def open(self, path: str, flags: int) -> int:  # type: ignore[override]
        self.follow_script("open")
        if path != tun.DEVICE:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        device = FakeTun()
        self._devices[device.fd] = device
        return device.fd

    def close(self, fd: int) -> None:
        device = self._devices.pop(fd)
        os.close(fd)
        device.close()
        if self.tuns.get(device.name) is device:
            del self.tuns[device.name]
            self.netlink.remove_interface(device.name)

    def ioctl(self, fd: int, request: int, argument: bytes) -> bytes:  # type: ignore[override]
        self.follow_script("ioctl")
        if request != tun.TUNSETIFF:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        pattern, flags = struct.unpack("16sH22x", argument)
        name = pattern.rstrip(b"\0").decode()
        if "%d" in name:
            name = next(name % n for n in range(100) if name % n not in self.netlink.snapshot())
        if name in self.tuns:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if name in self.netlink.snapshot() or not flags & tun.IFF_TUN:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        device = self._devices[fd]
        device.name = name
        self.tuns[name] = device
        self.netlink.add_interface(name, up=False)
        return struct.pack("16sH22x", name.encode(), flags)

    def read(self, fd: int, size: int) -> bytes:
        self.follow_script("read")
        return os.read(fd, size)

    def write(self, fd: int, packet: bytes) -> int:  # type: ignore[override]
        """As the kernel, take only IP packets (EINVAL), and none while the interface is down (EIO)."""
        self.follow_script("write")
        if not self.netlink.snapshot()[self._devices[fd].name].up:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not packet or packet[0] >> 4 not in (4, 6):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.write(fd, packet)

    def if_nametoindex(self, name: str) -> int:
        interface = self.netlink.snapshot().get(name)
        if interface is None:
            raise OSError("no interface with this name")
        return interface.index

    def socket(self, family: int, type: int, proto: int) -> FakeSocket:  # type: ignore[override]
        self.follow_script("socket")
        created = FakeSocket(self, socket.AddressFamily(family))
        self.sockets.append(created)
        return created


class FakeSocket(socket.socket):
    """A UDP socket. `sent`: the program's datagrams, as (datagram, address); deliver() is the way in.

    `ancillary`: the ancillary data of each datagram in `sent`. `options`: the options set, by (level, option). `bound`:
    the address given to bind().
    """

    def __init__(self, system: FakeSystem, family: socket.AddressFamily) -> None:
        program, self._network = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        super().__init__(fileno=program.detach())
        self.sent: list[tuple[bytes, Any]] = []
        self.ancillary: list[list[Any]] = []
        self.options: dict[tuple[int, int], Any] = {}
        self.bound: Any = None
        self._system = system
        self._family = family
        self._sources: deque[tuple[Any, list[Any]]] = deque()

    @property
    def family(self) -> socket.AddressFamily:
        return self._family

    @property
    def interface(self) -> str | None:
        """Return the interface that it is bound to."""
        name: bytes | None = self.options.get((socket.SOL_SOCKET, socket.SO_BINDTODEVICE))
        return name.rstrip(b"\0").decode() if name else None

    def deliver(self, datagram: bytes, source: Any, ancillary: Sequence[Any] = ()) -> None:
        """Let `datagram` arrive from `source`, an address as from recvfrom(), with `ancillary` as from recvmsg()."""
        self._network.send(datagram)
        self._sources.append((source, list(ancillary)))

    def take_sent(self) -> list[tuple[bytes, Any, list[Any]]]:
        """Return the datagrams sent since the last call: datagram, address, ancillary data."""
        taken = [(*sent, ancillary) for sent, ancillary in zip(self.sent, self.ancillary, strict=True)]
        self.sent.clear()
        self.ancillary.clear()
        return taken

    def setsockopt(self, level: int, option: int, value: Any, length: int = 0) -> None:
        self._system.follow_script("setsockopt")
        if option == socket.SO_BINDTODEVICE and value.rstrip(b"\0").decode() not in self._system.netlink.snapshot():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int, length: int = 0) -> Any:
        return self.options.get((level, option), 0)

    def bind(self, address: Any) -> None:
        self._system.follow_script("bind")
        host, port = ip_address(address[0]), address[1]
        interfaces = self._system.netlink.snapshot().values()
        if host.version == 6 and host.is_link_local and not self.interface and not address[3]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not host.is_unspecified and all(host != own.ip for one in interfaces for own in one.addresses):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        for other in self._system.sockets:
            same_interface = other.interface == self.interface or None in (other.interface, self.interface)
            if port and other.bound and other.bound[:2] == address[:2] and same_interface:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.bound = (address[0], port or 40000 + self.fileno(), *address[2:])

    def getsockname(self) -> Any:
        return self.bound

    def sendto(self, datagram: Any, address: Any) -> int:  # type: ignore[override]
        self._system.follow_script("sendto")
        self._system.on_sent(bytes(datagram))
        self.sent.append((bytes(datagram), address))
        self.ancillary.append([])
        return len(datagram)

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, address: Any = None) -> int:
        self._system.follow_script("sendmsg")
        datagram = b"".join(buffers)
        self._system.on_sent(datagram)
        self.sent.append((datagram, address))
        self.ancillary.append(list(ancillary))
        return len(datagram)

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Any]:
        self._system.follow_script("recvfrom")
        datagram = self.recv(size, flags)
        return datagram, self._sources.popleft()[0]

    def recvmsg(self, size: int, ancillary_size: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        self._system.follow_script("recvmsg")
        datagram = self.recv(size, flags)
        source, ancillary = self._sources.popleft()
        return datagram, ancillary, 0, source

    def close(self) -> None:
        if self in self._system.sockets:
            self._system.sockets.remove(self)
        self._network.close()
        super().close()

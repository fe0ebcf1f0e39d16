"""Two machines for the contract tests: one in memory, one a fresh network namespace of this kernel (root)."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from mpt.host.netlink import Netlink, NetlinkApi
from mpt.host.rtnetlink import EventSocket
from mpt.host.system import System
from mpt.host.tun import Tun
from mpt.testing.netlink import FakeNetlink
from mpt.testing.system import FakeSystem

PATIENCE = 5.0  # seconds; the kernel takes milliseconds, a machine with other work some more
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>


class FakeMachine:
    """FakeSystem and FakeNetlink, with the levers that the contract tests pull."""

    def __init__(self) -> None:
        self.netlink = FakeNetlink()
        self.system = FakeSystem(self.netlink)

    def add_interface(self, name: str, *addresses: str, up: bool = True) -> None:
        self.netlink.add_interface(name, *addresses, up=up)

    def remove_interface(self, name: str) -> None:
        self.netlink.remove_interface(name)

    def set_carrier(self, name: str, carrier: bool) -> None:
        self.netlink.set_carrier(name, carrier)

    def disable_ipv6(self) -> None:
        self.netlink.disable_ipv6 = True

    def send_into_tunnel(self, tun: Tun, destination: str, payload: bytes) -> None:
        packet = udp_packet("10.0.0.2", destination, payload) if "." in destination else bytes([0x60]) + payload
        self.system.tuns[tun.name].inject(packet)

    def receive_from_tunnel(self, tun: Tun, packet: bytes) -> bytes:
        self.system.write(tun.fd, packet)
        return b"".join(self.system.tuns[tun.name].delivered())[28:]


class RealMachine:
    """The kernel: each interface is one end of a veth pair, whose other end stands for the cable."""

    def __init__(self) -> None:
        self.system: System = System()
        self.netlink: NetlinkApi = Netlink()
        Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")  # no fe80:: addresses but our own
        run("ip", "link", "set", "lo", "up")

    def add_interface(self, name: str, *addresses: str, up: bool = True) -> None:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
        run("ip", "link", "set", f"{name}-far", "up")
        for address in addresses:
            run("ip", "address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        if up:
            run("ip", "link", "set", name, "up")

    def remove_interface(self, name: str) -> None:
        run("ip", "link", "delete", name)

    def set_carrier(self, name: str, carrier: bool) -> None:
        run("ip", "link", "set", f"{name}-far", "up" if carrier else "down")

    def disable_ipv6(self) -> None:
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")

    def send_into_tunnel(self, tun: Tun, destination: str, payload: bytes) -> None:
        family = socket.AF_INET if "." in destination else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(payload, (destination, 9))

    def receive_from_tunnel(self, tun: Tun, packet: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.settimeout(PATIENCE)
            receiver.bind(("10.0.0.2", 9))
            self.system.write(tun.fd, packet)
            payload: bytes = receiver.recv(2000)
            return payload


Machine = FakeMachine | RealMachine


@contextmanager
def namespace() -> Iterator[None]:
    """Put this thread into a new network namespace, and back; the kernel removes it with the last thing inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            yield
        finally:
            if libc.setns(home, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)


@contextmanager
def real_machine() -> Iterator[RealMachine]:
    with namespace():
        machine = RealMachine()
        try:
            yield machine
        finally:
            machine.netlink.close()


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


def wait_until(condition: Callable[[], bool], events: EventSocket) -> bool:
    """Return whether `condition` comes true, looked at again after each event, as the daemon does."""
    while not condition():
        if not select.select([events], [], [], PATIENCE)[0]:
            return False
        events.read()
    return True


def udp_packet(source: str, destination: str, payload: bytes) -> bytes:
    """Return an IPv4 packet with a UDP datagram to port 9 (no UDP checksum)."""
    udp = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0) + payload
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    total: int = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + udp

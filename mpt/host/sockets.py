"""The UDP sockets of the paths, bound to an address, a port and an interface."""

from __future__ import annotations

import errno
import socket
import struct

from mpt.errors import HostError
from mpt.host import udp
from mpt.host.system import System
from mpt.model import Address

BUFFER_SIZE = 4 << 20  # bytes each way; a path of 1 Gbit/s fills this in 34 ms, longer than the loop is ever away

# <asm-generic/socket.h>, x86-64 and arm64: as SO_SNDBUF and SO_RCVBUF, but beyond sysctl net.core.[rw]mem_max
SO_RCVBUFFORCE = 33

# <linux/in.h>: datagrams never have the "don't fragment" bit, and path MTUs that somebody tells us are ignored. By
# default the kernel sets the bit on single datagrams, but not on datagrams that it cuts from a run (UDP_SEGMENT). A
# line that is narrower than the tunnel, and whose ICMP errors are filtered, would then lose some datagrams, and nobody
# would know which. Without the bit routers fragment. IPv6 has no such bit: there the sender fragments, to the path MTU.
IP_MTU_DISCOVER = 10
IP_PMTUDISC_OMIT = 5

# <linux/in.h>, <linux/in6.h>: datagrams always have the bit, and path MTUs that somebody tells us are ignored. IPv6:
# the sender fragments nothing. What is too large for the interface is refused with EMSGSIZE.
IPV6_MTU_DISCOVER = 23
IPV6_DONTFRAG = 62
PMTUDISC_WANT = 1
PMTUDISC_PROBE = 3

SIOCOUTQ = 0x5411  # <linux/sockios.h>


def open_data_socket(address: Address, port: int, interface: str | None, system: System | None = None) -> socket.socket:
    """Return a non-blocking UDP socket at `address` and `port` that sends and receives over `interface` only.

    It tells the TOS octet of each datagram. With `interface` None the routing table chooses; an IPv6 link-local address
    then names its interface itself (fe80::1%eth0). `port` 0 takes any free port. Nobody else can open the same port at
    the same address. Raises HostError, in the operator's words. An address of a different interface is not refused: the
    caller must check that.
    """
    system = system or System()
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    endpoint: tuple[str, int] | tuple[str, int, int, int] = (str(address), port)
    if address.version == 6:
        scope = interface or address.scope_id if address.is_link_local else None
        endpoint = (str(address).partition("%")[0], port, 0, _index(scope, system) if scope else 0)
    try:
        data_socket = system.socket(family, socket.SOCK_DGRAM, 0)
    except OSError as error:
        raise HostError(f"cannot open a UDP socket for IPv{address.version}: {error.strerror}") from error
    try:
        data_socket.setblocking(False)
        if address.version == 6:
            data_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _enlarge(data_socket, SO_RCVBUFFORCE, socket.SO_RCVBUF)
        _enlarge(data_socket, udp.SO_SNDBUFFORCE, socket.SO_SNDBUF)
        if interface is not None:
            _bind_to_interface(data_socket, interface)
        _bind(data_socket, endpoint, interface)
        if address.version == 6:
            data_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            data_socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            data_socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
    except BaseException:
        data_socket.close()
        raise
    return data_socket


def allow_fragments(data_socket: socket.socket, version: int, allowed: bool) -> None:
    """Let the datagrams of a socket of IP `version` be fragmented, as at first, or pass whole or not at all.

    Not at all is for sockets whose paths find out how large their datagrams may be: then size probes say the truth.
    Raises OSError.
    """
    if version == 4:
        how = IP_PMTUDISC_OMIT if allowed else PMTUDISC_PROBE
        data_socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)
    else:
        data_socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_WANT if allowed else PMTUDISC_PROBE)
        data_socket.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 0 if allowed else 1)


def _index(interface: str, system: System) -> int:
    """Return the scope of a link-local address, which is the number of its interface; raises HostError."""
    try:
        return system.if_nametoindex(interface)
    except OSError as error:
        raise HostError(f"there is no interface {interface}") from error


def _enlarge(data_socket: socket.socket, forced: int, polite: int) -> None:
    """Set a buffer to BUFFER_SIZE; without CAP_NET_ADMIN the system may allow less."""
    try:
        data_socket.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)
    except PermissionError:
        data_socket.setsockopt(socket.SOL_SOCKET, polite, BUFFER_SIZE)


def _bind_to_interface(data_socket: socket.socket, interface: str) -> None:
    try:
        data_socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise HostError(f"there is no interface {interface}") from error
        if error.errno in (errno.EPERM, errno.EACCES):
            advice = "run as root or with CAP_NET_RAW, or set bind_to_device = 0"
            raise HostError(f"no privilege to bind a socket to the interface {interface}: {advice}") from error
        raise HostError(f"cannot bind a socket to the interface {interface}: {error.strerror}") from error


def _bind(
    data_socket: socket.socket, endpoint: tuple[str, int] | tuple[str, int, int, int], interface: str | None
) -> None:
    address, port = endpoint[:2]
    try:
        data_socket.bind(endpoint)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"UDP port {port} at {address} is in use by another program: stop it or change local_port"
        elif error.errno == errno.EADDRNOTAVAIL:
            text = f"{address} is not an address of {interface or 'this machine'}"
        elif error.errno in (errno.EPERM, errno.EACCES):
            text = f"no privilege for UDP port {port}: run as root or with CAP_NET_BIND_SERVICE"
        elif error.errno == errno.EINVAL and ":" in address:
            text = f"{address} is a link-local address: it needs an interface, set bind_to_device = 1"
        else:
            text = f"cannot use UDP port {port} at {address}: {error.strerror}"
        raise HostError(text) from error


def waiting(data_socket: socket.socket, system: System) -> int:
    """Return how many octets wait in `data_socket`, as the kernel charges them: with its own headers.

    Raises OSError where the kernel cannot tell.
    """
    (octets,) = struct.unpack("i", system.ioctl(data_socket.fileno(), SIOCOUTQ, bytes(4)))
    return int(octets)


def limit_waiting(data_socket: socket.socket, octets: int) -> None:
    """Let at most `octets` wait in `data_socket`, and one message more. Raises OSError."""
    udp.limit_waiting(data_socket, octets // 2)  # doubled for headers, which `octets` includes already

"""The command socket of the daemon (guide 2.6.2, cmdport_local): one UDP port for both IP versions and all interfaces.

Twisted's own UDP port does not tell at which local address a datagram came in. With several ways to one peer the
answer must go back the way the question came, so this port reads and writes with IPV6_PKTINFO (RFC 3542 section 6).
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, NamedTuple

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from mpt.daemon.machine import Machine
from mpt.errors import HostError
from mpt.model import Address
from mpt.wire.command import address_octets

BATCH: Final = 32  # datagrams a wake-up; command traffic must not keep data waiting
LARGEST: Final = 65535
PACKET_INFO = struct.Struct("16sI")  # struct in6_pktinfo: address, interface index


class Peer(NamedTuple):
    """Who sent a datagram, or is to get one: outer address and UDP port."""

    address: Address
    port: int


class Way(NamedTuple):
    """The local end of it: address and interface index. None and 0 leave the choice to the routing table."""

    address: Address | None = None
    interface_index: int = 0


ANY_WAY: Final = Way()


@implementer(IReadDescriptor)
class CommandPort:
    """The open socket; every datagram goes to the protocol's `command_received`."""

    def __init__(self, machine: Machine, port: int) -> None:
        self._reactor = machine.reactor
        self._socket = _open(machine, port)
        self._protocol: Any = None
        self.port: int = self._socket.getsockname()[1]

    def start(self, protocol: DatagramProtocol) -> None:
        """Begin to read, for `protocol`."""
        self._protocol = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]  # no IUDPTransport: it sends over `send`
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Stop reading and close the socket."""
        self._reactor.removeReader(self)
        if self._protocol is not None:
            self._protocol.doStop()
        self._socket.close()

    def send(self, datagram: bytes, peer: Peer, way: Way = ANY_WAY) -> bool:
        """Send one datagram; whether it went."""
        source = address_octets(way.address) if way.address is not None else bytes(16)
        if way.address is None and peer.address.version == 4:
            source = address_octets(ip_address("0.0.0.0"))
        info = PACKET_INFO.pack(source, way.interface_index)
        host = socket.inet_ntop(socket.AF_INET6, address_octets(peer.address))
        to = (host, peer.port, 0, way.interface_index if peer.address.is_link_local else 0)
        try:
            self._socket.sendmsg([datagram], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)], 0, to)
        except OSError:
            return False  # no route, a link that has just gone, a full socket: whoever waits for an answer tries again
        return True

    def getHost(self) -> int:
        return self.port

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> None:
        for _ in range(BATCH):
            try:
                datagram, ancillary, _, source = self._socket.recvmsg(LARGEST, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram
            peer = Peer(_plain(IPv6Address(source[0].partition("%")[0])), source[1])
            self._protocol.command_received(datagram, peer, _way(ancillary))

    def connectionLost(self, reason: object) -> None:
        """The reactor saw an error condition without data; a UDP socket survives it."""
        if self.fileno() >= 0:
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._reactor.addReader(self)

    def logPrefix(self) -> str:
        return "mpt command"


def _open(machine: Machine, port: int) -> socket.socket:
    opened = machine.system.socket(socket.AF_INET6, socket.SOCK_DGRAM, 0)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.bind(("::", port))
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise HostError(
                f"UDP port {port} is in use by another program, perhaps another mpt: stop it or change cmdport_local"
            ) from error
        raise HostError(f"cannot open the command port {port}: {error.strerror}") from error
    return opened


def _way(ancillary: list[tuple[int, int, bytes]]) -> Way:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= PACKET_INFO.size:
            octets, index = PACKET_INFO.unpack_from(data)
            return Way(_plain(IPv6Address(octets)), index)
    return ANY_WAY


def _plain(address: IPv6Address) -> Address:
    """IPv4 addresses come as ::ffff:a.b.c.d."""
    return address.ipv4_mapped or address

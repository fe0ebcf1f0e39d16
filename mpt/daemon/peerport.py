"""The command port of the daemon (guide 2.6.2, cmdport_local): requests of peers, and ours to them.

One UDP port serves both IP versions and all interfaces. With several ways to one peer an answer must take the way of
its request. Twisted's UDP port does not tell the local address of a received datagram. So this port reads and writes
with IPV6_PKTINFO (RFC 3542 section 6), or, on a kernel without IPv6, with IP_PKTINFO (ip(7)).

The rounds of a handshake are in `mpt.control.handshake`; here they meet the socket and the clock.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar, Final, NamedTuple

from twisted.application.service import Service
from twisted.internet.protocol import DatagramProtocol

from mpt.control.handshake import Handshakes, Outgoing
from mpt.control.initiator import ChangeRequest, Endpoint, Outcome
from mpt.control.responder import Host
from mpt.daemon.descriptors import Readable
from mpt.daemon.machine import Machine
from mpt.daemon.timers import DeadlineLoop
from mpt.daemon.udpcommands import UdpCommands
from mpt.errors import HostError
from mpt.local.protocol import is_local_command
from mpt.model import Address
from mpt.wire.command import address_octets

WORK: Final = 0.001  # s of a wake-up; data must not wait for a flood of commands
LARGEST: Final = 65535


class Peer(NamedTuple):
    """The sender or receiver of a datagram: outer address and UDP port."""

    address: Address
    port: int


class Way(NamedTuple):
    """The local address and interface index of a datagram. None and 0 leave the choice to the routing table."""

    address: Address | None = None
    interface_index: int = 0


ANY_WAY: Final = Way()


class BothVersions:
    """An IPv6 socket for both IP versions; an IPv4 address is ::ffff:a.b.c.d there."""

    INFO: ClassVar = struct.Struct("16sI")  # struct in6_pktinfo: address, interface index
    KIND: ClassVar = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    FAMILY: ClassVar = socket.AF_INET6
    ANY: ClassVar = "::"
    OPTIONS: ClassVar = (
        (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0),
        (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
    )

    @classmethod
    def address(cls, peer: Peer, way: Way) -> tuple[str, int, int, int]:
        """Return the socket address of `peer`; a link-local one needs the interface."""
        host = socket.inet_ntop(socket.AF_INET6, address_octets(peer.address))
        return host, peer.port, 0, way.interface_index if peer.address.is_link_local else 0

    @classmethod
    def info(cls, peer: Peer, way: Way) -> bytes:
        """Return the ancillary data that makes a datagram to `peer` take `way`."""
        own = way.address or (IPv4Address(0) if peer.address.version == 4 else IPv6Address(0))
        return cls.INFO.pack(address_octets(own), way.interface_index)

    @classmethod
    def way(cls, info: bytes) -> Way:
        """Return the way that a datagram took, from its ancillary data."""
        octets, index = cls.INFO.unpack_from(info)
        return Way(_address(socket.inet_ntop(socket.AF_INET6, octets)), index)


class OnlyVersion4:
    """An IPv4 socket, for a kernel without IPv6."""

    INFO: ClassVar = struct.Struct("=i4s4s")  # struct in_pktinfo: interface index, local address, destination
    KIND: ClassVar = (socket.IPPROTO_IP, 8)  # IP_PKTINFO, <linux/in.h>: Python has no name for it
    FAMILY: ClassVar = socket.AF_INET
    ANY: ClassVar = "0.0.0.0"
    OPTIONS: ClassVar = ((*KIND, 1),)

    @classmethod
    def address(cls, peer: Peer, way: Way) -> tuple[str, int]:
        """Return the socket address of `peer`."""
        return str(peer.address), peer.port

    @classmethod
    def info(cls, peer: Peer, way: Way) -> bytes:
        """Return the ancillary data that makes a datagram take `way`."""
        return cls.INFO.pack(way.interface_index, (way.address or IPv4Address(0)).packed, bytes(4))

    @classmethod
    def way(cls, info: bytes) -> Way:
        """Return the way that a datagram took, by its ancillary data."""
        index, octets, _ = cls.INFO.unpack_from(info)
        return Way(IPv4Address(octets), index)


class PeerProtocol(DatagramProtocol):
    """Hands on the datagrams of the command port; the address of each is a pair of its sender and its way."""

    noisy = False

    def __init__(self, received: Callable[[bytes, Peer, Way], None]) -> None:
        self._received = received

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Hand on a datagram, with its sender and its way."""
        self._received(datagram, *addr)


class PeerPort:
    """The open socket; every datagram goes to `protocol`. Raises HostError if the port is refused."""

    def __init__(self, machine: Machine, port: int, protocol: PeerProtocol) -> None:
        self._now = machine.now
        self._version, self._socket = _open(machine, port)
        self._protocol = protocol
        self.port: int = self._socket.getsockname()[1]
        self._reader = Readable(machine.reactor, "command port", self._socket.fileno, self._readable, self._clear_error)
        protocol.makeConnection(self)  # type: ignore[arg-type]  # no IUDPTransport: it sends over `send`
        self._reader.startReading()

    def stop(self) -> None:
        """Stop reading and close the socket."""
        self._reader.stop()
        self._protocol.doStop()
        self._socket.close()

    def send(self, datagram: bytes, peer: Peer, way: Way = ANY_WAY) -> bool:
        """Send one datagram; return whether it went."""
        info = (*self._version.KIND, self._version.info(peer, way))
        try:
            self._socket.sendmsg([datagram], [info], 0, self._version.address(peer, way))
        except OSError:
            return False  # no route, a link that has just gone, a full socket: a request is sent again later
        return True

    def getHost(self) -> int:
        """Return the number of the port."""
        return self.port

    def _readable(self) -> None:
        end = self._now() + WORK
        while self._now() < end:
            try:
                datagram, ancillary, _, source = self._socket.recvmsg(LARGEST, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram
            way = next(
                (self._version.way(data) for *kind, data in ancillary if (*kind,) == self._version.KIND), ANY_WAY
            )
            self._protocol.datagramReceived(datagram, (Peer(_address(source[0]), source[1]), way))

    def _clear_error(self) -> None:
        """Fetch an error condition, which a UDP socket survives, and read on."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reader.startReading()


class PeerControl(Service):
    """The command port as a service.

    `host` answers for the daemon in handshakes that peers begin. `local_commands`, which is set before the start, takes
    the datagrams of this host's programs.
    """

    local_commands: UdpCommands

    def __init__(self, machine: Machine, port: int, host: Host) -> None:
        self._machine = machine
        self._port_number = port
        self._port: PeerPort | None = None
        self._ways: dict[Endpoint, list[Way]] = {}  # of the requests that are under way, the latest last
        self.handshakes = Handshakes(host)
        self._retry = DeadlineLoop(machine, self.handshakes.next_deadline, self._deadline_reached)

    @property
    def counters(self) -> dict[str, int]:
        """Return how many datagrams were dropped or refused, by reason."""
        return dict(self.handshakes.counters + self.local_commands.counters)

    def startService(self) -> None:
        """Open the port; raises HostError."""
        super().startService()
        self._port = PeerPort(self._machine, self._port_number, PeerProtocol(self._received))
        self.local_commands.warn_of_risk()

    def stopService(self) -> None:
        """Close the port."""
        super().stopService()
        self._retry.stop()
        self.local_commands.stop()
        if self._port is not None:
            self._port.stop()
            self._port = None

    def begin(self, request: ChangeRequest, peer: Peer, way: Way, ended: Callable[[Outcome], None]) -> None:
        """Ask a peer for a change, over `way`; `ended` is called once.

        Raises PeerError while another request of the same kind is under way to that peer.
        """

        def forget_way(outcome: Outcome) -> None:
            self._ways[peer].remove(way)
            if not self._ways[peer]:
                del self._ways[peer]
            ended(outcome)

        sent = self.handshakes.begin(request, peer, forget_way, self._machine.now())
        self._ways.setdefault(peer, []).append(way)
        self._send(sent, way)

    def _received(self, datagram: bytes, peer: Peer, way: Way) -> None:
        if is_local_command(datagram) and peer.address.is_loopback:
            self.local_commands.received(datagram, peer, lambda reply: self._send_one(reply, peer, way))
        else:
            self._send(self.handshakes.receive(datagram, peer, self._machine.now()), way)

    def _deadline_reached(self, now: float) -> None:
        self._send(self.handshakes.deadline_reached(now), ANY_WAY)

    def _send(self, outgoing: list[Outgoing], reply_way: Way) -> None:
        """Send replies the way of the request, and requests the way that `begin` was given."""
        for datagram, destination, is_reply in outgoing:
            ways = [] if is_reply else self._ways.get(destination, [])
            self._send_one(datagram, Peer(*destination), ways[-1] if ways else reply_way)
        self._retry.follow()

    def _send_one(self, datagram: bytes, peer: Peer, way: Way) -> None:
        if self._port is not None:
            self._port.send(datagram, peer, way)


def _open(machine: Machine, port: int) -> tuple[type[BothVersions | OnlyVersion4], socket.socket]:
    """Open the command port for both IP versions, or for IPv4 if the kernel has no IPv6; raises HostError."""
    version: type[BothVersions | OnlyVersion4] = BothVersions
    opened: socket.socket | None = None
    try:
        try:
            opened = machine.system.socket(socket.AF_INET6, socket.SOCK_DGRAM, 0)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            version = OnlyVersion4
            opened = machine.system.socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
        opened.setblocking(False)
        for option in version.OPTIONS:
            opened.setsockopt(*option)
        opened.bind((version.ANY, port))
    except OSError as error:
        if opened is not None:
            opened.close()
        if error.errno == errno.EADDRINUSE:
            raise HostError(
                f"UDP port {port} is in use by another program, perhaps another mpt: stop it or change cmdport_local"
            ) from error
        raise HostError(f"cannot open the command port {port}: {error.strerror}") from error
    return version, opened


@lru_cache(maxsize=1024)
def _address(text: str) -> Address:
    """Return the address in a socket address: without the interface, and an IPv4 address as such."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address

"""The data sockets of the paths under the reactor.

A socket is known by its local address, port and interface and shared by every path that names the same, so one server
port serves a thousand clients. Bulk data goes from the reactor straight to the data path in batches; PathProtocol is
the DatagramProtocol in front of the rest.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, cast

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from mpt.daemon.machine import Machine
from mpt.model import Address
from mpt.wire import tos

log = Logger()


class Endpoint(NamedTuple):
    """What tells one data socket from another. The index changes when an interface is made anew under its old name."""

    address: Address
    port: int
    interface: str | None
    interface_index: int


class PathProtocol(DatagramProtocol):
    """Single datagrams of the control plane over a data socket: keepalives out. What comes in, the data path reads."""

    noisy = False

    def send(self, datagram: bytes, remote: tuple[Any, ...], dscp: int) -> bool:
        """Send at once or not at all; whether it went."""
        try:
            cast("PathPort", self.transport).write(datagram, remote, dscp)
        except OSError:
            return False  # a full socket, no route, a link that has just gone: the next keepalive will tell
        return True


@implementer(IReadDescriptor)
class PathPort:
    """One data socket: `readable(socket)` is called when datagrams wait."""

    def __init__(self, machine: Machine, endpoint: Endpoint, readable: Callable[[Any], None]) -> None:
        self.endpoint = endpoint
        self.users: set[Hashable] = set()
        self.socket = machine.open_data_socket(endpoint.address, endpoint.port, endpoint.interface, machine.system)
        self.protocol = PathProtocol()
        self._reactor = machine.reactor
        self._readable = readable

    def start(self) -> None:
        """Begin to read."""
        self.protocol.makeConnection(self)  # type: ignore[arg-type]  # of IUDPTransport, what PathProtocol needs
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Stop reading and close the socket."""
        self._reactor.removeReader(self)
        self.protocol.doStop()
        self.socket.close()

    def write(self, datagram: bytes, address: tuple[Any, ...], dscp: int = 0) -> None:
        """Send one datagram; raises OSError."""
        ancillary = tos.ancillary(address, dscp << 2) if dscp else ()
        self.socket.sendmsg((datagram,), ancillary, 0, address)

    def getHost(self) -> Endpoint:
        return self.endpoint

    def fileno(self) -> int:
        number: int = self.socket.fileno()
        return number

    def doRead(self) -> None:
        self._readable(self.socket)

    def connectionLost(self, reason: object) -> None:
        """The reactor saw an error condition without data. A UDP socket survives it: fetch the error and go on."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.fileno() >= 0 else 0
        log.debug("data socket {endpoint} had error {error}", endpoint=self.endpoint, error=error)
        if self.fileno() >= 0:
            self._reactor.addReader(self)

    def logPrefix(self) -> str:
        return "mpt data"


class SocketPool:
    """The data sockets of one tunnel."""

    def __init__(self, machine: Machine, readable: Callable[[Any], None]) -> None:
        self._machine = machine
        self._readable = readable
        self._ports: dict[Endpoint, PathPort] = {}

    def acquire(self, endpoint: Endpoint, user: Hashable) -> PathPort:
        """The socket of `endpoint`, opened if need be; raises HostError."""
        port = self._ports.get(endpoint)
        if port is None:
            port = PathPort(self._machine, endpoint, self._readable)
            port.start()
            self._ports[endpoint] = port
        port.users.add(user)
        return port

    def release(self, port: PathPort, user: Hashable) -> None:
        """`user` needs `port` no longer; the last one closes it."""
        port.users.discard(user)
        if not port.users:
            del self._ports[port.endpoint]
            port.stop()

"""The data sockets of the paths under the reactor.

A socket is known by its local address, port and interface. All paths that name the same share it, so one server port
serves a thousand clients. The data path alone reads and writes the sockets, in batches. A message that it receives goes
to its path's PathProtocol, a DatagramProtocol, and a message from there goes back through the data path.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, cast

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from mpt.daemon.descriptors import Readable
from mpt.daemon.looks import Looks
from mpt.daemon.machine import Machine
from mpt.errors import DecodeError, HostError
from mpt.host.sockets import allow_fragments
from mpt.model import Address
from mpt.wire import command

log = Logger()


class LocalEndpoint(NamedTuple):
    """The identity of a data socket.

    The index changes when an interface is made anew under its old name. A socket that is bound to an address alone has
    the `interface` None and the index 0.
    """

    address: Address
    port: int
    interface: str | None
    interface_index: int

    def excludes(self, other: LocalEndpoint) -> bool:
        """Return whether the kernel refuses the second of these two, which have the same address and port."""
        return self.interface == other.interface or None in (self.interface, other.interface)


class PathTransport:
    """The transport of a path's protocol: the data path frames each message and sends it."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def write(self, datagram: bytes, addr: object = None) -> None:
        """Send at once or not at all: another keepalive follows. The address is always the path's."""
        self._send(datagram)


class PathProtocol(DatagramProtocol):
    """The messages of one path, without the frames of the data path. `heard()` is called for every keepalive."""

    noisy = False

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._keepalive = b""  # the latest: all keepalives of a peer are alike, and a server hears thousands a second

    def send(self, message: bytes) -> None:
        """Send one message to the peer."""
        cast("PathTransport", self.transport).write(message)

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Note a keepalive."""
        if datagram != self._keepalive:
            try:
                message = command.decode(datagram)
            except DecodeError:
                return  # the data path knows only its first octets
            if message.command != command.KEEPALIVE:
                return
            self._keepalive = datagram
        self._heard()


class PathPort:
    """One data socket: `readable(socket)` is called when datagrams wait."""

    def __init__(self, machine: Machine, endpoint: LocalEndpoint, readable: Callable[[Any], None]) -> None:
        self.endpoint = endpoint
        self.users: set[tuple[str, int]] = set()
        self._fragmenting: set[tuple[str, int]] = set()
        self._fragments = True
        self.socket = machine.open_data_socket(endpoint.address, endpoint.port, endpoint.interface, machine.system)
        self._reading = Readable(
            machine.reactor, "data", self.socket.fileno, partial(readable, self.socket), self._clear_error
        )

    def add(self, user: tuple[str, int], fragments: bool) -> None:
        """Let `user` use the socket. Datagrams are fragmented on their way if one of the users wants `fragments`."""
        self.users.add(user)
        if fragments:
            self._fragmenting.add(user)
        self._allow_fragments()

    def discard(self, user: tuple[str, int]) -> None:
        """Note that `user` needs the socket no longer."""
        self.users.discard(user)
        self._fragmenting.discard(user)
        self._allow_fragments()

    def _allow_fragments(self) -> None:
        wanted = bool(self._fragmenting) or not self.users
        if wanted is not self._fragments:
            with suppress(OSError):  # then size probes find out less
                allow_fragments(self.socket, self.endpoint.address.version, wanted)
            self._fragments = wanted

    def start(self) -> None:
        """Begin to read."""
        self._reading.startReading()

    def stop(self) -> None:
        """Stop reading and close the socket."""
        self._reading.stop()
        self.socket.close()

    def _clear_error(self) -> None:
        """Go on after an error condition without data: fetch the error, and a UDP socket works on."""
        if self.socket.fileno() < 0:
            return
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        log.debug("data socket {endpoint} had error {error}", endpoint=self.endpoint, error=error)
        self.start()


class SocketPool:
    """The data sockets of one tunnel, and the looks for their paths. A user is a path: its connection and index."""

    def __init__(self, machine: Machine, readable: Callable[[Any], None]) -> None:
        self._machine = machine
        self._readable = readable
        self._ports: dict[LocalEndpoint, PathPort] = {}
        self.looks = Looks(machine.reactor, machine.open_tap, machine.is_filtered)

    def acquire(self, endpoint: LocalEndpoint, user: tuple[str, int], fragments: bool = True) -> PathPort:
        """Return the socket of `endpoint`, opened if need be; raises HostError. `fragments` as in `PathPort.add`."""
        port = self._ports.get(endpoint)
        if port is None:
            port = self._open(endpoint)
            port.start()
            self._ports[endpoint] = port
            self._machine.data_ports.setdefault(endpoint[:2], {})[endpoint] = user
        port.add(user, fragments)
        return port

    def release(self, port: PathPort, user: tuple[str, int]) -> None:
        """Note that `user` needs `port` no longer; after its last user it is closed."""
        port.discard(user)
        if not port.users:
            del self._ports[port.endpoint]
            del self._machine.data_ports[port.endpoint[:2]][port.endpoint]
            port.stop()

    def ports(self) -> Iterable[PathPort]:
        """Return the open sockets."""
        return self._ports.values()

    def _open(self, endpoint: LocalEndpoint) -> PathPort:
        """Open a socket; raises HostError, which names another path of ours that is in the way."""
        for other, user in self._machine.data_ports.get(endpoint[:2], {}).items():
            if endpoint.excludes(other):
                remedy = (
                    "give both the same bind_to_device"
                    if endpoint.interface != other.interface
                    else "connections of different tunnels need different local ports"
                )
                raise HostError(
                    f"UDP port {endpoint.port} at {endpoint.address} is in use by another path of ours, "
                    f"path_{user[1]} of {user[0]}: {remedy}"
                )
        return PathPort(self._machine, endpoint, self._readable)

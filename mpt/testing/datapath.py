"""The surroundings of a data path without a kernel: packets, a TUN, data sockets, rows of the table.

TUN and sockets come in two kinds with one interface: in memory, where a test can plan errors, and on AF_UNIX
socketpairs, for a data path that needs file descriptors.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from struct import pack
from typing import Any

from mpt.data.counters import Counters
from mpt.data.datapath import DataPath, PythonDataPath
from mpt.data.events import Event, Message
from mpt.data.framing import Plain
from mpt.data.pathtable import ConnectionRow, DataSocket, PathRow
from mpt.host.udp import Ancillary, tos_ancillary
from mpt.model import NetworkConfig, PortMap
from mpt.testing.tun import FakeTun
from mpt.wire import gre

EXPERIMENT = 253  # an IP protocol number without a meaning (RFC 3692)
PORT = 23456
LOCAL, REMOTE = "10.0.0.2", "10.0.0.3"  # tunnel addresses, as in the guide
LOCAL_V6, REMOTE_V6 = "fec0::2", "fec0::3"
PEER, OTHER_PEER = "10.1.1.3", "10.2.2.3"  # outer addresses


def packet(
    source: str = LOCAL, destination: str = REMOTE, body: bytes = b"", protocol: int = EXPERIMENT, tos: int = 0
) -> bytes:
    """Return an IP packet with the TOS octet `tos` and a right header checksum, of the addresses' version."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    if len(addresses) == 32:
        return pack("!IHBB", 6 << 28 | tos << 20, len(body), protocol, 64) + addresses + body
    header = pack("!BBHHHBBH", 0x45, tos, 20 + len(body), 0, 0, 64, protocol, 0)
    return header[:10] + gre.checksum(header + addresses).to_bytes(2, "big") + addresses + body


def numbered(count: int, start: int = 0, source: str = LOCAL, destination: str = REMOTE) -> list[bytes]:
    """Return `count` packets that can be told apart."""
    return [packet(source, destination, number.to_bytes(8, "big")) for number in range(start, start + count)]


def path_row(key: Hashable, data_socket: DataSocket | None, peer: str = PEER, **changes: Any) -> PathRow:
    """Return a usable path of weight 1 to `peer`."""
    address = ip_address(peer)
    remote = (peer, PORT) if address.version == 4 else (peer, PORT, 0, 0)
    row: dict[str, Any] = {"remote": remote, "weight": 1, "usable": True, "ports": PortMap()}
    return PathRow(key=key, socket=data_socket, peer=peer, peer_address=address, **(row | changes))


def connection_row(
    *paths: PathRow,
    key: Hashable = "c",
    local: str = LOCAL,
    remote: str = REMOTE,
    networks: Sequence[tuple[str, str]] = (),
    window: int = 0,
    max_delay: float = 0.1,
    **changes: Any,
) -> ConnectionRow:
    """Return a connection over `paths`; `networks` are (source, destination)."""
    pairs = [(ip_network(source), ip_network(destination)) for source, destination in networks]
    framing = changes.pop("framing", Plain(sequenced=window > 0))
    return ConnectionRow(
        key=key,
        tunnel_local=ip_address(local),
        tunnel_peer=ip_address(remote),
        networks=tuple(NetworkConfig(source.version, source, destination) for source, destination in pairs),
        reorder_window=window,
        max_delay=max_delay,
        paths=paths,
        framing=framing,
        **changes,
    )


class MemorySocket:
    """A data socket in memory; `tos_octets` are the TOS octets of the datagrams sent."""

    def __init__(self) -> None:
        self.tos_octets: list[int] = []
        self._sent: list[tuple[bytes, Any]] = []
        self._waiting: deque[tuple[bytes, list[Ancillary], Any] | OSError] = deque()
        self._plan: deque[int | None] = deque()

    def fail(self, *errors: int | None) -> None:
        """Let the next sends fail with these errnos; None: succeed."""
        self._plan.extend(errors)

    def fail_to_receive(self, error: int) -> None:
        """Let a receive fail with this errno after the datagrams that wait already."""
        self._waiting.append(OSError(error, os.strerror(error)))

    def deliver(self, datagram: bytes, host: str = PEER, tos: int = 0) -> None:
        """Let `datagram` arrive from `host` with the TOS octet `tos`."""
        self._waiting.append((datagram, tos_ancillary((host, PORT), tos), (host, PORT)))

    def sent(self) -> list[tuple[bytes, Any]]:
        """Return the datagrams sent since the last call, as (datagram, address)."""
        taken, self._sent = self._sent, []
        return taken

    def sendto(self, datagram: bytes, address: Any, /) -> int:
        return self.sendmsg((datagram,), (), 0, address)

    def sendmsg(self, buffers: Iterable[bytes], ancillary: Iterable[Ancillary], flags: int, address: Any, /) -> int:
        _follow(self._plan)
        datagram = b"".join(buffers)
        self.tos_octets += [int.from_bytes(value, sys.byteorder) for _, _, value in ancillary] or [0]
        self._sent.append((datagram, address))
        return len(datagram)

    def recv(self, size: int, flags: int, /) -> bytes:
        """Return the beginning of the first waiting datagram, and leave it there (MSG_PEEK)."""
        if not self._waiting:
            raise BlockingIOError
        first = self._waiting[0]
        return b"" if isinstance(first, OSError) else first[0][:size]

    def recvmsg(self, size: int, ancillary_size: int, /) -> tuple[bytes, list[Ancillary], int, Any]:
        if not self._waiting:
            raise BlockingIOError
        first = self._waiting.popleft()
        if isinstance(first, OSError):
            raise first
        return first[0][:size], first[1], 0, first[2]

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        pass

    def getsockopt(self, level: int, option: int, /) -> int:
        return 0

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


class DescriptorSocket:
    """A data socket that is one end of a socketpair; addresses, which a socketpair lacks, are kept beside it.

    A native data path works on the descriptor and does not see them: every datagram comes from the one peer, and goes
    to the address None.
    """

    def __init__(self) -> None:
        self._program, self._network = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._program.setblocking(False)
        self._network.setblocking(False)
        self._sources: deque[Any] = deque()
        self._destinations: deque[Any] = deque()

    def deliver(self, datagram: bytes, host: str = PEER) -> None:
        self._network.send(datagram)
        self._sources.append((host, PORT))

    def sent(self) -> list[tuple[bytes, Any]]:
        taken = _received(self._network)
        return [(each, self._destinations.popleft() if self._destinations else None) for each in taken]

    def sendto(self, datagram: bytes, address: Any, /) -> int:
        return self.sendmsg((datagram,), (), 0, address)

    def sendmsg(self, buffers: Iterable[bytes], ancillary: Iterable[Ancillary], flags: int, address: Any, /) -> int:
        octets = self._program.sendmsg(buffers)
        self._destinations.append(address)
        return octets

    def recv(self, size: int, flags: int, /) -> bytes:
        return self._program.recv(size, flags)

    def recvmsg(self, size: int, ancillary_size: int, /) -> tuple[bytes, list[Ancillary], int, Any]:
        return self._program.recv(size), [], 0, self._sources.popleft()

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        self._program.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, /) -> int:
        return self._program.getsockopt(level, option)

    def fileno(self) -> int:
        return self._program.fileno()

    def close(self) -> None:
        self._program.close()
        self._network.close()


class MemoryTun:
    """A TUN in memory, with the interface of FakeTun; read() and write() stand for ``os.read`` and ``os.write``."""

    fd = -1

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._written: list[bytes] = []
        self._read_plan: deque[int | None] = deque()
        self._write_plan: deque[int | None] = deque()

    def fail_to_read(self, *errors: int | None) -> None:
        """Let the next reads fail with these errnos; None: succeed."""
        self._read_plan.extend(errors)

    def fail_to_write(self, *errors: int | None) -> None:
        """Let the next writes fail with these errnos; None: succeed."""
        self._write_plan.extend(errors)

    def inject(self, inner: bytes) -> None:
        self._waiting.append(inner)

    def delivered(self) -> list[bytes]:
        taken, self._written = self._written, []
        return taken

    def read(self, fd: int, size: int) -> bytes:
        _follow(self._read_plan)
        if not self._waiting:
            raise BlockingIOError
        return self._waiting.popleft()[:size]

    def write(self, fd: int, inner: bytes) -> int:
        _follow(self._write_plan)
        self._written.append(inner)
        return len(inner)

    def close(self) -> None:
        pass


def _received(data_socket: socket.socket) -> list[bytes]:
    """Return everything that waits in a non-blocking socket."""
    datagrams = []
    while True:
        try:
            datagrams.append(data_socket.recv(65536))
        except BlockingIOError:
            return datagrams


def _follow(plan: deque[int | None]) -> None:
    if plan and (number := plan.popleft()) is not None:
        raise OSError(number, os.strerror(number))


@dataclass
class Stage:
    """A data path between a TUN and sockets that a test holds."""

    datapath: DataPath
    tun: FakeTun | MemoryTun
    new_socket: Callable[[], Any]
    now: float = 1000.0
    events: list[Event] = field(default_factory=list)

    @property
    def heard(self) -> list[tuple[Hashable, float]]:
        """Return the messages so far, as (path, time)."""
        return [(message.path, message.at) for message in self.messages]

    @property
    def messages(self) -> list[Message]:
        """Return the messages so far."""
        self.events += self.datapath.take_events()
        return [event for event in self.events if isinstance(event, Message)]

    @classmethod
    def in_memory(cls) -> Stage:
        """Return the Python data path in memory; its TUN and sockets can fail."""
        tun = MemoryTun()
        return cls(PythonDataPath(tun.fd, read=tun.read, write=tun.write), tun, MemorySocket)

    @classmethod
    def on_descriptors(cls, make: Callable[[int], DataPath]) -> Stage:
        """Return the data path of `make` on file descriptors."""
        tun = FakeTun()
        return cls(make(tun.fd), tun, DescriptorSocket)

    def set_table(self, *rows: ConnectionRow) -> None:
        self.datapath.set_table(rows, self.now)

    def send(self, *packets: bytes) -> None:
        """Let the host send `packets` into the tunnel."""
        for each in packets:
            self.tun.inject(each)
            self.datapath.tun_readable(self.now)

    def receive(self, data_socket: Any, *datagrams: bytes, host: str = PEER) -> list[bytes]:
        """Let `datagrams` come from `host`; return the packets that are delivered then."""
        for each in datagrams:
            data_socket.deliver(each, host)
            self.datapath.socket_readable(data_socket, self.now)
        return self.tun.delivered()

    def wait(self, seconds: float) -> list[bytes]:
        """Let time go by, with a wake-up at each deadline; return the packets that are delivered."""
        end = self.now + seconds
        while (deadline := self.datapath.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.datapath.deadline_reached(self.now)
        self.now = end
        return self.tun.delivered()

    def counters(self) -> Counters:
        """Return the counters, which must add up."""
        counters = self.datapath.counters()
        add_up(counters)
        return counters


@contextmanager
def closing(stage: Stage) -> Iterator[Stage]:
    """Close the stage and its sockets at the end of the block. Raises AssertionError unless its counters add up, and
    nothing is held after that."""
    sockets: list[Any] = []
    new_socket = stage.new_socket

    def remembered_socket() -> Any:
        sockets.append(new_socket())
        return sockets[-1]

    stage.new_socket = remembered_socket
    try:
        yield stage
        stage.counters()
    finally:
        stage.datapath.close()
        held = stage.counters().packets_held
        for each in sockets:
            each.close()
        stage.tun.close()
    if held:
        raise AssertionError(f"a closed data path holds {held} packets")


def add_up(counters: Counters) -> None:
    """Raise AssertionError unless the sums hold that Counters promises."""
    sent = sum(path.packets_sent for path in counters.paths.values())
    if counters.packets_read != sent + counters.packets_waiting + sum(counters.egress_dropped.values()):
        raise AssertionError(f"egress does not add up: {counters}")
    for_control = counters.keepalives_received + counters.messages_received + counters.handshakes_received
    accounted = for_control + counters.packets_delivered + counters.packets_held
    if counters.datagrams_received != accounted + sum(counters.ingress_dropped.values()):
        raise AssertionError(f"ingress does not add up: {counters}")

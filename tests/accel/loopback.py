"""The stage of mpt.testing.datapath on real UDP sockets: loopback addresses stand for the hosts that the tests name."""

from __future__ import annotations

import atexit
import errno
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter
from typing import Any

from mpt.data.datapath import DataPath
from mpt.data.events import Confirmed, Event
from mpt.data.pathtable import ConnectionRow, DataSocket, Table
from mpt.host.udp import tos_ancillary
from mpt.limits import Report
from mpt.testing.datapath import PORT, Stage
from mpt.testing.tun import FakeTun

UDP_SEGMENT = 103  # <linux/udp.h>
SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; tells the order among several hosts
SO_TIMESTAMP = 29  # the same, in microseconds; qemu-user passes no other
SO_MEMINFO = 55  # the same; the memory of waiting datagrams first, the number of dropped ones last
ARRIVAL_TIME = 5.0  # s that a datagram may take: a busy kernel defers what it has to deliver
_NETWORKS = itertools.count(os.getpid() * 2503)  # far from those of another test run beside this one


@cache
def _stamp_on_arrival() -> None:
    """Return when the kernel stamps datagrams as they arrive: it begins some time after the first socket has asked for
    it, and until then stamps them as they are read. A socket that stays open has it go on."""
    keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    atexit.register(keeper.close)
    _stamp(keeper)
    keeper.bind(("127.0.0.1", 0))
    sent = stamp = 0
    while stamp >= sent:
        keeper.sendto(b"", keeper.getsockname())
        sent = time.time_ns()
        [(_, kind, value)] = keeper.recvmsg(1, 64)[1]
        stamp = _nanoseconds(kind, value)


def _stamp(receiver: socket.socket) -> None:
    """Let the kernel stamp what `receiver` receives, as finely as it can."""
    try:
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)


def _nanoseconds(kind: int, stamp: bytes) -> int:
    """Return a stamp in nanoseconds; `kind` is the option that brought it."""
    seconds, parts = struct.unpack("ll", stamp)
    return int(seconds * 10**9 + parts * (1 if kind == SO_TIMESTAMPNS else 1000))


class Loopback:
    """Hosts on 127.a.b.0/24, one address each in the order of their first mention; IPv6 hosts too."""

    def __init__(self) -> None:
        _stamp_on_arrival()
        number = next(_NETWORKS)
        self._prefix = f"127.{number // 250 % 250 + 1}.{number % 250 + 1}"
        self._numbers = itertools.count(2)
        self._hosts: dict[str, socket.socket] = {}
        self._arrived: dict[int, list[tuple[bytes, Any, int]]] = {}  # port of the sender -> datagrams, TOS octets
        self.own = self._bind(1, 0)  # keeps the network's first address

    def _bind(self, host: int, port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            bound.bind((f"{self._prefix}.{host}", port))
        except OSError:
            bound.close()
            raise
        return bound

    def host(self, name: str) -> socket.socket:
        """The socket of the peer host `name`, at port PORT of its own address."""
        while name not in self._hosts:
            try:
                self._hosts[name] = self._bind(next(self._numbers), PORT)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # by another test run on this machine: take the next one
                    raise
            else:
                _stamp(self._hosts[name])
        return self._hosts[name]

    def address(self, name: str) -> str:
        found: str = self.host(name).getsockname()[0]
        return found

    def named(self, address: tuple[Any, ...]) -> tuple[Any, ...]:
        """The address of a host as the tests have it."""
        names = {each.getsockname(): name for name, each in self._hosts.items()}
        return names[address], PORT

    def new_socket(self) -> LoopbackSocket:
        return LoopbackSocket(self, self._bind(1, 0))

    def taken_from(self, port: int) -> list[tuple[bytes, Any, int]]:
        """What the peers have received from the data socket at `port` since the last call, in the order of sending, and
        with which TOS octet."""
        self._wait_for_marker()
        fresh: list[tuple[int, int, bytes, Any, int]] = []
        for name, host in self._hosts.items():
            while select.select([host], [], [], 0)[0]:
                datagram, ancillary, _, sender = host.recvmsg(65536, 128)
                told = {level: (kind, value) for level, kind, value in ancillary}
                address = (name, PORT, 0, 0) if ":" in name else (name, PORT)
                arrived = _nanoseconds(*told[socket.SOL_SOCKET])
                tos = told[socket.IPPROTO_IP][1][0]
                fresh.append((arrived, sender[1], datagram, address, tos))
        for _, sender_port, datagram, address, tos in sorted(fresh, key=itemgetter(0)):
            self._arrived.setdefault(sender_port, []).append((datagram, address, tos))
        return self._arrived.pop(port, [])

    def _wait_for_marker(self) -> None:
        """Wait until the datagrams that are under way have arrived: until one that follows them has."""
        self.own.sendto(b"", self.own.getsockname())
        if not select.select([self.own], [], [], ARRIVAL_TIME)[0]:
            raise TimeoutError("a datagram on the loopback did not arrive")
        self.own.recv(1)

    def close(self) -> None:
        for each in (self.own, *self._hosts.values()):
            each.close()


class LoopbackSocket:
    """A data socket on the loopback; the test uses deliver(), sent() and `tos_octets`, in the order of sending."""

    def __init__(self, network: Loopback, program: socket.socket) -> None:
        self._network = network
        self._program = program
        self.tos_octets: list[int] = []
        self.address = program.getsockname()
        self._port = self.address[1]
        self.sendto = program.sendto
        self.sendmsg = program.sendmsg
        self.recv = program.recv
        self.recvmsg = program.recvmsg
        self.setsockopt = program.setsockopt
        self.getsockopt = program.getsockopt
        self.fileno = program.fileno
        self.close = program.close

    def deliver(self, datagram: bytes, host: str = "10.1.1.3", tos: int = 0) -> None:
        before = self._waiting()
        self._network.host(host).sendmsg((datagram,), tos_ancillary(self.address, tos), 0, self.address)
        self._wait_for_change(before)

    def deliver_run(self, *datagrams: bytes, host: str = "10.1.1.3", tos: int = 0) -> None:
        """The same in one system call: a data path that wants them so gets them joined. All have one length, but the
        last may be shorter."""
        cut = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", len(datagrams[0])))
        control = [cut, *tos_ancillary(self.address, tos)]
        before = self._waiting()
        self._network.host(host).sendmsg((b"".join(datagrams),), control, 0, self.address)
        self._wait_for_change(before)

    def _waiting(self) -> tuple[bytes, bytes]:
        """Return the memory of the datagrams that wait, and how many were dropped so far, which qemu-user hides."""
        told = self.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        return told[:4], told[32:]

    def _wait_for_change(self, before: tuple[bytes, bytes]) -> None:
        """Wait until a datagram has arrived."""
        end = time.monotonic() + ARRIVAL_TIME
        while self._waiting() == before:
            if time.monotonic() > end:
                raise TimeoutError("a datagram on the loopback did not arrive")

    def sent(self) -> list[tuple[bytes, Any]]:
        taken = self._network.taken_from(self._port)
        self.tos_octets += [tos for _, _, tos in taken]
        return [(datagram, address) for datagram, address, _ in taken]


class LoopbackDataPath:
    """A data path whose table is told the loopback addresses instead of the tests' ones."""

    def __init__(self, inner: DataPath, network: Loopback) -> None:
        self.inner = inner
        self._network = network
        self.tun_readable = inner.tun_readable
        self.socket_readable = inner.socket_readable
        self.deadline_reached = inner.deadline_reached
        self.next_deadline = inner.next_deadline
        self.counters = inner.counters
        self.offloads = inner.offloads
        self.ecn_unexpected = inner.ecn_unexpected
        self.measured = inner.measured
        self.set_shares = inner.set_shares
        self.set_path_mtus = inner.set_path_mtus
        self.set_identity = inner.set_identity
        self.expect = inner.expect
        self.add_session = inner.add_session
        self.send_with = inner.send_with
        self.end_session = inner.end_session
        self.sent_numbers = inner.sent_numbers
        self.set_limits = inner.set_limits
        self.rescue = inner.rescue
        self.flight = inner.flight
        self.adaptive_counters = inner.adaptive_counters

    def send(
        self, path: Hashable, message: bytes, now: float, to: tuple[DataSocket, tuple[Any, ...]] | None = None
    ) -> bool:
        return self.inner.send(path, message, now, to and (to[0], self._address(to[1])))

    def send_raw(self, socket: DataSocket, remote: tuple[Any, ...], datagram: bytes) -> bool:
        return self.inner.send_raw(socket, self._address(remote), datagram)

    def set_remote(self, path: Hashable, socket: DataSocket, remote: tuple[Any, ...], now: float) -> None:
        self.inner.set_remote(path, socket, self._address(remote), now)

    def _address(self, remote: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._network.address(remote[0]), remote[1]) if remote else ()

    def take_events(self) -> Sequence[Event]:
        return [
            event
            if isinstance(event, Confirmed | Report) or event.source is None
            else event._replace(source=self._network.named(event.source))
            for event in self.inner.take_events()
        ]

    def set_table(self, table: Table, now: float) -> None:
        self.inner.set_table(tuple(self._row(row) for row in table), now)

    def _row(self, row: ConnectionRow) -> ConnectionRow:
        paths = (
            replace(path, peer=self._network.address(path.peer), remote=self._address(path.remote))
            for path in row.paths
        )
        return replace(row, paths=tuple(paths))

    def close(self) -> None:
        self.inner.close()


class _Tun(FakeTun):
    """Is closed last, and the network with it."""

    def __init__(self, network: Loopback) -> None:
        super().__init__()
        self._network = network

    def close(self) -> None:
        super().close()
        os.close(self.fd)
        self._network.close()


def loopback_stage(make: Callable[[int], DataPath]) -> Stage:
    """The data path that `make` gives, between a socketpair as its TUN and UDP sockets on the loopback."""
    network = Loopback()
    tun = _Tun(network)
    return Stage(LoopbackDataPath(make(tun.fd), network), tun, network.new_socket)

"""Network to TUN: check the sender or open the envelope, take off the GRE header, find the connection, put in order,
write.

A datagram meets the functions in the order in which they stand here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from errno import EAGAIN, ENOBUFS
from ipaddress import ip_address
from typing import Any, Final

from mpt.data.counters import PathCounters, Reason, errno_reason
from mpt.data.events import Event, Message
from mpt.data.framing import Sealed, no_packet, unframe
from mpt.data.mss import clamped
from mpt.data.opening import Opening
from mpt.data.ordering import Ordering
from mpt.data.pathstate import PathStates
from mpt.data.pathtable import ConnectionRow, DataSocket, PathRow, Table
from mpt.data.playout import Playout
from mpt.host.udp import (
    ANCILLARY_ROOM,
    is_empty,
    join_received,
    received_ecn,
    separated,
    stamp_received,
    stamped,
)
from mpt.limits import OrderLimits
from mpt.wire import command, ip, tos
from mpt.wire.seal import is_sealed

BATCH: Final = 64  # datagrams a wake-up, as in egress
DATAGRAM_SIZE: Final = 65535
FLOWS_CACHED: Final = 4096
LEAST_WINDOW: Final = 2048  # packets that may be held of an adaptive connection


class _Receiver:
    """The ingress side of one connection; its reorder buffer outlives unrelated changes of the table."""

    __slots__ = ("connection", "order", "playout")

    def __init__(self, connection: ConnectionRow) -> None:
        self.connection = connection
        self.order: Ordering | None = None
        self.playout: Playout | None = None  # instead, if the peer sends adaptively
        window, max_delay, is_sealed, is_adaptive = _window(connection)
        if is_adaptive:
            self.playout = Playout(max(window, LEAST_WINDOW), max_delay if window else 0.0)
        elif window:
            self.order = Ordering(window, max_delay, is_sealed)


class _Source:
    """One outer address from which a socket takes datagrams, and the paths that they may belong to; or one sealed path
    with the address at which its peer is."""

    __slots__ = ("address", "flows", "paths", "tunnels")

    def __init__(self, path: PathRow) -> None:
        self.address = path.peer_address
        self.paths: list[tuple[_Receiver, Hashable, PathCounters]] = []
        self.tunnels: dict[bytes, tuple[_Receiver, Hashable]] = {}  # command.keepalive_tunnel() -> path
        # inner addresses -> path, or the reason to drop
        self.flows: dict[bytes, tuple[_Receiver, Hashable, PathCounters] | Reason] = {}


class Ingress:
    """Everything from the path sockets to the TUN.

    `write` writes one packet to a file descriptor, as ``os.write`` does. `joined`: the kernel may hand over several
    datagrams at once. `wall` gives the wall clock, with which the kernel stamps datagrams.
    """

    def __init__(
        self,
        tun: int,
        write: Callable[[int, bytes], int],
        wall: Callable[[], float],
        joined: bool,
        opening: Opening,
        events: list[Event],
    ) -> None:
        self._tun = tun
        self._wall = wall
        self._write = write
        self._opening = opening
        self._events = events
        self._told: set[Hashable] = set()  # paths whose keepalives were passed to control in this wake-up
        self._joined = joined
        self._receivers: dict[Hashable, _Receiver] = {}
        self._receiver_of: dict[Hashable, _Receiver] = {}  # by the key of a path
        self._with_socket: set[Hashable] = set()  # keys of paths
        self._sources: dict[DataSocket, dict[str, _Source]] = {}
        self._sealed: dict[Hashable, _Source] = {}  # by the key of a sealed path
        self._backlog: set[DataSocket] = set()  # sockets that have more than we have taken
        self._is_behind = False  # there were some after the last wake-up: packets are read later than they came
        self._holding: dict[Ordering, None] = {}  # the orders that hold packets, and some that just did
        self._playing: dict[Playout, None] = {}  # the same of adaptive connections
        self.datagrams_received = 0
        self.keepalives_received = 0
        self.packets_delivered = 0
        self.ecn_unexpected = 0
        self.dropped: Counter[str] = Counter()

    def set_table(self, table: Table, states: PathStates, now: float) -> None:
        """Use `table` from the next datagram on. A connection that stays keeps its held packets. If it goes, or its
        window changed, they are delivered first."""
        old, self._receivers, self._sources, self._sealed = self._receivers, {}, {}, {}
        self._receiver_of.clear()
        self._with_socket.clear()
        for row in table:
            receiver = old.get(row.key)
            if receiver is None or _window(receiver.connection) != _window(row):
                receiver = _Receiver(row)
            else:
                old.pop(row.key)
            self._receivers[row.key] = receiver
            self._remove_paths(receiver, row, now)
            receiver.connection = row
            for path in row.paths:
                self._add_path(receiver, path, states.ensure(path.key).counters, now)
        self._holding = dict.fromkeys(order for order in self._orders() if order.held)
        self._playing = dict.fromkeys(playout for playout in self._playouts() if playout.held)
        for receiver in old.values():
            if receiver.order is not None:
                receiver.order.is_behind = self._is_behind
                self._deliver(receiver.order.flush())
                self.dropped.update(receiver.order.dropped)
            elif receiver.playout is not None:
                self._deliver(receiver.playout.flush(now))
                self.dropped.update(receiver.playout.dropped)
        self._backlog.clear()  # a socket with more is readable at once
        self._is_behind = False

    def _orders(self) -> Iterator[Ordering]:
        return (receiver.order for receiver in self._receivers.values() if receiver.order is not None)

    def _playouts(self) -> Iterator[Playout]:
        return (receiver.playout for receiver in self._receivers.values() if receiver.playout is not None)

    def _remove_paths(self, receiver: _Receiver, row: ConnectionRow, now: float) -> None:
        """Wait no longer for paths that are not in `row` any more."""
        keys = {path.key for path in row.paths}
        for path in receiver.connection.paths:
            if receiver.order is not None and path.key not in keys:
                self._deliver(receiver.order.path_down(path.key, now))

    def _add_path(self, receiver: _Receiver, path: PathRow, counters: PathCounters, now: float) -> None:
        connection = receiver.connection
        if path.socket is not None:
            self._with_socket.add(path.key)
            if path.socket not in self._sources:
                join_received(path.socket, self._joined)
                self._sources[path.socket] = {}
        if isinstance(connection.framing, Sealed):
            if path.socket is not None:
                stamp_received(path.socket)
            self._with_socket.add(path.key)  # its datagrams may come to any
            source = self._sealed[path.key] = _Source(path)
            source.paths.append((receiver, path.key, counters))
        elif path.socket is not None:
            source = self._sources[path.socket].setdefault(path.peer, _Source(path))
            source.paths.append((receiver, path.key, counters))
            source.tunnels.setdefault(_tunnel_of(connection), (receiver, path.key))
        self._receiver_of[path.key] = receiver
        self._order_path(receiver, path.key, path.usable, now)

    def set_shares(self, shares: Mapping[Hashable, int], now: float) -> None:
        """Note which paths bring packets from now on: those with a weight and a socket."""
        for path, weight in shares.items():
            if path in self._receiver_of:
                self._order_path(self._receiver_of[path], path, weight > 0 and path in self._with_socket, now)

    def _order_path(self, receiver: _Receiver, path: Hashable, usable: bool, now: float) -> None:
        if receiver.order is not None:
            if usable:
                receiver.order.path_up(path, now)
            else:
                self._deliver(receiver.order.path_down(path, now))

    def set_remote(self, path: Hashable, remote: tuple[Any, ...]) -> None:
        """Note at which address the peer of a sealed path is from now on."""
        if path in self._sealed:
            self._sealed[path].address = ip_address(remote[0])
            self._sealed[path].flows.clear()

    def set_order(self, connection: Hashable, order: OrderLimits) -> None:
        """Note what the peer of an adaptive connection says about the order of its data (`Playout.set`)."""
        receiver = self._receivers.get(connection)
        if receiver is not None and receiver.playout is not None:
            receiver.playout.set(*order)

    def playout(self, connection: Hashable) -> Playout | None:
        """Return the order of an adaptive connection; None: it has another one, or none."""
        receiver = self._receivers.get(connection)
        return receiver.playout if receiver is not None else None

    def socket_readable(self, socket: DataSocket, now: float) -> None:
        """Take up to BATCH datagrams from `socket`."""
        self._told.clear()
        self._opening.wake_up()
        if self._receive(socket, now):
            self._backlog.discard(socket)
        else:
            self._backlog.add(socket)
        self._is_behind = bool(self._backlog)

    def _receive(self, socket: DataSocket, now: float) -> bool:
        """Take up to BATCH datagrams; return whether these were all."""
        receive, sources, sealed = socket.recvmsg, self._sources.get(socket, {}), self._opening.reads(socket)
        end = self.datagrams_received + BATCH
        while self.datagrams_received < end:
            try:
                octets, ancillary, _, address = receive(DATAGRAM_SIZE, ANCILLARY_ROOM)
            except BlockingIOError:
                return True
            except OSError:
                end -= 1  # an ICMP error or a link event that the kernel reports here once; it names no datagram
                continue
            waited, about = stamped(ancillary, self._wall())
            source, ecn = sources.get(address[0]), received_ecn(about)
            for datagram in separated(octets, about):
                self.datagrams_received += 1
                if sealed and is_sealed(datagram):
                    self._unseal(datagram, socket, address, ecn, now, waited)
                elif source is None:
                    self.dropped[Reason.UNKNOWN_SOURCE] += 1
                else:
                    self._decapsulate(datagram, source, ecn, now)
        return is_empty(socket)

    def _unseal(
        self, datagram: bytes, socket: DataSocket, address: tuple[Any, ...], outer_ecn: int, now: float, waited: float
    ) -> None:
        """Open an envelope; whatever else is sealed goes to control."""
        found = self._opening.take(datagram, socket, address, now, waited)
        if isinstance(found, Reason):
            self.dropped[found] += 1
        elif found is not None:
            self._decapsulate(found.octets, self._sealed[found.path], outer_ecn, now, found.stamp)

    def _decapsulate(
        self, datagram: bytes, source: _Source, outer_ecn: int, now: float, stamp: int | None = None
    ) -> None:
        """Take off the frame and find the path by the inner addresses; what was sealed has a `stamp`."""
        opened = unframe(datagram)
        if isinstance(opened, Reason):
            self.dropped[opened] += 1
            return
        offset, version, sequence, flow = opened
        if len(datagram) < offset + ip.SHORTEST or datagram[offset] >> 4 != version:
            self._not_ip(datagram[offset:], version, source, now)
            return
        addresses = datagram[offset + 12 : offset + 20] if version == 4 else datagram[offset + 8 : offset + 40]
        path = source.flows.get(addresses) or self._identify(datagram[offset:], addresses, source)
        if isinstance(path, Reason):
            self.dropped[path] += 1
            return
        receiver, key, counters = path
        counters.packets_received += 1
        counters.bytes_received += len(datagram) - offset
        counters.last_received = now
        packet = datagram[offset:]
        if outer_ecn:
            marked = self._with_ecn(packet, outer_ecn)
            if marked is None:
                return
            packet = marked
        if receiver.connection.mss_clamp:
            packet = clamped(packet, receiver.connection.mss_clamp)
        if sequence is not None and receiver.playout is not None:
            playout = receiver.playout
            self._deliver(playout.arrive(sequence, packet, flow, stamp or 0, now))
            if playout.held:
                self._playing[playout] = None
        elif sequence is None or receiver.order is None:
            self._deliver((packet,))
        else:
            if stamp is None:
                flow, stamp = None, 0  # a key has no meaning in the clear
            order = receiver.order
            order.is_behind = self._is_behind
            delivery = order.arrive(sequence, packet, key, now, flow, stamp)
            self._deliver(delivery)
            if not delivery and order.held:
                self._holding.setdefault(order)

    def _with_ecn(self, packet: bytes, outer_ecn: int) -> bytes | None:
        """Return `packet` with the network's mark of the outer ECN field; None: the packet is dropped."""
        self.ecn_unexpected += tos.is_unexpected(tos.octet(packet), outer_ecn)
        marked = tos.decapsulated(packet, outer_ecn)
        if marked is None:
            self.dropped[Reason.ECN_NOT_ECT] += 1
        return marked

    def _not_ip(self, payload: bytes, version: int, source: _Source, now: float) -> None:
        """Pass a keepalive to control; drop any other payload that is no packet of the announced version."""
        tunnel = command.keepalive_tunnel(payload)
        path = source.tunnels.get(tunnel) if tunnel is not None else None
        if path is None:
            self.dropped[no_packet(payload, version)] += 1
            return
        receiver, key = path
        self.keepalives_received += 1
        if receiver.order is not None:
            receiver.order.is_behind = self._is_behind
            receiver.order.keepalive(key, now)
        if key not in self._told:
            self._told.add(key)
            self._events.append(Message(key, payload, now))

    def _identify(
        self, packet: bytes, addresses: bytes, source: _Source
    ) -> tuple[_Receiver, Hashable, PathCounters] | Reason:
        """Return the path of a `packet` by its inner addresses, or the reason to drop it."""
        if not ip.version(packet):
            return Reason.INNER_TRUNCATED
        half = len(addresses) // 2
        sender, destination = ip_address(addresses[:half]), ip_address(addresses[half:])
        found: tuple[_Receiver, Hashable, PathCounters] | Reason = Reason.INNER_SOURCE
        if destination == source.address:
            found = Reason.LOOP  # RFC 2784 section 2.4.1: the packet would come back to its encapsulator
        else:
            best = (False, 0)  # whether it has the destination, and how precisely it knows the sender
            for path in source.paths:
                connection = path[0].connection
                fit = (connection.has(destination), connection.reach(sender))
                if fit[1] and fit > best:
                    best, found = fit, path
        if len(source.flows) >= FLOWS_CACHED:
            source.flows.clear()
        source.flows[addresses] = found
        return found

    def deadline_reached(self, now: float) -> None:
        """Deliver the packets whose time in the reorder buffers is over."""
        for order in tuple(self._holding):
            order.is_behind = self._is_behind
            if order.held:
                self._deliver(order.deadline_reached(now))
            if not order.held:
                del self._holding[order]
        for playout in tuple(self._playing):
            self._deliver(playout.deadline_reached(now))
            if not playout.held:
                del self._playing[playout]

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of the reorder buffers; None when nothing is held."""
        deadlines = [order.next_deadline() for order in self._holding]
        deadlines += [playout.next_deadline() for playout in self._playing]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _deliver(self, packets: Iterable[bytes]) -> None:
        """Write packets to the TUN; count the refused ones."""
        for packet in packets:
            try:
                self._write(self._tun, packet)
            except OSError as error:
                self.dropped[_write_reason(error)] += 1
            else:
                self.packets_delivered += 1

    def held(self) -> int:
        """Return how many packets wait in the reorder buffers."""
        return sum(order.held for order in self._orders()) + sum(playout.held for playout in self._playouts())

    def drops(self) -> dict[str, int]:
        """Return every drop by its reason, the drops of the reorder buffers included."""
        total = Counter(self.dropped)
        for order in self._orders():
            total.update(order.dropped)
        for playout in self._playouts():
            total.update(playout.dropped)
        return {reason: count for reason, count in total.items() if count}


def _tunnel_of(connection: ConnectionRow) -> bytes:
    """Return the name of the connection's tunnel in the peer's keepalives."""
    keepalive = command.keepalive(connection.tunnel_local.version, connection.tunnel_peer, connection.tunnel_local)
    return command.keepalive_tunnel(keepalive) or b""


def _window(connection: ConnectionRow) -> tuple[int, float, bool, bool]:
    """Return what decides about the order of a connection: window, longest delay, whether it is sealed, and whether its
    peer sends adaptively."""
    is_adaptive = connection.adaptive is not None and connection.adaptive.sends
    return connection.reorder_window, connection.max_delay, isinstance(connection.framing, Sealed), is_adaptive


def _write_reason(error: OSError) -> str:
    if error.errno in (EAGAIN, ENOBUFS):
        return Reason.TUN_FULL
    return errno_reason("tun", error.errno)

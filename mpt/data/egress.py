"""TUN to network: read a packet, find its connection, pick a path, put the GRE header before it, seal it, send.

A packet meets the functions in the order in which they stand here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from errno import EAGAIN, EMSGSIZE, ENOBUFS
from ipaddress import ip_address
from operator import itemgetter
from typing import Any, Final

from mpt.data.counters import Reason, errno_reason
from mpt.data.flight import Entry, space
from mpt.data.flowkeys import FlowKeys
from mpt.data.fragment import fragments, may_be_cut
from mpt.data.framing import frame
from mpt.data.mss import clamped
from mpt.data.pathstate import PathStates
from mpt.data.pathtable import DataSocket, Table
from mpt.data.sender import Scheduler, Sender
from mpt.data.sessions import Session, Sessions
from mpt.data.toobig import Allowance, answer
from mpt.data.transmit import send_message, transmit
from mpt.limits import OUTER
from mpt.model import Address
from mpt.wire import ip, tos
from mpt.wire.feedback import PROBE
from mpt.wire.serial import MASK

BATCH: Final = 64  # packets a wake-up: bounds how long keepalives and commands wait, about 1 ms
PACKET_SIZE: Final = 65535
FLOWS_CACHED: Final = 4096  # address pairs; then the cache starts anew
LOCAL_TROUBLE: Final = frozenset({EAGAIN, ENOBUFS, EMSGSIZE})  # this packet cannot go, nor over another path


class Egress:
    """Everything from the TUN to the path sockets.

    `read` reads one packet from a file descriptor, as ``os.read`` does, and `write` writes one. `scheduler` takes the
    (index, weight) of the paths in use; it gives the endless sequence of the indices that carry the next packets.
    `keys` gives the keys of flows.
    """

    def __init__(
        self,
        tun: int,
        read: Callable[[int, int], bytes],
        write: Callable[[int, bytes], int],
        scheduler: Scheduler,
        sessions: Sessions,
        keys: FlowKeys,
    ) -> None:
        self._tun = tun
        self._read = read
        self._write = write
        self._answers = Allowance()
        self._scheduler = scheduler
        self._sessions = sessions
        self._keys = keys
        self._senders: dict[Hashable, Sender] = {}
        self._sender_of: dict[Hashable, Sender] = {}  # by the key of a path
        # inner addresses -> sender, the senders of a group, or the reason to drop
        self._flows: dict[bytes, Sender | tuple[Sender, ...] | Reason] = {}
        self._peers: dict[Hashable, Address] = {}  # outer addresses, by the key of the path
        self._own_peers: frozenset[Address] = frozenset()
        self.packets_read = 0
        self.dropped: Counter[str] = Counter()

    def set_table(self, table: Table, states: PathStates) -> None:
        """Use `table` from the next packet on; connections that stay keep their sequence numbers."""
        senders = {row.key: self._senders.get(row.key) or Sender(self._scheduler) for row in table}
        for row in table:
            senders[row.key].configure(row, states)
        self._senders = senders
        self._sender_of = {path.key: senders[row.key] for row in table for path in row.paths}
        self._peers = {path.key: path.peer_address for row in table for path in row.paths}
        self._own_peers = frozenset(self._peers.values())
        self._flows.clear()

    def set_remote(self, path: Hashable, socket: DataSocket, remote: tuple[Any, ...]) -> None:
        """Send the datagrams of a sealed path there from now on."""
        sender = self._sender_of.get(path)
        if sender is not None and sender.is_sealed:
            sender.set_remote(path, socket, remote)
            self._peer_moves(path, ip_address(remote[0]))

    def _peer_moves(self, path: Hashable, address: Address) -> None:
        """Note the outer address of a peer: packets to it would come back here."""
        ends = self._peers[path].packed, address.packed
        self._peers[path] = address
        self._own_peers = frozenset(self._peers.values())
        for flow in [flow for flow in self._flows if flow.endswith(ends)]:
            del self._flows[flow]

    def tun_readable(self, now: float) -> None:
        """Read and send up to BATCH packets; each copy of one to a group counts."""
        read, tun, flows = self._read, self._tun, self._flows
        end = self.packets_read + BATCH
        while self.packets_read < end:
            try:
                packet = read(tun, PACKET_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self.dropped[errno_reason("tun", error.errno)] += 1
                self.packets_read += 1
                return
            self.packets_read += 1
            version = packet[0] >> 4 if len(packet) >= ip.SHORTEST else 0
            found = flows.get(packet[12:20] if version == 4 else packet[8:40] if version == 6 else b"")
            if found is None:
                found = self._classify(packet)
            if isinstance(found, Sender):
                self._send(found, packet, now)
            elif isinstance(found, Reason):
                self.dropped[found] += 1
            else:
                self.packets_read += len(found) - 1
                for sender in found:
                    self._send(sender, packet, now)

    def _classify(self, packet: bytes) -> Sender | tuple[Sender, ...] | Reason:
        """Return the connection of `packet` by its inner addresses; for a group all its connections; else the reason
        to drop it."""
        version = ip.version(packet)
        if not version:
            return Reason.NOT_IP
        key = packet[12:20] if version == 4 else packet[8:40]
        half = len(key) // 2
        source, destination = ip_address(key[:half]), ip_address(key[half:])
        found: Sender | tuple[Sender, ...] | Reason
        if destination in self._own_peers:
            found = Reason.LOOP
        else:
            found = self._receivers(source, destination) or Reason.NO_CONNECTION
        if len(self._flows) >= FLOWS_CACHED:
            self._flows.clear()
        self._flows[key] = found
        return found

    def _receivers(self, source: Address, destination: Address) -> Sender | tuple[Sender, ...] | None:
        """Return the connection that fits best, or every connection that takes packets to the group `destination`."""
        connections = [(sender, sender.connection) for sender in self._senders.values()]
        if any(row.is_group(destination) for _, row in connections):
            return tuple(sender for sender, row in connections if row.takes_group(source, destination))
        fits = [(row.reach(destination), sender) for sender, row in connections if row.sends(source, destination)]
        return max(fits, key=itemgetter(0), default=(0, None))[1]

    def sender(self, connection: Hashable) -> Sender:
        """Return the egress side of a connection of the table."""
        return self._senders[connection]

    def send_all(self, connection: Hashable, packets: Iterable[bytes], now: float) -> None:
        """Send packets that were read before and waited elsewhere; those of a connection that is gone are dropped."""
        for packet in packets:
            if connection in self._senders:
                self._send(self._senders[connection], packet, now)
            else:
                self.dropped[Reason.NO_CONNECTION] += 1

    def _send(self, sender: Sender, packet: bytes, now: float) -> None:
        """Encapsulate and send over the mapped path, else over the next of the cycle, else over any path that works.
        An adaptive connection takes the packet in its own way.

        A packet of a mapped flow has no number: its flow keeps its order by itself, and waits for no other path.
        """
        session = None
        if sender.is_sealed:
            session = self._sessions.sealing(sender.connection.key)
            if session is None:
                self.dropped[Reason.NO_SESSION] += 1
                return
        if sender.connection.mss_clamp:
            packet = clamped(packet, sender.connection.mss_clamp)
        paths = sender.paths if len(packet) <= sender.narrowest else sender.fitting(len(packet))
        if not paths and sender.paths:
            self._refuse(sender, packet, now)
            return
        index = sender.flow_map.path(packet) if sender.flow_map is not None else None
        if sender.offer is not None and paths:
            sender.offer(packet, index if index in paths else None, now)
            return
        numbered = sender.connection.framing.sequenced
        if index is not None and index in paths:
            numbered = False
        else:
            index = next(sender.cycle, None) if paths is sender.paths else sender.cycle.next_of(paths)
            if index is None:
                self.dropped[Reason.NO_PATH] += 1
                return
        key = self._keys.of(packet) if numbered and sender.has_keys else None
        number = sender.numbers[key]
        content = frame(packet[0] >> 4, number if numbered else None, key) + packet
        tos_octet = sender.tos_by_inner[tos.octet(packet)] if sender.tos_by_inner is not None else 0
        error = self._transmit(sender, index, session, content, len(packet), tos_octet, now)
        for other in paths:
            if error is None or error in LOCAL_TROUBLE:
                break
            if other != index:
                error = self._transmit(sender, other, session, content, len(packet), tos_octet, now)
        if error is not None:
            self.dropped[errno_reason("send", error)] += 1
        elif numbered:  # only a packet that was sent uses up a number
            sender.numbers[key] = (number + 1) & MASK

    def _transmit(
        self,
        sender: Sender,
        index: int,
        session: Session | None,
        content: bytes,
        size: int,
        tos_octet: int,
        now: float,
    ) -> int | None:
        """Send `content`, sealed if there is a session, over one path. Return None when it was sent, else the errno."""
        data_socket, remote, counters, path_id, room = sender.paths[index]
        datagram = content if session is None else session.seal(path_id, content, now)
        try:
            transmit(data_socket, datagram, remote, tos_octet)
        except OSError as error:
            counters.send_errors[errno_reason("send", error.errno)] += 1
            return error.errno or 0
        counters.packets_sent += 1
        counters.bytes_sent += size
        if session is not None:
            room.sent += len(datagram) + OUTER
        return None

    def _refuse(self, sender: Sender, packet: bytes, now: float) -> None:
        """Cut a packet that fits no path, if its sender lets us, or else drop it and tell the sender what would fit.

        The answer comes from the peer's tunnel address: Linux drops what arrives from its own.
        """
        pieces = fragments(packet, sender.widest) if may_be_cut(packet) else ()
        if pieces:
            self.packets_read += len(pieces) - 1
            for piece in pieces:
                self._send(sender, piece, now)
            return
        self.dropped[Reason.TOO_BIG] += 1
        peer, version = sender.connection.tunnel_peer, packet[0] >> 4
        if peer.version != version or sender.connection.is_group(ip.destination(packet)):
            return
        told = answer(packet, sender.widest, peer)
        if told is not None and self._answers.take(now):
            with suppress(OSError):  # the TUN is full: the next packet is answered
                self._write(self._tun, told)

    def set_shares(self, shares: Mapping[Hashable, int]) -> None:
        """Change the weights of paths; 0: not used."""
        for sender, its_shares in self._by_sender(shares):
            sender.set_shares(its_shares)

    def set_path_mtus(self, mtus: Mapping[Hashable, int]) -> None:
        """Change how large packets over paths may be."""
        for sender, its_mtus in self._by_sender(mtus):
            sender.set_path_mtus(its_mtus)

    def _by_sender(self, values: Mapping[Hashable, int]) -> Iterable[tuple[Sender, dict[Hashable, int]]]:
        """Return values of paths by the paths' connections."""
        of_sender: dict[Sender, dict[Hashable, int]] = {}
        for path, value in values.items():
            if path in self._sender_of:
                of_sender.setdefault(self._sender_of[path], {})[path] = value
        return of_sender.items()

    def send(self, path: Hashable, message: bytes, now: float, to: tuple[DataSocket, tuple[Any, ...]] | None) -> bool:
        """Send a message over a path, usable or not, or `to` elsewhere. Return whether it was sent."""
        sender = self._sender_of.get(path)
        if sender is None:
            return False
        way = sender.ways[path]
        data_socket, remote = to if to is not None and sender.is_sealed else (way.socket, way.remote)
        if data_socket is None or not remote:
            return False
        if sender.is_sealed:
            session = self._sessions.sealing(sender.connection.key)
            if session is None:
                return False
            number = session.next_number(way.id)
            datagram = session.seal(way.id, message, now)
            way.room.sent += len(datagram) + OUTER
            if sender.offer is not None and message[0] == PROBE:  # the peer will report it
                entry = Entry(len(datagram) + OUTER, now)
                way.room.flight.sent(space(session.peer_index, way.id), number, entry)
        else:
            datagram = frame(sender.connection.tunnel_local.version) + message
        return send_message(data_socket, datagram, remote, sender.message_tos)

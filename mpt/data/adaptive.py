"""The egress side of an adaptive connection: packets wait in one queue, and each leaves over the path on which it will
arrive first, as soon as that one has room.

What happens to a packet, from the top to the bottom:

1. `offer`: its class and its flow are found (`mpt.data.classes`). Realtime packets, pure acknowledgements and packets
   of thin flows go at once, if a path has room beyond its window; all others wait (`mpt.data.flowqueue`). Realtime
   packets of small flows, and other small flows without TCP, go over a second line, too.
2. `pump`: while an admitted path has room (`mpt.data.rooms`), the next packet leaves the queue. It gets its number when
   it goes, so each flow is numbered in its order.
3. It is under way (`mpt.data.flight`) until the peer says what became of it; what is lost goes again
   (`mpt.data.repair`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from errno import EAGAIN, EMSGSIZE, ENOBUFS
from typing import Final

from mpt.data import classes
from mpt.data.counters import Reason, errno_reason
from mpt.data.flight import Entry, space
from mpt.data.flowkeys import FlowKeys
from mpt.data.flowqueue import FlowQueue, Waiting
from mpt.data.framing import frame
from mpt.data.pathtable import Adaptive
from mpt.data.playout import UNORDERED
from mpt.data.repair import Repair, tail_due
from mpt.data.rooms import BLOCKED, RecentOctets, Room, Rooms
from mpt.data.sender import Sender
from mpt.data.sessions import Sessions
from mpt.data.transmit import send_message, transmit
from mpt.limits import OUTER, AdaptiveCounters
from mpt.wire.feedback import PROBE_MESSAGE
from mpt.wire.seal import OVERHEAD
from mpt.wire.serial import MASK

HEADERS: Final = 12 + OVERHEAD + OUTER  # octets of a datagram beside its packet: GRE with key and number, envelope, UDP
USUAL: Final = 1500  # octets: there is room for bulk if there is room for a datagram of this size
COPY_SHARE: Final = 0.1  # of the octets of a second, or of what the paths take in one, are copies of realtime packets
FULL: Final = frozenset((EAGAIN, ENOBUFS))

# What becomes of a packet, as the queue keeps it
_ORDERED, _UNORDERED, _ACKNOWLEDGEMENT, _COPIED = range(4)


class AdaptiveSender:
    """The queue, the paths and the repair of one connection; `dropped` counts the packets that are given up. `keys`
    gives the flow of a packet, 0 .. 4095; `earn` is called with the octets of each datagram."""

    def __init__(
        self,
        sender: Sender,
        settings: Adaptive,
        keys: FlowKeys,
        sessions: Sessions,
        dropped: Counter[str],
        earn: Callable[[int], None],
    ) -> None:
        self._sender = sender
        self._settings = settings
        self._keys = keys
        self._sessions = sessions
        self._dropped = dropped
        self._earn = earn
        self._sent = RecentOctets()
        self._copied = RecentOctets()  # of realtime packets
        self._queue = FlowQueue(settings.queue_packets, settings.target, settings.interval)
        self._pending: Waiting | None = None  # the first of the queue, which no path could take
        self._largest = USUAL
        self._rooms = Rooms()
        self._open: object = None  # sender.paths as the rooms know them
        self._repair = Repair(self._rooms, self._sent, self._again, self._fitting_entry)
        self._thin = self._realtime = self._copies = 0
        self._reports = 0

    def configure(self, settings: Adaptive) -> None:
        """Send as the row of the connection says from now on."""
        self._settings = settings
        self._queue.set(settings.queue_packets, settings.target, settings.interval)
        self._open = None

    def stop(self) -> None:
        """Leave the packets to the cycle from now on."""
        self._sender.offer = None

    @property
    def rooms(self) -> Rooms:
        """Return the open paths."""
        paths = self._sender.paths
        if self._open is not paths:
            self._open = paths
            open_ways = [way for way in self._sender.ways.values() if way.index in paths]
            for way in open_ways:
                way.room.index = way.index
            self._rooms.set_open(way.room for way in open_ways)
        return self._rooms

    def limits_changed(self) -> None:
        """Look at the limits of the paths again."""
        self._rooms.changed()

    # --- a packet comes ---

    def offer(self, packet: bytes, mapped: int | None, now: float) -> None:
        """Send a packet now, or let it wait: at least one open path carries it. If its flow is `mapped` to a path, it
        goes over that one, without a number: it has its order there."""
        if mapped is not None:
            self._send_mapped(packet, mapped, now)
            return
        flow, trait, rooms = self._keys.of(packet), classes.trait(packet, self._settings.classes), self.rooms
        is_urgent = trait >= classes.REALTIME
        if trait == classes.ACKNOWLEDGEMENT:
            kind, bypasses = _ACKNOWLEDGEMENT, True
        else:
            is_thin = self._queue.is_thin(flow, len(packet), now, self._settings.thin)
            is_small = self._queue.is_small(flow, self._settings.thin)
            if is_urgent:
                is_copied = trait == classes.COPIED or (trait == classes.REALTIME and is_small)
                kind, bypasses = _COPIED if is_copied else _UNORDERED, True
                self._realtime += 1
            else:
                bypasses = is_thin and (self._pending is None or self._pending.flow != flow)
                self._thin += bypasses
                if bypasses and trait == classes.OTHER:
                    kind = _COPIED
                else:
                    kind = _ORDERED if self._settings.ordered else _UNORDERED
        waiting = Waiting(flow, packet, kind, now)
        size = len(packet) + HEADERS
        if bypasses:
            fitting = self._fitting(packet)
            if (room := rooms.at_once(size, now, fitting)) is not None and self._send(waiting, room, now):
                return
            if trait == classes.OTHER and self._settings.ordered:
                waiting = waiting._replace(kind=_ORDERED)  # it waits with its flow
        self._largest = max(self._largest, size)
        if not is_urgent and self._goes_through(waiting, now):
            return
        self._queue.push(flow, packet, waiting.kind, now, is_urgent)

    def _goes_through(self, waiting: Waiting, now: float) -> bool:
        """Send a packet if none waits before it, neither new nor again, and a path has room; return whether it is
        gone."""
        if (
            self.waiting
            or self._repair.deadline() is not None
            or self._sessions.sealing(self._sender.connection.key) is None
        ):
            return False
        room = self._rooms.for_bulk(self._largest, now, self._fitting(waiting.packet))
        return room is not None and self._send(waiting, room, now)

    def _send_mapped(self, packet: bytes, index: int, now: float) -> None:
        room = next(room for room in self.rooms.open if room.index == index)
        entry = Entry(len(packet) + HEADERS - 8, now, None, self._sender.outer_tos(packet))
        error = self._put(frame(packet[0] >> 4) + packet, entry, room, now)
        if error:
            self._dropped[errno_reason("send", error)] += 1
        else:
            self._gone(room, packet)

    def _gone(self, room: Room, packet: bytes) -> None:
        """Count a packet that was sent for the first time."""
        counters = self._sender.paths[room.index][2]
        counters.packets_sent += 1
        counters.bytes_sent += len(packet)

    def _fitting(self, packet: bytes) -> frozenset[int] | None:
        """Return the paths that carry a packet; None: all."""
        sender = self._sender
        return None if len(packet) <= sender.narrowest else frozenset(sender.fitting(len(packet)))

    def _fitting_entry(self, entry: Entry) -> frozenset[int] | None:
        size = entry.size - HEADERS
        return None if size <= self._sender.narrowest else frozenset(self._sender.fitting(size))

    # --- packets go ---

    def pump(self, now: float) -> None:
        """Send again what is due, then what waits, while paths have room."""
        rooms = self.rooms
        if not rooms.live or self._sessions.sealing(self._sender.connection.key) is None:
            return
        self._copy_tails(now)
        self._repair.go(now)
        if self._pending is not None and not self._send_pending(now):
            return
        while self._queue.packets and (room := rooms.for_bulk(self._largest, now)) is not None:
            found = self._queue.pop(now)
            if found is None:
                return
            fitting = self._fitting(found.packet)
            if (fitting is not None and room.index not in fitting) or not self._send(found, room, now):
                self._pending = found
                if not self._send_pending(now):
                    return

    def _send_pending(self, now: float) -> bool:
        """Send the packet that no path could take; return whether it is gone."""
        pending = self._pending
        if pending is None:
            return True
        fitting = self._fitting(pending.packet)
        if fitting is not None and not fitting:
            self._pending = None
            self._dropped[Reason.TOO_BIG] += 1
            return True
        room = self._rooms.for_bulk(len(pending.packet) + HEADERS, now, fitting)
        if room is not None and self._send(pending, room, now):
            self._pending = None
        return self._pending is None

    def _send(self, waiting: Waiting, room: Room, now: float) -> bool:
        """Send a packet over a path for the first time. Return whether it is gone, sent or dropped; else it has to
        wait, and the path has no room for some time."""
        sender, packet, kind = self._sender, waiting.packet, waiting.kind
        key = UNORDERED if kind != _ORDERED else self._order_key(waiting.flow)
        number = sender.numbers[key]
        content = frame(packet[0] >> 4, number, key) + packet
        outer_tos = sender.outer_tos(packet)
        entry = Entry(len(packet) + HEADERS, now, content if kind != _ACKNOWLEDGEMENT else None, outer_tos)
        error = self._put(content, entry, room, now)
        if error:
            if error in FULL or (len(self._rooms.live) > 1 and error != EMSGSIZE):
                return False
            self._dropped[errno_reason("send", error)] += 1
            return True
        sender.numbers[key] = (number + 1) & MASK
        self._gone(room, packet)
        if kind == _COPIED:
            self._copy_realtime(content, entry, room, now)
        elif kind == _ORDERED:
            self._shadow(content, entry, room, now)
        return True

    def _order_key(self, flow: int) -> int:
        """Return the GRE key in whose order packets of a flow are."""
        return flow if self._sender.has_keys else 0

    def _put(self, content: bytes, entry: Entry, room: Room, now: float) -> int:
        """Send content over a path, as `entry`; return the errno, 0: it is under way."""
        session = self._sessions.sealing(self._sender.connection.key)
        if session is None:
            return EAGAIN
        data_socket, remote, counters, path_id, _ = self._sender.paths[room.index]
        number = session.next_number(path_id)
        try:
            transmit(data_socket, session.seal(path_id, content, now), remote, entry.outer_tos)
        except OSError as error:
            counters.send_errors[errno_reason("send", error.errno)] += 1
            room.blocked_until = now + BLOCKED
            return error.errno or EAGAIN
        room.flight.sent(space(session.peer_index, path_id), number, entry)
        room.sent += entry.size
        self._earn(entry.size)
        room.went(entry.size, now)
        self._sent.add(entry.size, now)
        return 0

    def _copy_realtime(self, content: bytes, entry: Entry, first: Room, now: float) -> None:
        """Send a realtime packet over a second line, too, while copies are few."""
        allowed = COPY_SHARE * max(self._sent.total(now), self._rooms.rate())
        if self._copied.total(now) + entry.size > allowed:
            return
        fitting = self._fitting_entry(entry)
        room = self._rooms.for_copy(now, first, fitting)
        if room is None:
            return
        copy = Entry(entry.size, now, content, entry.outer_tos)
        if not self._put(content, copy, room, now):
            entry.is_copied = copy.is_copied = True
            entry.other, copy.other = copy, entry
            self._copied.add(copy.size, now)
            self._copies += 1
            room.copies += 1

    def _shadow(self, content: bytes, entry: Entry, first: Room, now: float) -> None:
        """Send a copy over each path that is to be measured so, while it has room."""
        fitting = self._fitting_entry(entry)
        for room in self._rooms.live:
            if not room.limits.shadow or room is first or (fitting is not None and room.index not in fitting):
                continue
            if not room.has_window(entry.size) or room.opens_at() > now:
                room.limited_at = now
            elif not self._put(content, Entry(entry.size, now, None, entry.outer_tos), room, now):
                self._copies += 1
                room.copies += 1

    # --- again ---

    def _again(self, entry: Entry, room: Room, now: float) -> bool:
        """Send the content of an entry again over a path; return whether the socket took it."""
        content = entry.content or b""
        again = Entry(entry.size, now, content, entry.outer_tos, entry.first, entry.tries + 1)
        return self._put(content, again, room, now) == 0

    def lost(self, entries: list[Entry], now: float) -> None:
        """Let what is lost go again, with the next pump."""
        self._repair.lost(entries, now)

    def rescue(self, room: Room, now: float, bounded: bool) -> int:
        """Let everything that hangs on a path go again over others; return how many packets these are."""
        _ = self.rooms
        count = self._repair.copy(room, now, bounded)
        self._repair.go(now)
        return count

    def _copy_tails(self, now: float) -> None:
        """Copy what hangs on a path that has been silent for too long; if nothing can be copied, ask about it: a probe
        shows the peer what is missing."""
        for room in self._rooms.live:
            due = tail_due(room)
            if due is None or due > now:
                continue
            room.asked_at = now
            room.asked += 1
            if not self._repair.copy(room, now, bounded=True):
                self._put(PROBE_MESSAGE, Entry(len(PROBE_MESSAGE) + OVERHEAD + OUTER, now), room, now)

    def deadline(self) -> float | None:
        """Return when `pump` must be called, whatever happens; None: nothing is due."""
        rooms = self.rooms
        if not rooms.live or self._sessions.sealing(self._sender.connection.key) is None:
            return None
        due = [each for room in rooms.live if (each := tail_due(room)) is not None]
        if (repair := self._repair.deadline()) is not None:
            due.append(repair)
        if self._pending is not None or self._queue.packets:
            size, fitting = self._largest, None
            if self._pending is not None:
                size, fitting = len(self._pending.packet) + HEADERS, self._fitting(self._pending.packet)
            if (opens := rooms.opens_at(size, fitting)) is not None:
                due.append(opens)
        return min(due, default=None)

    # --- reports ---

    def report(self, message: bytes, now: float) -> None:
        """Send a report of what has arrived: over the path of least arrival, every second one over all live paths."""
        session, rooms = self._sessions.sealing(self._sender.connection.key), self.rooms
        if session is None or not rooms.live:
            return
        self._reports += 1
        chosen = rooms.live if self._reports % 2 == 0 else (min(rooms.live, key=Room.arrival),)
        for room in chosen:
            data_socket, remote, _, path_id, _ = self._sender.paths[room.index]
            send_message(data_socket, session.seal(path_id, message, now), remote, self._sender.message_tos)
            room.sent += len(message) + OVERHEAD + OUTER

    # --- what waits, what happened ---

    @property
    def waiting(self) -> int:
        """Return how many packets wait."""
        return self._queue.packets + (self._pending is not None)

    @property
    def waiting_octets(self) -> int:
        """Return how many octets wait."""
        return self._queue.octets + (len(self._pending.packet) if self._pending is not None else 0)

    def take_all(self) -> list[bytes]:
        """Return every packet that waits, in no order; nothing waits then."""
        taken = [] if self._pending is None else [self._pending.packet]
        self._pending = None
        return taken + [each.packet for each in self._queue.clear()]

    def drops(self) -> dict[str, int]:
        """Return how many packets of the queue were dropped, by reason."""
        return {Reason.CODEL: self._queue.dropped, Reason.QUEUE_FULL: self._queue.overflowed}

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits, and nothing is under way."""
        return (
            not self.waiting
            and self._repair.deadline() is None
            and not any(room.flight.packets for room in self.rooms.open)
        )

    def counters(self) -> AdaptiveCounters:
        """Return the counts of this side."""
        queue, repair = self._queue, self._repair
        return AdaptiveCounters(
            codel_dropped=queue.dropped,
            codel_marked=queue.marked,
            overflowed=queue.overflowed,
            thin=self._thin,
            realtime=self._realtime,
            resent=repair.resent,
            resend_late=repair.late,
            resend_refused=repair.refused,
            copies_sent=self._copies,
        )

"""The adaptive connections of a tunnel: their senders and receipts, and the reports that go between two ends.

A report of ours (message 42) says what has arrived here, by `mpt.data.receipts`. One of the peer says what became of
our packets: it settles the flight of their paths, lost ones are sent again, and control is told (`mpt.limits.Report`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Final

from mpt.data.adaptive import AdaptiveSender
from mpt.data.counters import Reason
from mpt.data.egress import Egress
from mpt.data.events import Event
from mpt.data.flight import Entry, space
from mpt.data.flowkeys import FlowKeys
from mpt.data.pathstate import PathStates
from mpt.data.pathtable import ConnectionRow, Table
from mpt.data.receipts import Receipt, Receipts
from mpt.data.rooms import Room
from mpt.data.sessions import Session, Sessions
from mpt.errors import DecodeError
from mpt.limits import OUTER, START_ORDER, AdaptiveCounters, FlightMeasures, OrderLimits, PathLimits, Report
from mpt.wire import feedback
from mpt.wire.seal import STAMPS_A_SECOND, stamp

MICROSECONDS: Final = 1_000_000
IDLE_NEWS: Final = 0.1  # s between two reports of a path on which nothing is under way, that say nothing new
LONGEST_ROUND: Final = 3 * STAMPS_A_SECOND  # ticks; more is a stamp that is a little ahead

SetOrder = Callable[[Hashable, OrderLimits], None]  # of a connection


class _Connection:
    """One adaptive connection: what came, what control says of its order, its paths by their ids, and its sender if the
    peer understands."""

    __slots__ = ("key", "order", "paths", "receipts", "sender")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.receipts = Receipts()
        self.order = START_ORDER
        self.paths: dict[int, tuple[Hashable, Room]] = {}
        self.sender: AdaptiveSender | None = None


class Adaptives:
    """All adaptive connections of one tunnel. `set_order` is called with what a peer says about the order of its
    data; `events` is where the reports for control are put."""

    def __init__(
        self,
        egress: Egress,
        keys: FlowKeys,
        sessions: Sessions,
        states: PathStates,
        set_order: SetOrder,
        events: list[Event],
    ) -> None:
        self._egress = egress
        self._keys = keys
        self._sessions = sessions
        self._states = states
        self._set_order = set_order
        self._events = events
        self._connections: dict[Hashable, _Connection] = {}
        self._of_path: dict[Hashable, _Connection] = {}
        self._telling: dict[Hashable, _Connection] = {}  # those that may have a report to make
        self._busy: dict[AdaptiveSender, None] = {}  # those with packets that wait or are under way
        self._dropped: Counter[str] = Counter()  # by senders that are gone
        sessions.ended = self._session_ended

    def set_table(self, table: Table, now: float) -> None:
        """Use `table` from now on. What waits in a connection that adapts no more goes by the cycle, or is dropped with
        its connection; what is under way on a path that is gone is lost."""
        old, self._connections, self._of_path = self._connections, {}, {}
        for row in table:
            if row.adaptive is not None:
                connection = self._connections[row.key] = old.get(row.key) or _Connection(row.key)
                before, connection.paths = connection.paths, {}
                for path in row.paths:
                    connection.paths[path.id] = path.key, self._states.ensure(path.key).room
                    self._of_path[path.key] = connection
                gone = [room for path, room in before.values() if self._of_path.get(path) is not connection]
                self._configure(connection, row, now)
                self._lose(connection, [entry for room in gone for entry in room.flight.end_all()], now)
        for key, connection in old.items():
            if key not in self._connections:
                self._telling.pop(key, None)
                self._retire(key, connection, now)
                for _, room in connection.paths.values():
                    room.flight.end_all()

    def _configure(self, connection: _Connection, row: ConnectionRow, now: float) -> None:
        """Let the connection send as its row says."""
        if row.adaptive is None or not row.adaptive.sends:
            self._retire(row.key, connection, now)
            return
        if connection.sender is None:
            egress_side = self._egress.sender(row.key)
            sender = AdaptiveSender(
                egress_side,
                row.adaptive,
                self._keys,
                self._sessions,
                self._egress.dropped,
                connection.receipts.earn,
            )
            connection.sender = sender
            egress_side.offer = partial(self._offer, sender)
        connection.sender.configure(row.adaptive)

    def _retire(self, key: Hashable, connection: _Connection, now: float) -> None:
        """Let a connection send adaptively no more."""
        sender, connection.sender = connection.sender, None
        if sender is not None:
            self._busy.pop(sender, None)
            self._dropped.update(sender.drops())
            sender.stop()
            self._egress.send_all(key, sender.take_all(), now)

    def _offer(self, sender: AdaptiveSender, packet: bytes, mapped: int | None, now: float) -> None:
        self._busy[sender] = None
        sender.offer(packet, mapped, now)

    # --- what has arrived, for the peer ---

    def arrived(self, connection: Hashable, receipt: Receipt, now: float) -> None:
        """Note a datagram that has opened."""
        found = self._connections.get(connection)
        if found is not None:
            found.paths[receipt.path][1].received += receipt.size + OUTER
            found.receipts.arrived(receipt, now)
            if receipt.is_data and found.sender is not None:
                self._telling[connection] = found

    def go(self, now: float) -> None:
        """Send the reports and the packets that may go now."""
        for key, connection in tuple(self._telling.items()):
            receipts, sender = connection.receipts, connection.sender
            if sender is not None and receipts.is_due(now):
                hold, playout, acks = connection.order
                clock = int(now * MICROSECONDS) & 0xFFFFFFFF
                suspects = {path for path, (_, room) in connection.paths.items() if room.limits.suspect}
                records = tuple(each._replace(suspect=each.path in suspects) for each in receipts.report(now))
                report = feedback.Feedback(int(hold * STAMPS_A_SECOND), playout, clock, records, acks)
                sender.report(feedback.encode(report), now)
            if sender is None or receipts.deadline() is None:
                del self._telling[key]
        for sender in tuple(self._busy):
            sender.pump(now)
            if sender.is_idle:
                del self._busy[sender]

    def next_deadline(self) -> float | None:
        """Return when `go` must be called, whatever happens; None: nothing is due."""
        due = [connection.receipts.deadline() for connection in self._telling.values()]
        due += [sender.deadline() for sender in self._busy]
        return min((each for each in due if each is not None), default=None)

    # --- what the peer says ---

    def feedback_came(self, connection: Hashable, octets: bytes, now: float) -> Reason | None:
        """Take a report of the peer. Return the reason to drop it, or None."""
        found = self._connections[connection]
        try:
            report = feedback.decode(octets)
        except DecodeError:
            return Reason.FEEDBACK_MALFORMED
        self._set_order(connection, OrderLimits(report.hold / STAMPS_A_SECOND, report.playout, report.acks))
        lost = [entry for record in report.records for entry in self._settle(found, record, report.clock, now)]
        if found.sender is not None:
            self._busy[found.sender] = None
            found.sender.lost(lost, now)
        return None

    def _settle(self, connection: _Connection, record: feedback.Record, clock: int, now: float) -> list[Entry]:
        """Take what a record says of one path, tell control, and return what was lost. What is not new, or about
        numbers that were not sent, changes nothing."""
        path, room = connection.paths.get(record.path, (None, None))
        numbers = space(record.session, record.path)
        if room is None or not room.flight.is_news(numbers, clock):
            return []
        settled = room.flight.acknowledged(numbers, record.settled, record.ranges)
        room.reported_at = now
        if settled.further:
            room.progress_at, room.asked = now, 0
        oldest = room.flight.oldest()
        if oldest is None and not settled.further and now < room.told_at + IDLE_NEWS:
            return []
        room.told_at = now
        self._events.append(
            Report(
                path=path,
                at=now,
                clock=clock,
                packets=record.packets,
                octets=record.octets,
                acked=settled.octets,
                lost=len(settled.lost),
                least=record.least,
                median=record.median,
                rtt=_round_trip(record, now),
                in_flight=room.flight.octets,
                limited_at=room.limited_at,
                oldest=oldest.sent if oldest is not None else None,
                settled_moved=settled.further,
                suspect=record.suspect,
            )
        )
        return settled.lost + settled.replaced

    def _session_ended(self, session: Session) -> None:
        """Forget the numbers of a session; what is under way with it is lost."""
        connection = self._connections.get(session.connection)
        if connection is not None:
            connection.receipts.end(session.index)
            rooms = [room for _, room in connection.paths.values()]
            entries = [entry for room in rooms for entry in room.flight.end(session.peer_index)]
            self._lose(connection, entries, max((entry.sent for entry in entries), default=0.0))

    def moved(self, path: Hashable, now: float) -> None:
        """Note that the peer of a path is elsewhere now: what is under way to where it was is lost."""
        connection, state = self._of_path.get(path), self._states.find(path)
        if connection is not None and state is not None:
            self._lose(connection, state.room.flight.end_all(), now)

    def _lose(self, connection: _Connection, entries: list[Entry], now: float) -> None:
        """Let entries that nobody will acknowledge be sent again soon."""
        if connection.sender is not None and entries:
            self._busy[connection.sender] = None
            connection.sender.lost(entries, now)

    # --- control ---

    def set_limits(
        self, limits: Mapping[Hashable, PathLimits], orders: Mapping[Hashable, OrderLimits], now: float
    ) -> None:
        """Change the limits of paths and orders, and send what has room now."""
        changed: dict[AdaptiveSender, None] = {}
        for path, value in limits.items():
            state = self._states.find(path)
            if state is None:
                continue
            before, state.room.limits = state.room.limits, value
            connection = self._of_path.get(path)
            if connection is not None and connection.sender is not None:
                changed[connection.sender] = None
                if value.suspect and not before.suspect:
                    connection.receipts.hurry(now)
                    self._telling[connection.key] = connection
        for sender in changed:
            sender.limits_changed()
        for key, order in orders.items():
            if key in self._connections:
                self._connections[key].order = order
        self.go(now)

    def rescue(self, path: Hashable, now: float, bounded: bool) -> int:
        """Send again over others what is under way on a path; return how many packets went."""
        connection, state = self._of_path.get(path), self._states.find(path)
        if connection is None or connection.sender is None or state is None:
            return 0
        return connection.sender.rescue(state.room, now, bounded)

    def flight(self, path: Hashable) -> FlightMeasures:
        """Return what is under way on a path."""
        state, connection = self._states.find(path), self._of_path.get(path)
        if state is None:
            return FlightMeasures()
        room = state.room
        oldest, sender = room.flight.oldest(), connection.sender if connection is not None else None
        return FlightMeasures(
            octets=room.flight.octets,
            packets=room.flight.packets,
            oldest=oldest.sent if oldest is not None else None,
            queue_octets=sender.waiting_octets if sender is not None else 0,
            queue_packets=sender.waiting if sender is not None else 0,
            resent=room.resent,
            copies=room.copies,
            lost=room.flight.lost,
            limited_at=room.limited_at,
            reported_at=room.reported_at,
            sent=room.sent,
            received=room.received,
        )

    def counters(self, connection: Hashable) -> AdaptiveCounters:
        """Return the counts of the sending side of a connection."""
        found = self._connections.get(connection)
        return found.sender.counters() if found is not None and found.sender is not None else AdaptiveCounters()

    def waiting(self) -> int:
        """Return how many packets wait in all queues."""
        return sum(each.sender.waiting for each in self._connections.values() if each.sender is not None)

    def drops(self) -> dict[str, int]:
        """Return the packets that the queues have dropped, by reason."""
        total = Counter(self._dropped)
        for each in self._connections.values():
            if each.sender is not None:
                total.update(each.sender.drops())
        return total


def _round_trip(record: feedback.Record, now: float) -> float | None:
    """Return the round trip of the newest datagram of a path that has arrived, in seconds; None: it is not known."""
    if record.held is None:
        return None
    ticks = (stamp(now) - record.echo - record.held) & 0xFFFF
    return ticks / STAMPS_A_SECOND if ticks < LONGEST_ROUND else None

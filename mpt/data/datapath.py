"""The seam between control and the packets: the DataPath interface, and the data path in plain Python.

There is one data path a tunnel. The seam is crossed once a wake-up, not once a packet: the reactor says that a
descriptor is readable, and the data path does a bounded batch of work. `now` is monotonic seconds.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from secrets import token_bytes
from typing import Any, Protocol

from mpt.data.adaptives import Adaptives
from mpt.data.counters import Counters
from mpt.data.egress import Egress
from mpt.data.events import Event
from mpt.data.flowkeys import FlowKeys
from mpt.data.ingress import Ingress
from mpt.data.opening import Opening
from mpt.data.pathstate import PathMeasures, PathStates
from mpt.data.pathtable import DataSocket, Table
from mpt.data.scheduler import WeightedCycle
from mpt.data.sender import Scheduler
from mpt.data.sessions import Sessions
from mpt.data.transmit import send_message
from mpt.limits import AdaptiveCounters, FlightMeasures, OrderLimits, PathLimits
from mpt.wire.seal import SessionKeys


class DataPath(Protocol):
    """The interface of every data path. It is handed file descriptors and never opens or closes one of them."""

    def tun_readable(self, now: float) -> None:
        """Send the packets that wait in the TUN, up to a bound. It may serve everything else that is ready, too."""

    def socket_readable(self, socket: DataSocket, now: float) -> None:
        """Deliver the datagrams that wait in `socket`, up to a bound. It may serve everything else ready, too."""

    def deadline_reached(self, now: float) -> None:
        """Deliver the packets that have waited long enough; woken early, do nothing."""

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` is due, or None while nothing waits."""

    def set_table(self, table: Table, now: float) -> None:
        """Use these connections and paths from now on. A connection that stays keeps its sequence numbers and held
        packets; the state of a path outlives every table."""

    def set_shares(self, shares: Mapping[Hashable, int], now: float) -> None:
        """Change the weights of paths by their keys, 1 .. 10000, or 0: not used. Other paths keep their weights.

        Cheap, for ten times a second and more: no cache is dropped, no socket touched. The next table has its own.
        """

    def set_path_mtus(self, mtus: Mapping[Hashable, int], now: float) -> None:
        """Change how large a packet each path carries, by its key: octets, or 0: unknown. Other paths keep theirs.

        As cheap as `set_shares`. The next table has its own.
        """

    def send(
        self, path: Hashable, message: bytes, now: float, to: tuple[DataSocket, tuple[Any, ...]] | None = None
    ) -> bool:
        """Send a message over a path, whether it is usable or not: at once or not at all. Return whether it went.

        On a sealed path the message is sealed with the session that seals now; with `to` it goes over this socket to
        this address instead of the path's.
        """

    def take_events(self) -> Sequence[Event]:
        """Return the messages, reports and other events since the last call; call it after every other method."""

    # Sealed connections. What follows is kept beside the table, by the key of the connection, and outlives every table
    # in which the connection stays sealed.

    def set_identity(self, mac1_key: bytes | None, token_key: bytes) -> None:
        """Take first handshake datagrams whose mac1 has this key, ours; None, at first: take none.

        Of too many a few are told, and the others answered with tokens of `token_key`, of 32 octets."""

    def expect(self, answers: Mapping[int, bytes]) -> None:
        """Take handshake datagrams, and retries, that name one of these session indexes of ours alone: to each the mac1
        key of the responder's public key."""

    def add_session(self, connection: Hashable, keys: SessionKeys, now: float) -> None:
        """Open datagrams of the session from now on. `keys` are taken: wiped, so nobody adds them a second time.

        Raises KeyError if the table has no such sealed connection, ValueError if the index is in use or the keys were
        taken before; then nothing has changed.
        """

    def send_with(self, connection: Hashable, index: int | None, now: float) -> None:
        """Seal with the session `index` (ours) from now on. None, at first: with none; then packets are dropped and
        messages not sent. Raises KeyError if the connection has no such session; then nothing has changed."""

    def end_session(self, connection: Hashable, index: int) -> None:
        """Forget a session and its keys; do nothing if there is none. A connection that leaves the table, or is sealed
        no more, ends all its sessions."""

    def set_remote(self, path: Hashable, socket: DataSocket, remote: tuple[Any, ...], now: float) -> None:
        """Send the datagrams of a sealed path over `socket` to `remote` from now on; do nothing for other paths. Cheap.

        The next table has its own; control gives the same there.
        """

    def send_raw(self, socket: DataSocket, remote: tuple[Any, ...], datagram: bytes) -> bool:
        """Send a handshake datagram as it is, at once or not at all. Return whether it went."""

    def sent_numbers(self, connection: Hashable) -> int:
        """Return the largest number that a path has used with the session that seals now; 0 without one."""

    # Adaptive connections (`ConnectionRow.adaptive`): the data path measures and moves, control decides. What follows
    # is kept by the keys of paths and connections, and outlives every table, as the state of a path does.

    def set_limits(
        self, limits: Mapping[Hashable, PathLimits], orders: Mapping[Hashable, OrderLimits], now: float
    ) -> None:
        """Change the limits of paths, by their keys, and of the order of connections, by theirs; others keep theirs.
        New ones have `START_LIMITS` and `START_ORDER`. Packets that have room now are sent. Cheap, for a hundred times
        a second."""

    def rescue(self, path: Hashable, now: float, bounded: bool = False) -> int:
        """Send everything under way over `path` again over other live paths, if it is repaired and not too old;
        `bounded`: no more than repair may take. Return how many packets that were."""

    def flight(self, path: Hashable) -> FlightMeasures:
        """Return what is under way on `path`; cheap."""

    def adaptive_counters(self, connection: Hashable) -> AdaptiveCounters:
        """Return what happened to the packets of an adaptive connection since its beginning."""

    def counters(self) -> Counters:
        """Return a snapshot of everything counted since the start."""

    def offloads(self) -> frozenset[str]:
        """Return the offloads that the kernel and the links have not refused: "vnet_hdr", "join_tcp", "join_udp",
        "udp_segment". Cheap."""

    def ecn_unexpected(self) -> int:
        """Return `counters().ecn_unexpected`, without copying the rest."""

    def measured(self, path: Hashable) -> PathMeasures:
        """Return the measures of `path`, which outlive every table; cheap."""

    def close(self) -> None:
        """Deliver the held packets and let go of everything."""


class PythonDataPath:
    """The reference: one packet at a time, read, decided and written in Python.

    With `gso` the kernel may join received datagrams: many come in one system call.
    """

    def __init__(
        self,
        tun: int,
        gso: bool = True,
        read: Callable[[int, int], bytes] = os.read,
        write: Callable[[int, bytes], int] = os.write,
        scheduler: Scheduler = WeightedCycle,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._states = PathStates()
        self._sessions = Sessions()
        self._events: list[Event] = []
        keys = FlowKeys(token_bytes(16))
        self._opening = Opening(self._sessions, self._events)
        self._egress = Egress(tun, read, write, scheduler, self._sessions, keys)
        self._ingress = Ingress(tun, write, wall, gso, self._opening, self._events)
        self._adaptives = Adaptives(
            self._egress, keys, self._sessions, self._states, self._ingress.set_order, self._events
        )
        self._opening.measures = self._adaptives

    def tun_readable(self, now: float) -> None:
        self._egress.tun_readable(now)
        self._adaptives.go(now)

    def socket_readable(self, socket: DataSocket, now: float) -> None:
        self._ingress.socket_readable(socket, now)
        self._adaptives.go(now)

    def deadline_reached(self, now: float) -> None:
        self._ingress.deadline_reached(now)
        self._adaptives.go(now)

    def next_deadline(self) -> float | None:
        held, due = self._ingress.next_deadline(), self._adaptives.next_deadline()
        return due if held is None else held if due is None else min(held, due)

    def set_table(self, table: Table, now: float) -> None:
        for row in table:
            for path in row.paths:
                self._states.ensure(path.key)
        self._sessions.set_table(table)
        self._opening.set_table(table)
        self._egress.set_table(table, self._states)
        self._ingress.set_table(table, self._states, now)
        self._adaptives.set_table(table, now)
        self._adaptives.go(now)

    def set_shares(self, shares: Mapping[Hashable, int], now: float) -> None:
        self._egress.set_shares(shares)
        self._ingress.set_shares(shares, now)
        self._adaptives.go(now)

    def set_path_mtus(self, mtus: Mapping[Hashable, int], now: float) -> None:
        self._egress.set_path_mtus(mtus)
        self._adaptives.go(now)

    def send(
        self,
        path: Hashable,
        message: bytes,
        now: float,
        to: tuple[DataSocket, tuple[Any, ...]] | None = None,
    ) -> bool:
        return self._egress.send(path, message, now, to)

    def take_events(self) -> Sequence[Event]:
        taken = self._events.copy()
        self._events.clear()
        return taken

    def set_identity(self, mac1_key: bytes | None, token_key: bytes) -> None:
        self._opening.gate.set_identity(mac1_key, token_key)

    def expect(self, answers: Mapping[int, bytes]) -> None:
        self._opening.gate.expect(answers)

    def add_session(self, connection: Hashable, keys: SessionKeys, now: float) -> None:  # noqa: ARG002
        self._sessions.add(connection, keys)

    def send_with(self, connection: Hashable, index: int | None, now: float) -> None:
        self._sessions.send_with(connection, index)
        self._adaptives.go(now)

    def end_session(self, connection: Hashable, index: int) -> None:
        self._sessions.end(connection, index)

    def set_remote(
        self,
        path: Hashable,
        socket: DataSocket,
        remote: tuple[Any, ...],
        now: float,
    ) -> None:
        self._opening.set_remote(path, socket, remote)
        self._egress.set_remote(path, socket, remote)
        self._ingress.set_remote(path, remote)
        self._adaptives.moved(path, now)
        self._adaptives.go(now)

    def send_raw(self, socket: DataSocket, remote: tuple[Any, ...], datagram: bytes) -> bool:
        return send_message(socket, datagram, remote, 0)

    def sent_numbers(self, connection: Hashable) -> int:
        session = self._sessions.sealing(connection)
        return session.sent_numbers() if session is not None else 0

    def set_limits(
        self, limits: Mapping[Hashable, PathLimits], orders: Mapping[Hashable, OrderLimits], now: float
    ) -> None:
        self._adaptives.set_limits(limits, orders, now)

    def rescue(self, path: Hashable, now: float, bounded: bool = False) -> int:
        return self._adaptives.rescue(path, now, bounded)

    def flight(self, path: Hashable) -> FlightMeasures:
        return self._adaptives.flight(path)

    def adaptive_counters(self, connection: Hashable) -> AdaptiveCounters:
        counters, playout = self._adaptives.counters(connection), self._ingress.playout(connection)
        if playout is None:
            return counters
        return counters._replace(
            copies_dropped=playout.copies,
            late=playout.late,
            skipped=playout.skipped,
            held=playout.held,
            holds=tuple(playout.holds),
        )

    def counters(self) -> Counters:
        return Counters(
            packets_read=self._egress.packets_read,
            packets_waiting=self._adaptives.waiting(),
            egress_dropped={
                reason: count
                for reason, count in (self._egress.dropped + Counter(self._adaptives.drops())).items()
                if count
            },
            datagrams_received=self._ingress.datagrams_received,
            keepalives_received=self._ingress.keepalives_received + self._opening.keepalives_received,
            messages_received=self._opening.messages_received,
            handshakes_received=self._opening.handshakes_received,
            packets_delivered=self._ingress.packets_delivered,
            packets_held=self._ingress.held(),
            ecn_unexpected=self._ingress.ecn_unexpected,
            ingress_dropped=self._ingress.drops(),
            paths={
                key: replace(state.counters, send_errors=state.counters.send_errors.copy())
                for key, state in self._states
            },
        )

    def offloads(self) -> frozenset[str]:
        return frozenset()

    def ecn_unexpected(self) -> int:
        return self._ingress.ecn_unexpected

    def measured(self, path: Hashable) -> PathMeasures:
        state = self._states.find(path)
        return state.measures() if state is not None else PathMeasures()

    def close(self) -> None:
        self.set_table((), 0.0)

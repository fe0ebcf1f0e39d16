"""The seam between control and the packets: the DataPath interface, and the data path in plain Python.

There is one data path a tunnel. The seam is crossed once a wake-up, not once a packet: the reactor says that a
descriptor is readable, and the data path does a bounded batch of work. `now` is monotonic seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from mpt.data.counters import Counters
from mpt.data.egress import Egress, Scheduler
from mpt.data.framing import Message
from mpt.data.ingress import Ingress
from mpt.data.pathstate import PathMeasures, PathStates
from mpt.data.pathtable import DataSocket, Table
from mpt.data.scheduler import WeightedCycle


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

    def send(self, path: Hashable, message: bytes, now: float) -> bool:
        """Send a message over a path, whether it is usable or not: at once or not at all. Return whether it went."""

    def take_events(self) -> Sequence[Message]:
        """Return the messages that have come since the last call; call it after every other method."""

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
    ) -> None:
        self._egress = Egress(tun, read, scheduler)
        self._ingress = Ingress(tun, write, gso)
        self._states = PathStates()

    def tun_readable(self, now: float) -> None:  # noqa: ARG002  # of the interface: the native one needs it
        self._egress.tun_readable()

    def socket_readable(self, socket: DataSocket, now: float) -> None:
        self._ingress.socket_readable(socket, now)

    def deadline_reached(self, now: float) -> None:
        self._ingress.deadline_reached(now)

    def next_deadline(self) -> float | None:
        return self._ingress.next_deadline()

    def set_table(self, table: Table, now: float) -> None:
        for row in table:
            for path in row.paths:
                self._states.ensure(path.key)
        self._egress.set_table(table, self._states)
        self._ingress.set_table(table, self._states, now)

    def set_shares(self, shares: Mapping[Hashable, int], now: float) -> None:
        self._egress.set_shares(shares)
        self._ingress.set_shares(shares, now)

    def send(self, path: Hashable, message: bytes, now: float) -> bool:  # noqa: ARG002  # of the interface
        return self._egress.send(path, message)

    def take_events(self) -> Sequence[Message]:
        return self._ingress.take_events()

    def counters(self) -> Counters:
        return Counters(
            packets_read=self._egress.packets_read,
            egress_dropped=dict(self._egress.dropped),
            datagrams_received=self._ingress.datagrams_received,
            keepalives_received=self._ingress.keepalives_received,
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
        self._egress.set_table((), self._states)
        self._ingress.set_table((), self._states, 0.0)

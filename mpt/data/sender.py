"""The egress side of one connection: its paths by share and size, and what is right for every packet of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from secrets import randbits
from typing import Any, Protocol

from mpt.data.counters import PathCounters
from mpt.data.flowmap import FlowMap
from mpt.data.framing import Sealed
from mpt.data.pathstate import PathStates
from mpt.data.pathtable import ANY_SIZE, ConnectionRow, DataSocket
from mpt.data.rooms import Room
from mpt.data.toobig import LEAST_IPV6
from mpt.wire import tos


class Cycle(Protocol):
    """An endless sequence of the indices of paths, as `mpt.data.scheduler.WeightedCycle` is one."""

    def __next__(self) -> int: ...

    def next_of(self, fitting: Container[int], /) -> int | None:
        """Return the first of the next indices that is in `fitting`; None: there is none."""


Scheduler = Callable[[Sequence[tuple[int, int]]], Cycle]


@dataclass(frozen=True, slots=True)
class Way:
    """The egress side of one path, in the row of its connection at `index`. It is open if there is a socket, and the
    peer's address is known."""

    index: int
    id: int
    socket: DataSocket | None
    remote: tuple[Any, ...]
    counters: PathCounters
    room: Room


# Take a packet that at least one open path carries; with the index of the path to which its flow is mapped, or None.
Offer = Callable[[bytes, int | None, float], None]

OpenPath = tuple[DataSocket, tuple[Any, ...], PathCounters, int, Room]


class Sender:
    """The egress side of one connection; the sequence numbers outlive changes of the table."""

    __slots__ = (
        "_scheduler",
        "_sizes",
        "_weights",
        "connection",
        "cycle",
        "flow_map",
        "has_keys",
        "is_sealed",
        "message_tos",
        "narrowest",
        "numbers",
        "offer",
        "paths",
        "tos_by_inner",
        "ways",
        "widest",
    )

    def __init__(self, scheduler: Scheduler) -> None:
        self._weights: dict[int, int] = {}  # of the paths that may be used, by their index
        self._scheduler = scheduler
        self.numbers: defaultdict[int | None, int] = defaultdict(int)  # the next one, by key; None: of the connection
        self.offer: Offer | None = None  # takes the packets instead of the cycle (`mpt.data.adaptive`)

    def configure(self, row: ConnectionRow, states: PathStates) -> None:
        """Send as `row` says from now on."""
        self.connection = row
        # An adaptive peer takes a number far away for that of a restarted process (`mpt.data.playout`).
        self.numbers.default_factory = int if row.adaptive is None else partial(randbits, 32)
        self._sizes = {index: path.mtu or ANY_SIZE for index, path in enumerate(row.paths)}
        self.is_sealed = isinstance(row.framing, Sealed)
        self.has_keys = isinstance(row.framing, Sealed) and row.framing.order == "flow"
        self.ways = {
            path.key: Way(index, path.id, path.socket, path.remote, state.counters, state.room)
            for index, path in enumerate(row.paths)
            for state in (states.ensure(path.key),)
        }
        self._share_out({index: path.weight for index, path in enumerate(row.paths) if path.usable})
        self.message_tos = (row.dscp or 0) << 2
        by_inner = tos.encapsulated(row.dscp, row.ecn)
        self.tos_by_inner = (
            by_inner if any(by_inner) else None
        )  # None, the usual case: the socket's 0 is right for every packet
        self.flow_map = FlowMap([path.ports for path in row.paths]) or None  # None: no look-up for every packet

    def outer_tos(self, packet: bytes) -> int:
        """Return the TOS octet of the datagram of `packet`."""
        return self.tos_by_inner[tos.octet(packet)] if self.tos_by_inner is not None else 0

    def set_shares(self, shares: dict[Hashable, int]) -> None:
        """Use paths with these weights from now on; 0: not used."""
        weights = dict(self._weights)
        for path, weight in shares.items():
            if path in self.ways:
                weights[self.ways[path].index] = weight
        if weights != self._weights:
            self._share_out({index: weights[index] for index in sorted(weights) if weights[index]})

    def set_remote(self, path: Hashable, socket: DataSocket, remote: tuple[Any, ...]) -> None:
        """Send the datagrams of `path` there from now on."""
        self.ways[path] = replace(self.ways[path], socket=socket, remote=remote)
        before = self.paths
        self._open_paths()
        if self.paths.keys() != before.keys():
            self._share_out(self._weights)

    def _share_out(self, weights: dict[int, int]) -> None:
        self._weights = weights
        self._open_paths()
        self.cycle = self._scheduler([(index, weight) for index, weight in weights.items() if index in self.paths])

    def _open_paths(self) -> None:
        """Find the paths that carry packets, by their index: socket, remote address, counters, id, room."""
        self.paths = {
            way.index: (way.socket, way.remote, way.counters, way.id, way.room)
            for way in self.ways.values()
            if way.index in self._weights and way.socket is not None and way.remote
        }
        self._measure()

    def set_path_mtus(self, mtus: dict[Hashable, int]) -> None:
        """Send no larger packets over these paths from now on; 0: of any size."""
        for path, mtu in mtus.items():
            self._sizes[self.ways[path].index] = mtu or ANY_SIZE
        self._measure()

    def _measure(self) -> None:
        sizes = [self._sizes[index] for index in self.paths]
        self.narrowest, self.widest = min(sizes, default=ANY_SIZE), max(sizes, default=ANY_SIZE)

    def fitting(self, size: int) -> dict[int, OpenPath]:
        """Return the paths that carry a packet of `size` octets.

        For IPv6, every link carries 1280 (RFC 8200 section 5): if no path does, the widest has to.
        """
        if size <= LEAST_IPV6 and self.connection.tunnel_local.version == 6:
            size = min(size, self.widest)
        return {index: path for index, path in self.paths.items() if size <= self._sizes[index]}

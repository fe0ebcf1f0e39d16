"""How large a datagram each path of a plain connection carries: padded keepalives find it, where the peer is mpt.

A line that is too narrow, and whose routers say nothing, loses the large packets alone. The search is
`mpt.control.pathmtu`, as on sealed paths. Each end answers probes, whether it sends any or not. Probes of NAMES, which
is less than any datagram has, ask for the round trip alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, Final

from twisted.logger import Logger

from mpt.control.admission import Allowance, Bucket
from mpt.control.pathmtu import SMALL
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.pathsizes import HEADERS, PathSizes
from mpt.daemon.roundtrips import RoundTrips
from mpt.data.datapath import DataPath
from mpt.data.pathstate import PathMeasures
from mpt.model import ConnectionConfig, Status
from mpt.wire import sizeprobe
from mpt.wire.command import keepalive

log = Logger()

APART: Final = 0.1  # s between the probes of a round: of the keepalives of one wake-up control sees only the first
NAMES: Final = range(1, SMALL)  # sizes
ANSWERS: Final = Allowance(rate=20.0, burst=20.0)
PathKey = tuple[str, int]


class SizeProbes:
    """The paths of the connection `config`, on a tunnel of this `mtu`.

    `send(path key, message)` sends a message, `measured(path key)` returns a path's measures. `datapath()` returns the
    data path with its newest table, which is told how large a packet each path carries.
    """

    def __init__(
        self,
        machine: Machine,
        config: ConnectionConfig,
        mtu: int,
        paths: Sequence[Path],
        send: Callable[[PathKey, bytes], object],
        measured: Callable[[PathKey], PathMeasures],
        datapath: Callable[[], DataPath | None],
    ) -> None:
        self._machine = machine
        self._paths = paths
        self._send = send
        self._datapath = datapath
        self._mtu = mtu
        self._keepalive = keepalive(config.ip_ver, config.ip_local, config.ip_remote)
        self._frame = 8 if config.reorder_window else 4
        self._answers = Bucket(ANSWERS, machine.now())
        self._sizes: PathSizes | None = None
        self._names: defaultdict[Path, Iterator[int]] = defaultdict(lambda: cycle(NAMES))
        self._round_trips = RoundTrips(machine, paths, self._ask)
        if config.size_probe:
            self._sizes = PathSizes(machine, self._frame, self._send_later, measured, self._changed, self._probe)
        self._working: dict[int, object] = {}  # the sockets of the paths that are probed
        self._told: dict[PathKey, int] = {}  # the largest packets that the log knows
        self._calls: set[Any] = set()

    def start(self) -> None:
        """Begin to ask for round trips, if the peer is mpt."""
        if self._sizes is not None:
            self._round_trips.start()

    def follow(self) -> None:
        """Note that the status or the socket of a path may have changed."""
        if self._sizes is None:
            return
        for index, path in enumerate(self._paths):
            works = path.port if path.status is Status.OK and path.heard_at is not None else None
            if works is self._working.get(index):
                continue
            self._working[index] = works
            if works is None:
                self._sizes.end(path.key)
            else:  # what the interface cannot send whole it sends in fragments, which may pass
                version = path.config.ip_ver
                self._sizes.begin(path.key, self._mtu + self._frame + HEADERS[version], version)

    def doubt(self) -> None:
        """Note that links or routes of this host have changed: large datagrams may be lost where they passed before."""
        for index, path in enumerate(self._paths):
            if self._sizes is not None and self._working.get(index) is not None:
                self._sizes.doubt(path.key)

    def received(self, path: PathKey, message: bytes) -> None:
        """Note a keepalive: answer a probe, believe an answer."""
        self.follow()  # it may be the first
        tail = sizeprobe.decode(message)
        if tail is None:
            return
        if tail.is_answer:
            if self._sizes is not None and not self._round_trips.answered(self._paths[path[1]], tail.size):
                self._sizes.seen(path, tail.size)
        elif self._answers.take(ANSWERS, self._machine.now()):
            self._send(path, sizeprobe.answer(self._keepalive, tail.size))

    def stop(self) -> None:
        """Probe no more."""
        self._round_trips.stop()
        if self._sizes is not None:
            self._sizes.stop()
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        self._working.clear()

    def _ask(self, path: Path) -> int:
        name = next(self._names[path])
        self._send(path.key, self._probe(name))
        return name

    def _probe(self, size: int) -> bytes:
        return sizeprobe.probe(self._keepalive, size)

    def _send_later(self, path: PathKey, message: bytes) -> None:
        """Send the large probe of a round at once, the small one a little later."""
        if message != self._probe(SMALL):
            self._send(path, message)
            return

        def send() -> None:
            self._calls.discard(call)
            self._send(path, message)

        call = self._machine.reactor.callLater(APART, send)
        self._calls.add(call)

    def _changed(self, mtus: Mapping[PathKey, int]) -> None:
        """Let the data path know, and the log, if a path carries less than it should, or all of it again."""
        known: dict[Hashable, int] = {}
        for key, mtu in mtus.items():
            known[key] = self._paths[key[1]].mtu = mtu
        datapath = self._datapath()
        if datapath is not None:
            datapath.set_path_mtus(known, self._machine.now())
        for path in self._paths:
            before = self._told.get(path.key, self._mtu)
            if path.mtu in (0, before) or (path.mtu < self._mtu and not self._is_settled(path.key)):
                continue
            self._told[path.key] = path.mtu
            if path.mtu < self._mtu:
                text = "{path}: datagrams of more than {size} octets are lost on the way: it gets packets up to {mtu}"
                log.warn(text, path=path, size=path.mtu + self._frame, mtu=path.mtu)
            else:
                log.info("{path}: it carries packets of {mtu} octets again", path=path, mtu=path.mtu)

    def _is_settled(self, path: PathKey) -> bool:
        return self._sizes is not None and self._sizes.is_settled(path)

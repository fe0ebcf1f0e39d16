"""Adaptive connections for the contract tests: rows, packets, and a peer that the test plays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import count
from typing import Any, NamedTuple

from mpt.data.framing import Sealed
from mpt.data.pathtable import Adaptive, ConnectionRow
from mpt.limits import OrderLimits, PathLimits, Report
from mpt.testing.datapath import LOCAL, REMOTE, Stage, connection_row, packet, path_row
from mpt.testing.session import PeerSession
from mpt.wire import gre, ip
from mpt.wire.feedback import FEEDBACK, Feedback, Record, decode, encode
from mpt.wire.seal import stamp
from tests.contract.sealed import begin

HOSTS = ("10.1.1.3", "10.2.2.3", "10.3.3.3")  # of the peer, path by path
UNORDERED = 4096
WIDE = PathLimits(window=1 << 30, rate=1e9)
ACK, SYN = 0x10, 0x02


def bulk(number: int, size: int = 1000, port: int = 4000, tos: int = 0, **changes: Any) -> bytes:
    """A UDP packet of `size` octets that can be told apart."""
    head = port.to_bytes(2, "big") + b"\0\x50" + number.to_bytes(8, "big")
    source, destination = changes.get("source", LOCAL), changes.get("destination", REMOTE)
    return packet(source, destination, head.ljust(size - 20, b"\0"), ip.UDP, tos)


def tcp(number: int, flags: int = ACK, payload: bytes = b"data", **changes: Any) -> bytes:
    """A TCP packet that can be told apart."""
    head = b"\x10\0\0\x50" + number.to_bytes(8, "big") + bytes((5 << 4, flags)) + bytes(6)
    return packet(changes.get("source", LOCAL), changes.get("destination", REMOTE), head + payload, ip.TCP)


def number_of(each: bytes) -> int:
    """Return the number of a packet that `bulk` or `tcp` made."""
    return int.from_bytes(each[24:32], "big")


class Sent(NamedTuple):
    """A datagram that came to the peer: with a packet and the header before it, or with a message."""

    path: int
    number: int
    key: int | None
    sequence: int | None
    packet: bytes
    message: bytes = b""


def adaptive_row(
    *paths: Any, sends: bool = True, adaptive: Mapping[str, Any] | None = None, **changes: Any
) -> ConnectionRow:
    """An adaptive connection; nothing is thin unless `adaptive` says so."""
    settings = {"thin": 0, **(adaptive or {})}
    changes = {"window": 256, "max_delay": 0.5, "framing": Sealed("flow"), **changes}
    return connection_row(*paths, adaptive=Adaptive(sends, **settings), **changes)


class Peer:
    """The other end of a connection "c" whose paths are the numbers 0, 1, ...; path 0 is the fastest."""

    def __init__(self, stage: Stage, paths: int = 2, session: bool = True, **changes: Any) -> None:
        self.stage = stage
        self.sockets = [stage.new_socket() for _ in range(paths)]
        self.row = adaptive_row(
            *(path_row(each, self.sockets[each], HOSTS[each], id=each) for each in range(paths)), **changes
        )
        stage.set_table(self.row)
        self.limit(*(WIDE for _ in range(paths)))
        self._clock = count(1)
        if session:
            self.session = begin(stage)
        self.other_sessions: list[PeerSession] = []

    def limit(self, *limits: PathLimits, order: OrderLimits | None = None) -> None:
        """Give the paths these limits; each has its own line, and is slower than the one before."""
        ranked: dict[Hashable, PathLimits] = {
            each: value._replace(line=each, delay=0.01 * (each + 1)) for each, value in enumerate(limits)
        }
        self.stage.datapath.set_limits(ranked, {"c": order} if order is not None else {}, self.stage.now)

    def renew(self) -> None:
        """Begin a new session; the old one is still open."""
        self.other_sessions.append(self.session)
        self.session = begin(self.stage)

    def came(self, *paths: int, session: PeerSession | None = None) -> list[Sent]:
        """What came over these paths since the last call, or over all of them; by path and number."""
        found = []
        for path in paths or range(len(self.sockets)):
            for datagram, _ in self.sockets[path].sent():
                opened = (session or self.session).open(datagram)
                if opened.content[0] & 0x40:
                    found.append(Sent(opened.path_id, opened.number, None, None, b"", opened.content))
                else:
                    header = gre.decode(opened.content)
                    inner = opened.content[header.length :]
                    found.append(Sent(opened.path_id, opened.number, header.key, header.sequence, inner))
        return sorted(found, key=lambda each: each[:2])

    def packets(self, *paths: int) -> list[Sent]:
        """The packets among them."""
        return [each for each in self.came(*paths) if each.packet]

    def reports(self, *paths: int) -> list[Feedback]:
        """The reports among them."""
        return [decode(each.message) for each in self.came(*paths) if each.message[:1] == bytes((FEEDBACK,))]

    # --- to the data path ---

    def deliver(self, path: int, content: bytes, number: int | None = None, sent: float | None = None) -> list[bytes]:
        """Let a datagram of the peer arrive; return the packets that are delivered then."""
        at = stamp(self.stage.now if sent is None else sent)
        datagram = self.session.seal(content, path, number, at)
        return self.stage.receive(self.sockets[path], datagram, host=HOSTS[path])

    def packet(self, path: int, sequence: int, inner: bytes, key: int | None = 7, **how: Any) -> list[int]:
        """Let a packet of the peer arrive; return the numbers of those that are delivered then."""
        content = gre.encode(4, sequence & 0xFFFFFFFF, key) + inner
        return [number_of(each) for each in self.deliver(path, content, **how)]

    def wait(self, seconds: float) -> list[int]:
        """Let time go by; return the numbers of the packets that are delivered."""
        return [number_of(each) for each in self.stage.wait(seconds)]

    def report(
        self,
        path: int,
        settled: int,
        *ranges: tuple[int, int],
        over: int | None = None,
        session: PeerSession | None = None,
        clock: int | None = None,
        **changes: Any,
    ) -> list[Report]:
        """Let the peer report on a path; return the reports that control gets."""
        about = session or self.session
        values: dict[str, Any] = {"packets": 0, "octets": 0, "least": 0, "median": 0, "echo": 0, "held": None}
        record = Record(about.peer_index, path, settled & 0xFFFFFFFF, ranges=ranges, **(values | changes))
        message = encode(Feedback(1600, None, next(self._clock) * 1000 if clock is None else clock, (record,)))
        self.deliver(path if over is None else over, message)
        return self.told()

    def order(self, hold: float, playout: int | None = None, acks: bool = False) -> None:
        """Let the peer say how its data is put in order."""
        self.deliver(0, encode(Feedback(int(hold * 16_000), playout, next(self._clock) * 1000, (), acks)))

    def told(self) -> list[Report]:
        """The reports that control got since the last call."""
        return [event for event in self.stage.datapath.take_events() if isinstance(event, Report)]


def from_peer(number: int, **changes: Any) -> bytes:
    """A packet of the peer."""
    return bulk(number, source=REMOTE, destination=LOCAL, **changes)

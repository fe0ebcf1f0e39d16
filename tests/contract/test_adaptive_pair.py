"""Two adaptive ends with any network between them: what always holds (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt.data.pathtable import ClassRule
from mpt.data.playout import PLAYOUT
from mpt.limits import OrderLimits, PathLimits
from mpt.testing.datapath import LOCAL, REMOTE, Stage, closing, path_row
from mpt.testing.session import PeerSession
from mpt.wire import gre
from tests.contract.adaptive import HOSTS, UNORDERED, adaptive_row, bulk, number_of, tcp
from tests.contract.conftest import ADAPTING, DATA_PATHS

HOLD = 0.12
START = 1000.0
ROUNDING = 1e-6
MEMORY, NATIVE = "python in memory", "native on loopback"
EXAMPLES = 100 if settings().max_examples <= 200 else settings().max_examples
ENDS = [(MEMORY, MEMORY), *([(NATIVE, MEMORY), (MEMORY, NATIVE)] if NATIVE in ADAPTING else [])]
NARROW = PathLimits(window=6000, rate=1e6, rto=0.15)
WIDE = NARROW._replace(window=60_000)


@dataclass
class Fate:
    """What becomes of a datagram: the delays of its copies, none: it is lost."""

    delays: tuple[float, ...]


@dataclass
class Pair:
    """A sender, a receiver, and datagrams under way between them, with the fates in turn."""

    stages: list[Stage]
    fates: list[Fate]
    playout: int | None = None
    limits: PathLimits = NARROW

    def __post_init__(self) -> None:
        self.now = START
        self.session = PeerSession()
        self.sockets: list[list[Any]] = []
        self.under_way: list[tuple[float, int, int, int, bytes]] = []
        self.count, self.fate = count(), cycle(self.fates or [Fate((0.01,))])
        self.came: dict[bytes, float] = {}
        self.headers: dict[bytes, tuple[int, int]] = {}
        self.delivered: list[tuple[bytes, float]] = []
        rules = (ClassRule(dscps=frozenset({46}), copies=2),)
        for stage, local, peer in zip(self.stages, (LOCAL, REMOTE), (REMOTE, LOCAL), strict=True):
            wans = [stage.new_socket() for _ in (0, 1)]
            self.sockets.append(wans)
            rows = [path_row(each, wans[each], HOSTS[each], id=each) for each in (0, 1)]
            adaptive = {"thin": 2000, "classes": rules, "queue_packets": 12}
            stage.set_table(adaptive_row(*rows, local=local, remote=peer, adaptive=adaptive))
            limits: dict[Hashable, PathLimits] = {
                each: self.limits._replace(line=each, delay=0.01 + 0.02 * each) for each in (0, 1)
            }
            stage.datapath.set_limits(limits, {"c": OrderLimits(HOLD, self.playout)}, self.now)
        for stage, keys, index in zip(
            self.stages,
            (self.session.keys(), self.session.peer_keys()),
            (self.session.index, self.session.peer_index),
            strict=True,
        ):
            stage.datapath.add_session("c", keys, self.now)
            stage.datapath.send_with("c", index, self.now)

    def send(self, each: bytes) -> None:
        self.stages[0].tun.inject(each)
        self.stages[0].datapath.tun_readable(self.now)
        self.carry()

    def carry(self) -> None:
        """Put what was sent under way, and note what was delivered."""
        for end, wans in enumerate(self.sockets):
            for path, wan in enumerate(wans):
                for datagram, _ in wan.sent():
                    for delay in next(self.fate).delays:
                        heappush(self.under_way, (self.now + delay, next(self.count), 1 - end, path, datagram))
        self.delivered += [(each, self.now) for each in self.stages[1].tun.delivered()]

    def arrive(self, end: int, path: int, datagram: bytes) -> None:
        if end == 1:
            content = self.session.open(datagram).content
            if not content[0] & 0x40:
                header = gre.decode(content)
                assert header.key is not None and header.sequence is not None
                inner = content[header.length :]
                self.came.setdefault(inner, self.now)
                assert self.headers.setdefault(inner, (header.key, header.sequence)) == (header.key, header.sequence)
        self.sockets[end][path].deliver(datagram, HOSTS[path])
        self.stages[end].datapath.socket_readable(self.sockets[end][path], self.now)
        self.carry()

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [stage.datapath.next_deadline() for stage in self.stages]
            arrival = self.under_way[0][0] if self.under_way else None
            coming = min((each for each in (*due, arrival) if each is not None), default=end)
            if coming >= end:
                break
            self.now = max(self.now, coming)
            if arrival is not None and arrival <= self.now:
                _, _, to, path, datagram = heappop(self.under_way)
                self.arrive(to, path, datagram)
            for stage, deadline in zip(self.stages, due, strict=True):
                if deadline is not None and deadline <= self.now:
                    stage.datapath.deadline_reached(self.now)
                    self.carry()
            for stage in self.stages:
                stage.datapath.take_events()
        self.now = end
        for stage in self.stages:
            stage.now = end

    def check(self) -> None:
        """What always holds at the end of a run."""
        packets = [each for each, _ in self.delivered]
        assert len(packets) == len(set(packets)), "a packet twice"
        assert set(packets) == set(self.came), "a packet that came and was not delivered"
        newest: dict[int, int] = {}
        late = 0
        for each in packets:
            key, sequence = self.headers[each]
            if key != UNORDERED:
                ahead = (sequence - newest.get(key, sequence) + 2**31) % 2**32 - 2**31
                late += ahead < 0
                if ahead >= 0:
                    newest[key] = sequence
        counters = self.stages[1].datapath.adaptive_counters("c")
        assert late <= counters.late
        longest = max(HOLD, PLAYOUT if self.playout is not None else 0.0)
        assert all(at - self.came[each] <= longest + ROUNDING for each, at in self.delivered)
        sums = [stage.counters() for stage in self.stages]
        assert sums[0].packets_waiting == sums[1].packets_held == 0


@contextmanager
def joined(
    ends: tuple[str, str], fates: list[Fate], playout: int | None = None, limits: PathLimits = NARROW
) -> Iterator[Pair]:
    """Two ends of these kinds; the first one sends."""
    with closing(DATA_PATHS[ends[0]]()) as sender, closing(DATA_PATHS[ends[1]]()) as receiver:
        yield Pair([sender, receiver], fates, playout, limits)


FATES = st.lists(
    st.builds(
        Fate, st.lists(st.sampled_from((0.0, 0.01, 0.01, 0.03, 0.1, 0.4)), max_size=2).map(tuple)
    ),
    max_size=25,
)  # fmt: skip
KINDS = st.sampled_from(("bulk", "bulk", "tcp", "voice", "other flow"))
TRAFFIC = st.lists(st.tuples(KINDS, st.sampled_from((0.0, 0.0, 0.001, 0.02, 0.3))), min_size=1, max_size=40)


def made(kind: str, number: int) -> bytes:
    if kind == "tcp":
        return tcp(number, payload=bytes(900))
    if kind == "voice":
        return bulk(number, 200, tos=46 << 2)
    return bulk(number, port=5000 if kind == "other flow" else 4000)


@pytest.mark.parametrize("ends", ENDS, ids=" to ".join)
@settings(settings.default, max_examples=EXAMPLES)
@given(TRAFFIC, FATES, st.sampled_from((None, 100, 1600)))
def test_whatever_the_network_does(
    ends: tuple[str, str], traffic: list[tuple[str, float]], fates: list[Fate], playout: int | None
) -> None:
    """No packet twice, none out of its flow's order but those that came after their gap was given up, none held past
    its deadline; every packet sent, dropped with a reason, or waiting."""
    with joined(ends, fates, playout) as pair:
        for number, (kind, pause) in enumerate(traffic):
            pair.send(made(kind, number))
            pair.wait(pause)
        for _ in range(40):  # a lossy line may keep the last ones waiting for long
            pair.wait(1.0)
            if not pair.stages[0].counters().packets_waiting:
                break
        pair.fate = cycle([Fate((0.01,))])
        pair.wait(60.0)
        pair.check()


@pytest.mark.parametrize("ends", ENDS, ids=" to ".join)
@pytest.mark.parametrize("delays", [(0.01,), (0.01, 0.02), (0.0, 0.2)])
def test_without_loss_every_packet_arrives_once(ends: tuple[str, str], delays: tuple[float, ...]) -> None:
    """Whatever overtakes what, and whatever comes twice."""
    with joined(ends, [Fate((each,)) for each in delays] + [Fate((0.03, 0.05))], limits=WIDE) as pair:
        for number in range(200):
            pair.send(made("bulk", number))
            pair.wait(0.004)
        pair.wait(5.0)
        pair.check()
        assert sorted(number_of(each) for each, _ in pair.delivered) == list(range(200))
        assert pair.stages[0].datapath.flight(0).octets == pair.stages[0].datapath.flight(1).octets == 0


@pytest.mark.parametrize("ends", ENDS, ids=" to ".join)
@pytest.mark.parametrize("lossy", [0.02, 0.1])
def test_losses_are_repaired_in_time(ends: tuple[str, str], lossy: float) -> None:
    """One of so many datagrams is lost on both paths, reports included: the flow has no holes."""
    every = int(1 / lossy)
    with joined(ends, [Fate((0.01,))] * (every - 1) + [Fate(())], limits=WIDE) as pair:
        for number in range(600):
            pair.send(made("bulk", number))
            pair.wait(0.002)
        pair.wait(5.0)
        pair.check()
        assert sorted(number_of(each) for each, _ in pair.delivered) == list(range(600))
        assert pair.stages[1].datapath.adaptive_counters("c").skipped <= 600 * lossy * lossy * 2

"""The queue of a tunnel: shares of flows, CoDel against the code of its RFC, and where every packet goes."""

from __future__ import annotations

from collections import Counter, deque
from functools import cache
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.flowqueue import LARGEST_PACKET, QUANTUM, THICK_TIME, FlowQueue
from mpt.testing.datapath import packet
from mpt.wire import tos

TARGET, INTERVAL = 0.040, 0.300


def queue(limit: int = 100_000) -> FlowQueue:
    return FlowQueue(limit, TARGET, INTERVAL)


@cache
def made(number: int, size: int = 100, ecn: int = tos.NOT_ECT) -> bytes:
    """A packet that can be told apart, of `size` octets."""
    return packet(body=number.to_bytes(8, "big") + bytes(size - 28), tos=ecn)


def number_of(each: bytes) -> int:
    return int.from_bytes(each[20:28], "big")


# --- shares ---

FLOW_SIZES = st.lists(st.integers(28, LARGEST_PACKET), min_size=2, max_size=6)


@given(FLOW_SIZES, st.integers(50, 100))
def test_flows_that_wait_have_equal_shares(sizes: list[int], pops: int) -> None:
    """At any time two flows that always have packets differ by a quantum and a packet each at the most."""
    tested = queue()
    for flow, size in enumerate(sizes):
        for number in range(100):
            tested.push(flow, made(number % 2, size), 0, 1.0)
    served: Counter[int] = Counter()
    for _ in range(pops):
        found = tested.pop(1.0)
        assert found is not None
        served[found.flow] += len(found.packet)
        shares = [served[flow] for flow in range(len(sizes))]
        assert max(shares) - min(shares) <= 2 * QUANTUM + LARGEST_PACKET


def test_a_flow_that_begins_goes_before_those_that_wait() -> None:
    """RFC 8290 section 4.2; but a flow of single packets, each after the other has gone, goes in turn."""
    tested = queue()
    for number in range(10):
        tested.push(1, made(number, 1500), 0, 1.0)
    for _ in range(3):
        tested.pop(1.0)
    tested.push(2, made(100), 0, 1.0)
    first = tested.pop(1.0)
    assert first is not None and first.flow == 2
    assert [each.flow for each in (tested.pop(1.0), tested.pop(1.0)) if each is not None] == [1, 1]


@pytest.mark.parametrize("kind", [0, 7])
def test_urgent_packets_go_before_all(kind: int) -> None:
    """And keep what their sender noted of them."""
    tested = queue()
    tested.push(1, made(0), 0, 1.0)
    tested.push(2, made(1), kind, 1.0, urgent=True)
    found = tested.pop(1.0)
    assert found is not None
    assert (found.flow, found.kind, found.packet) == (2, kind, made(1))


# --- the limit ---


def test_a_full_queue_drops_the_head_of_the_longest_flow() -> None:
    """Not the packet that comes, unless it is the longest flow itself."""
    tested = queue(limit=4)
    for number in range(3):
        tested.push(1, made(number, 1000), 0, 1.0)
    tested.push(2, made(10), 0, 1.0)
    tested.push(3, made(20), 0, 1.0)
    assert (tested.packets, tested.overflowed) == (4, 1)
    left = [found.packet for _ in range(4) if (found := tested.pop(1.0)) is not None]
    assert sorted(map(number_of, left)) == [1, 2, 10, 20]


# --- conservation ---

PUSH = st.tuples(st.just("push"), st.integers(0, 4), st.integers(28, 1500), st.booleans())
POP = st.tuples(st.just("pop"), st.sampled_from((0.0, 0.001, 0.05, 0.3, 2.0)), st.just(0), st.just(False))


@given(st.lists(PUSH | PUSH | POP, max_size=120), st.integers(1, 20))
def test_every_packet_is_somewhere(steps: list[tuple[str, float, int, bool]], limit: int) -> None:
    """What was put in has gone, waits, or is counted as dropped; each flow goes in its order; octets are right."""
    tested, now, pushed, gone = queue(limit), 100.0, 0, 0
    newest: dict[tuple[int, bool], int] = {}
    urgent_of: dict[int, bool] = {}
    for step, value, size, urgent in steps:
        if step == "push":
            tested.push(int(value), made(pushed, size), 0, now, urgent)
            urgent_of[pushed] = urgent
            pushed += 1
        else:
            now += value
            found = tested.pop(now)
            assert (found is None) == (tested.packets == 0 and found is None)
            if found is not None:
                gone += 1
                number = number_of(found.packet)
                lane = found.flow, urgent_of[number]
                assert number > newest.get(lane, -1)
                newest[lane] = number
        assert tested.packets <= limit
        assert pushed == gone + tested.packets + tested.dropped + tested.overflowed
        assert (tested.octets == 0) == (tested.packets == 0)
    rest = tested.clear()
    assert (tested.packets, tested.octets) == (0, 0)
    assert pushed == gone + len(rest) + tested.dropped + tested.overflowed
    assert tested.pop(now) is None


# --- CoDel ---


class Codel:
    """RFC 8289 section 5, as it stands there: one queue."""

    def __init__(self) -> None:
        self.queue: deque[tuple[float, bytes]] = deque()
        self.dropped: list[bytes] = []
        self.first_above_time = self.drop_next = 0.0
        self.count = self.lastcount = 0
        self.dropping = False

    def control_law(self, t: float, count: int) -> float:
        return t + INTERVAL / sqrt(count)

    def dodequeue(self, now: float) -> tuple[bytes | None, bool]:
        if not self.queue:
            self.first_above_time = 0.0
            return None, False
        tstamp, p = self.queue.popleft()
        ok_to_drop = False
        sojourn_time = now - tstamp
        if sojourn_time < TARGET or sum(len(each) for _, each in self.queue) <= LARGEST_PACKET:
            self.first_above_time = 0.0
        elif self.first_above_time == 0:
            self.first_above_time = now + INTERVAL
        elif now >= self.first_above_time:
            ok_to_drop = True
        return p, ok_to_drop

    def deque(self, now: float) -> bytes | None:
        p, ok_to_drop = self.dodequeue(now)
        if self.dropping:
            if not ok_to_drop:
                self.dropping = False
            while now >= self.drop_next and self.dropping:
                assert p is not None
                self.dropped.append(p)
                self.count += 1
                p, ok_to_drop = self.dodequeue(now)
                if not ok_to_drop:
                    self.dropping = False
                else:
                    self.drop_next = self.control_law(self.drop_next, self.count)
        elif ok_to_drop:
            assert p is not None
            self.dropped.append(p)
            p, ok_to_drop = self.dodequeue(now)
            self.dropping = True
            delta = self.count - self.lastcount
            self.count = 1
            if delta > 1 and now - self.drop_next < 16 * INTERVAL:
                self.count = delta
            self.drop_next = self.control_law(now, self.count)
            self.lastcount = self.count
        return p


BURST = st.tuples(st.integers(0, 12), st.sampled_from((0.0, 0.002, 0.01, 0.05, 0.5, 6.0)), st.sampled_from((100, 1500)))


@given(st.lists(BURST, min_size=5, max_size=150))
def test_codel_drops_as_its_rfc_says(bursts: list[tuple[int, float, int]]) -> None:
    """For one flow, packet by packet."""
    tested, model, now, number = queue(), Codel(), 50.0, 0
    for count, pause, size in bursts:
        for _ in range(count):
            tested.push(3, made(number, size), 0, now)
            model.queue.append((now, made(number, size)))
            number += 1
        now += pause
        found, wanted = tested.pop(now), model.deque(now)
        assert (found.packet if found is not None else None) == wanted
        assert tested.dropped == len(model.dropped)


def overloaded(tested: FlowQueue, ecn: int, seconds: float = 3.0) -> list[bytes]:
    """What goes when twice as much comes, at 1000 packets a second."""
    gone, now = [], 1.0
    for number in range(int(seconds * 1000)):
        now += 0.001
        tested.push(1, made(number, 1000, ecn), 0, now)
        tested.push(1, made(number, 1000, ecn), 0, now)
        found = tested.pop(now)
        if found is not None:
            gone.append(found.packet)
    return gone


@pytest.mark.parametrize("ecn", [tos.ECT_0, tos.ECT_1])
def test_packets_that_can_be_marked_are_marked(ecn: int) -> None:
    """RFC 8290 section 4.3: none of them is dropped."""
    tested = queue()
    gone = overloaded(tested, ecn)
    marked = sum(tos.octet(each) & 3 == tos.CE for each in gone)
    assert marked == tested.marked > 5
    assert tested.dropped == 0


def test_others_are_dropped() -> None:
    """More and more often, as long as they wait for too long."""
    tested = queue()
    overloaded(tested, tos.NOT_ECT)
    assert tested.dropped > 20
    assert tested.marked == 0


def test_one_flow_waits_for_itself_alone() -> None:
    """CoDel takes nothing from a flow whose packets do not wait, whatever others do."""
    tested, now, waits = queue(), 1.0, []
    for number in range(3000):
        now += 0.001
        for _ in range(2):
            tested.push(1, made(number, 1000), 0, now)
        if number % 20 == 0:
            tested.push(2, made(number), 0, now)
        found = tested.pop(now)
        if found is not None and found.flow == 2:
            waits.append(now - found.since)
    assert len(waits) == 150
    assert max(waits) < 0.004


# --- thin flows ---


def test_a_flow_is_thin_while_it_is_small_and_nothing_of_it_waits() -> None:
    """At most so many octets in its 100 ms, and in all others for ten seconds."""
    tested = queue()
    assert tested.is_thin(1, 2000, 1.0, most=4000)
    assert tested.is_thin(1, 2000, 1.05, most=4000)
    assert not tested.is_thin(1, 1, 1.06, most=4000)
    assert tested.is_thin(2, 4000, 1.06, most=4000)
    assert not tested.is_thin(1, 4000, 1.11, most=4000)
    assert not tested.is_thin(1, 10, 1.11 + THICK_TIME - 0.001, most=4000)
    assert tested.is_thin(1, 3000, 1.11 + THICK_TIME, most=4000)
    tested.push(1, made(0), 0, 12.0)
    assert not tested.is_thin(1, 1, 13.0, most=4000)


def test_a_small_flow_was_so_just_before() -> None:
    """The first packets of each 100 ms of a large flow do not make it small; after a pause it is."""
    tested = queue()
    for now, size, small in ((1.0, 3000, True), (1.05, 3000, False), (1.11, 100, False), (1.22, 100, True)):
        tested.is_thin(1, size, now, most=4000)
        assert tested.is_small(1, most=4000) is small
    tested.is_thin(2, 5000, 1.0, most=4000)
    tested.is_thin(2, 100, 1.3, most=4000)
    assert tested.is_small(2, most=4000)

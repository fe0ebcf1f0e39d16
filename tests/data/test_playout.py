"""The order of adaptive connections: what goes when, and what always holds whatever comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.counters import Reason
from mpt.data.playout import BEHIND, FAR, LONGEST_HOLD, PLAYOUT, STREAMS, UNORDERED, Playout
from mpt.testing.datapath import packet
from mpt.testing.strategies import sequences
from mpt.wire import ip
from mpt.wire.seal import STAMPS_A_SECOND, stamp
from mpt.wire.serial import MASK

ROUNDING = 1e-6
TICK = 1 / STAMPS_A_SECOND
ACK, SYN = 0x10, 0x02


def tcp(number: int, flags: int = ACK, payload: bytes = b"data") -> bytes:
    """A TCP packet that can be told apart."""
    return packet(
        body=bytes(4) + number.to_bytes(8, "big") + bytes((5 << 4, flags)) + bytes(6) + payload, protocol=ip.TCP
    )


def number_of(each: bytes) -> int:
    return int.from_bytes(each[24:32], "big")


@dataclass
class Bench:
    """A playout on a clock; `out` are the numbers of the packets that came out, with the time."""

    hold: float = 0.1
    playout: int | None = None
    window: int = 1000
    longest: float = 0.5
    now: float = 100.0
    out: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tested = Playout(self.window, self.longest)
        self.tested.set(self.hold, self.playout)

    def arrive(self, *positions: int, key: int | None = 7, start: int = 0, stamp: int = 0) -> list[int]:
        """Let packets come; return the numbers that go at once."""
        before = len(self.out)
        for position in positions:
            self._note(self.tested.arrive((start + position) & MASK, tcp(position), key, stamp, self.now))
        return [number for number, _ in self.out[before:]]

    def wait(self, seconds: float) -> list[int]:
        """Let time go by, with a wake-up at each deadline; return the numbers that go."""
        before, end = len(self.out), self.now + seconds
        while (due := self.tested.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self._note(self.tested.deadline_reached(self.now))
            following = self.tested.next_deadline()
            assert following is None or following > self.now, "woken for nothing"
        self.now = end
        return [number for number, _ in self.out[before:]]

    def _note(self, packets: list[bytes]) -> None:
        self.out += [(number_of(each), self.now) for each in packets]


# --- order ---


@given(sequences)
def test_what_comes_in_order_goes_at_once(start: int) -> None:
    """From any first number, over the end of the number space."""
    bench = Bench()
    assert bench.arrive(*range(20), start=start) == list(range(20))
    assert (bench.tested.held, bench.tested.next_deadline()) == (0, None)


def test_a_gap_is_waited_for() -> None:
    """What fills it lets everything behind it go."""
    bench = Bench()
    assert bench.arrive(0, 2, 3, 5) == [0]
    assert bench.tested.held == 3
    bench.wait(0.05)
    assert bench.arrive(1) == [1, 2, 3]
    assert bench.arrive(4) == [4, 5]


def test_a_gap_is_given_up_after_the_hold() -> None:
    """Counted from the first packet behind it; a packet behind a second gap waits for its own time."""
    bench = Bench(hold=0.1)
    bench.arrive(0, 2)
    bench.wait(0.04)
    bench.arrive(4)
    assert bench.wait(0.06 - ROUNDING) == []
    assert bench.wait(2 * ROUNDING) == [2]
    assert bench.wait(0.04) == [4]
    assert bench.tested.skipped == 2


def test_what_comes_after_its_gap_was_given_up_goes_once() -> None:
    """It is late, not lost; what comes twice is a copy."""
    bench = Bench(hold=0.1)
    bench.arrive(0, 2)
    bench.wait(0.2)
    assert bench.arrive(1, 1, 2, 0) == [1]
    assert (bench.tested.late, bench.tested.copies) == (1, 3)
    assert bench.tested.dropped == {Reason.COPY: 3}


def test_a_copy_of_what_is_held_is_dropped() -> None:
    """The first one counts."""
    bench = Bench()
    bench.arrive(0, 2, 2)
    assert (bench.tested.held, bench.tested.copies) == (1, 1)


def test_packets_before_the_first_one_go_as_they_come() -> None:
    """The first packets of a flow may overtake each other; there is nothing that they could be in order with."""
    bench = Bench()
    assert bench.arrive(5, 3, 4, 3, 6) == [5, 3, 4, 6]
    assert bench.tested.copies == 1


def test_streams_do_not_wait_for_each_other() -> None:
    """Each key, and what has no key, counts for itself."""
    bench = Bench()
    bench.arrive(0, 2, key=1)
    assert bench.arrive(0, 1, key=2) == [0, 1]
    assert bench.arrive(0, 1, key=None) == [0, 1]


def test_a_number_far_away_begins_anew() -> None:
    """A peer that was restarted begins with any number; what was held goes first."""
    bench = Bench()
    bench.arrive(0, 2)
    assert bench.arrive(FAR + 10) == [2, FAR + 10]
    assert bench.arrive(1) == [1]
    assert bench.arrive(2) == [2]


def test_unordered_packets_wait_for_nothing() -> None:
    """And come once; a number far away begins anew."""
    bench = Bench()
    assert bench.arrive(5, 3, 9, 3, 5, key=UNORDERED) == [5, 3, 9]
    assert bench.tested.copies == 2
    assert bench.arrive(FAR + 9, 9, key=UNORDERED) == [FAR + 9, 9]


def test_what_is_too_old_is_taken_for_a_copy() -> None:
    """What is remembered is bounded."""
    bench = Bench(hold=0.0)
    bench.arrive(0, BEHIND + 1)
    assert bench.arrive(1) == []
    assert bench.arrive(2) == [2]


# --- the peer's wishes ---


def test_tcp_packets_wait_for_their_playout() -> None:
    """Counted from their stamp on our clock; but for 200 ms at most, and behind each other."""
    bench = Bench(playout=800)  # 50 ms
    sent = stamp(bench.now - 0.020)
    assert bench.arrive(0, 1, stamp=sent) == []
    assert bench.wait(0.030 - 2 * TICK) == []
    assert bench.wait(4 * TICK) == [0, 1]
    assert bench.arrive(2, stamp=stamp(bench.now - 0.060)) == [2]
    bench.tested.set(0.1, 16_000)
    bench.arrive(3, stamp=stamp(bench.now))
    assert bench.wait(PLAYOUT - ROUNDING) == []
    assert bench.wait(2 * ROUNDING) == [3]


def test_a_copy_of_what_waits_for_its_playout_is_dropped() -> None:
    """A copy may go at once, as the playout has become less meanwhile; the first one goes, in its turn."""
    bench = Bench(playout=1600)  # 100 ms
    bench.arrive(0, 1, stamp=stamp(bench.now))
    bench.tested.set(0.1, None)
    assert bench.arrive(0) == []
    assert bench.tested.copies == 1
    assert bench.wait(0.2) == [0, 1]


@pytest.mark.parametrize(
    ("each", "waits"),
    [
        (tcp(0), True),
        (tcp(0, ACK, b""), False),
        (tcp(0, SYN, b""), True),
        (packet(body=bytes(50), protocol=ip.UDP), False),
        (packet("fec0::1", "fec0::2", bytes(12) + bytes((5 << 4, ACK)) + bytes(7), ip.TCP), True),
    ],
)
def test_others_do_not(each: bytes, waits: bool) -> None:
    """Neither UDP nor pure acknowledgements: that would cost delay for nothing."""
    tested = Playout(10, 0.5)
    tested.set(0.1, 800)
    assert tested.arrive(0, each, 7, stamp(100.0), 100.0) == ([] if waits else [each])


def test_acknowledgements_wait_for_it_if_the_peer_wants_them_levelled() -> None:
    """In the order of their numbers, whatever is missing; a copy is dropped; other unordered packets go at once."""
    bench = Bench(playout=800)  # 50 ms
    bench.tested.set(0.1, 800, acks=True)
    sent = stamp(bench.now)
    assert bench.arrive(2, 5, 3, 5, key=UNORDERED, stamp=sent) == []
    assert bench.tested.arrive(4, packet(), UNORDERED, sent, bench.now) == [packet()]
    assert bench.wait(0.050 - 2 * TICK) == []
    assert bench.wait(4 * TICK) == [2, 3, 5]
    assert bench.arrive(6, key=UNORDERED, stamp=stamp(bench.now - 0.060)) == [6]
    assert (bench.tested.copies, bench.tested.skipped, bench.tested.late, bench.tested.held) == (1, 0, 0, 0)
    bench.tested.set(0.1, 800)
    assert bench.arrive(8, key=UNORDERED, stamp=stamp(bench.now)) == [8]


def test_the_hold_is_bounded() -> None:
    """By our own limit, and by a second."""
    bench = Bench(hold=9.0, longest=0.2)
    bench.arrive(0, 2)
    assert bench.wait(0.2) == [2]
    bench = Bench(hold=9.0, longest=5.0)
    bench.arrive(0, 2)
    assert bench.wait(LONGEST_HOLD) == [2]


def test_without_a_hold_nothing_is_held() -> None:
    """So a connection without a reorder window drops copies, and no more."""
    bench = Bench(hold=0.5, longest=0.0)
    assert bench.arrive(0, 5, 2, 9, 5) == [0, 5, 2, 9]
    assert bench.tested.held == 0


# --- bounds ---


def test_a_full_window_lets_the_packet_go_that_waits_longest() -> None:
    """Of whatever stream, with what is before it."""
    bench = Bench(window=3)
    bench.arrive(0, 2, 3, key=1)
    bench.wait(0.01)
    assert bench.arrive(0, 2, key=2) == [0]
    assert bench.arrive(5, key=2) == [2, 3]
    assert bench.tested.held == 2


def test_streams_are_bounded() -> None:
    """The longest silent one is forgotten, and gives back what it holds."""
    bench = Bench()
    bench.arrive(0, 2, key=0)
    for key in range(1, STREAMS):
        bench.arrive(0, key=key + 5000)
    assert bench.tested.held == 1
    assert bench.arrive(0, key=4999) == [2, 0]


def test_holds_are_counted_by_octaves() -> None:
    """Below 1 ms, 2 ms, 4 ms and so on."""
    bench = Bench()
    for each, pause in ((0, 0.0005), (10, 0.0015), (20, 0.09)):
        bench.arrive(each, each + 2)
        bench.wait(pause)
        bench.arrive(each + 1)
        bench.arrive(*range(each + 3, each + 10))
    assert bench.tested.holds[:8] == [1, 1, 0, 0, 0, 0, 0, 1]
    assert sum(bench.tested.holds) == 3


# --- whatever comes ---


@dataclass
class Sent:
    """A packet: after which pause it is sent, how long each of its copies is under way, none: it is lost."""

    pause: float
    delays: list[float]
    key: int


DELAYS = st.sampled_from((0.0, 0.001, 0.02, 0.08, 0.3, 1.2))
TRAFFIC = st.lists(
    st.builds(
        Sent,
        pause=st.sampled_from((0.0, 0.0, 0.001, 0.01, 0.2)),
        delays=st.lists(DELAYS, max_size=3),
        key=st.sampled_from((7, 7, 7, 8, UNORDERED)),
    ),
    max_size=60,
)


PLAYOUTS = st.lists(st.sampled_from((None, 0, 320, 1600, 40_000)), min_size=1, max_size=3)


@given(TRAFFIC, sequences, st.sampled_from((0.0, 0.01, 0.1, 3.0)), PLAYOUTS, st.sampled_from((3, 1000)), st.booleans())
def test_whatever_comes(
    traffic: list[Sent], start: int, hold: float, playouts: list[int | None], window: int, acks: bool
) -> None:
    """No packet twice, none out of its stream's order but those that came after their gap was given up, none held past
    its deadline, none lost that came and was no copy."""
    bench = Bench(hold=hold, playout=playouts[0], window=window, longest=5.0)
    arrivals, time, counts = [], 100.0, {7: 0, 8: 0, UNORDERED: 0}
    for number, sent in enumerate(traffic):
        time += sent.pause
        position = counts[sent.key]
        counts[sent.key] += 1
        arrivals += [(time + delay, number, position, sent.key, stamp(time)) for delay in sent.delays]
    came: dict[int, float] = {}
    key_of: dict[int, int] = {}
    late: set[int] = set()
    for at, number, position, key, sent_at in sorted(arrivals):
        bench.wait(at - bench.now)
        came.setdefault(number, bench.now)
        key_of[number] = key
        before = bench.tested.late
        bench.tested.set(hold, playouts[number % len(playouts)], acks)
        bench._note(bench.tested.arrive((start + position) & MASK, tcp(number), key, sent_at, bench.now))
        if bench.tested.late > before:
            late.add(number)
        assert bench.tested.held <= window
    bench.wait(10.0)
    numbers = [number for number, _ in bench.out]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == set(came)
    assert bench.tested.copies == len(arrivals) - len(came)
    for key in (7, 8):
        in_order = [number for number in numbers if key_of[number] == key and number not in late]
        assert all(earlier < later for earlier, later in pairwise(in_order))
    longest = max(min(hold, LONGEST_HOLD), PLAYOUT if any(each is not None for each in playouts) else 0.0)
    for number, at in bench.out:
        assert at - came[number] <= longest + ROUNDING
        assert key_of[number] != UNORDERED or acks or at == came[number]

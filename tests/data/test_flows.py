"""Streams by key: flows that share the window and the knowledge about the paths, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.candidates import CANDIDATES
from mpt.data.knowledge import SHORT_WAIT
from mpt.data.ordering import Ordering
from mpt.data.reorder import FORGET, STREAMS, ReorderBuffer
from mpt.wire.seal import STAMPS_A_SECOND
from mpt.wire.serial import MASK, MODULUS
from tests.data.line import ROUNDING, Line

MAX_DELAY = 0.1
WINDOW = 64
A, B = 7, 4095  # keys


def flows(paths: str = "ab", window: int = WINDOW) -> Line:
    return Line(window, MAX_DELAY, paths, has_stamps=True)


def stamp(line: Line) -> int:
    return int(line.now * STAMPS_A_SECOND)


def test_a_gap_in_one_flow_does_not_delay_another() -> None:
    """While one waits for its lost packet, the other is delivered as it comes."""
    line = flows()
    for number in range(3):
        for key in (A, B):
            line.arrive(number, "ab"[number % 2], f"{key}-{number}", key=key, sent=stamp(line))
    assert line.arrive(4, "a", "A4", key=A, sent=stamp(line)) == []
    for number in range(3, 20):
        assert line.arrive(number, "a", f"B{number}", key=B, sent=stamp(line)) == [f"B{number}"]
    assert line.arrive(3, "b", "A3", key=A, sent=stamp(line)) == ["A3", "A4"]


def test_the_packets_of_another_flow_end_the_wait() -> None:
    """A path that has brought a packet sent after the one behind the gap keeps its order: the gap's is lost."""
    line = flows()
    line.arrive(0, "a", "A0", key=A, sent=100)
    line.arrive(0, "b", "B0", key=B, sent=100)
    assert line.arrive(2, "a", "A2", key=A, sent=102) == []
    assert line.arrive(1, "b", "B1", key=B, sent=102) == ["B1"]  # perhaps sent before the missing one
    line.wait(0.001)
    assert line.arrive(2, "b", "B2", key=B, sent=103) == ["B2", "A2"]


def test_without_another_flow_a_gap_waits_as_on_a_plain_connection() -> None:
    """Its own later packets over every path end the wait, though they have one stamp; else the time does."""
    line = flows()
    line.arrive(0, "a", key=A, sent=1)
    line.arrive(1, "b", key=A, sent=1)
    assert line.arrive(3, "a", key=A, sent=2) == []
    assert line.arrive(4, "b", key=A, sent=2) == [3, 4]
    assert line.arrive(6, "b", key=A, sent=3) == []
    assert line.wait(MAX_DELAY) == [6]


def test_a_path_of_small_part_is_known_from_all_flows() -> None:
    """What one flow has taught about a backup line, another uses at its first gap."""
    line = flows()
    for number in range(2000):
        line.arrive(number, "a" if number % 500 else "b", key=A, sent=stamp(line))
        line.wait(0.001)
    line.arrive(0, "a", "B0", key=B, sent=stamp(line))
    begin = line.now
    assert line.arrive(2, "a", "B2", key=B, sent=stamp(line)) == []
    assert line.wait(1.0) == ["B2"]
    assert line.out[-1][0] - begin <= SHORT_WAIT + ROUNDING


def test_the_first_packets_of_a_flow_may_overtake_each_other() -> None:
    """What lies before the first number that is known here is delivered, not taken for a duplicate."""
    line = flows()
    assert line.arrive(1, "a", key=A, sent=11) == [1]
    assert line.arrive(0, "b", key=A, sent=10) == [0]
    assert line.arrive(2, "b", key=A, sent=12) == [2]
    assert line.dropped == {}


def test_a_restarted_peer_is_followed_at_once() -> None:
    """A number that goes back in a packet sent later begins the stream anew; what waited goes before."""
    line = flows()
    line.arrive(5000, key=A, sent=1)
    assert line.arrive(5002, key=A, sent=2) == []
    assert line.arrive(0, "a", "again", key=A, sent=9) == [5002, "again"]
    assert line.arrive(5001, "b", "old", key=A, sent=1) == []
    assert line.arrive(1, key=A, sent=10) == [1]
    assert line.dropped == {"stray": 1}


def test_numbers_after_a_burst_of_loss_are_taken_as_they_come() -> None:
    """However far it leads, also within one stamp."""
    line = flows()
    for number in (0, 1000, 2**31, 2**32 + 5):
        assert line.arrive(number, key=A, sent=3) == [number]
    assert line.dropped == {}


def test_a_late_packet_is_dropped_and_counted() -> None:
    """Its gap was given up."""
    line = flows("ab")
    line.arrive(0, key=A, sent=1)
    line.arrive(2, key=A, sent=2)
    assert line.wait(MAX_DELAY) == [2]
    assert line.arrive(1, "b", key=A, sent=1) == []
    assert line.dropped == {"late": 1}


def test_an_idle_flow_is_forgotten() -> None:
    """After FORGET its next number is taken as it comes: the packets before it may be lost, or the peer be another."""
    line = flows()
    line.arrive(0, key=A, sent=stamp(line))
    line.wait(FORGET + 1)
    assert line.arrive(9, key=A, sent=stamp(line)) == [9]
    line.wait(FORGET - 1)
    assert line.arrive(11, key=A, sent=stamp(line)) == []
    assert line.wait(MAX_DELAY) == [11]


def test_a_full_window_gives_up_the_gap_that_waited_longest() -> None:
    """Whichever flow fills it: all together hold no more."""
    line = flows(window=4)
    for key in (A, B):
        line.arrive(0, label=f"{key}-0", key=key, sent=1)
    line.arrive(2, label="A2", key=A, sent=1)
    for number in range(2, 5):
        assert line.arrive(number, label=f"B{number}", key=B, sent=1) == []
    assert line.arrive(5, label="B5", key=B, sent=1) == ["A2"]
    assert line.arrive(6, label="B6", key=B, sent=1) == ["B2", "B3", "B4", "B5", "B6"]


def test_as_many_flows_as_a_peer_likes_cost_no_more_memory() -> None:
    """Thousands of keys with forged gaps: the window bounds what is held, STREAMS what is known; nothing is lost."""
    line = flows(window=16)
    for number in (0, 2, 2**31, 7):
        for key in range(4 * STREAMS):
            line.arrive(number, "ab"[key % 2], f"{key}-{number}", key=key, sent=stamp(line))
            assert len(line.buffer._streams) <= STREAMS
            assert len(line.buffer._shared.waiting) <= 16
        line.wait(0.01)
    line.wait(MAX_DELAY)
    assert line.buffer.held == 0
    assert line.dropped == {}


def test_a_forgotten_flow_delivers_what_it_held() -> None:
    """Nothing that came is lost by there being too many flows."""
    buffer = ReorderBuffer(2 * STREAMS, MAX_DELAY, has_stamps=True)
    buffer.path_up("b", 1.0)
    for key in range(STREAMS):
        buffer.arrive(0, b"first", "a", 1.0, None, key, 1)
        assert buffer.arrive(2, b"held", "a", 1.0, None, key, 1) == []
    assert buffer.arrive(0, b"new", "a", 1.0, None, STREAMS, 1) == [b"held", b"new"]


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[float, int, int, int, int]]:
    """What some flows send over paths that keep their order, with loss: (time, path, key, position, sent) by arrival.

    No packet is on its way for longer than 80 % of the longest delay. The first of each flow is not lost.
    """
    delays = draw(st.lists(st.sampled_from((0.0, 0.001, 0.01, 0.04)), min_size=1, max_size=3))
    numbers = {key: count(draw(st.sampled_from((0, 1000, MODULUS - 3)))) for key in range(4)}
    time, free_at, begun = 1000.0, [0.0] * len(delays), set[int]()
    arrivals = []
    packet = st.tuples(
        st.integers(0, 3),
        st.integers(0, len(delays) - 1),
        st.sampled_from((0.0, 0.0, 0.00001, 0.001, 0.03)),
        st.booleans(),
    )
    for key, path, pause, lost in draw(st.lists(packet, max_size=80)):
        time += pause
        number = next(numbers[key])
        free_at[path] = max(time + delays[path], free_at[path])
        if not lost or key not in begun:
            arrivals.append((free_at[path], path, key, number, int(time * STAMPS_A_SECOND)))
        begun.add(key)
    return sorted(arrivals, key=lambda one: one[0])


@given(traffic())
def test_each_flow_is_in_order_and_waits_for_itself_alone(arrivals: list[tuple[float, int, int, int, int]]) -> None:
    """All that arrives is delivered once, each flow sorted but for packets that came before its first; and a packet is
    delivered at once unless a number of its own flow is missing before it. The model: a sorted list for each flow."""
    line = Line(WINDOW, MAX_DELAY, range(3), has_stamps=True)
    came: defaultdict[int, list[int]] = defaultdict(list)
    done: defaultdict[int, list[int]] = defaultdict(list)
    for time, path, key, position, sent in arrivals:
        line.wait_until(time)
        expected = done[key][-1] + 1 if done[key] else None
        came[key].append(position)
        line.arrive(position, path, f"{key} {position}", key=key, sent=sent)
        for flow in done:
            done[flow] = [int(str(label).split()[1]) for _, label in line.out if str(label).split()[0] == str(flow)]
        if expected is None or position <= expected:
            assert position in done[key]
        for flow, all_of_it in came.items():
            held = set(all_of_it) - set(done[flow])
            assert not held or min(held) > max(done[flow]) + 1
    line.wait(MAX_DELAY)
    assert line.buffer.held == 0
    assert line.waited <= MAX_DELAY + ROUNDING
    assert line.dropped == {}
    for flow, all_of_it in came.items():
        got = [int(str(label).split()[1]) for _, label in line.out if str(label).split()[0] == str(flow)]
        first = all_of_it[0]
        assert sorted(got) == sorted(all_of_it)
        assert [one for one in got if one >= first] == sorted(one for one in all_of_it if one >= first)


calls = st.one_of(
    st.tuples(
        st.just("arrive"),
        st.sampled_from((0, 1, 2, 3, 5, 9, 30, 90, 2**31, MASK)) | st.integers(0, 12),
        st.sampled_from("abc"),
        st.integers(0, 3) | st.none(),
        st.integers(-3, 3) | st.integers(-(2**20), 2**20),
    ),
    st.tuples(st.just("wait"), st.sampled_from((0.001, 0.05, 0.11, 11.0)), st.just(""), st.none(), st.just(0)),
    st.tuples(
        st.sampled_from(("path_up", "path_down", "flush")), st.just(0), st.sampled_from("abc"), st.none(), st.just(0)
    ),
)


@given(st.integers(1, 8), st.lists(calls, max_size=80))
def test_anything_may_happen(window: int, script: list[tuple[str, float, str, int | None, int]]) -> None:
    """For any numbers, keys and stamps, with paths that come and go, every packet is delivered, held or counted, once.

    (The line checks this after each call, and that no deadline has passed and no more is held than may be.)
    """
    line = Line(window, MAX_DELAY, has_stamps=True)
    for call, value, path, key, sent in script:
        match call:
            case "arrive":
                line.arrive(int(value), path, key=key, sent=stamp(line) + sent)
            case "wait":
                line.wait(value)
            case "flush":
                line.flush()
            case _:
                getattr(line, call)(path)
        assert line.buffer.held <= window + CANDIDATES
    line.wait(MAX_DELAY)
    assert line.buffer.next_deadline() is None


@given(st.lists(st.tuples(st.floats(0.0, 1.9), st.floats(0.0, 0.9), st.booleans()), max_size=40), st.integers(0, 2**40))
def test_stamps_are_unwrapped(steps: list[tuple[float, float, bool]], base: int) -> None:
    """However long the pauses are, times of sending come out as they went in, but for the base of the peer's clock."""
    ordering = Ordering(4, MAX_DELAY, has_stamps=True)
    now, origin = 5000.0, None
    for pause, under_way, is_long in steps:
        now += pause + 3600.0 * is_long
        sent = base + int((now - under_way) * STAMPS_A_SECOND)
        unwrapped = ordering._unwrapped(sent & 0xFFFF, now)
        origin = sent - unwrapped if origin is None else origin
        assert sent - unwrapped == origin

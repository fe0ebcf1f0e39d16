"""The choice of a path: the earliest arrival of those with room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.flight import MOST, Entry
from mpt.data.rooms import EXCESS, EXCESS_OCTETS, RecentOctets, Room, Rooms
from mpt.limits import START_LIMITS, PathLimits

NOW = 100.0
SIZE = 1000


def room(octets: int = 0, **limits: float) -> Room:
    """A path with so many octets under way."""
    made = Room()
    made.limits = PathLimits(**{"window": 10_000, "rate": 100_000.0, **limits})  # type: ignore[arg-type]
    if octets:
        made.flight.sent(1, 0, Entry(octets, NOW))
    return made


def among(*each: Room) -> Rooms:
    rooms = Rooms()
    for index, one in enumerate(each):
        one.index = index
    rooms.set_open(each)
    return rooms


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (room(delay=0.010), room(delay=0.020)),
        (room(1000, delay=0.010), room(delay=0.021)),
        (room(3000, delay=0.010), room(3000, delay=0.010, rate=50_000.0)),
        (room(3000, delay=0.010, slack=0.03), room(1000, delay=0.015)),
    ],
)
def test_the_earliest_arrival(first: Room, second: Room) -> None:
    """Delay, and what is under way by the rate, but for what is in no queue."""
    assert first.arrival() < second.arrival()
    for rooms in (among(first, second), among(second, first)):
        assert rooms.for_bulk(SIZE, NOW) is first
        assert rooms.at_once(SIZE, NOW) is first


def test_a_full_window_is_noted() -> None:
    """When it held a packet back; a single datagram always has room."""
    full, other = room(9500, delay=0.0), room(9500, delay=1.0, window=10_500)
    assert among(full, other).for_bulk(SIZE, NOW) is other
    assert (full.limited_at, other.limited_at) == (NOW, 0.0)
    assert among(narrow := room(window=1)).for_bulk(SIZE, NOW) is narrow
    assert among(full).for_bulk(SIZE, NOW) is None


def test_the_pace() -> None:
    """No datagram goes more than `burst` before its turn; then the deadline says when it does."""
    burst = 0.004
    paced = room(pace=SIZE / 0.001, burst=burst, window=1 << 20)
    rooms, went = among(paced), 0
    while rooms.for_bulk(SIZE, NOW) is paced:
        paced.went(SIZE, NOW)
        went += 1
    assert went in (burst / 0.001, burst / 0.001 + 1)
    opens = rooms.opens_at(SIZE)
    assert opens is not None and NOW < opens <= NOW + 0.001
    assert rooms.for_bulk(SIZE, opens) is paced
    paced.went(SIZE, NOW + 10.0)  # what was not used is not saved up
    assert paced.opens_at() == pytest.approx(NOW + 10.0 + 0.001 - burst)


def test_what_bypasses_the_window_is_bounded() -> None:
    """By a tenth of it, and two packets; so is what is sent again, which keeps the pace, too."""
    most = 10_000 + int(10_000 * EXCESS) + EXCESS_OCTETS
    just, over = room(most - SIZE), room(most - SIZE + 1)
    assert among(just).at_once(SIZE, NOW) is just
    assert among(over).at_once(SIZE, NOW) is None
    assert among(just).for_repair(SIZE, NOW) is just
    assert among(over).for_repair(SIZE, NOW) is None
    assert among(over).repair_opens_at(SIZE) is None
    just.turn = NOW + 1.0
    assert among(just).at_once(SIZE, NOW) is just
    assert among(just).for_repair(SIZE, NOW) is None
    assert among(just).repair_opens_at(SIZE) == NOW + 1.0 - START_LIMITS.burst
    just.blocked_until = NOW + 2.0
    assert among(just).at_once(SIZE, NOW) is None
    assert among(just).repair_opens_at(SIZE) == NOW + 2.0


def test_what_is_sent_again_goes_over_an_admitted_path() -> None:
    """If there is another one than that on which it hangs."""
    good, gated, dead = room(delay=0.5), room(admits=False), room(is_live=False)
    assert among(good, gated, dead).for_repair(SIZE, NOW) is good
    assert among(good, gated, dead).for_repair(SIZE, NOW, besides=good) is gated
    assert among(good, dead).for_repair(SIZE, NOW, besides=good) is None
    assert among(good, gated).for_repair(SIZE, NOW, frozenset({1})) is gated


def test_packets_go_somehow() -> None:
    """Dead paths are left out, and gated ones for bulk, if there are others."""
    dead, gated, good = room(is_live=False), room(admits=False, delay=0.5), room(delay=0.9)
    assert among(dead, gated, good).for_bulk(SIZE, NOW) is good
    assert among(dead, gated, good).at_once(SIZE, NOW) is gated
    assert among(dead, gated).for_bulk(SIZE, NOW) is gated
    assert among(dead).for_bulk(SIZE, NOW) is dead
    assert among().for_bulk(SIZE, NOW) is None


def test_a_path_can_be_left_out() -> None:
    """One that hangs, those of a line, those that do not carry the packet."""
    first, second, third = room(line=1), room(line=1, delay=0.1), room(line=2, delay=0.2)
    rooms = among(first, second, third)
    assert rooms.for_copy(NOW, first) is third
    assert rooms.for_copy(NOW, third) is first
    assert rooms.for_copy(NOW, third, frozenset({1, 2})) is second
    assert rooms.for_copy(NOW, first, frozenset({0, 1})) is None
    assert rooms.for_repair(SIZE, NOW, besides=first) is second
    assert rooms.at_once(SIZE, NOW, frozenset({1, 2})) is second
    assert rooms.for_bulk(SIZE, NOW, frozenset({2})) is third
    assert rooms.for_bulk(SIZE, NOW, frozenset()) is None


def test_memory_is_bounded() -> None:
    """A path has no room for more datagrams than are remembered, however small they are."""
    full = room(window=1 << 40)
    for number in range(MOST):
        full.flight.sent(1, number, Entry(1, NOW))
    assert among(full).for_bulk(1, NOW) is None
    assert among(full).at_once(1, NOW) is None


@given(st.lists(st.tuples(st.floats(0, 0.4), st.integers(0, 1000)), max_size=60))
def test_octets_of_the_last_second(steps: list[tuple[float, int]]) -> None:
    """Everything of the last nine tenths, nothing older than the whole."""
    recent, now, sent = RecentOctets(), NOW, []
    for pause, octets in steps:
        now += pause
        recent.add(octets, now)
        sent.append((now, octets))
        total = recent.total(now)
        assert sum(each for at, each in sent if at > now - 0.89) <= total
        assert total <= sum(each for at, each in sent if at >= now - 1.01)
    assert recent.total(now + 1.1) == 0

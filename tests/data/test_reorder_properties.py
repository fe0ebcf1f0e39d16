"""Properties of the reorder buffer for any traffic, against the simplest model: a sorted list."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from mpt.data.knowledge import SHORT_WAIT
from mpt.data.scheduler import WeightedCycle
from mpt.data.stream import NEAR
from mpt.testing.strategies import sequences
from mpt.wire.serial import MASK, MODULUS, ahead
from tests.data.line import ROUNDING, Line

MAX_DELAY = 0.1
WINDOW = 1000
starts = sequences | st.integers(MODULUS - 60, MODULUS - 1)


@dataclass
class Sent:
    """One packet on its way."""

    path: int
    pause: float  # s before it is sent
    lost: bool
    copies: int
    queued: float  # s that it waits in the queue of its path, and everything behind it


def packets(paths: int, loss: bool) -> st.SearchStrategy[Sent]:
    return st.builds(
        Sent,
        path=st.integers(0, paths - 1),
        pause=st.sampled_from((0.0, 0.0, 0.0001, 0.001, 0.01, 0.2, 30.0)),
        lost=st.booleans() if loss else st.just(False),
        copies=st.sampled_from((1, 1, 1, 2, 3)),
        queued=st.sampled_from((0.0, 0.0, 0.0, 0.01)),
    )


@st.composite
def traffic(draw: st.DrawFn, loss: bool) -> tuple[int, list[tuple[float, int, int]]]:
    """A stream over 1 to 4 paths that keep their order: the first position, and (time, path, position) by arrival.

    No packet is on its way for longer than 80 % of the longest delay; the first of all arrives before all others.
    """
    paths = draw(st.integers(1, 4))
    delays = draw(st.lists(st.sampled_from((0.0, 0.001, 0.01, 0.04)), min_size=paths, max_size=paths))
    start = draw(starts)
    time, free_at = 1000.0, [0.0] * paths
    arrivals = [(time, 0, start)]
    time += 1
    for number, sent in enumerate(draw(st.lists(packets(paths, loss), max_size=60)), start + 1):
        time += sent.pause
        arrival = max(time + delays[sent.path] + sent.queued, free_at[sent.path])
        if arrival - time > 0.8 * MAX_DELAY:
            arrival = max(time, free_at[sent.path])
        free_at[sent.path] = arrival
        if not sent.lost:
            arrivals += [(arrival, sent.path, number)] * sent.copies
    return start, sorted(arrivals, key=lambda one: one[0])


def run(arrivals: list[tuple[float, int, int]]) -> Line:
    """What becomes of `arrivals` at a line that knows every path from the start."""
    line = Line(WINDOW, MAX_DELAY, range(4))
    for time, path, position in arrivals:
        line.arrive(position, path, at=time)
    line.wait(MAX_DELAY)
    assert line.buffer.held == 0
    assert line.waited <= MAX_DELAY + ROUNDING
    return line


@given(traffic(loss=False))
def test_without_loss_all_is_delivered_in_order_once(sent: tuple[int, list[tuple[float, int, int]]]) -> None:
    """If all packets arrive in time, the output is all of them, sorted; copies are counted."""
    _, arrivals = sent
    line = run(arrivals)
    model = sorted({position for _, _, position in arrivals})
    assert line.delivered == model
    assert sum(line.dropped.values()) == line.dropped.get("duplicate", 0) == len(arrivals) - len(model)


@given(traffic(loss=True))
def test_with_loss_all_that_arrives_is_delivered_in_order_once(sent: tuple[int, list[tuple[float, int, int]]]) -> None:
    """If some packets are lost, the output is all the others, sorted: no gap makes a packet late that came in time."""
    _, arrivals = sent
    line = run(arrivals)
    assert line.delivered == sorted({position for _, _, position in arrivals})
    assert line.dropped.keys() <= {"duplicate"}


@given(starts, st.lists(st.tuples(st.integers(-40, 16), st.sampled_from((0.0, 0.001, 0.003)), st.sampled_from("ab"))))
def test_any_arrivals_are_delivered_in_order_once(start: int, arrivals: list[tuple[int, float, str]]) -> None:
    """However packets of a stream are shuffled, late, doubled or missing, what is delivered only ever goes up.

    (All within a window of the newest, and without a silence.)
    """
    line = Line(16, MAX_DELAY, "ab")
    newest = start + 100
    came = {newest}
    line.arrive(newest)
    for offset, pause, path in arrivals:
        line.wait(pause)
        line.arrive(newest + offset, path)
        came.add(newest + offset)
        newest = max(newest, newest + offset)
    line.wait(MAX_DELAY)
    assert line.buffer.held == 0
    assert line.delivered == sorted(set(line.delivered), key=int)
    assert set(line.delivered) <= came
    assert line.waited <= MAX_DELAY + ROUNDING


RATE = 200  # packets a second
FORGED_NEAR = WINDOW + NEAR + 3 * RATE  # forged numbers are further away than this: a blind forger's are


@given(
    starts,
    st.lists(
        st.tuples(
            st.floats(0.1, 2.9),  # s
            st.integers(FORGED_NEAR, MODULUS - FORGED_NEAR),  # distance from the first number
            st.integers(1, 60),  # packets at once, their numbers one after the other
            st.sampled_from("ab"),
        ),
        max_size=12,
    ),
)
def test_a_forger_who_sends_less_changes_nothing(start: int, bursts: list[tuple[float, int, int, str]]) -> None:
    """Whatever numbers he sends, in whatever bursts, as long as they are fewer than the stream's in every second: the
    stream is delivered as it came."""
    arrivals = [(1000 + n / RATE, "ab"[n % 2], start + n, False) for n in range(3 * RATE)]
    budget = 0.9 * RATE  # of the whole of three seconds: fewer than the stream's in each
    for time, distance, count, path in bursts:
        if count <= budget:
            budget -= count
            arrivals += [(1000 + time, path, start + distance + n, True) for n in range(count)]
    line = Line(WINDOW, MAX_DELAY, "ab")
    for time, path, position, forged in sorted(arrivals):
        line.arrive(position, path, "forged" if forged else None, at=time)
    line.wait(1.0)
    genuine = [(time, label) for time, label in line.out if label != "forged"]
    assert genuine == [(1000 + n / RATE, start + n) for n in range(3 * RATE)]
    assert line.buffer.held == 0


@given(
    starts,
    st.integers(0, MODULUS - 1),
    st.lists(st.integers(0, MODULUS - 1), max_size=3, unique=True),
    st.sampled_from((1, 16, 1000)),
    st.integers(2, 40),
)
def test_a_restarted_peer_is_followed_whatever_was_forged(
    start: int, again: int, forged: list[int], window: int, count: int
) -> None:
    """After a silence its second packet at the latest moves the stream, wherever its numbers begin; all it sends is
    delivered, in order, and nothing waits longer than it may.

    (Its numbers do not run into the old ones at once.)
    """
    assume(abs(ahead(again, start & MASK)) > count + 4)
    line = Line(window, MAX_DELAY, "ab")
    for n in range(4):
        line.arrive(start + n, "ab"[n % 2], "old")
    line.wait(2.0)
    strays = [(again, count), (start & MASK, NEAR)]
    for one in forged:  # none agrees with another, or with the peer
        if all(abs(ahead(one, other)) > distance + 4 * window for other, distance in strays):
            line.arrive(one, "a", "forged")
            strays.append((one, 0))
    got: list[int | str] = []
    for n in range(count):
        delivered = line.arrive(again + n, "ab"[n % 2])
        assert n == 0 or again + n in delivered
        got += delivered
        got += line.wait(0.01)
    assert [label for label in got if label != "forged"] == [again + n for n in range(count)]
    assert line.waited <= MAX_DELAY + ROUNDING


@given(
    st.lists(st.sampled_from((1, 1, 2, 5, 100, 3000)), min_size=1, max_size=4),
    st.sampled_from((0.0, 0.01, 0.1, 0.5)),
    st.integers(0, 10_000),
)
def test_lines_that_are_equally_late_lose_nothing_here(weights: list[int], loss: float, seed: int) -> None:
    """Whatever part each carries and however much is lost on the way, no packet is given up before it comes."""
    line, newest, random = Line(WINDOW, MAX_DELAY, range(len(weights))), [0.0] * len(weights), Random(seed)
    cycle = WeightedCycle(list(enumerate(weights)))
    arrivals = []
    for n in range(600):
        path = next(cycle)
        newest[path] = max(newest[path], 1000 + n * 0.002 + random.random() * 0.9 * SHORT_WAIT)
        if n == 0 or random.random() >= loss:
            arrivals.append((newest[path] if n else 999.0, path, n))
    for time, path, position in sorted(arrivals):
        line.arrive(position, path, at=time)
    line.wait(MAX_DELAY)
    assert line.delivered == sorted(position for _, _, position in arrivals)
    assert line.dropped == {}


calls = st.one_of(
    st.tuples(st.just("arrive"), sequences, st.sampled_from("abc")),
    st.tuples(st.just("arrive"), st.integers(0, 30), st.sampled_from("abc")),
    st.tuples(st.just("wait"), st.sampled_from((0.001, 0.05, 0.11, 0.3, 11.0)), st.just("")),
    st.tuples(st.sampled_from(("path_up", "path_down")), st.just(0), st.sampled_from("abc")),
    st.tuples(st.just("flush"), st.just(0), st.just("")),
)


@given(st.integers(1, 8), st.lists(calls, max_size=80))
def test_anything_may_happen(window: int, script: list[tuple[str, float, str]]) -> None:
    """For any numbers at any time, with paths that come and go, every packet is delivered, held or counted, once.

    (The line checks this after each call, and that no deadline has passed and no more is held than may be.)
    """
    line = Line(window, MAX_DELAY)
    for call, value, path in script:
        match call:
            case "arrive":
                line.arrive(int(value), path)
            case "wait":
                line.wait(value)
            case "flush":
                line.flush()
                assert line.buffer.next_deadline() is None
            case _:
                getattr(line, call)(path)
    line.wait(MAX_DELAY)
    assert line.buffer.next_deadline() is None

"""The largest datagram that passes a path, found over lines of every kind."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.pathmtu import (
    BASE,
    CONFIRM_TIME,
    CONFIRM_TRIES,
    DOUBT_TIME,
    FLOOR,
    GRAIN,
    RAISE_TIME,
    SMALL,
    TRIES,
    WAIT,
    PathMtu,
    State,
    tunnel_mtu,
)
from mpt.wire import message, seal

LARGEST = 1472
NOW = 1000.0


class Line:
    """A path over a line that passes datagrams of at most `passes` octets, 0: none, with a delay both ways."""

    def __init__(self, passes: int, largest: int = LARGEST, delay: float = 0.02, loss: float = 0.0) -> None:
        self.path = PathMtu(largest, NOW)
        self.passes, self.delay, self.loss = passes, delay, loss
        self.now = NOW
        self.in_use = True
        self.probes: list[tuple[float, int]] = []
        self.settled: list[int] = []
        self._random = random.Random(5)
        self._answers: list[tuple[float, int]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = self.path.next_deadline()
            arrival = min(self._answers, default=(end, 0))
            if min(due, arrival[0]) >= end:
                self.now = end
                return
            if arrival[0] <= due:
                self._answers.remove(arrival)
                self.now = arrival[0]
                self.path.seen(arrival[1], self.now)
            else:
                self.now = max(due, self.now)
                for size in self.path.deadline_reached(self.now, self.in_use):
                    self.probes.append((self.now, size))
                    if size <= self.passes and self._random.random() >= self.loss:
                        self._answers.append((self.now + self.delay, size))
            assert FLOOR <= self.path.settled <= self.path.size or self.path.state is not State.SETTLED
            if not self.settled or self.settled[-1] != self.path.settled:
                self.settled.append(self.path.settled)

    def large_probes(self) -> list[int]:
        return [size for _, size in self.probes if size != SMALL]


def known(path: PathMtu) -> tuple[State, int, int]:
    return path.state, path.size, path.settled


def test_the_small_probe_is_the_smallest_that_there_is() -> None:
    """It says its own size, as every probe."""
    octets = message.SizeProbe(SMALL).encode()
    assert len(octets) + seal.OVERHEAD == SMALL
    assert message.decode_message(octets) == message.SizeProbe(SMALL)


def test_a_path_that_carries_all_is_settled_by_the_first_probe() -> None:
    """The largest size is taken for good from the start, so nothing ever changes."""
    line = Line(1472)
    assert known(line.path) == (State.ASSUMED, LARGEST, LARGEST)
    line.run(1.0)
    assert line.path.state is State.SETTLED
    assert line.large_probes() == [LARGEST]
    assert line.settled == [LARGEST]


@pytest.mark.parametrize("passes", [1471, 1464, 1452, 1412, 1300, 1201, 1200, 1199, 1000, 576, 549, 548])
def test_the_size_of_a_narrower_path_is_found(passes: int) -> None:
    """To a few octets, within seconds; what the TUN takes falls once and rises once."""
    line = Line(passes)
    line.run(1.6)
    assert line.path.size <= max(passes, BASE)
    line.run(20.0)
    assert line.path.state is State.SETTLED
    assert passes - GRAIN < line.path.size <= passes
    assert line.path.settled == line.path.size
    assert len(line.settled) <= (3 if passes > BASE else 4)
    assert len(line.probes) <= 2 * TRIES * 14


@pytest.mark.parametrize("largest", [100, 548, 549, 1000, 1200, 1201, 1204, 65535])
@pytest.mark.parametrize("passes", [200, 560, 1500, 65535])
def test_any_largest_size_will_do(largest: int, passes: int) -> None:
    """The floor is never probed below, and always taken for good in the end."""
    line = Line(passes, largest)
    line.run(60.0)
    assert line.path.state is State.SETTLED
    assert line.path.size <= max(min(passes, largest), FLOOR)
    assert line.path.size > max(min(passes, largest), FLOOR) - GRAIN


def test_a_silent_path_says_nothing_about_sizes() -> None:
    """Probes go with growing pauses, and nothing changes. When it speaks again it is soon known."""
    line = Line(0)
    line.run(600.0)
    assert known(line.path) == (State.ASSUMED, LARGEST, LARGEST) and line.settled == [LARGEST]
    assert len(line.probes) <= 40
    line.passes = 1300
    line.path.doubt(line.now)
    line.run(15.0)
    assert line.path.state is State.SETTLED and 1296 < line.path.size <= 1300


def test_a_black_hole_is_found_and_left() -> None:
    """A size that has passed does not pass any more: within the next look the search begins anew."""
    line = Line(LARGEST)
    line.run(10.0)
    line.passes = 1400
    line.run(CONFIRM_TIME)
    assert line.path.size <= 1400
    line.run(15.0)
    assert line.path.state is State.SETTLED and 1396 < line.path.size <= 1400


def test_a_doubt_looks_at_once_but_not_always() -> None:
    """Somebody may have forged the sign."""
    line = Line(LARGEST)
    line.run(10.0)
    line.probes.clear()
    line.passes = 1400
    line.path.doubt(line.now)
    line.run(CONFIRM_TRIES * WAIT + 0.1)
    assert line.path.size <= 1400
    line = Line(LARGEST)
    line.run(10.0)
    line.probes.clear()
    for _ in range(1000):
        line.path.doubt(line.now)
        line.run(0.01)
    assert len(line.large_probes()) <= 10.0 / DOUBT_TIME + 1


def test_a_doubt_looks_at_a_path_without_packets_too() -> None:
    """Else the next packets would fall into the hole for a minute."""
    line = Line(LARGEST)
    line.run(10.0)
    line.in_use = False
    line.passes = 1400
    line.path.doubt(line.now)
    line.run(CONFIRM_TRIES * WAIT + 5.0)
    assert 1200 <= line.path.size <= 1400
    line.run(15.0)
    line.probes.clear()
    line.run(RAISE_TIME / 2)
    assert line.path.state is State.SETTLED and line.probes == []


def test_a_wider_path_is_noticed_after_a_while() -> None:
    """The largest size is tried again, and then what lies between."""
    line = Line(1300)
    line.run(20.0)
    line.passes = 1464
    line.run(RAISE_TIME - 100.0)
    assert line.path.size <= 1300
    before = list(line.settled)
    line.run(200.0)
    assert line.path.state is State.SETTLED and 1460 < line.path.size <= 1464
    assert line.settled == [*before, line.path.size]
    line.passes = LARGEST
    line.run(RAISE_TIME + 100.0)
    assert line.path.size == LARGEST


def test_a_path_without_packets_is_left_alone() -> None:
    """No probe costs a metered line anything while nobody uses it."""
    line = Line(1300)
    line.run(20.0)
    line.probes.clear()
    line.in_use = False
    line.run(3 * RAISE_TIME)
    assert line.probes == []


def test_a_path_that_goes_another_way_begins_anew() -> None:
    """Nothing that was known of the old way holds, nor does a late answer from there."""
    line = Line(1300)
    line.run(20.0)
    line.path.begin_anew(1452, line.now)
    assert known(line.path) == (State.ASSUMED, 1452, 1452)
    line.path.seen(1452, line.now)
    assert known(line.path) == (State.ASSUMED, 1452, 1452)
    line.passes = 1452
    line.run(1.0)
    assert line.path.state is State.SETTLED


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, 1000, 1471, 1473, 65535])
def test_an_answer_that_was_not_asked_for_changes_nothing(size: int) -> None:
    """The peer may say whatever it likes."""
    path = PathMtu(LARGEST, NOW)
    path.seen(size, NOW)
    path.deadline_reached(NOW)
    path.seen(size, NOW)
    assert known(path) == (State.ASSUMED, LARGEST, LARGEST)


@pytest.mark.parametrize("delay", [0.3, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("passes", [LARGEST, 1300])
def test_a_slow_line_only_takes_longer(delay: float, passes: int) -> None:
    """Answers count when they come late."""
    line = Line(passes, delay=delay)
    line.run(300.0)
    assert line.path.state is State.SETTLED and passes - GRAIN < line.path.size <= passes


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_a_lossy_line_keeps_its_size(loss: float) -> None:
    """Random loss is no black hole: an hour of looks finds none, or soon finds the size again."""
    line = Line(LARGEST, loss=loss)
    good = 0
    for _ in range(360):
        line.run(10.0)
        good += line.path.size == LARGEST
    assert good >= 355


@given(
    st.integers(FLOOR, 2000),
    st.lists(
        st.tuples(
            st.sampled_from([0, 548, 600, 1100, 1200, 1300, 1464, 1472, 2000]), st.floats(0.0, 90.0), st.booleans()
        ),
        max_size=10,
    ),
)
def test_it_ends_at_the_size_of_the_line_whatever_went_before(
    largest: int, phases: list[tuple[int, float, bool]]
) -> None:
    """Lines that come and go and change: in the end the size is right, and probes are always few."""
    line = Line(LARGEST, largest)
    for passes, seconds, doubted in phases:
        line.passes = passes
        if doubted:
            line.path.doubt(line.now)
        line.run(seconds)
    line.passes = 1350
    line.run(RAISE_TIME + 2 * CONFIRM_TIME + 30.0)
    expected = min(1350, largest)
    assert line.path.state is State.SETTLED
    assert expected - GRAIN < line.path.size <= expected
    assert len(line.probes) <= (line.now - NOW) * 2 / WAIT + 50


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], None),
        ([1472], 1430),
        ([1472, 1452], 1410),
        ([1472, 1200], 1430),  # what does not even carry IPv6's smallest packet is left out
        ([1200], 1158),
        ([1200, 548], 1158),
        ([1322, 1472], 1280),
        ([1321, 1472], 1430),
    ],
)
def test_the_tunnel_takes_the_smallest_that_all_paths_carry(sizes: list[int], expected: int | None) -> None:
    """A path that is much too narrow is left out, as long as there is another one."""
    assert tunnel_mtu(sizes, 42) == expected

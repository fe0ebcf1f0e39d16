"""Equalizer and reorder buffer together: levelling the delays costs no packet, no order, and a bounded time."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpt.data.counters import Reason
from mpt.data.ordering import Ordering
from tests.data.line import ROUNDING
from tests.data.test_reorder_properties import MAX_DELAY, WINDOW, traffic

INTERVAL = 1.0  # s between keepalives


class Receiver:
    """An Ordering under a clock, over paths "a" and "b" or 0 to 3. `out`: (time, position) of what was delivered."""

    def __init__(self, paths: object, window: int = WINDOW, max_delay: float = MAX_DELAY) -> None:
        self.now = 1000.0
        self.ordering = Ordering(window, max_delay)
        self.out: list[tuple[float, int]] = []
        self.came: dict[int, float] = {}
        self.longest = 0.0
        for path in paths:  # type: ignore[attr-defined]
            self.ordering.path_up(path, self.now)

    def wait_until(self, time: float) -> None:
        while (deadline := self.ordering.next_deadline()) is not None and deadline <= time:
            assert deadline >= self.now - ROUNDING
            self.now = max(self.now, deadline)
            self._take(self.ordering.deadline_reached(self.now))
        self.now = time

    def arrive(self, time: float, path: object, position: int) -> None:
        self.wait_until(time)
        self.came.setdefault(position, time)
        self._take(self.ordering.arrive(position & 0xFFFFFFFF, position.to_bytes(8, "big"), path, time))

    def keepalive(self, time: float, path: object) -> None:
        self.wait_until(time)
        self.ordering.keepalive(path, time)

    def path_down(self, path: object) -> None:
        self._take(self.ordering.path_down(path, self.now))

    @property
    def delivered(self) -> list[int]:
        return [position for _, position in self.out]

    def _take(self, packets: object) -> None:
        for packet in packets:  # type: ignore[attr-defined]
            position = int.from_bytes(packet, "big")
            self.longest = max(self.longest, self.now - self.came[position])
            self.out.append((self.now, position))


# A late packet ends the belief while packets that were held back for it wait for a gap.
BELIEF_ENDS = [
    (1000.0, 0, 0),
    *((1001.0, 0, position) for position in range(1, 25)),
    (1001.0, 2, 30),
    (1001.0, 0, 32),
    (1001.01, 1, 29),
]


def levelled(difference: float, window: int = WINDOW, max_delay: float = 0.3) -> Receiver:
    """A receiver that knows by keepalives that path b is `difference` seconds later than path a."""
    receiver = Receiver("ab", window, max_delay)
    for turn in range(4):
        receiver.keepalive(1000.0 + turn * INTERVAL, "a")
        receiver.keepalive(1000.0 + turn * INTERVAL + difference, "b")
    return receiver


@given(traffic(loss=True), st.lists(st.sampled_from((0.0, 0.001, 0.01, 0.04)), min_size=4, max_size=4))
@example((0, BELIEF_ENDS), [0.0, 0.0, 0.0, 0.01])
def test_any_belief_keeps_order_and_time(sent: tuple[int, list[tuple[float, int, int]]], believed: list[float]) -> None:
    """Packets come out in order, once and in time, whether keepalives are right or wrong."""
    _, arrivals = sent
    receiver = Receiver(range(4))
    for turn in range(3):
        for lag, path in sorted((lag, path) for path, lag in enumerate(believed)):
            receiver.keepalive(990.0 + turn * INTERVAL + lag, path)
    for time, path, position in arrivals:
        receiver.arrive(time, path, position)
    receiver.wait_until(receiver.now + 2 * MAX_DELAY)
    assert receiver.delivered == sorted(set(receiver.delivered))
    assert len(receiver.delivered) + sum(receiver.ordering.dropped.values()) == len(arrivals)
    assert receiver.ordering.held == 0
    assert receiver.longest <= MAX_DELAY + ROUNDING


@pytest.mark.parametrize("difference", [0.01, 0.04])
def test_paths_become_equally_late(difference: float) -> None:
    """Sparse packets of the faster path wait as long as the slower path takes longer; packets of the slower do not."""
    receiver = levelled(difference)
    for number in range(20):
        path, delay = ("a", 0.0) if number % 2 else ("b", difference)
        receiver.arrive(1010.0 + number * 0.2 + delay, path, number)
    receiver.wait_until(1020.0)
    assert receiver.delivered == list(range(20))
    assert all(
        time - 1010.0 - number * 0.2 == pytest.approx(difference, abs=0.002) for time, number in receiver.out[2:]
    )


@pytest.mark.parametrize("window", [16, 64, 1000])
def test_a_full_line_loses_nothing(window: int) -> None:
    """When more of a path waits than fits, the first of them goes on early: no packet overtakes another of its path."""
    receiver = levelled(0.04, window)
    for number in range(1000):
        receiver.arrive(1010.0 + number * 0.0001, "a", number)
    receiver.wait_until(1020.0)
    assert receiver.delivered == list(range(1000))


def test_a_path_that_goes_down_loses_nothing_of_the_others() -> None:
    """Packets that are held back for a slower path when it goes down are still delivered, before later packets."""
    receiver = levelled(0.04)
    for number in range(400):
        if number == 200:
            receiver.path_down("b")
        receiver.arrive(1010.0 + number * 0.001, "a", number)
    receiver.wait_until(1020.0)
    assert receiver.delivered == list(range(400))


def test_a_path_alone_does_not_wait_for_ever() -> None:
    """When the slower path goes while packets of the other one wait: once these are out, nothing waits any more."""
    receiver = levelled(0.04)
    receiver.arrive(1010.0, "a", 0)
    receiver.path_down("b")
    receiver.wait_until(1011.0)
    receiver.arrive(1011.0, "a", 1)
    assert receiver.delivered == [0, 1]
    assert receiver.out[1][0] == 1011.0


def test_a_duplicate_tells_nothing_about_the_paths() -> None:
    """A line that doubles datagrams is not a peer that sends its keepalives apart."""
    receiver = levelled(0.04)
    for _ in range(2):
        receiver.arrive(1010.0, "a", 0)
    receiver.wait_until(1011.0)
    receiver.arrive(1011.0, "a", 1)
    receiver.wait_until(1012.0)
    assert receiver.delivered == [0, 1]
    assert receiver.out[1][0] == pytest.approx(1011.04)
    assert receiver.ordering.dropped[Reason.DUPLICATE] == 1


def test_what_a_full_line_lets_go_may_end_the_wait() -> None:
    """The packet for which the first of a path had to leave goes at once if its path need not wait any more."""
    receiver = levelled(0.04, window=1)
    receiver.arrive(1010.0, "a", 0)
    receiver.path_down("b")
    receiver.arrive(1010.001, "a", 1)
    receiver.arrive(1010.002, "a", 2)
    assert receiver.out == [(1010.001, 0), (1010.001, 1), (1010.002, 2)]

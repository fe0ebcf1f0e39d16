"""The limit of a send buffer follows the line."""

from __future__ import annotations

import pytest

from mpt.control.sendqueue import CHARGE, PERIOD, SMALLEST, TARGET, SendQueue

LARGEST = 4 << 20


class Line:
    """A line of `rate` octets a second before which everything waits that the limit lets in."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.queue = SendQueue(LARGEST)
        self.sent, self.waiting, self.now = 0.0, 0.0, 100.0
        self.changes = 0

    def run(self, seconds: float, offered: float) -> None:
        """Offer so many octets a second for a while; a message goes in while less waits than the limit."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            self.waiting = max(0.0, self.waiting - self.rate * CHARGE * 0.01)
            room = max(0.0, self.queue.limit - self.waiting) / CHARGE
            given = min(offered * 0.01, room)
            self.sent += given
            self.waiting += given * CHARGE
            if round(self.now * 100) % round(PERIOD * 100) == 0:
                self.changes += self.queue.look(self.now, int(self.sent), int(self.waiting)) is not None

    @property
    def delay(self) -> float:
        """Return how long the last octet waits."""
        return self.waiting / CHARGE / self.rate


@pytest.mark.parametrize("rate", [0.5e6, 1.25e6, 12.5e6, 25e6])
def test_a_line_that_is_full_holds_no_more_than_it_drains_in_a_moment(rate: float) -> None:
    """The queue is bounded at any rate from some Mbit/s on, and the line stays full."""
    line = Line(rate)
    line.run(2.0, offered=10 * rate)
    assert line.delay < 1.6 * TARGET
    before = line.sent
    line.run(5.0, offered=10 * rate)
    assert line.sent - before == pytest.approx(5 * rate, rel=0.1)
    assert line.delay < 1.6 * TARGET


def test_a_line_that_is_not_full_keeps_its_whole_buffer() -> None:
    """The buffer keeps its room for bursts."""
    line = Line(12.5e6)
    line.run(10.0, offered=6e6)
    assert line.changes == 0
    assert line.queue.limit == LARGEST


def test_the_limit_grows_again_when_the_line_is_faster_or_idle() -> None:
    """The limit grows within some seconds."""
    line = Line(1.25e6)
    line.run(3.0, offered=20e6)
    assert line.queue.limit < 300_000
    line.rate = 125e6
    line.run(3.0, offered=20e6)
    assert line.queue.limit == LARGEST


def test_a_line_that_becomes_slower_gets_a_smaller_limit() -> None:
    """The limit follows a line that becomes slower, as a modem far from its mast."""
    line = Line(12.5e6)
    line.run(3.0, offered=100e6)
    line.rate = 1.25e6
    line.run(4.0, offered=100e6)
    assert line.delay < 2 * TARGET


def test_a_line_that_stands_still_has_the_smallest_limit_and_comes_back() -> None:
    """A standing line keeps the smallest queue."""
    line = Line(1.25e6)
    line.run(2.0, offered=20e6)
    line.rate = 0.0
    line.run(3.0, offered=20e6)
    assert line.queue.limit == SMALLEST
    line.rate = 1.25e6
    before = line.sent
    line.run(5.0, offered=20e6)
    assert line.sent - before > 4 * 1.25e6


def test_looks_that_are_far_apart_or_too_near_say_nothing() -> None:
    """Such looks give no rate."""
    queue = SendQueue(LARGEST)
    assert queue.look(100.0, 1_000_000, 3_000_000) is None
    assert queue.look(100.001, 1_000_000, 3_000_000) is None
    assert queue.look(200.0, 1_000_000, 3_000_000) is None
    assert queue.look(200.1, 900_000, 3_000_000) is None  # counted anew

"""The rules of the reorder buffer, one by one (RFC 2890 section 2.2, draft section 6)."""

from __future__ import annotations

import pytest

from mpt.data.knowledge import PATH_MEMORY
from mpt.data.stream import DISTRUST, GAPS_REMEMBERED
from mpt.wire.serial import MODULUS
from tests.data.line import ROUNDING, Line

STARTS = [0, 1, 1000, MODULUS // 2 - 2, MODULUS - 2, MODULUS + 5]


def line(*positions: int, window: int = 4, max_delay: float = 0.1) -> Line:
    """A line with a silent second path, so that gaps are waited for, after `positions` have come over the first."""
    made = Line(window, max_delay, ("a", "silent"))
    for position in positions:
        made.arrive(position)
    return made


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("before", "arriving", "delivered", "dropped"),
    [
        # "in sequence": the one after the last delivered goes on at once
        ([0], 1, [1], {}),
        ([0, 1, 2], 3, [3], {}),
        # and everything behind it that has become in sequence
        ([0, 2, 3], 1, [1, 2, 3], {}),
        ([0, 2, 3, 5], 1, [1, 2, 3], {}),
        ([0, 3, 2], 1, [1, 2, 3], {}),
        # "a gap": it is buffered
        ([0], 2, [], {}),
        ([0], 4, [], {}),
        ([0, 2], 4, [], {}),
        # "out of sequence": behind the last delivered, it is silently dropped, but counted
        ([0], 0, [], {"duplicate": 1}),
        ([0, 1, 2], 0, [], {"duplicate": 1}),
        ([0, 1, 2, 4], 1, [], {"duplicate": 1}),
        # of what is buffered already, too
        ([0, 2], 2, [], {"duplicate": 1}),
        ([0, 2, 3], 2, [], {"duplicate": 1}),
        # "the buffer would exceed its size": the head goes, with what follows it, and nothing else
        ([0, 2, 4, 6, 8], 10, [2], {}),
        ([0, 2, 3, 6, 8], 10, [2, 3], {}),
        ([0, 4, 6, 8, 10], 2, [2], {}),
        # then what is in sequence may fill a later gap, what is in the lost one is late
        ([0, 2, 4, 6, 8, 10], 3, [3, 4], {}),
        ([0, 2, 4, 6, 8, 10], 1, [], {"late": 1}),
    ],
)
def test_the_rules_of_rfc_2890(
    start: int, before: list[int], arriving: int, delivered: list[int], dropped: dict[str, int]
) -> None:
    """With a window of 4: what an arriving packet delivers after others; the same anywhere and over the wrap."""
    given = line(*(start + position for position in before))
    assert given.arrive(start + arriving) == [start + position for position in delivered]
    assert given.dropped == dropped


@pytest.mark.parametrize("start", STARTS)
def test_a_stream_may_start_anywhere(start: int) -> None:
    """The first packet is taken with any number."""
    given = line()
    assert given.arrive(start) == [start]
    assert given.arrive(start + 1) == [start + 1]


def test_a_gap_is_given_up_after_the_longest_delay() -> None:
    """A packet waits for max_delay after its own arrival, then goes on, and the gap before it counts as lost."""
    given = line(0, 2)
    given.wait(0.06)
    given.arrive(3)
    assert given.wait(0.0399) == []
    assert given.wait(0.0002) == [2, 3]
    assert given.arrive(1) == []
    assert given.dropped == {"late": 1}
    assert given.waited <= 0.1 + ROUNDING


def test_only_what_is_overdue_is_delivered() -> None:
    """When one packet is overdue those before it go, too, and those after it that follow without a gap; no others."""
    given = line(0, 4, window=20)  # overdue first
    given.wait(0.05)
    for position in (2, 5, 7):
        given.arrive(position)
    assert given.wait(0.0501) == [2, 4, 5]
    assert given.wait(0.05) == [7]


def test_woken_early_nothing_happens() -> None:
    """deadline_reached() before the deadline delivers nothing; without anything held there is no deadline."""
    given = line(0)
    assert given.buffer.next_deadline() is None
    assert given.buffer.deadline_reached(given.now + 9) == []
    given.arrive(2)
    assert given.buffer.next_deadline() == given.now + 0.1
    assert given.buffer.deadline_reached(given.now + 0.0999) == []
    given.arrive(1)
    assert given.buffer.next_deadline() is None


def test_the_deadline_is_that_of_the_oldest_held() -> None:
    """When the oldest is delivered, the next oldest says when to wake."""
    given = line(0, 5, window=20)
    start = given.now
    given.wait(0.02)
    given.arrive(2)
    assert given.buffer.next_deadline() == start + 0.1
    given.arrive(1)
    given.arrive(9)
    given.arrive(3)
    given.arrive(4)
    assert given.buffer.next_deadline() == pytest.approx(start + 0.12)


def test_late_packets_of_a_stream_that_pauses_do_not_turn_it_back() -> None:
    """A burst of packets that are late by more than max_delay is dropped, though nothing else comes meanwhile."""
    given = Line(64, 0.3, ("a", "b"))
    for position in (0, 1, 2, 6):
        given.arrive(position)
    given.wait(0.5)
    for position in (3, 4, 5):
        assert given.arrive(position, "b") == []
    assert given.arrive(7) == [7]
    assert given.dropped == {"late": 3}


def test_flush_delivers_everything_in_order() -> None:
    """flush() gives back all that is held, gaps or not, and the stream goes on after it."""
    given = line(0, 6, 2, 4, window=20)
    assert given.flush() == [2, 4, 6]
    assert given.flush() == []
    assert given.buffer.held == 0
    assert given.arrive(7) == [7]


def test_late_and_duplicate_are_told_apart() -> None:
    """A packet is late when its gap was given up, else a duplicate; as far back as gaps are remembered."""
    given = Line(4, 0.1, ("a", "b"))
    lost = []
    for gap in range(GAPS_REMEMBERED + 10):
        given.arrive(3 * gap)
        given.arrive(3 * gap + 2)
        given.wait(0.2)
        lost.append(3 * gap + 1)
    for position in lost:
        given.arrive(position)
        given.arrive(position + 1)
    assert given.dropped == {"late": GAPS_REMEMBERED, "duplicate": len(lost) + 10}


def test_what_a_frozen_line_brings_afterwards_is_late() -> None:
    """However many gaps were given up meanwhile; what it brings a second time is a duplicate."""
    given = Line(1000, 0.1, ("a", "frozen"))
    for position in range(100):
        given.arrive(position, ("a", "frozen")[position % 2])
        given.wait(0.001)
    for position in range(100, 500, 2):
        given.arrive(position)
        given.wait(0.002)
    for position in range(101, 380, 2):
        given.arrive(position, "frozen")
    for position in (99, 101, 103):
        given.arrive(position, "frozen")
    assert given.dropped == {"late": 140, "duplicate": 3}


# --- gaps that every path has passed ---


def test_a_gap_that_every_path_has_passed_is_not_waited_for() -> None:
    """Paths keep their order: when each has brought a later packet, nothing waits for the missing one."""
    given = Line(64, 0.3, ("a", "b"))
    given.arrive(0, "a")
    given.arrive(1, "b")
    assert given.arrive(3, "b") == []  # 2 may come over a
    assert given.arrive(4, "a") == [3, 4]  # no more
    assert given.arrive(6, "a") == []  # 5 may come over b
    assert given.arrive(5, "b") == [5, 6]


def test_a_single_path_never_waits() -> None:
    """With one path every gap is a loss."""
    given = Line(64, 0.3, ("a",))
    assert [given.arrive(position) for position in (0, 3, 4, 9)] == [[0], [3], [4], [9]]


def test_a_gap_waits_for_a_path_that_has_just_come_up() -> None:
    """A path that joins may bring the missing packet, though it has brought nothing yet."""
    given = Line(64, 0.3, ("a",))
    given.arrive(0)
    given.path_up("b")
    given.path_up("b")
    assert given.arrive(2) == []
    assert given.arrive(1, "b") == [1, 2]


def test_a_path_that_goes_down_is_not_waited_for() -> None:
    """Packets that waited only for it go on at once; packets that wait for another path, too, do not."""
    given = Line(64, 0.3, ("a", "b", "c"))
    for position, path in ((0, "a"), (1, "b"), (2, "c"), (4, "a"), (6, "c")):
        given.arrive(position, path)
    assert given.path_down("unknown") == []
    assert given.path_down("b") == [4]
    assert given.path_down("a") == [6]


def test_a_silent_path_is_forgotten_in_time() -> None:
    """A path that has brought nothing for PATH_MEMORY and a window of packets is waited for no longer."""
    given = Line(64, 0.1, ("a", "silent"))
    for position in range(0, 300, 2):  # every other packet is lost
        given.arrive(position)
        given.wait(PATH_MEMORY / 100)
    before = len(given.out)
    assert given.arrive(300) == [300]
    assert given.arrive(302) == [302]
    assert len(given.out) == before + 2


def test_a_path_that_brings_little_is_not_forgotten() -> None:
    """A path of small weight, that brings a packet in more than a window, is waited for as long as it brings any."""
    given = Line(64, 0.1, ("a", "seldom"))
    for position in range(0, 3000, 2):
        if position % 100 == 98:
            assert given.arrive(position + 1) == []
            assert given.arrive(position, "seldom") == [position, position + 1]
        else:
            given.arrive(position)
            given.arrive(position + 1)
        given.wait(0.02)
    assert given.dropped == {}


def test_an_idle_stream_does_not_forget_its_paths() -> None:
    """After a long pause of the whole stream a packet over the slower path is waited for as before."""
    given = Line(64, 0.1, ("fast", "slow"))
    given.arrive(0, "fast")
    given.arrive(1, "slow")
    given.wait(3 * PATH_MEMORY)
    given.arrive(2, "fast")
    assert given.arrive(4, "fast") == []
    given.wait(0.04)
    assert given.arrive(3, "slow") == [3, 4]


def test_a_path_that_comes_back_from_silence_is_waited_for() -> None:
    """The first packet of a path that was forgotten makes it count again, even if that one is late."""
    given = Line(4, 0.1, ("a", "b"))
    for position in range(20):
        given.arrive(position)
        given.wait(PATH_MEMORY / 10)
    given.arrive(21)
    assert given.arrive(20, "b") == []
    assert given.dropped == {"late": 1}
    given.arrive(22)
    assert given.arrive(24) == []
    assert given.arrive(23, "b") == [23, 24]


def test_a_path_that_reorders_is_not_trusted() -> None:
    """If a path changes the order itself, each DISTRUST seconds cost one packet; the rest is put in order."""
    given = Line(64, 0.1, ("a",))
    rate, seconds = 200, 25
    for position in range(0, rate * seconds, 2):
        given.arrive(position + 1 if position else 0, at=given.now + 1 / rate)
        given.arrive(position or 1, at=given.now + 1 / rate)
    given.wait(1)
    assert given.delivered == sorted(given.delivered, key=int)
    assert given.dropped.keys() <= {"late"}
    assert sum(given.dropped.values()) <= seconds / DISTRUST + 1
    assert given.waited < 2 / rate


def test_the_trust_comes_back() -> None:
    """After DISTRUST seconds in order, passed gaps are not waited for again."""
    given = Line(64, 0.1, ("a",))
    for position in (0, 2, 1):
        given.arrive(position)
    assert given.arrive(4) == []
    given.wait(DISTRUST + 0.1)
    assert given.arrive(6) == [6]


def test_one_packet_out_of_order_makes_no_loss_wait_long() -> None:
    """What a path reordered by a millisecond is waited for a few milliseconds from then on, not max_delay."""
    given = Line(64, 0.3, ("a", "b"))
    for position, path in ((0, "a"), (1, "b"), (3, "b"), (4, "a")):
        given.arrive(position, path)
    given.wait(0.001)
    assert given.arrive(2, "a") == []
    assert given.dropped == {"late": 1}
    for lost in range(5, 500, 5):
        for position in range(lost + 1, lost + 5):
            given.arrive(position, "ab"[position % 2])
            given.wait(0.001)
    assert given.waited < 0.01
    assert given.dropped == {"late": 1}


def test_a_path_is_given_the_time_by_which_it_reorders() -> None:
    """A packet that comes as late as one before it fills its gap."""
    given = Line(64, 0.3, ("a",))
    for first in range(0, 40, 4):
        for position in (first, first + 2, first + 3):
            given.arrive(position)
        given.wait(0.04)
        given.arrive(first + 1)
    assert given.dropped == {"late": 1}


def test_a_smaller_reordering_after_the_trust_came_back_counts_anew() -> None:
    given = Line(64, 0.3, ("a",))
    for position, wait in ((0, 0.0), (2, 0.2), (1, DISTRUST + 0.1), (4, 0.001), (3, 0.0)):
        given.arrive(position)
        given.wait(wait)
    assert given.dropped == {"late": 2}
    assert given.arrive(6) == []
    assert given.wait(0.01) == [6]

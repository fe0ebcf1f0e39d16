"""Which paths are left for their loss, and when they are used again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.lossrule import FIRST_HOLD, LONGEST_HOLD, LossRule, Quality

LIMIT = 0.3
GOOD, BAD, SOMEWHAT = Quality(True, 0.0), Quality(True, 0.5), Quality(True, 0.2)
UNKNOWN, DEAD = Quality(True, None), Quality(False, 0.0)


def left(rule: LossRule, count: int) -> list[int]:
    """Return the indexes of the left paths."""
    return [index for index in range(count) if rule.is_left(index)]


@pytest.mark.parametrize(
    ("qualities", "expected"),
    [
        ([GOOD, GOOD], []),
        ([BAD, GOOD], [0]),
        ([GOOD, BAD, GOOD], [1]),
        ([BAD, SOMEWHAT], [0]),
        ([Quality(True, 0.31), SOMEWHAT], []),  # the other is not much better
        ([BAD, BAD], []),  # whatever befalls both alike
        ([BAD, DEAD], []),  # the only one
        ([BAD, UNKNOWN], []),  # nobody knows whether the other is better
        ([BAD, UNKNOWN, GOOD], [0]),
        ([Quality(False, 0.5), GOOD], []),  # it carries nothing anyway
        ([Quality(True, 0.3), GOOD], []),  # not above the limit
        ([BAD], []),
        ([], []),
    ],
)
def test_which_path_is_left(qualities: list[Quality], expected: list[int]) -> None:
    """A path is left if it loses too much while another is usable and clearly better."""
    rule = LossRule(LIMIT, len(qualities))
    assert rule.decide(qualities, 100.0) == expected
    assert left(rule, len(qualities)) == expected
    assert rule.decide(qualities, 101.0) == []


def test_one_path_is_left_at_a_time_the_worst_first() -> None:
    """The moved traffic may change the loss of the others."""
    rule = LossRule(LIMIT, 3)
    qualities = [Quality(True, 0.4), Quality(True, 0.8), GOOD]
    assert rule.decide(qualities, 0.0) == [1]
    assert rule.decide(qualities, 0.1) == [0]


def test_a_path_comes_back_when_its_loss_is_below_half_of_the_limit() -> None:
    """The path comes back no earlier than its hold is over."""
    rule = LossRule(LIMIT, 2)
    rule.decide([BAD, GOOD], 0.0)
    assert rule.decide([GOOD, GOOD], FIRST_HOLD - 0.1) == []
    for still in (SOMEWHAT, UNKNOWN, BAD):
        assert rule.decide([still, GOOD], FIRST_HOLD) == []
    assert rule.decide([Quality(True, 0.14), GOOD], FIRST_HOLD) == [0]
    assert left(rule, 2) == []


def test_each_time_that_it_goes_bad_again_soon_it_is_left_for_longer() -> None:
    """A line that is bad under load and good without it does not come and go all the time."""
    rule, now, holds = LossRule(LIMIT, 2), 0.0, []
    for _ in range(8):
        assert rule.decide([BAD, GOOD], now) == [0]
        began = now
        while not rule.decide([GOOD, GOOD], now):
            now += 1.0
        holds.append(now - began)
        now += 1.0
    assert holds == [30, 60, 120, 240, 480, 600, 600, 600]
    assert rule.decide([BAD, GOOD], now + LONGEST_HOLD) == [0]
    assert rule.decide([GOOD, GOOD], now + LONGEST_HOLD + FIRST_HOLD) == [0]


def test_it_comes_back_at_once_when_no_other_path_is_usable() -> None:
    """A bad path is better than none; it is not left again before its hold is over."""
    rule = LossRule(LIMIT, 2)
    rule.decide([BAD, GOOD], 0.0)
    assert rule.decide([BAD, DEAD], 1.0) == [0]
    assert rule.decide([BAD, GOOD], 2.0) == []
    assert rule.decide([BAD, GOOD], 1.0 + FIRST_HOLD) == [0]


def test_two_ends_that_leave_different_paths_agree_in_the_end() -> None:
    """Each has the loss of its own direction; what one leaves is not usable for the other. Both take their path back,
    and do not begin anew at once."""
    ends = [LossRule(LIMIT, 2), LossRule(LIMIT, 2)]
    losses = [[0.5, 0.0], [0.0, 0.5]]
    changes = 0
    for second in range(600):
        for own, other, loss in ((0, 1, losses[0]), (1, 0, losses[1])):
            qualities = [Quality(not ends[other].is_left(index), loss[index]) for index in (0, 1)]
            changes += len(ends[own].decide(qualities, float(second)))
    assert changes < 20


def test_a_path_that_begins_anew_is_not_left() -> None:
    """A new beginning ends the hold, too."""
    rule = LossRule(LIMIT, 2)
    rule.decide([BAD, GOOD], 0.0)
    rule.forget(0)
    assert not rule.is_left(0)
    assert rule.decide([BAD, GOOD], 1.0) == [0]


def test_max_loss_0_leaves_nothing() -> None:
    """max_loss = 0 switches the rule off."""
    rule = LossRule(0.0, 2)
    assert rule.decide([BAD, GOOD], 0.0) == []
    assert not rule.is_news(0, 0.9)


@given(
    st.lists(
        st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1)), min_size=3, max_size=3), min_size=1, max_size=60
    )
)
def test_whatever_happens_a_usable_path_is_left_over(history: list[list[tuple[bool, float | None]]]) -> None:
    """If any path is usable, one that is not left is; and what is_news calls no news would have changed nothing."""
    rule = LossRule(LIMIT, 3)
    for second, each in enumerate(history):
        qualities = [Quality(*pair) for pair in each]
        news = any(rule.is_news(index, quality.loss) for index, quality in enumerate(qualities))
        changed = rule.decide(qualities, second * 7.0)
        assert news or not changed
        usable = [index for index, quality in enumerate(qualities) if quality.usable]
        assert not usable or any(not rule.is_left(index) for index in usable)


def test_a_path_at_the_limit_changes_rarely() -> None:
    """Chance alone puts the measurement above the limit and below half of it; that costs a few changes an hour."""
    rule, dice, changes = LossRule(LIMIT, 2), random.Random(1), 0
    for second in range(3600):
        loss = sum(dice.random() < 0.25 for _ in range(40)) / 40
        changes += len(rule.decide([Quality(True, loss), GOOD], float(second)))
    assert changes <= 20

"""The values between the data path and control."""

from __future__ import annotations

from typing import Any

import pytest

from mpt.limits import START_LIMITS, START_WINDOW, PathLimits, Report, both, mean_hold, quantile


@pytest.mark.parametrize(
    ("holds", "share", "expected"),
    [
        ((), 0.5, 0.0),
        ((0, 0), 0.99, 0.0),
        ((10,), 0.5, 0.001),
        ((50, 50), 0.5, 0.001),
        ((50, 50), 0.51, 0.002),
        ((98, 0, 0, 2), 0.99, 0.008),
        ((0, 1, 0), 0.0, 0.002),
    ],
)
def test_how_long_packets_were_held(holds: tuple[int, ...], share: float, expected: float) -> None:
    """The upper edge of the octave in which the quantile lies."""
    assert quantile(holds, share) == expected


def test_packets_that_were_not_held_count_in_the_mean() -> None:
    """An octave counts by its middle; who was held came, too."""
    assert mean_hold((), 0) == mean_hold((0, 0), 10) == 0.0
    assert mean_hold((0, 0, 5), 10) == pytest.approx(0.0015)
    assert mean_hold((0, 0, 5), 0) == pytest.approx(0.003)


def test_a_new_path_may_carry_a_first_window() -> None:
    """Until control has said otherwise."""
    assert PathLimits(START_WINDOW) == START_LIMITS and START_LIMITS.is_live and START_LIMITS.rate > 0


REPORT = Report("p", 1.0, 10, 100, 1000, 500, 1, 20, 30, 0.02, 70, 0.5, 0.9, False)


@pytest.mark.parametrize(
    ("changes", "least", "rtt"),
    [
        ({}, 20, 0.02),
        ({"least": 0xFFF0, "rtt": 0.01}, 0xFFF0, 0.01),
        ({"least": None, "median": None, "rtt": None}, 20, 0.02),
    ],
)
def test_two_reports_are_taken_as_one(changes: dict[str, Any], least: int, rtt: float) -> None:
    """What they count is added, delays are the least ones; all else is as the later one says."""
    later = Report("p", 2.0, 20, 110, 1500, 300, 0, 25, 35, 0.03, 80, 0.6, 1.9, True)._replace(**changes)
    taken = both(REPORT, later)
    assert taken == later._replace(acked=800, lost=1, least=least, median=later.median or 30, rtt=rtt)
    assert both(later, REPORT).settled_moved and both(later, REPORT).least == least

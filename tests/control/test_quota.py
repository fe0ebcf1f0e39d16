"""Quotas: what is counted in which period, when people are warned, and what a wrong clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.quota import QuotaMeter, Standing, Used, next_period, period_of
from mpt.model import PERIODS, Quota

DAILY = Quota(1000, "day")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-11-28 12:00")


@pytest.mark.parametrize(
    ("period", "when", "begun", "following"),
    [
        ("day", "2026-11-28 23:59:59", date(2026, 11, 28), date(2026, 11, 29)),
        ("week", "2026-11-29 12:00", date(2026, 11, 23), date(2026, 11, 30)),
        ("week", "2026-11-30 00:00", date(2026, 11, 30), date(2026, 12, 7)),
        ("month", "2026-12-31 23:59:59", date(2026, 12, 1), date(2027, 1, 1)),
        ("month", "2028-02-29 00:00", date(2028, 2, 1), date(2028, 3, 1)),
    ],
)
def test_periods_are_those_of_the_calendar(period: str, when: str, begun: date, following: date) -> None:
    """Weeks begin on Mondays; everything is by UTC."""
    assert period_of(period, at(when)) == begun
    assert next_period(period, begun) == following


@given(period=st.sampled_from(PERIODS), wall=st.floats(0, 4e9))
def test_every_moment_is_in_its_period(period: str, wall: float) -> None:
    """It has begun and has not ended."""
    begun = period_of(period, wall)
    assert begun <= datetime.fromtimestamp(wall, UTC).date() < next_period(period, begun)


def test_what_a_path_carries_is_counted_until_the_quota_is_spent() -> None:
    """People are warned once when it is near; a new period begins with nothing used."""
    meter = QuotaMeter(DAILY, None, 500, NOON)
    meter.read(1299, NOON)
    assert (meter.used.octets, meter.standing, meter.must_warn()) == (799, Standing.FRESH, False)
    meter.read(1300, NOON)
    assert (meter.standing, meter.must_warn(), meter.must_warn()) == (Standing.NEAR, True, False)
    meter.read(1500, NOON)
    assert (meter.standing, meter.ends) == (Standing.SPENT, date(2026, 11, 29))
    meter.read(1600, at("2026-11-29 00:00:01"))
    assert (meter.used, meter.standing) == (Used(date(2026, 11, 29), 100), Standing.FRESH)
    meter.read(2500, at("2026-11-29 00:00:02"))
    assert meter.must_warn()


def test_a_new_data_path_counts_from_zero() -> None:
    """Nothing is counted twice, nothing is taken back."""
    meter = QuotaMeter(DAILY, None, 0, NOON)
    for counter in (100, 30, 30, 50):
        meter.read(counter, NOON)
    assert meter.used.octets == 150


def test_the_count_goes_on_from_what_was_stored() -> None:
    """Unless the period is over."""
    stored = Used(date(2026, 11, 28), 900)
    assert QuotaMeter(DAILY, stored, 0, NOON).used.octets == 900
    assert QuotaMeter(DAILY, stored, 0, NOON + 86400).used == Used(date(2026, 11, 29))


def test_a_wrong_clock_does_not_forget_what_was_used() -> None:
    """Neither one that begins in 1970 nor one that has gone ahead and comes back."""
    stored = Used(date(2026, 11, 28), 900)
    meter = QuotaMeter(DAILY, stored, 0, 5.0)
    meter.read(10, 6.0)
    meter.read(20, NOON)
    assert meter.used == Used(date(2026, 11, 28), 920)
    ahead = QuotaMeter(DAILY, Used(date(2099, 1, 1), 7), 0, NOON)
    assert ahead.used == Used(date(2026, 11, 28), 7)
    ahead.read(1, NOON + 86400)
    assert ahead.used == Used(date(2026, 11, 29), 1)


@given(
    start=st.integers(0, 10**6),
    steps=st.lists(st.tuples(st.integers(0, 10**6), st.integers(-(10**7), 10**7)), max_size=30),
)
def test_never_less_is_counted_than_was_carried_in_the_period(start: int, steps: list[tuple[int, int]]) -> None:
    """Whatever the clock does, the use of a period is at least what came since the period last began."""
    meter = QuotaMeter(Quota(10**6, "month"), None, start, NOON)
    counter, wall, carried = start, NOON, 0
    for more, seconds in steps:
        counter, wall = counter + more, max(0.0, wall + seconds)
        begun = meter.used.begun
        meter.read(counter, wall)
        carried = more if meter.used.begun > begun else carried + more
        assert meter.used.octets >= carried

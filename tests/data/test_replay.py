"""The replay window, against a set of all numbers that have come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.replay import WINDOW, ReplayWindow

STEPS = st.integers(-WINDOW - 3, WINDOW + 3) | st.sampled_from((0, -1, 1, 63, 64, 65, -64, WINDOW, 10 * WINDOW, 2**40))


@given(st.lists(STEPS, max_size=60))
def test_each_number_is_taken_once(steps: list[int]) -> None:
    """A number is new if it has not come and lies less than a window behind the newest."""
    window, taken, newest = ReplayWindow(), set(), -1
    for step in steps:
        number = min(max(newest, 0) + step, 2**48 - 1)
        if number < 0:
            continue
        assert window.is_new(number) is (number not in taken and newest - number < WINDOW)
        if window.is_new(number):
            window.accept(number)
            taken.add(number)
            newest = max(newest, number)
        assert window.newest == newest
        assert not window.is_new(number)


def test_a_whole_window() -> None:
    """Every number of the window is told from its neighbours, also after the window has moved on by any distance."""
    for moved in (0, 1, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 64):
        window = ReplayWindow()
        for number in range(0, WINDOW, 2):
            window.accept(number)
        window.accept(WINDOW + moved)
        oldest = moved + 1
        for number in range(WINDOW + moved):
            came = number % 2 == 0 and number < WINDOW
            assert window.is_new(number) is (number >= oldest and not came)


def test_the_window_is_large_enough() -> None:
    """Session 3: at least 8192 numbers."""
    assert WINDOW >= 8192

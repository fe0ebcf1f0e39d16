"""Which cost classes of paths are open."""

from __future__ import annotations

import pytest

from mpt.control.costs import FULL_TIME, ROOM_TIME, Cost, OpenClasses

FREE, METERED, BACKUP = Cost
ALL = (FREE, METERED, BACKUP)


def looked(classes: OpenClasses, live: tuple[int, ...], waits: bool, begin: float, seconds: float) -> float:
    """Look every 10 ms; return the time of the last look."""
    steps = round(seconds / 0.010)
    for step in range(steps + 1):
        classes.look(live, waits, begin + step * 0.010)
    return begin + steps * 0.010


@pytest.mark.parametrize(
    ("live", "dearest"),
    [(ALL, FREE), ((METERED, BACKUP), METERED), ((BACKUP,), BACKUP), ((FREE,), FREE), ((), FREE)],
)
def test_the_cheapest_that_is_there_is_open_at_once(live: tuple[int, ...], dearest: Cost) -> None:
    """Nobody waits when the cheaper ones are gone."""
    classes = OpenClasses()
    classes.look(live, False, 0.0)
    assert classes.dearest == dearest


def test_the_next_class_opens_when_the_cheaper_ones_stay_full() -> None:
    """After 200 ms, one class at a time."""
    classes = OpenClasses()
    looked(classes, ALL, True, 0.0, FULL_TIME - 0.020)
    assert classes.dearest == FREE
    now = looked(classes, ALL, True, FULL_TIME, 0.010)
    assert classes.dearest == METERED
    looked(classes, ALL, True, now, FULL_TIME + 0.020)
    assert classes.dearest == BACKUP


def test_a_short_burst_opens_nothing() -> None:
    """Room in between begins the time anew."""
    classes = OpenClasses()
    now = 0.0
    for _ in range(10):
        now = looked(classes, ALL, True, now, FULL_TIME / 2)
        now = looked(classes, ALL, False, now + 0.010, 0.010)
    assert classes.dearest == FREE


def test_a_class_closes_when_the_cheaper_ones_have_room() -> None:
    """After two seconds, one class at a time."""
    classes = OpenClasses()
    now = looked(classes, ALL, True, 0.0, 2 * FULL_TIME + 0.050)
    assert classes.dearest == BACKUP
    now = looked(classes, ALL, False, now + 0.010, ROOM_TIME - 0.050)
    assert classes.dearest == BACKUP
    now = looked(classes, ALL, False, now, 0.060)
    assert classes.dearest == METERED
    looked(classes, ALL, False, now, ROOM_TIME + 0.020)
    assert classes.dearest == FREE


def test_a_cheaper_path_that_returns_is_used_at_once() -> None:
    """The dear one stays open until the cheap one has shown that it has room."""
    classes = OpenClasses()
    classes.look((BACKUP,), False, 0.0)
    classes.look((FREE, BACKUP), False, 0.1)
    assert classes.dearest == BACKUP
    looked(classes, (FREE, BACKUP), False, 0.1, ROOM_TIME + 0.020)
    assert classes.dearest == FREE

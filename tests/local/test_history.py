"""The recent past of a path."""

from __future__ import annotations

import json
from math import isnan, nan

from hypothesis import given, settings
from hypothesis import strategies as st

from mpt.local.history import LEVELS, History, Inside, Sample


def test_each_level_has_the_means_of_the_one_before() -> None:
    """Twenty seconds make two samples of ten."""
    history = History(Sample)
    for second in range(25):
        history.add(Sample(float(second), 2.0))
    assert [sample.out_rate for sample in history.samples()] == [float(second) for second in range(25)]
    assert [(sample.out_rate, sample.in_rate) for sample in history.samples(1)] == [(4.5, 2.0), (14.5, 2.0)]
    assert history.samples(2) == []


def test_unknown_values_do_not_count_in_a_mean() -> None:
    """A round trip that is known for one second of ten is that of the ten; one that never is stays unknown."""
    history = History(Sample)
    for second in range(10):
        history.add(Sample(0.0, 0.0, 0.5 if second == 3 else nan))
    (mean,) = history.samples(1)
    assert mean.round_trip == 0.5
    assert isnan(mean.loss)


@settings(max_examples=30)
@given(st.integers(0, 3000))
def test_memory_is_bounded_and_the_newest_stay(seconds: int) -> None:
    """Each level keeps its last samples, in order."""
    history = History(Sample)
    for second in range(seconds):
        history.add(Sample(float(second), 0.0))
    assert [sample.out_rate for sample in history.samples()] == [float(s) for s in range(seconds)][-LEVELS[0][1] :]
    assert len(history.samples(1)) == min(LEVELS[1][1], seconds // 10)
    assert len(history.samples(2)) == seconds // 300


def test_the_plain_values_are_json() -> None:
    """An unknown value is null: NaN is not JSON."""
    history = History(Sample)
    history.add(Sample(1.0, 2.0))
    first, second, third = json.loads(json.dumps(history.as_json(), allow_nan=False))
    assert first == {"step": 1, "out_rate": [1.0], "in_rate": [2.0], "round_trip": [None], "loss": [None]}
    assert (second["step"], third["step"], second["out_rate"]) == (10, 300, [])


def test_the_inside_of_a_connection_has_a_history() -> None:
    """It has its own members."""
    history = History(Inside)
    history.add(Inside(waiting=3))
    assert history.as_json()[0] == {
        "step": 1,
        "round_trip": [None],
        "waiting": [3.0],
        "hold_p50": [None],
        "hold_p99": [None],
    }

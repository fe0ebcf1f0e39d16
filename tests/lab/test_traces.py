"""Rate traces: their text, what they carry, and the lines that are made up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import ConfigError
from mpt.lab.traces import MAKERS, Step, Trace, lte, parse, starlink, steps_of

NUMBERS = st.floats(0, 1000).map(lambda number: float(f"{number:.6g}"))
STEPS = st.builds(
    lambda seconds, rate, rest: Step(seconds, rate, *rest),
    st.floats(0.001, 100).map(lambda number: float(f"{number:.6g}")),
    NUMBERS,
    st.one_of(st.just(()), st.tuples(NUMBERS), st.tuples(NUMBERS, NUMBERS)),
)
TRACES = st.lists(STEPS, min_size=1, max_size=20).map(lambda steps: Trace((Step(1, 1.0), *steps)))


def test_a_trace_file() -> None:
    """A line for each step, seconds, rate, and perhaps delay and loss; blank lines and comments do not count."""
    trace = parse("# recorded on a train\n0.5 12.5\n\n1 0   # a tunnel\n2 30 45\n0.25 8 60 1.5\n")
    assert trace.steps == (Step(0.5, 12.5), Step(1, 0), Step(2, 30, 45), Step(0.25, 8, 60, 1.5))


@given(trace=TRACES)
def test_a_trace_is_what_its_text_says(trace: Trace) -> None:
    """Written and read it is the same trace."""
    assert parse(trace.as_text()) == trace


@pytest.mark.parametrize(
    "text", ["", "1", "1 2 3 4 5", "one 2", "0 5", "-1 5", "1 -5", "1 5 -1", "1 5 1 -1", "nan 5", "1 inf", "3 0"]
)
def test_what_is_no_trace_is_refused(text: str) -> None:
    """Neither words nor negative numbers, nor a line that never carries anything."""
    with pytest.raises(ConfigError):
        parse(text)


def test_what_a_trace_carries() -> None:
    """The mean rate between two times, also where it begins again."""
    trace = steps_of((1, 10), (3, 2))
    assert trace.mean_mbit == pytest.approx(4)
    assert trace.capacity_mbit(0, 1) == pytest.approx(10)
    assert trace.capacity_mbit(0.5, 1.5) == pytest.approx(6)
    assert trace.capacity_mbit(3, 5) == pytest.approx(6)
    assert trace.capacity_mbit(7.5, 8.5) == pytest.approx(6)
    assert trace.step_at(4.5).rate_mbit == 10


@pytest.mark.parametrize("kind", MAKERS)
def test_a_made_line_has_its_mean_and_repeats_with_its_seed(kind: str) -> None:
    """It lasts as long and carries as much as was asked, and another seed gives another line."""
    made = [MAKERS[kind](seed, 60, 20) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert all(trace.seconds == pytest.approx(60) and trace.mean_mbit == pytest.approx(20) for trace in made)


def test_a_line_like_lte_wanders_and_stops() -> None:
    """Over some minutes its second carries several times what another does, and at times it stands still."""
    trace = lte(3, 180, 20)
    seconds = sorted(trace.capacity_mbit(at, at + 1) for at in range(180))
    assert seconds[-10] > 3 * seconds[10]
    assert min(step.rate_mbit for step in trace.steps) == 0


def test_a_line_like_starlink_has_steps_of_delay_every_15_seconds() -> None:
    """In two minutes the delay changes eight times, 15 s apart."""
    trace = starlink(5, 120, 100)
    pairs = zip(trace.ends[:-1], pairwise(trace.steps), strict=True)
    times = [end for end, (one, other) in pairs if one.delay_ms != other.delay_ms]
    assert len(times) == 8
    assert all(later - earlier == pytest.approx(15) for earlier, later in pairwise(times))

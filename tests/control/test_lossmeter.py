"""Loss by the arrivals of keepalives whose interval is not known."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.lossmeter import FEWEST, RECENT, SHORTEST_TIME, LossMeter, interval_of

LIMIT = 0.3  # the default of max_loss
INTERVALS = st.sampled_from([0.01, 0.1, 1 / 3, 0.5, 1.0, 2.0, 2.5, 3.0, 5.0, 60.0])


def keepalives(
    interval: float, count: int, loss: float = 0.0, jitter: float = 0.0, start: float = 0.0, seed: int = 1
) -> Iterator[float]:
    """When keepalives arrive, in order; `jitter` is a share of the interval that each is late at most."""
    dice = random.Random(seed)
    for number in range(count):
        if dice.random() >= loss:
            yield start + interval * (number + jitter * dice.random())


def worst(meter: LossMeter, arrivals: Iterable[float]) -> float:
    """Return the highest loss that `meter` gives while these keepalives arrive."""
    highest = 0.0
    for now in arrivals:
        meter.heard(now)
        highest = max(highest, meter.loss() or 0.0)
    return highest


@pytest.mark.parametrize("interval", [0.01, 0.1, 1.0, 5.0, 255.0])
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5, 0.7])
def test_the_interval_is_learned_and_the_loss_measured(interval: float, loss: float) -> None:
    """Any interval of the peer is learned."""
    meter = LossMeter()
    worst(meter, keepalives(interval, int(300 * max(1, 0.1 / interval)), loss, jitter=0.1))
    assert meter.interval == pytest.approx(interval, rel=0.05)
    measured = meter.loss()
    assert measured == pytest.approx(loss, abs=0.2 if loss else 0.0)


def test_nothing_is_said_before_there_is_enough() -> None:
    """Neither interval nor loss is known before."""
    meter = LossMeter()
    for number, now in enumerate(keepalives(1.0, FEWEST + 1)):
        assert meter.loss() is None, number
        meter.heard(now)
    assert meter.interval == 1.0
    worst(meter, keepalives(1.0, 10, start=FEWEST + 1))
    assert meter.loss() == 0.0


def test_a_measurement_covers_some_time() -> None:
    """With short intervals a burst of loss is not yet a bad path."""
    meter = LossMeter()
    worst(meter, keepalives(0.1, 200))
    assert worst(meter, keepalives(0.1, 20, loss=0.9, start=20.0)) < LIMIT
    assert SHORTEST_TIME / 0.1 > FEWEST


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss", [0.4, 0.5, 0.8])
def test_loss_that_begins_is_seen(loss: float, seed: int) -> None:
    """Loss is seen within some hundred intervals, and its measurement stays above the limit."""
    meter = LossMeter()
    worst(meter, keepalives(1.0, 200))
    assert worst(meter, keepalives(1.0, 600, loss, start=200.0, seed=seed)) > LIMIT
    assert (meter.loss() or 1.0) > LIMIT / 2


def test_loss_that_ends_is_forgotten() -> None:
    """Loss is forgotten after two measurements at most."""
    meter = LossMeter()
    worst(meter, keepalives(1.0, 200, loss=0.5))
    worst(meter, keepalives(1.0, 2 * FEWEST + 2, start=200.0))
    assert meter.loss() == 0.0


@given(INTERVALS, st.floats(0, 0.1), st.integers(0, 1000))
def test_jitter_is_no_loss(interval: float, jitter: float, seed: int) -> None:
    """A late keepalive is not lost."""
    assert worst(LossMeter(), keepalives(interval, 300, jitter=jitter, seed=seed)) == 0.0


@given(INTERVALS, st.floats(0.1, 3.0), st.integers(0, 1000))
def test_jitter_as_wide_as_the_interval_is_no_loss(interval: float, jitter: float, seed: int) -> None:
    """Such jitter hides the interval; the loss is unknown then."""
    assert worst(LossMeter(), sorted(keepalives(interval, 300, jitter=jitter, seed=seed))) < LIMIT


@given(INTERVALS, INTERVALS, st.integers(0, 120), st.floats(0, 0.05), st.integers(0, 1000))
def test_a_peer_that_changes_its_interval_has_no_loss(
    before: float, after: float, count: int, jitter: float, seed: int
) -> None:
    """A change at any moment, to a multiple or a fraction, is learned."""
    meter = LossMeter()
    first = keepalives(before, count, jitter=jitter, seed=seed)
    then = keepalives(after, 2000 if after < 0.1 else 300, jitter=jitter, start=before * count + after, seed=seed)
    assert worst(meter, [*first, *then]) < LIMIT / 2
    assert meter.interval == pytest.approx(after, rel=0.06)


@given(st.lists(st.tuples(st.integers(30, 200), st.floats(1, 1000)), min_size=1, max_size=5))
def test_a_peer_that_stops_or_restarts_now_and_then_has_no_loss(lives: list[tuple[int, float]]) -> None:
    """A gap of any length is no loss."""
    meter, now = LossMeter(), 0.0
    for count, pause in lives:
        assert worst(meter, keepalives(1.0, count, start=now)) < LIMIT
        now += count + pause


def test_a_line_that_freezes_has_no_loss() -> None:
    """0.4 s every 3 s, at 0.1 s: the keepalives come late and all at once."""
    arrivals = [max(time, time // 3 * 3 + 0.4) for time in keepalives(0.1, 600)]
    assert worst(LossMeter(), arrivals) < LIMIT / 2


def test_keepalives_that_come_twice_or_besides_are_no_harm() -> None:
    """A reviving path is answered outside of the interval."""
    arrivals = sorted([*keepalives(1.0, 200), *keepalives(20.0, 10, start=0.3), *keepalives(7.0, 25)])
    meter = LossMeter()
    assert worst(meter, arrivals) == 0.0
    assert meter.interval == pytest.approx(1.0, rel=0.05)


def test_after_a_restart_the_interval_is_known_but_not_the_loss() -> None:
    """The cable is another, the peer is the same."""
    meter = LossMeter()
    worst(meter, keepalives(1.0, 100, loss=0.5))
    meter.restart()
    assert meter.interval == pytest.approx(1.0)
    assert meter.loss() is None


@pytest.mark.parametrize(
    ("gaps", "interval"),
    [
        ([1.0] * 8, 1.0),
        ([1.0] * 7, None),  # too few
        ([1, 2, 1, 3, 1, 1, 2, 4], 1.0),
        ([3.0] * 6 + [6.0, 3.0], 3.0),
        ([0.0] * 8, None),
        ([1.0, 1.3, 1.7, 2.2, 2.9, 3.7, 4.8, 6.3], None),
        ([0.0, 0.0, 0.0, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 0.1),
    ],
)
def test_the_interval_of_some_gaps(gaps: list[float], interval: float | None) -> None:
    """The interval is the shortest time that enough gaps are and most are multiples of."""
    assert interval_of(gaps) == (None if interval is None else pytest.approx(interval))
    assert len(gaps) <= RECENT

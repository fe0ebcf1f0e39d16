"""What one path carries: the estimate finds it, follows it, and is not misled."""

from __future__ import annotations

import pytest

from mpt.control.delays import Scale
from mpt.control.estimator import DRAIN_EVERY, TARGET, PathEstimator
from mpt.limits import START_WINDOW
from tests.control.fluid import DATAGRAM, STEP, FluidLine

MBIT = 125_000.0
EVER = 1e12


def run(estimator: PathEstimator, line: FluidLine, seconds: float, demand: float = EVER) -> list[float]:
    """Let the line report; return its queue after each report, in seconds."""
    queues = []
    for _ in range(round(seconds / STEP)):
        estimator.take(line.step(estimator.window, estimator.pace, demand))
        queues.append(line.queue)
    return queues


def greeted(line: FluidLine) -> PathEstimator:
    """Return the estimate of a line that single probes have measured."""
    estimator = PathEstimator(Scale())
    run(estimator, line, 1.0, demand=50 * DATAGRAM / 10)
    return estimator


@pytest.mark.parametrize("rate", [1, 5, 50, 1000])
@pytest.mark.parametrize("delay", [0.002, 0.020, 0.150])
def test_the_rate_is_found(rate: float, delay: float) -> None:
    """Within a second and some round trips; then the queue is short."""
    line = FluidLine(rate * MBIT, delay)
    estimator = greeted(line)
    run(estimator, line, 1.0 + 60 * delay)
    queues = run(estimator, line, 2.0)
    assert not estimator.is_starting
    assert estimator.rate == pytest.approx(rate * MBIT, rel=0.1)
    assert sorted(queues)[len(queues) * 9 // 10] < 3 * estimator.target + START_WINDOW / line.rate / 8
    assert estimator.losses.radio == estimator.losses.load == 0.0


def test_a_start_that_nobody_limits_ends_with_the_queue_alone() -> None:
    """While a sender doubles, the window is always ahead of it."""
    line = FluidLine(50 * MBIT)
    estimator = greeted(line)
    demand = 15_000 / 0.040
    for _ in range(6):
        run(estimator, line, 0.040, demand)
        assert estimator.is_starting
        assert line.in_flight < estimator.window
        demand *= 1.8
    run(estimator, line, 0.300, EVER)
    assert not estimator.is_starting


def test_a_start_sends_two_rounds_at_once_at_most() -> None:
    """A whole window at once would overflow the queue of a far line; the pace does not hinder a sender that doubles."""
    line = FluidLine(50 * MBIT, 0.060)
    estimator = greeted(line)
    sent = 100_000.0  # a round
    run(estimator, line, 5 * estimator.round_trip, sent / estimator.round_trip)
    assert estimator.is_starting
    assert estimator.window > 3.5 * sent
    assert 1.6 * sent < estimator.pace * estimator.burst < 2.4 * sent
    assert 3.5 * sent < estimator.pace * estimator.round_trip


def test_little_demand_says_nothing_of_the_rate() -> None:
    """A window is not made smaller by an empty queue, nor the rate."""
    line = FluidLine(50 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    window = estimator.window
    run(estimator, line, 10.0, demand=MBIT)
    assert estimator.window >= 0.7 * window  # a drain may have been under way
    assert estimator.rate > 45 * MBIT
    assert estimator.is_starting  # it is ready to grow again


@pytest.mark.parametrize(("factor", "within"), [(0.5, 0.5), (0.1, 1.0), (2.0, 2.0), (5.0, 3.0)])
def test_a_rate_that_changes_is_followed(factor: float, within: float) -> None:
    """Down in half a second, up in some."""
    line = FluidLine(20 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    line.rate *= factor
    run(estimator, line, within)
    queues = run(estimator, line, 1.0)
    assert estimator.rate == pytest.approx(line.rate, rel=0.15)
    assert min(queues) < 2 * TARGET


def test_a_step_of_the_delay_is_no_queue() -> None:
    """Thirty milliseconds more: the rate is the same again within three seconds."""
    line = FluidLine(50 * MBIT, 0.030)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    line.delay += 0.030
    run(estimator, line, 3.0)
    assert estimator.rate > 0.85 * line.rate
    assert estimator.delays.base is not None


def test_what_the_line_loses_makes_no_window_smaller() -> None:
    """Five in a hundred, without a queue: radio."""
    line = FluidLine(50 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    line.loss = 0.05
    run(estimator, line, 3.0)
    assert estimator.rate > 0.85 * line.rate
    assert estimator.losses.radio > 0.001
    assert estimator.penalty > 0.0


def test_what_a_full_queue_loses_is_ours() -> None:
    """A short queue that overflows in the start."""
    line = FluidLine(20 * MBIT, 0.020, most=0.045 * 20 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 3.0)
    assert estimator.losses.load > estimator.losses.radio
    assert estimator.rate == pytest.approx(line.rate, rel=0.15)


def test_the_queue_runs_empty_now_and_then() -> None:
    """So that the base is seen under load."""
    line = FluidLine(20 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    queues = run(estimator, line, 2 * DRAIN_EVERY + 0.5)
    assert min(queues) < TARGET / 4


def test_a_peer_that_counts_anew_begins_the_estimate_anew() -> None:
    """Another process, with another clock."""
    line = FluidLine(20 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    fresh = FluidLine(20 * MBIT, now=line.now + 1.0)
    assert not estimator.take(fresh.step(0.0))
    assert estimator.is_starting and estimator.window == START_WINDOW and not estimator.is_known
    run(estimator, fresh, 3.0)
    assert estimator.rate == pytest.approx(fresh.rate, rel=0.1)


def test_a_path_that_died_starts_again_with_little() -> None:
    """Its delays are kept."""
    line = FluidLine(20 * MBIT)
    estimator = greeted(line)
    run(estimator, line, 2.0)
    estimator.restart(line.now)
    assert (estimator.window, estimator.pace, estimator.is_starting) == (START_WINDOW, 0.0, True)
    assert estimator.is_known

"""Long work in slices, between which the daemon does everything else."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest
from twisted.internet.defer import ensureDeferred

from mpt.config.steps import at_once
from mpt.daemon.slices import SLICE, collector_at_rest, in_slices
from mpt.testing.reactor import FakeReactor
from tests.daemon.stage import Run


def work(reactor: FakeReactor, steps: int, seconds: float) -> Generator[None, None, str]:
    """Return "done" after so many steps, each of which takes its time."""
    for _ in range(steps):
        reactor.rightNow += seconds
        yield
    return "done"


def test_half_of_the_time_is_for_everything_else(run: Run) -> None:
    """No slice is longer than it must be, and after each there is a pause of its length."""
    stage = run()
    began, results, turns = stage.reactor.seconds(), list[str](), 0
    ensureDeferred(in_slices(stage.machine, work(stage.reactor, 100, SLICE / 3))).addCallback(results.append)
    while not results:
        before = stage.reactor.seconds()
        stage.reactor.advance(SLICE)
        assert stage.reactor.seconds() - before < 2.5 * SLICE
        turns += 1
    assert results == ["done"] and turns >= 30
    assert stage.reactor.seconds() - began == pytest.approx(2 * 100 * SLICE / 3, rel=0.1)


def test_little_work_makes_no_pause(run: Run) -> None:
    """It is done in the turn that asks for it, as at once."""
    stage = run()
    results = list[str]()
    ensureDeferred(in_slices(stage.machine, work(stage.reactor, 2, SLICE / 3))).addCallback(results.append)
    assert results == ["done"] == [at_once(work(stage.reactor, 2, SLICE))]


def test_a_failure_comes_out(run: Run) -> None:
    """Also one after a pause."""
    stage = run()

    def fails() -> Generator[None, None, str]:
        yield from work(stage.reactor, 4, SLICE)
        raise ValueError("no")

    failures = list[str]()
    ensureDeferred(in_slices(stage.machine, fails())).addErrback(lambda failure: failures.append(str(failure.value)))
    assert failures == []
    for _ in range(8):
        stage.reactor.advance(SLICE)
    assert failures == ["no"]


def test_the_garbage_collector_rests_while_a_block_runs() -> None:
    """And goes on after it, unless it rested before."""
    assert gc.isenabled()
    with collector_at_rest(), collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled()

"""The deadline loop: it wakes when the deadline says, and only while there is one."""

from __future__ import annotations

from mpt.daemon.machine import Machine
from mpt.daemon.timers import DeadlineLoop
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSystem


class Worker:
    """Something with deadlines; each one that is reached is noted with its time."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        machine = Machine(self.reactor, self.reactor.seconds, FakeSystem(), FakeNetlink())
        self.deadlines: list[float] = []
        self.woken: list[float] = []
        self.loop = DeadlineLoop(machine, lambda: min(self.deadlines, default=None), self.reached)

    def reached(self, now: float) -> None:
        self.woken.append(round(now, 6))
        self.deadlines = [deadline for deadline in self.deadlines if deadline > now]

    def want(self, *deadlines: float) -> None:
        self.deadlines += deadlines
        self.loop.follow()


def test_it_wakes_at_each_deadline_and_then_never_again() -> None:
    """Its interval follows; with nothing left, no timer is left."""
    worker = Worker()
    worker.want(0.5, 0.75, 2.0)
    worker.reactor.pass_time(5.0, step=0.125)
    assert worker.woken == [0.5, 0.75, 2.0]
    assert worker.reactor.getDelayedCalls() == []


def test_an_earlier_deadline_is_kept_and_a_later_one_does_not_put_it_off() -> None:
    """Any number of calls of follow keeps one timer."""
    worker = Worker()
    worker.want(2.0)
    worker.want(1.0)
    worker.want(3.0)
    worker.reactor.pass_time(4.0, step=0.125)
    assert worker.woken == [1.0, 2.0, 3.0]


def test_a_deadline_that_has_passed_wakes_soon_but_not_at_once() -> None:
    """The packet path calls follow; the work is done from the loop."""
    worker = Worker()
    worker.reactor.advance(10.0)
    worker.want(5.0)
    assert worker.woken == []
    worker.reactor.advance(0.001)
    assert len(worker.woken) == 1


def test_stopped_it_stays_silent_until_it_is_asked_again() -> None:
    """It stays stopped, also if the work itself stops it."""
    worker = Worker()
    worker.want(1.0)
    worker.loop.stop()
    worker.reactor.advance(2.0)
    assert worker.woken == []
    worker.want(3.0)
    worker.reactor.advance(1.5)
    assert worker.woken == [3.5]

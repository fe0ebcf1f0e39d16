"""Timers around pure code that names its next deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mpt.daemon.machine import Machine

log = Logger()

SHORTEST: Final = 0.001  # s; epoll counts in milliseconds


class DeadlineLoop:
    """A LoopingCall that runs only while there is a deadline, and whose interval follows it.

    `reached` is called at or soon after the time that `next_deadline` gives, both in monotonic seconds. After anything
    that may have brought a new or an earlier deadline, call `follow`. With `reads_first` the reactor first reads all
    that is ready: a process that stood still, or did not get the CPU, must not take it for silence.
    """

    def __init__(
        self,
        machine: Machine,
        next_deadline: Callable[[], float | None],
        reached: Callable[[float], None],
        reads_first: bool = False,
    ) -> None:
        self._now = machine.now
        self._next_deadline = next_deadline
        self._reached = reached
        self._due = 0.0
        self._reads_first = reads_first
        self._has_read = False
        self._loop = LoopingCall(self._wake)
        self._loop.clock = machine.reactor

    def follow(self) -> None:
        """Note that there may be a new or an earlier deadline: start, or go off sooner."""
        deadline = self._next_deadline()
        if deadline is None or (self._loop.running and deadline >= self._due):
            return
        interval = self._set(deadline)
        if self._loop.running:
            self._loop.reset()
        else:
            self._loop.start(interval, now=False).addErrback(_report)

    def stop(self) -> None:
        """Do not wake again before the next `follow`."""
        self._has_read = False
        if self._loop.running:
            self._loop.stop()

    def _wake(self) -> None:
        if self._reads_first and not self._has_read:
            self._has_read = True
            self._loop.interval = 0  # in the next turn of the reactor, which begins with reading
            return
        self._has_read = False
        self._reached(self._now())
        deadline = self._next_deadline()
        if not self._loop.running:
            return  # `reached` stopped us
        if deadline is None:
            self._loop.stop()
        else:
            self._set(deadline)
            self._loop.starttime = self._loop.clock.seconds()

    def _set(self, deadline: float) -> float:
        self._due = deadline
        interval = self._loop.interval = max(SHORTEST, deadline - self._now())
        return interval


def _report(failure: object) -> None:
    log.failure("a timer failed", failure)  # type: ignore[arg-type]

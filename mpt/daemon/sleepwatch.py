"""Notices that the machine has slept: then addresses, NAT entries and keys may be old, though no timer has moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mpt.control.liveness import Sleep
from mpt.daemon.machine import Machine

log = Logger()

INTERVAL: Final = 1.0  # s; the kernel tells nobody, so somebody has to look


class SleepWatch(Service):
    """Calls `slept(seconds)` within a second after the machine has woken up."""

    def __init__(self, machine: Machine, slept: Callable[[float], None]) -> None:
        self._machine = machine
        self._slept = slept
        self._sleep = Sleep(*machine.sleep_clocks())
        self._loop = LoopingCall(self._look)
        self._loop.clock = machine.reactor

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._sleep = Sleep(*self._machine.sleep_clocks())
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        seconds = self._sleep.look(*self._machine.sleep_clocks())
        if seconds:
            log.info("this machine has slept for {seconds:.0f} s", seconds=seconds)
            self._slept(seconds)

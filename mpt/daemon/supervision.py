"""Tells the service manager how the daemon is: ready, reloading, alive, stopping, and a line of status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from mpt.host.notify import ServiceManager

STATUS_EVERY: Final = 5.0  # s


class Supervision(Service):
    """Tells `manager`; `status()` returns a line about the daemon.

    The signs of life come from the reactor, half of the time before they are due: a daemon whose reactor stands still
    gives none, and is started anew.
    """

    def __init__(self, reactor: Any, manager: ServiceManager, status: Callable[[], str]) -> None:
        self._manager = manager
        self._status = status
        self._told = ""
        self._loops = [(LoopingCall(self._tell_status), STATUS_EVERY)]
        if manager.watchdog:
            self._loops.append((LoopingCall(manager.tell, WATCHDOG="1"), manager.watchdog / 2))
        for loop, _ in self._loops:
            loop.clock = reactor

    def ready(self) -> None:
        """Tell that packets flow; from now on a line of status, and signs of life."""
        if not self._manager.is_there:
            return
        self._told = self._status()
        self._manager.tell(READY="1", STATUS=self._told)
        for loop, interval in self._loops:
            loop.start(interval, now=False)

    def reloading(self) -> None:
        """Tell that a reload has begun."""
        self._manager.tell_reloading()

    def reloaded(self) -> None:
        """Tell that the reload has ended, well or not: the daemon runs on."""
        self._manager.tell(READY="1", STATUS=self._status())

    def _tell_status(self) -> None:
        status = self._status()
        if status != self._told:
            self._told = status
            self._manager.tell(STATUS=status)

    def stopService(self) -> None:
        """Tell that the daemon stops."""
        super().stopService()
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        self._manager.tell(STOPPING="1")

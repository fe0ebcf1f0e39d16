"""How the process of the daemon begins and ends: its clock, its signals, its exit status, its garbage."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time
from contextlib import suppress
from typing import Any, Final

from twisted.application.internet import TimerService
from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning

COLLECT_EVERY: Final = 60.0  # s
MANY: Final = 10_000  # objects; a collection takes some 5 ms


def prepare(reactor: Any) -> None:
    """Let `reactor` schedule by the monotonic clock and survive a second request to stop.

    Call it before anything is scheduled. Twisted schedules by the wall clock: if that were set back by an hour, every
    timer would come an hour late.
    """
    stop = reactor.stop

    def stop_once() -> None:
        with suppress(ReactorNotRunning):  # it is stopping already
            stop()

    reactor.stop = stop_once
    reactor.seconds = time.monotonic


def fail(reactor: Any) -> None:
    """Stop after a failure, and exit with status 1, whatever runs the reactor."""
    atexit.register(_exit_with_failure)
    reactor.stop()


def _exit_with_failure() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(1)


class WhenRunning(Service):
    """Starts `service` once the reactor runs, because signals are handled from then on.

    An earlier signal would end the process, and leave its routes and addresses behind.
    """

    def __init__(self, reactor: Any, service: Service) -> None:
        self._reactor = reactor
        self._service = service

    def startService(self) -> None:
        """Start the service once the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self._start)

    def stopService(self) -> Any:
        """Stop the service, if it runs; return its Deferred, if any."""
        super().stopService()
        return self._service.stopService() if self._service.running else None

    def _start(self) -> None:
        if self.running:
            self._service.startService()


class GarbageCollection(TimerService):
    """Hides the permanent objects from the garbage collector, those of the start first, and collects every
    `COLLECT_EVERY`.

    With them a collection takes 20 ms, in which no packet is carried, and 150 ms on a server of a thousand clients; so
    the collector would run seldom, and megabytes of old link and file changes would pile up. Without them it takes one
    or two milliseconds. When `MANY` have come meanwhile, they are hidden, too. Hidden objects may become garbage, all
    the same, so they are looked through when there are twice as many as after the last such look.
    """

    def __init__(self) -> None:
        self._next_look = 0  # hidden objects
        super().__init__(COLLECT_EVERY, self.collect)

    def startService(self) -> None:
        """Hide all present objects from the collector, and let it begin, if it has not."""
        self._hide_all()
        gc.enable()
        super().startService()

    def collect(self) -> None:
        """Collect the garbage of the last minute."""
        gc.collect()
        if len(gc.get_objects()) > MANY:
            gc.freeze()
            if gc.get_freeze_count() > self._next_look:
                self._look_through_all()

    def _look_through_all(self) -> None:
        gc.unfreeze()
        self._hide_all()

    def _hide_all(self) -> None:
        gc.collect()
        self._next_look = 2 * len(gc.get_objects())
        gc.freeze()

    def stopService(self) -> Any:
        """Stop collecting, if it has begun."""
        return super().stopService() if self.running else None

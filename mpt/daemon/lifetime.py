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


def prepare(reactor: Any) -> None:
    """Let `reactor` schedule by the monotonic clock, and take a second request to stop; before anything is scheduled.

    Twisted schedules by the wall clock: when that is set back by an hour, every timer would come an hour late.
    """
    stop = reactor.stop

    def stop_once() -> None:
        with suppress(ReactorNotRunning):  # it is stopping already
            stop()

    reactor.stop = stop_once
    reactor.seconds = time.monotonic


def fail(reactor: Any) -> None:
    """Stop, as nobody has asked for, and exit with status 1, whatever runs the reactor."""
    atexit.register(_exit_with_failure)
    reactor.stop()


def _exit_with_failure() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(1)


class WhenRunning(Service):
    """Starts `service` once the reactor runs. From then on signals are handled: earlier, one would end the process and
    leave behind the routes and addresses that it had made."""

    def __init__(self, reactor: Any, service: Service) -> None:
        self._reactor = reactor
        self._service = service

    def startService(self) -> None:
        """Start the service once the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self._start)

    def stopService(self) -> Any:
        """Stop the service, if it was started."""
        super().stopService()
        return self._service.stopService() if self._service.running else None

    def _start(self) -> None:
        if self.running:
            self._service.startService()


class GarbageCollection(TimerService):
    """Keeps the garbage collector from what the start has made, which is there to stay.

    Going through it takes 20 ms, in which no packet is carried; so the collector would do that seldom, and meanwhile
    keep megabytes that changes of links and files have left behind. Without it a collection takes a millisecond or two,
    and there is one every `COLLECT_EVERY`.
    """

    def __init__(self) -> None:
        super().__init__(COLLECT_EVERY, gc.collect)

    def startService(self) -> None:
        """Keep what is there from the collector, and begin."""
        gc.collect()
        gc.freeze()
        super().startService()

    def stopService(self) -> Any:
        """End, if it has begun."""
        return super().stopService() if self.running else None

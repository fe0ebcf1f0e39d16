"""Watches links, addresses and routes: after a change, the services are shown all interfaces as they now are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

from mpt.daemon.descriptors import Readable
from mpt.daemon.machine import Machine
from mpt.daemon.routes import RouteKeeper
from mpt.errors import HostError
from mpt.host.rtnetlink import Changes, EventSocket
from mpt.model import Interface

log = Logger()

SETTLE: Final = 0.02  # s; a change comes as a burst of events
LEISURE: Final = 9.0  # pause after a look, in times of its duration: looks take a tenth of the time at most
LONGEST: Final = 0.5  # s; no event waits longer
RETRY: Final = 1.0  # s, after the kernel did not answer
RETRY_ROUTES: Final = 10.0  # s, after it refused a route: the obstacle may go without an event


class NetWatch(Service):
    """Calls `changed(interfaces)` soon after links, addresses or routes change, and has `routes` put right."""

    def __init__(
        self, machine: Machine, routes: RouteKeeper, changed: Callable[[Mapping[str, Interface]], None]
    ) -> None:
        self._machine = machine
        self._routes = routes
        self._changed = changed
        self._events: EventSocket | None = None
        self._reading: Readable | None = None
        self._changes = Changes()
        self._interfaces: Mapping[str, Interface] = {}
        self._timer: Any = None
        self._due = 0.0  # when the timer expires
        self._look_took = 0.0

    def startService(self) -> None:
        """Open the event socket; no later change is missed. Raises HostError."""
        super().startService()
        self._events = self._machine.netlink.open_event_socket()
        self._reading = Readable(self._machine.reactor, "netlink", self._events.fileno, self._read, self._overrun)
        self._reading.startReading()

    def stopService(self) -> None:
        """Close the event socket."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reading is not None:
            self._reading.stop()
            self._reading = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def _read(self) -> None:
        if self._events is not None:
            self._changes |= self._events.read()
            if self._changes:
                self._look_after(min(max(SETTLE, LEISURE * self._look_took), LONGEST))

    def _overrun(self) -> None:
        """Note that the socket was full, which shows as an error condition: read on."""
        if self._reading is not None:
            self._read()
            self._reading.startReading()

    def _look_after(self, delay: float) -> None:
        """Look in `delay` seconds, unless a sooner look is planned already."""
        due = self._machine.now() + delay
        if self._timer is not None and due < self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._due = due
            self._timer = self._machine.reactor.callLater(delay, self._timer_expired)

    def _timer_expired(self) -> None:
        self._timer = None
        self._look()

    def _look(self) -> None:
        began = self._machine.now()
        try:
            now = self._machine.netlink.snapshot()
            self._routes.doubt(self._changes, now)
        except HostError as error:
            log.warn("cannot look at the interfaces: {error}", error=error)
            self._look_after(RETRY)
            return
        self._changes = Changes()
        before = self._interfaces  # an unchanged interface stays the same object, so comparing it is cheap
        self._interfaces = {name: before[name] if before.get(name) == each else each for name, each in now.items()}
        self._changed(self._interfaces)
        self._routes.restore()
        self._look_took = self._machine.now() - began
        if not self._routes.is_complete:
            self._look_after(RETRY_ROUTES)

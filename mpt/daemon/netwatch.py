"""Link, address and route events: whatever changes, the services are shown all interfaces as they now are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from mpt.daemon.machine import Machine
from mpt.daemon.routes import RouteKeeper
from mpt.errors import HostError
from mpt.host.rtnetlink import Changes, EventSocket
from mpt.model import Interface

log = Logger()

SETTLE: Final = 0.02  # s; a change comes as a burst of events
LEISURE: Final = 9.0  # how many times as long as a look takes there is none: events never take more than a tenth of us
RETRY: Final = 1.0  # s, after the kernel did not answer
RETRY_ROUTES: Final = 10.0  # s, after it refused a route: what is in the way may go without an event


@implementer(IReadDescriptor)
class NetWatch(Service):
    """Calls `changed(interfaces)` soon after links, addresses or routes change, and has `routes` put right."""

    def __init__(
        self, machine: Machine, routes: RouteKeeper, changed: Callable[[Mapping[str, Interface]], None]
    ) -> None:
        self._machine = machine
        self._routes = routes
        self._changed = changed
        self._events: EventSocket | None = None
        self._changes = Changes()
        self._interfaces: Mapping[str, Interface] = {}
        self._timer: Any = None
        self._due = 0.0  # when the timer expires
        self._look_took = 0.0

    def startService(self) -> None:
        """Open the event socket; what changes from now on is not missed."""
        super().startService()
        self._events = self._machine.netlink.open_event_socket()
        self._machine.reactor.addReader(self)

    def stopService(self) -> None:
        """Close it."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events is not None:
            self._machine.reactor.removeReader(self)
            self._events.close()
            self._events = None

    def fileno(self) -> int:
        return self._events.fileno() if self._events is not None else -1

    def doRead(self) -> None:
        if self._events is not None:
            self._changes |= self._events.read()
            if self._changes:
                self._look_after(max(SETTLE, LEISURE * self._look_took))

    def connectionLost(self, reason: object) -> None:
        """An overrun shows as an error condition: something changed."""
        if self._events is not None:
            self._machine.reactor.addReader(self)
            self.doRead()

    def logPrefix(self) -> str:
        return "mpt netlink"

    def _look_after(self, delay: float) -> None:
        """Look in `delay` seconds, or when it has been decided already, if that is sooner."""
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
        before = self._interfaces  # what is as it was stays the same object, so comparing it costs little
        self._interfaces = {name: before[name] if before.get(name) == each else each for name, each in now.items()}
        self._changed(self._interfaces)
        self._routes.restore()
        self._look_took = self._machine.now() - began
        if not self._routes.is_complete:
            self._look_after(RETRY_ROUTES)

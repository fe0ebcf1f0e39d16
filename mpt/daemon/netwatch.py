"""Link and address events: whatever changes, the services are shown all interfaces as they now are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from mpt.daemon.machine import Machine
from mpt.errors import HostError
from mpt.host.netlink import EventSocket
from mpt.model import Interface

log = Logger()

SETTLE: Final = 0.02  # s; a change comes as a burst of events


@implementer(IReadDescriptor)
class NetWatch(Service):
    """Calls `changed(interfaces)` soon after links or addresses change."""

    def __init__(self, machine: Machine, changed: Callable[[Mapping[str, Interface]], None]) -> None:
        self._machine = machine
        self._changed = changed
        self._events: EventSocket | None = None
        self._look: Any = None

    def startService(self) -> None:
        """Open the event socket; what changes from now on is not missed."""
        super().startService()
        self._events = self._machine.netlink.open_event_socket()
        self._machine.reactor.addReader(self)

    def stopService(self) -> None:
        super().stopService()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._events is not None:
            self._machine.reactor.removeReader(self)
            self._events.close()
            self._events = None

    def fileno(self) -> int:
        return self._events.fileno() if self._events is not None else -1

    def doRead(self) -> None:
        if self._events is not None and self._events.drain() and self._look is None:
            self._look = self._machine.reactor.callLater(SETTLE, self._look_now)

    def connectionLost(self, reason: object) -> None:
        """An overrun shows as an error condition: something changed."""
        if self._events is not None:
            self._machine.reactor.addReader(self)
            self.doRead()

    def logPrefix(self) -> str:
        return "mpt netlink"

    def _look_now(self) -> None:
        self._look = None
        try:
            interfaces = self._machine.netlink.snapshot()
        except HostError as error:
            log.warn("cannot look at the interfaces: {error}", error=error)
            return
        self._changed(interfaces)

"""Whether a path may be used (guide 2.6.3.2: keepalive_time, dead_time, status).

Four facts decide, and each has one owner: the operator (manual), the interface (is it there, with carrier), its
address, and life signs from the peer. The status is derived from them, the first that is wrong in this order:

    operator says down -> MANUAL_DOWN    interface lost -> INTERFACE_DOWN    address lost -> ADDRESS_DOWN
    no life sign       -> DOWN           else           -> OK

A facts table rather than a state per combination: a path that the operator took down while its cable was out is still
down by hand when the cable comes back. Only a keepalive revives a path that was silent for the dead time; data that
comes over a living path keeps it alive, so that a full queue that drops keepalives does not kill it.
"""

from __future__ import annotations

import enum
from typing import Final

from mpt.model import Status


class Event(enum.Enum):
    """What can happen to a path."""

    KEEPALIVE_HEARD = enum.auto()
    DEAD_TIME_OVER = enum.auto()
    INTERFACE_LOST = enum.auto()
    INTERFACE_FOUND = enum.auto()
    ADDRESS_LOST = enum.auto()
    ADDRESS_FOUND = enum.auto()
    OPERATOR_DOWN = enum.auto()
    OPERATOR_UP = enum.auto()


SENDS_KEEPALIVES: Final = frozenset({Status.OK, Status.DOWN})  # the C program sends in these states, too


class PathMonitor:
    """The state of one path. `keepalive_time` and `dead_time` in seconds, 0: off; `now` is monotonic seconds."""

    __slots__ = ("_address", "_alive", "_dead_time", "_interface", "_last_heard", "_manual", "is_monitored")

    def __init__(self, initial: Status, keepalive_time: float, dead_time: float, now: float) -> None:
        self.is_monitored = keepalive_time > 0 and dead_time > 0
        self._dead_time = dead_time
        self._last_heard = now
        self._manual = initial in (Status.MANUAL_DOWN, Status.DISABLED)
        self._interface = True
        self._address = True
        self._alive = initial is not Status.DOWN

    @property
    def status(self) -> Status:
        """The status as the configuration and the wire know it."""
        if self._manual:
            return Status.MANUAL_DOWN
        if not self._interface:
            return Status.INTERFACE_DOWN
        if not self._address:
            return Status.ADDRESS_DOWN
        return Status.OK if self._alive else Status.DOWN

    def event(self, event: Event, now: float) -> bool:
        """Take in `event`; whether the status has changed by it."""
        before = self.status
        match event:
            case Event.KEEPALIVE_HEARD:
                self._last_heard = now
                self._alive = True
            case Event.DEAD_TIME_OVER:
                self._alive = False
            case Event.INTERFACE_LOST | Event.INTERFACE_FOUND:
                found = event is Event.INTERFACE_FOUND
                self._interface_again(self._interface, found, now)
                self._interface = found
            case Event.ADDRESS_LOST | Event.ADDRESS_FOUND:
                found = event is Event.ADDRESS_FOUND
                self._interface_again(self._address, found, now)
                self._address = found
            case Event.OPERATOR_DOWN:
                self._manual = True
            case Event.OPERATOR_UP:
                self._manual = False
                self._alive = True
                self._last_heard = now
        return self.status is not before

    def check(self, now: float, last_received: float) -> bool:
        """Look at the clock; `last_received` is when the last data came over this path. Whether the status has
        changed."""
        if self._alive and last_received > self._last_heard:
            self._last_heard = last_received
        deadline = self.next_deadline()
        return deadline is not None and now >= deadline and self.event(Event.DEAD_TIME_OVER, now)

    def next_deadline(self) -> float | None:
        """When `check` must be called next; None when nothing can change by waiting."""
        if not self.is_monitored or self.status is not Status.OK:
            return None
        return self._last_heard + self._dead_time

    def _interface_again(self, before: bool, after: bool, now: float) -> None:
        """When the interface or its address is back, risk no data before the peer is heard, if there are keepalives
        to wait for; else the path is simply good again."""
        if after and not before:
            self._last_heard = now
            self._alive = not self.is_monitored

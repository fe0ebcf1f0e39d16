"""Decides whether a path may be used (guide 2.6.3.2: keepalive_time, dead_time, status).

Five facts decide, and each has one owner: the operator, the interface (there, with carrier), the local address, life
signs from the peer, and the loss on the way here. The first fact that is wrong is the status:

    operator says down -> MANUAL_DOWN    interface lost -> INTERFACE_DOWN    address lost -> ADDRESS_DOWN
    no life sign, or too much loss -> DOWN    else -> OK

The facts are kept, not their combinations: a path that the operator took down while its cable was out is still down by
hand when the cable comes back. Only a keepalive revives a path that was silent for the dead time. Data keeps a living
path alive, so a full queue that drops keepalives does not kill it.

A path may be OK before its peer was heard: the guide lets packets flow at once. `is_waiting` tells such a path from one
that is known to work.
"""

from __future__ import annotations

import enum
from typing import Final

from mpt.model import Status


class Event(enum.Enum):
    """The events of a path."""

    KEEPALIVE_HEARD = enum.auto()
    DEAD_TIME_OVER = enum.auto()
    INTERFACE_LOST = enum.auto()
    INTERFACE_FOUND = enum.auto()
    ADDRESS_LOST = enum.auto()
    ADDRESS_FOUND = enum.auto()
    OPERATOR_DOWN = enum.auto()
    OPERATOR_UP = enum.auto()
    LOSS_FOUND = enum.auto()
    LOSS_GONE = enum.auto()


SENDS_KEEPALIVES: Final = frozenset({Status.OK, Status.DOWN})  # the C program sends in these states, too


class PathMonitor:
    """The state of one path. `keepalive_time` and `dead_time` in seconds, 0: off; `now` is monotonic seconds."""

    __slots__ = (
        "_address",
        "_alive",
        "_dead_time",
        "_heard",
        "_interface",
        "_last_heard",
        "_lossy",
        "_manual",
        "_since",
        "is_monitored",
    )

    def __init__(self, initial: Status, keepalive_time: float, dead_time: float, now: float) -> None:
        self.is_monitored = keepalive_time > 0 and dead_time > 0
        self._dead_time = dead_time
        self._last_heard = self._since = now
        self._manual = initial in (Status.MANUAL_DOWN, Status.DISABLED)
        self._interface = True
        self._address = True
        self._alive = initial is not Status.DOWN
        self._heard = False  # a keepalive came since the path began, or began anew
        self._lossy = False

    @property
    def status(self) -> Status:
        """Return the status, as configuration and wire know it."""
        if self._manual:
            return Status.MANUAL_DOWN
        if not self._interface:
            return Status.INTERFACE_DOWN
        if not self._address:
            return Status.ADDRESS_DOWN
        return Status.OK if self._alive and not self._lossy else Status.DOWN

    @property
    def is_lossy(self) -> bool:
        """Return whether the path is down only because of its loss."""
        return self.status is Status.DOWN and self._alive

    @property
    def has_loss(self) -> bool:
        """Return whether loss was found and is not gone, whatever else is wrong."""
        return self._lossy

    def is_waiting(self, last_received: float) -> bool:
        """Return whether the path is OK but unproven: no keepalive and no data came over it since it began or came up.

        `last_received` is when the last data came, 0.0 for never.
        """
        return self.status is Status.OK and not self._heard and last_received <= self._since

    def event(self, event: Event, now: float) -> bool:
        """Note `event`; return whether the status has changed by it."""
        before = self.status
        match event:
            case Event.KEEPALIVE_HEARD:
                self._last_heard = now
                self._alive = self._heard = True
            case Event.DEAD_TIME_OVER:
                self._alive = False
            case Event.INTERFACE_LOST | Event.INTERFACE_FOUND:
                found = event is Event.INTERFACE_FOUND
                if found and not self._interface:
                    self._begin_anew(not self.is_monitored, now)
                self._interface = found
            case Event.ADDRESS_LOST | Event.ADDRESS_FOUND:
                found = event is Event.ADDRESS_FOUND
                if found and not self._address:
                    self._begin_anew(not self.is_monitored, now)
                self._address = found
            case Event.OPERATOR_DOWN:
                self._manual = True
            case Event.OPERATOR_UP:
                if before is not Status.OK:
                    heard_lately = self._heard and now - self._last_heard < self._dead_time
                    self._begin_anew(True, now)
                    self._heard = heard_lately
                self._manual = False
            case Event.LOSS_FOUND | Event.LOSS_GONE:
                self._lossy = event is Event.LOSS_FOUND
        return self.status is not before

    def check(self, now: float, last_received: float) -> bool:
        """Look whether the dead time is over; return whether the status has changed by it.

        `last_received` is when the last data came over this path.
        """
        if self._alive and last_received > self._last_heard:
            self._last_heard = last_received
        deadline = self.next_deadline()
        return deadline is not None and now >= deadline and self.event(Event.DEAD_TIME_OVER, now)

    def next_deadline(self) -> float | None:
        """Return when to call `check` next; None while nothing changes by waiting."""
        if not self.is_monitored or not (self.status is Status.OK or self.is_lossy):
            return None
        return self._last_heard + self._dead_time

    def _begin_anew(self, alive: bool, now: float) -> None:
        """Give the path its whole dead time again.

        Once an interface or its address has returned, the path carries no data before the peer is heard, if there are
        keepalives to wait for: it is not `alive` then.
        """
        self._last_heard = self._since = now
        self._alive = alive
        self._heard = self._lossy = False

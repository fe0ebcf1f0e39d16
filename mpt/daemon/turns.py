"""Turns for callers who may look, but not change anything: any user of this host.

A reactor round has one turn, so packets never wait for more than one. A pause follows each turn, in proportion to its
duration: all such callers together get at most `SHARE` of the time.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred

from mpt.daemon.machine import Machine

SHARE: Final = 0.1
SHORTEST: Final = 0.0001  # s; a turn counts as this long at least, for the reactor's work around it


class Turns:
    """Gives turns in the order in which they are asked for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waiting: deque[Deferred[None]] = deque()
        self._next_at = float("-inf")
        self._timer: Any = None

    def take(self) -> Deferred[None]:
        """Return a Deferred that fires when the turn has come, in a later round; its callbacks are the turn."""
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        self._schedule()
        return turn

    def stop(self) -> None:
        """Give no more turns; a waiting Deferred fires only if it is cancelled."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and self._waiting:
            wait = max(0.0, self._next_at - self._machine.now())
            self._timer = self._machine.reactor.callLater(wait, self._give)

    def _give(self) -> None:
        began = self._machine.now()
        if self._waiting:
            self._waiting.popleft().callback(None)  # a turn that is asked for meanwhile is a later one
        ended = self._machine.now()
        self._timer = None
        self._next_at = ended + max(SHORTEST, ended - began) * (1 / SHARE - 1)
        self._schedule()

"""The round trip of each path of a connection whose peer is mpt, but whose data path measures none (`cycle`).

Each path that is up gets a question now and then. The peer answers at once, and repeats the name of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from twisted.internet.task import LoopingCall

from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.model import Status

EVERY: Final = 15.0  # s between two questions on a path
PathKey = tuple[str, int]


class RoundTrips:
    """The round trips of `paths`, a list that may grow.

    `ask(path key)` sends a question and returns its name: the answer to the one before it has another.
    """

    def __init__(self, machine: Machine, paths: Sequence[Path], ask: Callable[[PathKey], Hashable]) -> None:
        self._machine = machine
        self._paths = paths
        self._ask = ask
        self._asked: dict[PathKey, tuple[Hashable, float]] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = machine.reactor

    def start(self) -> None:
        """Begin to ask."""
        self._loop.start(EVERY, now=False)

    def stop(self) -> None:
        """Ask no more, and forget what was known."""
        if self._loop.running:
            self._loop.stop()
        self._asked.clear()
        for path in self._paths:
            path.round_trip = None

    def answered(self, key: PathKey, name: Hashable) -> bool:
        """Note the answer to the question `name`. Return whether it was the latest one of the path."""
        if key not in self._asked or self._asked[key][0] != name:
            return False
        asked_at = self._asked.pop(key)[1]
        for path in self._paths:
            if path.key == key:
                path.round_trip = self._machine.now() - asked_at
        return True

    def _look(self) -> None:
        for path in self._paths:
            if path.status is Status.OK and path.heard_at is not None:
                self._asked[path.key] = self._ask(path.key), self._machine.now()
            else:
                self._asked.pop(path.key, None)
                path.round_trip = None

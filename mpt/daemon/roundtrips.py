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


class RoundTrips:
    """The round trips of `paths`, a list that may grow.

    `ask(path)` sends a question and returns its name: the answer to the one before it has another.
    """

    def __init__(self, machine: Machine, paths: Sequence[Path], ask: Callable[[Path], Hashable]) -> None:
        self._machine = machine
        self._paths = paths
        self._ask = ask
        self._asked: dict[Path, tuple[Hashable, float]] = {}  # what has no answer yet, and since when
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

    def answered(self, path: Path, name: Hashable) -> bool:
        """Note the answer to the question `name`. Return whether it was the latest one of the path."""
        asked, at = self._asked.get(path, (None, 0.0))
        if asked != name:
            return False
        del self._asked[path]
        path.round_trip = self._machine.now() - at
        return True

    def _look(self) -> None:
        unanswered, self._asked = self._asked, {}
        for path in self._paths:
            is_up = path.status is Status.OK and path.heard_at is not None
            if not is_up or path in unanswered:
                path.round_trip = None
            if is_up:
                self._asked[path] = self._ask(path), self._machine.now()

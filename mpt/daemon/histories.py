"""Takes a sample of every path each second, for the status and for whoever looks back (`mpt.local.history`)."""

from __future__ import annotations

from math import nan
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall

from mpt.config.steps import Steps
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.running import Running
from mpt.daemon.slices import in_slices
from mpt.data.pathstate import PathMeasures
from mpt.local.history import History, Sample

INTERVAL: Final = 1.0  # s
MOST: Final = 256  # paths with a history, 30 kB each; those beyond have rates alone


class _Watched:
    """A path with the measures of the last look, and the rates between that look and the one before."""

    __slots__ = ("history", "measures", "sample", "time")

    def __init__(self, measures: PathMeasures, time: float, history: History | None) -> None:
        self.measures = measures
        self.time = time
        self.history = history
        self.sample = Sample(0.0, 0.0)


class Histories(Service):
    """The histories of all paths of `running`, by the name of the connection and the index of the path."""

    def __init__(self, machine: Machine, running: Running) -> None:
        self._machine = machine
        self._running = running
        self._watched: dict[tuple[str, int], _Watched] = {}
        self._loop = LoopingCall(lambda: ensureDeferred(in_slices(machine, self._look())))
        self._loop.clock = machine.reactor

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._loop.start(INTERVAL)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        self._watched.clear()

    def history(self, path: tuple[str, int]) -> History | None:
        """Return the history of a path; None: it has none (yet)."""
        watched = self._watched.get(path)
        return watched.history if watched is not None else None

    def sample(self, path: tuple[str, int]) -> Sample | None:
        """Return what went over a path in the last second; None: it is too new."""
        watched = self._watched.get(path)
        return watched.sample if watched is not None else None

    def _look(self) -> Steps[None]:
        watched: dict[tuple[str, int], _Watched] = {}
        room = MOST - sum(each.history is not None for each in self._watched.values())
        for connection in self._running.connections():
            yield
            now = self._machine.now()
            for index, path in enumerate(connection.paths):
                measures = connection.measured(path.key)
                connection.note_state(index, measures.last_received)
                known = self._watched.get(path.key)
                if known is None:
                    known = _Watched(measures, now, History() if room > 0 else None)
                    room -= known.history is not None
                else:
                    _note(known, path, measures, now)
                watched[path.key] = known
        self._watched = watched if self.running else {}


def _note(known: _Watched, path: Path, measures: PathMeasures, now: float) -> None:
    passed = now - known.time
    if passed <= 0:
        return
    loss = path.loss()
    known.sample = Sample(
        max(0, measures.bytes_sent - known.measures.bytes_sent) / passed,
        max(0, measures.bytes_received - known.measures.bytes_received) / passed,
        path.round_trip if path.round_trip is not None else nan,
        100 * loss if loss is not None else nan,
    )
    known.measures, known.time = measures, now
    if known.history is not None:
        known.history.add(known.sample)

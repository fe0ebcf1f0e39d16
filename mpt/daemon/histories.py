"""Takes a sample of every path and of the inside of every connection each second, for the status and for whoever looks
back (`mpt.local.history`)."""

from __future__ import annotations

from math import nan
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall

from mpt.config.steps import Steps
from mpt.daemon.inside import Within
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.running import Running
from mpt.daemon.slices import in_slices
from mpt.data.pathstate import PathMeasures
from mpt.local.history import History, Inside, Sample

INTERVAL: Final = 1.0  # s
MOST: Final = 256  # paths with a history, 30 kB each, and one more a connection; those beyond have rates alone


class _Watched:
    """A path with the measures of the last look, and the rates between that look and the one before."""

    __slots__ = ("history", "measures", "sample", "time")

    def __init__(self, measures: PathMeasures, time: float, history: History[Sample] | None) -> None:
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
        self._within: dict[str, Within] = {}
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
        self._within.clear()

    def history(self, path: tuple[str, int]) -> History[Sample] | None:
        """Return the history of a path; None: it has none (yet)."""
        watched = self._watched.get(path)
        return watched.history if watched is not None else None

    def sample(self, path: tuple[str, int]) -> Sample | None:
        """Return what went over a path in the last second; None: it is too new."""
        watched = self._watched.get(path)
        return watched.sample if watched is not None else None

    def within(self, connection: str) -> Within | None:
        """Return the inside of a connection; None: its paths have no history (yet)."""
        return self._within.get(connection)

    def _look(self) -> Steps[None]:
        watched: dict[tuple[str, int], _Watched] = {}
        within: dict[str, Within] = {}
        room = MOST - sum(each.history is not None for each in self._watched.values())
        for tunnel in self._running.tunnels:
            held: int | None = None
            for connection in list(tunnel.connections.values()):
                yield
                now = self._machine.now()
                for index, path in enumerate(connection.paths):
                    measures = connection.measured(path.key)
                    connection.note_state(index, measures.last_received)
                    known = self._watched.get(path.key)
                    if known is None:
                        known = _Watched(measures, now, History(Sample) if room > 0 else None)
                        room -= known.history is not None
                    else:
                        _note(known, path, measures, now)
                    watched[path.key] = known
                seen = [watched[path.key] for path in connection.paths]
                if seen and seen[0].history is not None:
                    held = tunnel.counters().packets_held if held is None else held
                    name = connection.config.name
                    within[name] = self._within.get(name) or Within(History(Inside))
                    arrived = sum(each.measures.packets_received for each in seen)
                    samples = [each.sample for each in seen]
                    within[name].look(tunnel, connection, arrived, samples, held, now)
        self._watched = watched if self.running else {}
        self._within = within if self.running else {}


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

"""Reports the paths of one sealed connection to its peer, inside the session (session 4, messages 45 and 46).

The rules are those of plain connections (`mpt.control.agreement`). A report is sent again over another path until it is
acknowledged; its path id says which path is meant, so no address matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mpt.control.agreement import Report
from mpt.control.initiator import Outcome
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.peerreports import Reporter
from mpt.daemon.settings import Settings
from mpt.model import COSTS, ConnectionConfig, Status
from mpt.wire.command import Result
from mpt.wire.message import PathStatus, PathStatusSeen

TRIES: Final = 5
WAIT: Final = 0.5  # s for the acknowledgement of the first try; doubled each time


class SealedReporter(Reporter):
    """The reports of a sealed connection; `has_keys()` returns whether a message can be sent now, `reason_said`
    takes what the peer says of a path, before the path is up or down."""

    def __init__(
        self,
        machine: Machine,
        connection: ConnectionConfig,
        paths: list[Path],
        settings: Settings,
        peer_changed: Callable[[], None],
        has_keys: Callable[[], bool],
        reason_said: Callable[[PathStatus], None],
    ) -> None:
        super().__init__(
            machine, connection, paths, lambda path: path.config.public_ipaddr, _ask_nobody, settings, peer_changed
        )
        self._has_keys = has_keys
        self._reason_said = reason_said
        self._report: Report | None = None  # under way
        self._tries = 0
        self._timer: Any = None

    def start(self) -> None:
        """Begin to report changes; the state at the start is not reported."""
        self._agreement = self._new_agreement()
        self._may_report = True

    def stop(self) -> None:
        """Stop reporting."""
        self._forget()
        super().stop()

    def begin_anew(self) -> None:
        """Note that there are more paths, or fewer."""
        self._forget()
        self._failures = [0] * len(self._paths)
        self._agreement = self._new_agreement()
        self.paths_changed()

    def peer_said(self, message: PathStatus | PathStatusSeen) -> None:
        """Note what the peer says about a path, or has seen of ours."""
        index = message.path_id
        if isinstance(message, PathStatus):
            if index < len(self._paths):
                self._reason_said(message)
                self.peer_says(index, message.up)
            carrier = self._carrier_of(index)  # also for a path that is not here: the peer must not ask for ever
            if carrier is not None:
                carrier.protocol.send(PathStatusSeen(index, message.up).encode())
        elif self._report == Report(index, message.up):
            self._finish(Outcome(Result.DONE))

    def _send(self, report: Report) -> bool:
        if not self._has_keys() or self._carrier_of(report.path) is None:
            return False
        self._report, self._tries = report, 0
        self._try()
        return True

    def _try(self) -> None:
        self._timer = None
        report = self._report
        if report is None:
            return
        carrier = self._carrier_of(report.path)
        if self._tries == TRIES or carrier is None:
            self._finish(Outcome(Result.NO_ANSWER))
            return
        path = self._paths[report.path]
        reason = COSTS.index(path.config.cost) if report.up else int(path.status)
        carrier.protocol.send(PathStatus(report.path, report.up, reason).encode())
        self._timer = self._machine.reactor.callLater(WAIT * 2**self._tries, self._try)
        self._tries += 1
        self._failures[report.path] += 1  # the next try goes over another path

    def _finish(self, outcome: Outcome) -> None:
        report = self._report
        self._forget()
        if report is not None:
            self._ended(report, outcome)

    def _note_failure(self, text: str) -> None:
        """Say that a report was not seen, unless no path works: then nothing can be told, and each path says why."""
        if any(path.status is Status.OK for path in self._paths):
            super()._note_failure(text)

    def _forget(self) -> None:
        self._report = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _carrier_of(self, index: int) -> Path | None:
        """Return the path that carries a message about path `index`; None: no path can."""
        if index >= len(self._paths):
            return next((path for path in self._paths if path.status is Status.OK and path.port is not None), None)
        carrier = self._carrier(index)
        if carrier is None and self._paths[index].status in (Status.OK, Status.DOWN):
            carrier = self._paths[index]
        return carrier if carrier is not None and carrier.port is not None else None


def _ask_nobody(*_: object) -> None:
    """Do nothing: a sealed peer has no command port for us."""

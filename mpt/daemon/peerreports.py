"""Reports the paths of one connection to its peer, and keeps the peer's reports (`mpt.control.agreement`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.agreement import Agreement, Report
from mpt.control.initiator import ChangeRequest, Outcome, path_status_request
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.peerport import Peer, Way
from mpt.daemon.settings import Settings
from mpt.daemon.timers import DeadlineLoop
from mpt.errors import PeerError
from mpt.model import Address, ConnectionConfig, Permission, Status
from mpt.wire.command import Result

log = Logger()

Ask = Callable[[ChangeRequest, Peer, Way, Callable[[Outcome], None]], None]


class Reporter:
    """Reports the paths of `connection` through `ask`, and calls `peer_changed` when the peer's reports have changed.

    Without permission to SEND, or a permitted key, nothing is reported; keepalives tell the peer all the same.
    `failure` says why the last report on a path failed; None if it was acknowledged.
    """

    def __init__(
        self,
        machine: Machine,
        connection: ConnectionConfig,
        paths: list[Path],
        public_address: Callable[[Path], Address],
        ask: Ask,
        settings: Settings,
        peer_changed: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._connection = connection
        self._paths = paths
        self._public_address = public_address
        self._ask = ask
        self._settings = settings
        self._peer_changed = peer_changed
        self._may_report = False  # it runs, and is permitted to
        self._failures = [0] * len(paths)  # by path: failed reports since the last acknowledged one
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self.failure: str | None = None
        self._waiting: list[tuple[int, Deferred[Any]]] = []
        self._agreement = self._new_agreement()
        self._loop = DeadlineLoop(machine, self._next_deadline, self._due)

    def start(self) -> None:
        """Begin to report changes; the state at the start is not reported."""
        self._agreement = self._new_agreement()
        self._may_report = Permission.SEND in self._connection.permission and self._connection.remote_cmd_port > 0

    def peer_may_think_down(self) -> list[int]:
        """Return the indexes of the paths that the peer may think down, by our reports."""
        return [index for index in range(len(self._paths)) if self._agreement.may_be_thought_down(index)]

    def report(self, index: int) -> None:
        """Report path `index` anew: the peer's knowledge of it is older than this reporter."""
        if self._may_report:
            self._agreement.report_anew(index, self._machine.now())
            self._send_due()

    def stop(self) -> None:
        """Stop reporting; every pending `when_peer_knows` gets the outcome NO_ANSWER."""
        self._may_report = False
        self._agreement = self._new_agreement()
        self._loop.stop()
        self._answer_waiting(None, Outcome(Result.NO_ANSWER))

    def peer_down(self, index: int) -> bool:
        """Return whether the peer says that path `index` is down."""
        return self._agreement.peer_down(index, self._machine.now())

    def peer_says(self, index: int, up: bool) -> None:
        """Note that the peer has reported path `index`."""
        before, now = self.peer_down(index), self._machine.now()
        self._agreement.peer_says(index, up, now)
        if self.peer_down(index) is not before and self._log_lines.take(LOG_LINES, now):
            log.info("{path}: the peer says it is {state}", path=self._paths[index], state="up" if up else "down")
        self._peer_changed()
        self._loop.follow()

    def paths_changed(self) -> None:
        """Note that a path has changed here; report what is news to the peer."""
        if self._may_report:
            for index, path in enumerate(self._paths):
                self._agreement.own_state(index, path.status is Status.OK, self._machine.now())
            self._send_due()

    def when_peer_knows(self, index: int) -> Deferred[Any] | None:
        """Return a Deferred that fires with the `Outcome` of the report on path `index`; None if there is no report."""
        if not self._may_report or not self._agreement.is_open(index):
            return None
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((index, waiting))
        return waiting

    def _send_due(self) -> None:
        now = self._machine.now()
        while (report := self._agreement.next_report(now)) is not None:
            if self._send(report):
                break
            self._agreement.report_ended(False, now)
        self._loop.follow()

    def _send(self, report: Report) -> bool:
        """Begin a handshake about a path, over a working one; return False if it must be tried again later."""
        carrier = self._carrier(report.path)
        if carrier is None or carrier.port is None:
            self._answer_waiting(report.path, Outcome(Result.NO_ANSWER))
            return False
        path = self._paths[report.path]
        endpoint = carrier.port.endpoint
        try:
            request = path_status_request(
                self._connection,
                self._public_address(path),
                path.config.remote_ipaddr,
                report.up,
                self._settings.general.allow_default_key,
            )
        except PeerError as error:
            log.warn("the peer of {name} is not told of its paths: {error}", name=self._connection.name, error=error)
            self._may_report = False
            self._answer_waiting(None, Outcome(Result.AUTH_FAILED))
            return True  # it never ends, so no other follows
        peer = Peer(carrier.config.remote_ipaddr, self._connection.remote_cmd_port)
        way = Way(endpoint.address, endpoint.interface_index)
        try:
            self._ask(request, peer, way, lambda outcome: self._ended(report, outcome))
        except PeerError:
            return False  # an earlier report of the same kind is still being asked; this one comes later
        return True

    def _carrier(self, concerned: int) -> Path | None:
        """Return the path that carries a report on path `concerned`: another one after each failure.

        First come the paths that are good at both ends, then the paths that are good only here, last the concerned
        path: it may still carry the report that it was taken down by hand.
        """
        others = [i for i, path in enumerate(self._paths) if i != concerned and path.status is Status.OK]
        carriers = sorted(others, key=self.peer_down)
        if self._paths[concerned].status in (Status.OK, Status.MANUAL_DOWN):
            carriers.append(concerned)
        return self._paths[carriers[self._failures[concerned] % len(carriers)]] if carriers else None

    def _ended(self, report: Report, outcome: Outcome) -> None:
        state = "up" if report.up else "down"
        if outcome.ok:
            self._failures[report.path], self.failure = 0, None
        else:
            self._failures[report.path] += 1
            self._note_failure(f"path_{report.path} is {state}: {outcome.explanation()}")
        self._agreement.report_ended(outcome.ok, self._machine.now())
        if (self._paths[report.path].status is Status.OK) is report.up:  # else another report follows
            self._answer_waiting(report.path, outcome)
        self._send_due()

    def _note_failure(self, text: str) -> None:
        if text != self.failure:
            self.failure = text
            log.warn("the peer of {name} was not told that {text}", name=self._connection.name, text=text)

    def _answer_waiting(self, index: int | None, outcome: Outcome) -> None:
        answered = [each for each in self._waiting if index is None or each[0] == index]
        self._waiting = [each for each in self._waiting if each not in answered]
        for _, waiting in answered:
            waiting.callback(outcome)

    def _next_deadline(self) -> float | None:
        return self._agreement.next_deadline(self._machine.now())

    def _due(self, now: float) -> None:
        """Note that a report is due again, or that a report of the peer is over."""
        self._peer_changed()
        self._send_due()

    def _new_agreement(self) -> Agreement:
        monitored = [path.config.keepalive_time > 0 and path.config.dead_time > 0 for path in self._paths]
        return Agreement(monitored, [path.status is Status.OK for path in self._paths])

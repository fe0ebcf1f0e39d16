"""Telling the peer of one connection which paths are good here, and keeping what it says (`mpt.control.agreement`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mpt.control.agreement import Agreement, Report
from mpt.control.initiator import Outcome, Request, path_status_request
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.peerport import Peer, Way
from mpt.daemon.settings import Settings
from mpt.daemon.timers import DeadlineLoop
from mpt.errors import PeerError
from mpt.model import Address, ConnectionConfig, Permission, Status
from mpt.wire.command import Result

log = Logger()

Ask = Callable[[Request, Peer, Way, Callable[[Outcome], None]], None]


class Reporter:
    """Reports the paths of `connection` through `ask`, and calls `peer_changed` when what the peer says has changed.

    Without permission to SEND, or a key that may be used, nothing is reported; keepalives tell the peer all the same.
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
        self._may_tell = False  # while it runs and is permitted to
        self._waiting: list[tuple[int, Deferred[Any]]] = []
        self._agreement = self._new_agreement()
        self._loop = DeadlineLoop(machine, self._next_deadline, self._due)

    def start(self) -> None:
        """Report what changes from now on; the peer is not told how the paths are at the start."""
        self._agreement = self._new_agreement()
        self._may_tell = Permission.SEND in self._connection.permission and self._connection.remote_cmd_port > 0

    def thought_down(self) -> list[int]:
        """The paths that the peer may believe, by our word, to be down."""
        return [index for index in range(len(self._paths)) if self._agreement.may_be_thought_down(index)]

    def tell(self, index: int) -> None:
        """Tell the peer how path `index` is; it has heard of it before this reporter began."""
        if self._may_tell:
            self._agreement.tell(index, self._machine.now())
            self._report()

    def stop(self) -> None:
        """Report nothing any more; who waits for a report is told that it failed."""
        self._may_tell = False
        self._agreement = self._new_agreement()
        self._loop.stop()
        self._answer_waiting(None, Outcome(Result.NO_ANSWER))

    def peer_down(self, index: int) -> bool:
        """Whether the peer says that path `index` is down."""
        return self._agreement.peer_down(index, self._machine.now())

    def peer_says(self, index: int, up: bool) -> None:
        """The peer has reported path `index`."""
        before = self.peer_down(index)
        self._agreement.peer_says(index, up, self._machine.now())
        if self.peer_down(index) is not before:
            log.info("{path}: the peer says it is {state}", path=self._paths[index], state="up" if up else "down")
        self._peer_changed()
        self._loop.follow()

    def paths_changed(self) -> None:
        """What holds here has changed: tell the peer what it does not know."""
        if self._may_tell:
            for index, path in enumerate(self._paths):
                self._agreement.own_state(index, path.status is Status.OK, self._machine.now())
            self._report()

    def told(self, index: int) -> Deferred[Any] | None:
        """The outcome of telling the peer how path `index` is; None when it knows already or is not to be told."""
        if not self._may_tell or not self._agreement.is_open(index):
            return None
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((index, waiting))
        return waiting

    def _report(self) -> None:
        now = self._machine.now()
        while (report := self._agreement.next_report(now)) is not None:
            if self._send(report):
                break
            self._agreement.report_ended(False, now)
        self._loop.follow()

    def _send(self, report: Report) -> bool:
        """Begin a handshake about a path, over one that works; False if it must be tried again later."""
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
            self._may_tell = False
            self._answer_waiting(None, Outcome(Result.AUTH_FAILED))
            return True  # it never ends, so that no other follows
        peer = Peer(carrier.config.remote_ipaddr, self._connection.remote_cmd_port)
        way = Way(endpoint.address, endpoint.interface_index)
        try:
            self._ask(request, peer, way, lambda outcome: self._ended(report, outcome))
        except PeerError:
            return False  # an earlier report of the same kind is still being asked; this one comes later
        return True

    def _carrier(self, concerned: int) -> Path | None:
        """The first path that works, the concerned one last; it may still carry the report that it is down by hand."""
        working = [path for index, path in enumerate(self._paths) if path.status is Status.OK and index != concerned]
        own = self._paths[concerned]
        if own.status in (Status.OK, Status.MANUAL_DOWN):
            working.append(own)
        return next(iter(working), None)

    def _ended(self, report: Report, outcome: Outcome) -> None:
        if not outcome.ok:
            log.info(
                "{path}: the peer was not told that it is {state}: {why}",
                path=self._paths[report.path],
                state="up" if report.up else "down",
                why=outcome.explanation(),
            )
        self._agreement.report_ended(outcome.ok, self._machine.now())
        if (self._paths[report.path].status is Status.OK) is report.up:  # else the next report says what holds now
            self._answer_waiting(report.path, outcome)
        self._report()

    def _answer_waiting(self, index: int | None, outcome: Outcome) -> None:
        answered = [each for each in self._waiting if index is None or each[0] == index]
        self._waiting = [each for each in self._waiting if each not in answered]
        for _, waiting in answered:
            waiting.callback(outcome)

    def _next_deadline(self) -> float | None:
        return self._agreement.next_deadline(self._machine.now())

    def _due(self, now: float) -> None:
        """A report is due again, or what the peer said is over."""
        self._peer_changed()
        self._report()

    def _new_agreement(self) -> Agreement:
        monitored = [path.config.keepalive_time > 0 and path.config.dead_time > 0 for path in self._paths]
        return Agreement(monitored, [path.status is Status.OK for path in self._paths])

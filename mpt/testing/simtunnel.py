"""A tunnel between two data paths in virtual time, with the control of adaptive connections at both ends.

    host A ─ data path ═ lines ═ data path ─ host B
                │ reports, limits │
              control           control

Both data paths are real, and sealed with the keys of one session; lines and hosts are those of `mpt.testing.simnet` and
`mpt.testing.simtcp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from mpt.control.adaptive import AdaptiveControl
from mpt.control.adaptivepath import PathFacts
from mpt.data.framing import Sealed
from mpt.data.pathtable import Adaptive
from mpt.limits import OUTER, FlightMeasures, Report
from mpt.testing.datapath import LOCAL, REMOTE, Stage, connection_row, path_row
from mpt.testing.session import PeerSession
from mpt.testing.simcongestion import Bbr, Cubic
from mpt.testing.simnet import Line, Simulation
from mpt.testing.simtcp import TcpReceiver, TcpSender, ports_of
from mpt.wire.feedback import PROBE_MESSAGE

LEAST_TIME: Final = 0.0001  # s between two wake-ups
CONNECTION: Final = "c"


class Way(NamedTuple):
    """Both directions of a line."""

    there: Line
    back: Line


def ways(simulation: Simulation, *lines: Mapping[str, Any], seed: int = 0) -> list[Way]:
    """Return lines with the same arguments (of Line) in both directions."""
    made = []
    for number, each in enumerate(lines):
        there = Line(simulation, **each, seed=1000 * seed + 2 * number)
        made.append(Way(there, Line(simulation, **each, seed=1000 * seed + 2 * number + 1)))
    return made


class End:
    """One end: a data path on its stage, its control, and the host behind it."""

    def __init__(self, simulation: Simulation, stage: Stage, budget: float) -> None:
        self._simulation = simulation
        self.stage = stage
        self.control = AdaptiveControl(budget)
        self.sockets: list[Any] = []
        self.lines: list[Line] = []
        self.host: Callable[[bytes], None] = lambda _: None
        self.drift = 0.0  # of this end's clock
        self.paused = False  # the program does not run
        self.rescues: list[tuple[float, Hashable, int]] = []
        self._facts: dict[Hashable, PathFacts] = {}
        self._armed = math.inf
        self._flushing = False

    @property
    def now(self) -> float:
        """Return the time by the clock of this end."""
        now = self._simulation.now
        return now + (now - self._simulation.origin) * self.drift

    def start(self, local: str, remote: str, session: PeerSession, is_first: bool, adaptive: Adaptive) -> None:
        """Make the table, with a path a line, and begin to step."""
        self.sockets = [self.stage.new_socket() for _ in self.lines]
        paths = [path_row(i, each, f"10.{i + 1}.1.3", id=i) for i, each in enumerate(self.sockets)]
        row = connection_row(
            *paths,
            key=CONNECTION,
            local=local,
            remote=remote,
            window=256,
            max_delay=0.5,
            framing=Sealed("flow"),
            adaptive=adaptive,
        )
        data = self.stage.datapath
        data.set_table((row,), self.now)
        self.renew(session, is_first)
        self.set_paths({i: PathFacts(line=i) for i in range(len(self.lines))})
        self._simulation.after(self.control.pause, self._tick)

    def renew(self, session: PeerSession, is_first: bool) -> None:
        """Use another session from now on."""
        keys, index = (session.keys(), session.index) if is_first else (session.peer_keys(), session.peer_index)
        self.stage.datapath.add_session(CONNECTION, keys, self.now)
        self.stage.datapath.send_with(CONNECTION, index, self.now)

    def set_paths(self, facts: Mapping[Hashable, PathFacts]) -> None:
        """Change what is known of paths, and step at once."""
        self._facts.update(facts)
        self.control.set_paths(self._facts, self.now)
        self.step()

    def from_host(self, packet: bytes) -> None:
        """Take a packet of the host into the tunnel."""
        self.stage.tun.inject(packet)
        if not self.paused:
            self.stage.datapath.tun_readable(self.now)
            self.flush()

    def from_line(self, number: int, datagram: bytes) -> None:
        """Take a datagram that came over a line."""
        self.sockets[number].deliver(datagram, f"10.{number + 1}.1.3")
        if not self.paused:
            self.stage.datapath.socket_readable(self.sockets[number], self.now)
            self.flush()

    def step(self) -> None:
        """Let control make a plan, and carry it out."""
        data, now = self.stage.datapath, self.now
        flights: dict[Hashable, FlightMeasures] = {path: data.flight(path) for path in self._facts}
        plan = self.control.step(flights, now)
        data.set_limits(plan.limits, {CONNECTION: plan.order}, now)
        for path in plan.rescues:
            self.rescues.append((now, path, data.rescue(path, now)))
        for path in plan.copies:
            data.rescue(path, now, bounded=True)
        for path in plan.probes:
            data.send(path, PROBE_MESSAGE, now)
        self.flush()

    def flush(self) -> None:
        """Bring what the data path did to lines, host and control, and arm its deadline."""
        if self._flushing:
            return
        self._flushing = True
        data = self.stage.datapath
        while True:
            reports = [event for event in data.take_events() if isinstance(event, Report)]
            for report in reports:
                self.control.report(report)
            sent = [
                (line, datagram)
                for line, each in zip(self.lines, self.sockets, strict=True)
                for datagram, _ in each.sent()
            ]
            for line, datagram in sent:
                line.send(datagram, len(datagram) + OUTER)
            packets = self.stage.tun.delivered()
            for packet in packets:
                self.host(packet)
            if reports:
                self.step()
            if not (reports or sent or packets):
                break
        self._flushing = False
        self._arm()

    def _tick(self) -> None:
        if not self.paused:
            self.step()
        self._simulation.after(self.control.pause, self._tick)

    def _arm(self) -> None:
        due = self.stage.datapath.next_deadline()
        if due is None:
            return
        when = max(self._simulation.now + max(due - self.now, 0.0), self._simulation.now + LEAST_TIME)
        if when < self._armed - 1e-9:
            self._armed = when
            self._simulation.at(when, self._wake, when)

    def _wake(self, when: float) -> None:
        if when != self._armed:
            return
        self._armed = math.inf
        if not self.paused:
            self.stage.datapath.deadline_reached(self.now)
            self.flush()


class Tunnel:
    """Two ends and the lines between them. `there` sends to `here`; TCP connections go that way."""

    def __init__(
        self,
        simulation: Simulation,
        lines: Sequence[Way],
        make: Callable[[], Stage] = Stage.in_memory,
        adaptive: Adaptive | None = None,
        budget: float = 0.110,
    ) -> None:
        self.simulation = simulation
        self.lines = list(lines)
        self.here = End(simulation, make(), budget)
        self.here.lines = [each.there for each in lines]
        for number, each in enumerate(lines):
            each.back.deliver = partial(self.here.from_line, number)
        self._senders: dict[int, TcpSender] = {}
        self._receivers: dict[int, Any] = {}
        self.here.host = self._to_here
        self._stage, self._budget, self._settings = make, budget, adaptive or Adaptive(sends=True)
        self._gone: list[End] = []
        self._session = PeerSession()
        self.here.start(LOCAL, REMOTE, self._session, True, self._settings)
        self.there = self._begin_there(self._session)

    def _begin_there(self, session: PeerSession) -> End:
        """Return another end, which knows nothing yet."""
        end = End(self.simulation, self._stage(), self._budget)
        end.lines = [each.back for each in self.lines]
        for number, each in enumerate(self.lines):
            each.there.deliver = partial(end.from_line, number)
        end.host = self._to_there
        end.start(REMOTE, LOCAL, session, False, self._settings)
        return end

    def restart_there(self) -> None:
        """Let the program of the other end begin anew, with a new session; what it held is gone. This end keeps the old
        session for a while, and nobody reports of it."""
        self.there.paused = True
        self._gone.append(self.there)
        self._session = PeerSession()
        self.there = self._begin_there(self._session)
        self.here.renew(self._session, True)

    def tcp(self, control: Cubic | Bbr, total: float = math.inf, port: int = 5001) -> tuple[TcpSender, TcpReceiver]:
        """Begin a TCP connection from here to there."""
        sender = self._senders[port] = TcpSender(self.simulation, self.here.from_host, control, port, total)
        receiver = self._receivers[port] = TcpReceiver(self.simulation, self._from_there, port)
        sender.start()
        return sender, receiver

    def listen(self, port: int, receiver: Any) -> None:
        """Give the packets to `port` to the method `receive` of `receiver`."""
        self._receivers[port] = receiver

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time go by; return whether `until` held."""
        return self.simulation.run(seconds, until)

    def close(self) -> None:
        """Close both data paths."""
        for end in (self.here, self.there, *self._gone):
            end.stage.datapath.close()
            for each in end.sockets:
                each.close()
            end.stage.tun.close()

    def _from_there(self, packet: bytes) -> None:
        self.there.from_host(packet)

    def _to_here(self, packet: bytes) -> None:
        if (sender := self._senders.get(ports_of(packet)[1])) is not None:
            sender.receive(packet)

    def _to_there(self, packet: bytes) -> None:
        if (receiver := self._receivers.get(ports_of(packet)[1])) is not None:
            receiver.receive(packet)

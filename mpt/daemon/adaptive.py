"""Adaptive connections: what the data path measures goes to control, what control decides goes back to the data path.

    Report events, links, costs, quotas ─→ Adaptation ─→ mpt.control.adaptive
                                                            │ Plan: limits, rescues, probes
    DataPath.set_limits, rescue, send  ←─ Adaptations  ←────┘

Control looks at a loaded connection every 10 ms, less often at one that is at ease: from its first report until nothing
is under way. An idle connection has no timer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Final, cast

from twisted.logger import Logger

from mpt.control.adaptive import AdaptiveControl, Plan
from mpt.control.adaptivepath import PathFacts
from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.pathviews import PathView
from mpt.daemon.machine import Machine
from mpt.daemon.sealedpath import SealedPath
from mpt.daemon.timers import DeadlineLoop
from mpt.data.datapath import DataPath
from mpt.data.pathtable import Adaptive, ClassRule
from mpt.limits import START_LIMITS, START_ORDER, FlightMeasures, OrderLimits, PathLimits, Report
from mpt.model import COSTS, ConnectionConfig, Status
from mpt.values import port_ranges
from mpt.wire.feedback import PROBE_MESSAGE
from mpt.wire.hello import ADAPTIVE, Hello, HelloPath
from mpt.wire.message import PathStatus

log = Logger()

AWAKE: Final = 1.0  # s that control goes on looking after the last report
LEISURE: Final = 4.0  # pause after a step of all loaded connections, in times of its duration: a fifth of the time
TELL: Final = 0.1  # s between two looks for states that the log should tell


def adaptive_row(config: ConnectionConfig, sends: bool) -> Adaptive | None:
    """Return what the data path is told of how `config` adapts, None for a connection that does not; `sends`: the peer
    understands it."""
    if not config.is_adaptive:
        return None
    rules = tuple(
        ClassRule(each.dscps, each.protocol, port_ranges(each.ports), each.is_realtime, each.copies)
        for each in config.classes
    )
    return Adaptive(sends, ordered=config.reorder_window > 0, classes=rules)


class Adaptation:
    """How the connection `config` adapts to its `paths`, a list that may grow; `peer_down(index)`: the peer says so of
    a path. `row_changed()` is called when `row` may be another one. `all_of_them` are the adaptations of its tunnel,
    `control` decides."""

    def __init__(
        self,
        machine: Machine,
        config: ConnectionConfig,
        paths: Sequence[SealedPath],
        peer_down: Callable[[int], bool],
        row_changed: Callable[[], None],
        all_of_them: Adaptations,
        control: AdaptiveControl,
    ) -> None:
        self.name = config.name
        self.peer_adapts: bool | None = None  # None: it has not said yet
        self._config = config
        self._row_changed = row_changed
        self._machine = machine
        self._paths = paths
        self._peer_down = peer_down
        self._all = all_of_them
        self._control = control
        self._facts: Mapping[Hashable, PathFacts] = {}
        self._states: dict[Hashable, str] = {}  # as the log has told them
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self._reported_at = -math.inf
        self._stepped_at = 0.0
        self._told_at = 0.0
        self._is_due = False
        self._is_under_way = False
        self.order = START_ORDER
        all_of_them.add(self)

    def stop(self) -> None:
        """Adapt no more."""
        self._all.remove(self)

    def row(self) -> Adaptive | None:
        """Return what the data path is told of this connection."""
        return adaptive_row(self._config, self.peer_adapts is True)

    # --- what happens ------------------------------------------------------------------------------------------------

    def agreed(self, hello: Hello) -> None:
        """Note what the peer says about itself in the handshake of the keys that seal now."""
        by_id = {each.id: each for each in hello.paths}
        for index, path in enumerate(self._paths):
            said = by_id.get(index, HelloPath(index))
            path.peer_interface, path.peer_cost = said.name, min(said.cost, len(COSTS) - 1)
        before, self.peer_adapts = self.peer_adapts, ADAPTIVE in hello.features
        self.paths_changed()
        if self.peer_adapts is before:
            return
        self._row_changed()
        if not self.peer_adapts:
            log.warn(
                "{name}: the peer is not adaptive, so packets go by weight_out: write scheduler = adaptive there, too",
                name=self.name,
            )

    def reason_said(self, message: PathStatus) -> None:
        """Note what the peer says beside "up" or "down" of a path: what it costs, or why it is down."""
        path = self._paths[message.path_id]
        if message.up:
            path.peer_cost = min(message.reason, len(COSTS) - 1)
            self.paths_changed()
        else:
            path.peer_took_it_down = message.reason in (Status.MANUAL_DOWN, Status.DISABLED)

    def paths_changed(self) -> None:
        """Note that a path has come, gone or changed: its link, its peer, its cost, its quota."""
        facts: dict[Hashable, PathFacts] = {
            path.key: self._facts_of(index, path) for index, path in enumerate(self._paths)
        }
        if facts != self._facts:
            self._facts = facts
            self._control.set_paths(facts, self._machine.now())
            self.look_soon()

    def look_soon(self) -> None:
        """Let control look as soon as everything that happens now is noted."""
        self._is_due = True
        self._all.awake(self, soon=True)

    def _facts_of(self, index: int, path: SealedPath) -> PathFacts:
        peer_down = self._peer_down(index)
        why, by_hand = "", False
        if path.status is not Status.OK:
            why, by_hand = path.reason, path.status.is_by_hand
        elif peer_down:
            by_hand = path.peer_took_it_down
            why = "the peer's operator took it down" if by_hand else "the peer says that it does not work"
        elif not path.share(peer_down):
            why = "nothing of the peer has come over it yet"
        lines = list(dict.fromkeys(each.line for each in self._paths))
        cost = max(COSTS.index(path.config.cost), path.peer_cost)
        return PathFacts(line=lines.index(path.line), usable=not why, cost=cost, why=why, by_hand=by_hand)

    def reported(self, report: Report) -> None:
        """Note that the peer has reported what came over a path."""
        if report.path in self._facts:
            self._reported_at = report.at
            self._control.report(report)
            self._all.awake(self)

    def next_step(self) -> float | None:
        """Return when control looks again, None while the connection is idle."""
        if self._is_due:
            return 0.0
        is_awake = self._is_under_way or self._stepped_at < self._reported_at + AWAKE
        return self._stepped_at + self._control.pause if is_awake else None

    # --- what follows ------------------------------------------------------------------------------------------------

    def step(self, flights: Mapping[Hashable, FlightMeasures], now: float) -> Plan:
        """Return what control decides now; `flights` are the measures of `path_keys`."""
        self._stepped_at = now
        is_due, self._is_due = self._is_due, False
        self._is_under_way = any(each.packets or each.queue_packets for each in flights.values())
        plan = self._control.step(flights, now)
        if is_due or now >= self._told_at + TELL:
            self._tell_states(now)
        return plan

    @property
    def path_keys(self) -> Collection[Hashable]:
        """Return the keys of the paths that control knows."""
        return self._facts.keys()

    def views(self, now: float) -> Mapping[Hashable, PathView]:
        """Return what control knows about each path, for people."""
        return self._control.views(now)

    def _tell_states(self, now: float) -> None:
        """Tell the log which paths have another state now, and why; a path that is down tells it itself. Each path
        learns its round trip and its loss."""
        self._told_at = now
        paths = {path.key: path for path in self._paths}
        for key, view in self._control.views(now).items():
            before = self._states.get(key)
            if key in paths:
                paths[key].round_trip, paths[key].measured_loss = view.rtt, view.loss_load + view.loss_radio
            if key not in paths or not self._facts[key].usable:
                self._states.pop(key, None)
            elif before is None:
                self._states[key] = view.state
            elif before != view.state and self._log_lines.take(LOG_LINES, now):
                self._states[key] = view.state
                log.info("{path} is {state}: {reason}", path=paths[key], state=view.state, reason=view.reason)


class Adaptations:
    """The adaptations of the connections of one tunnel, whose data path is `datapath()`; None while there is none.

    `worked()` is called after the data path was told something: its next deadline may be another one.
    """

    def __init__(self, machine: Machine, datapath: Callable[[], DataPath | None], worked: Callable[[], None]) -> None:
        self._datapath = datapath
        self._worked = worked
        self._now = machine.now
        self._connections: dict[Hashable, Adaptation] = {}
        self._awake: dict[Hashable, Adaptation] = {}
        self._given: dict[Hashable, PathLimits] = {}  # by path
        self._given_orders: dict[Hashable, OrderLimits] = {}  # by connection
        self._rest_until = 0.0
        self._timer = DeadlineLoop(machine, self._next_step, self._due)

    def add(self, adaptation: Adaptation) -> None:
        """Note a connection that adapts."""
        self._connections[adaptation.name] = adaptation

    def remove(self, adaptation: Adaptation) -> None:
        """Note that a connection is gone."""
        name = adaptation.name
        if self._connections.get(name) is adaptation:
            del self._connections[name]
            self._awake.pop(name, None)
            self._given_orders.pop(name, None)
            for path in adaptation.path_keys:
                self._given.pop(path, None)

    def begin(self) -> None:
        """Note that the data path is a new one, which knows no limits yet."""
        self._given.clear()
        self._given_orders.clear()
        for each in self._connections.values():
            each.look_soon()

    def stop(self) -> None:
        """Look at nothing before something is reported."""
        self._awake.clear()
        self._timer.stop()

    def limits_of(self, path: Hashable) -> PathLimits:
        """Return the limits of a path, as the data path has them."""
        return self._given.get(path, START_LIMITS)

    def reported(self, report: Report) -> None:
        """Note an event of the data path."""
        adaptation = self._connections.get(cast("tuple[str, int]", report.path)[0])
        if adaptation is not None:
            adaptation.reported(report)

    def awake(self, adaptation: Adaptation, soon: bool = False) -> None:
        """Note that a connection is loaded or has changed: control looks at it from now on, until it is idle; `soon`:
        before its next step. Cheap for one that is awake: a loaded connection has some hundred reports a second."""
        if adaptation.name in self._connections and (soon or adaptation.name not in self._awake):
            self._awake[adaptation.name] = adaptation
            self._timer.follow()

    def _step(self, adaptations: Iterable[Adaptation], now: float) -> None:
        """Let control look at connections, and do what it decides: first the limits, so that nothing is sent over a
        path from which it is rescued."""
        datapath = self._datapath()
        if datapath is None:
            return
        limits: dict[Hashable, PathLimits] = {}
        orders: dict[Hashable, OrderLimits] = {}
        plans = []
        for each in adaptations:
            plan = each.step({path: datapath.flight(path) for path in each.path_keys}, now)
            plans.append(plan)
            limits |= {path: limit for path, limit in plan.limits.items() if self._given.get(path) != limit}
            if self._given_orders.get(each.name) != plan.order:
                orders[each.name] = plan.order
            each.order = plan.order
        if limits or orders:
            datapath.set_limits(limits, orders, now)
            self._given |= limits
            self._given_orders |= orders
        for plan in plans:
            for path in plan.rescues:
                datapath.rescue(path, now)
            for path in plan.copies:
                datapath.rescue(path, now, bounded=True)
            for path in plan.probes:
                datapath.send(path, PROBE_MESSAGE, now)
        self._worked()

    def _next_step(self) -> float | None:
        steps = (each.next_step() for each in self._awake.values())
        soonest = min((step for step in steps if step is not None), default=None)
        return None if soonest is None else max(soonest, self._rest_until)

    def _due(self, now: float) -> None:
        self._step(self._awake.values(), now)
        for name in [name for name, each in self._awake.items() if each.next_step() is None]:
            del self._awake[name]
        self._rest_until = now + LEISURE * (self._now() - now)

"""Decides for one adaptive connection how much goes over which path, from what the peer reports.

    set_paths(...)   which paths there are, what they cost, and whether they may be used
    report(...)      what the peer has got: changes the estimate of one path, and whether it is there
    step(...)        one plan for all paths: limits, order, rescues, probes

A path carries ordered bulk if it is *admitted*: there, within the delay budget, of an open cost class, not taken out by
its loss or the guard, and proven: it has shown a fair share of what all carry. Until then it carries *shadows*, copies
of bulk: they measure it, and nobody waits for them. So an unknown slow line beside a fast one harms nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple

from mpt.control.costs import PENALTY, OpenClasses
from mpt.control.delays import PeerClock, Scale
from mpt.control.estimator import FASTEST, SLIGHT_LOSS, SMALLEST_WINDOW, TARGET, PathEstimator
from mpt.control.guard import Carried, Guard
from mpt.control.playout import BUDGET, PathDelays, Playout, admits, hold_of, wanted_playout
from mpt.control.presence import Presence, State
from mpt.limits import START_LIMITS, START_ORDER, FlightMeasures, OrderLimits, PathLimits, Report

PROVEN_SHARE: Final = 0.3  # of the mean of all paths: 15 % of the sum of two
PROVEN_REPORTS: Final = 2
NEAR: Final = 0.005  # s; a later path is admitted only when the earliest is short of room
SHORT_QUEUE: Final = 0.003  # s
KEPT: Final = 0.7  # of that share, for a path that was admitted
LOSS_KNOWN: Final = 300.0  # datagrams
SHADOW_QUEUE: Final = 0.002  # s of queue beyond which nothing is copied to a path that carries, too
SHADOW_SHARE: Final = 0.2  # of its known rate that such a path carries at most
GATE_LOSS: Final = 0.15  # share lost by the line
OPEN_LOSS: Final = 0.05
OPEN_TIME: Final = 3.0  # s with less
CLEARLY_LESS: Final = 0.5
GREETING: Final = 24  # probes of a new path: they measure delay and noise before these matter
GREETING_EVERY: Final = 0.040  # s
LEAST_STEP: Final = 0.009  # s between two plans for fast lines
PROBE_EVERY: Final = 0.2  # s
CLOSED_PROBE_EVERY: Final = 10.0  # s, for paths of closed classes
CPU_TIME: Final = 0.2  # s with waiting packets that no path holds back
SMALL: Final = 200  # octets; no probe has more
UNKNOWN_DELAY: Final = 1.0  # s
LEAST_PACE: Final = 12_500.0  # octets a second


class PathFacts(NamedTuple):
    """What is known of a path otherwise: paths of one `line` share it; `cost` 0 free, 1 metered, 2 backup; whether it
    may be used at all (link, keepalives, operator), and if not, `why` in words."""

    line: int = 0
    usable: bool = True
    cost: int = 0
    why: str = ""


class Plan(NamedTuple):
    """What is to be done now: limits by path, the order, paths to rescue from, and paths to probe (message 49)."""

    limits: dict[Hashable, PathLimits]
    order: OrderLimits
    rescues: list[Hashable]
    probes: list[Hashable]


class PathView(NamedTuple):
    """A path for people. Seconds; octets a second; shares 0 .. 1. `delay`: how much later than the earliest path;
    `share`: of what arrived within about a second."""

    state: str  # probing | active | gated | dead
    reason: str
    since: float
    rate: float | None
    delay: float | None
    base: float | None  # one way, comparable within the connection
    queue: float
    rtt: float | None
    loss_load: float
    loss_radio: float
    share: float


class _Path:
    """The parts of one path."""

    __slots__ = (
        "acked",
        "admits",
        "closed",
        "estimator",
        "facts",
        "gated",
        "good_since",
        "greetings",
        "moved_at",
        "presence",
        "probed_at",
        "recent",
        "shadow",
        "shown",
        "total",
    )

    def __init__(self, scale: Scale, facts: PathFacts, now: float) -> None:
        self.facts = facts
        self.estimator = PathEstimator(scale)
        self.presence = Presence(now, facts.usable)
        self.admits = True
        self.shadow = False
        self.closed = False  # its cost class is
        self.gated = False  # it loses too much
        self.good_since: float | None = None
        self.greetings = 0
        self.moved_at = self.probed_at = now
        self.acked = 0.0  # octets since the last step
        self.recent = 0.0  # fading
        self.total = 0.0
        self.shown = ("probing", "nothing was sent yet", now)


class AdaptiveControl:
    """One connection; `budget` in seconds: how much later than the earliest path one may be that carries bulk."""

    def __init__(self, budget: float = BUDGET) -> None:
        self._budget = budget
        self._scale = Scale()
        self._peer_clock = PeerClock()
        self._playout = Playout()
        self._classes = OpenClasses()
        self._guard = Guard()
        self._paths: dict[Hashable, _Path] = {}
        self._rescues: list[Hashable] = []
        self._stepped_at: float | None = None
        self._last: Plan | None = None
        self._last_at = 0.0
        self._carried_at = 0.0  # when more than probes arrived
        self._held_at = 0.0  # when a path held a packet back, or nothing waited
        self.is_cpu_bound = False  # packets wait, and no path is the reason

    # ---- what happens --------------------------------------------------------------------------------------------

    def set_paths(self, facts: Mapping[Hashable, PathFacts], now: float) -> None:
        """Take the paths of the connection, all of them."""
        self._last = None
        for key in [key for key in self._paths if key not in facts]:
            del self._paths[key]
        for key, each in facts.items():
            path = self._paths.get(key)
            if path is None:
                path = self._paths[key] = _Path(self._scale, each, now)
            path.facts = each
            if each.usable:
                self._come_back(path, now)
            elif path.presence.state is not State.AWAY:
                if path.presence.is_live:
                    self._rescues.append(key)
                path.presence.leave(now)

    def report(self, report: Report) -> None:
        """Take what the peer says of one path; of an unknown one it is ignored."""
        path = self._paths.get(report.path)
        if path is None:
            return
        now, estimator, presence = report.at, path.estimator, path.presence
        path.acked += report.acked
        if report.acked > SMALL * 2:
            self._carried_at = now
        if report.settled_moved:
            was_live = presence.is_live
            presence.moved(now)
            path.moved_at = now
            if presence.is_live and not was_live:
                estimator.restart(now)
        if not estimator.take(report):
            self._scale.forget()
        made = self._peer_clock.made(now, report.clock)
        rtt, queue = estimator.delays.rtt or 0.0, estimator.queue_of(report.in_flight)
        if not report.settled_moved and presence.is_overdue(made, report.oldest, rtt, queue):
            self._fall_silent(report.path, path, now)

    def step(self, flights: Mapping[Hashable, FlightMeasures], now: float) -> Plan:
        """Return the plan of now; `flights`: what is under way on the paths, by key."""
        if self._last is not None and not self._rescues and now - self._last_at < LEAST_STEP and self._is_calm():
            return self._last
        queued = any(flights[key].queue_packets for key in self._paths if key in flights)
        loaded = queued or now - self._carried_at < PROBE_EVERY or any(_is_data(each) for each in flights.values())
        for key, path in self._paths.items():
            flight = flights.get(key, _NOTHING)
            if _is_unheard(path, flight, now):
                self._fall_silent(key, path, now)
        self._note_processor(flights, queued, now)
        live = {key: path for key, path in self._paths.items() if path.presence.is_live}
        waits = queued and not self.is_cpu_bound
        self._classes.look((path.facts.cost for path in live.values()), waits, now)
        for path in self._paths.values():
            path.closed = path.facts.cost > self._classes.dearest
        known = {key: path for key, path in live.items() if path.estimator.is_known and not path.closed}
        delays_of = {key: _delays(path) for key, path in known.items()}
        self._choose(known, delays_of, now)
        self._look_for_harm(known, delays_of, flights, waits, now)
        probes = [
            key for key, path in self._paths.items() if self._wants_probe(path, flights.get(key, _NOTHING), loaded, now)
        ]
        self._note_shares(now)
        plan = Plan(self._limits(delays_of), self._order(known, delays_of, now), self._rescues, probes)
        self._rescues = []
        self._stepped_at = self._last_at = now
        self._last = plan._replace(rescues=[], probes=[])
        return plan

    def _is_calm(self) -> bool:
        """Return whether a plan may grow a little old: no path starts, and a fast one has many reports."""
        live = [path.estimator for path in self._paths.values() if path.presence.is_live]
        return any(each.target > TARGET for each in live) and not any(each.is_starting for each in live)

    def views(self, now: float) -> dict[Hashable, PathView]:
        """Return the paths for people."""
        bases = [path.estimator.delays.base for path in self._paths.values()]
        least = min((base for base in bases if base is not None), default=0.0)
        total = sum(path.recent for path in self._paths.values())
        return {key: self._view(key, path, least, total, now) for key, path in self._paths.items()}

    # ---- presence ------------------------------------------------------------------------------------------------

    def _come_back(self, path: _Path, now: float) -> None:
        if path.presence.state is State.AWAY:
            path.presence.come_back(now)
            path.estimator.restart(now)
            path.estimator.delays.rebase()

    def _fall_silent(self, key: Hashable, path: _Path, now: float) -> None:
        """Take a silent path out, unless it is the last one."""
        if any(other.presence.is_live for other in self._paths.values() if other is not path):
            path.presence.silence(now)
            self._rescues.append(key)

    def _wants_probe(self, path: _Path, flight: FlightMeasures, loaded: bool, now: float) -> bool:
        """Return whether a path is probed: doubtful, silent, or measured by nothing while others carry."""
        if path.presence.asks(now) or path.presence.wants_probe(now):
            return True
        if not path.presence.is_live:
            return False
        since = now - max(path.moved_at, path.probed_at)
        if path.greetings < GREETING and not path.closed:
            if now - path.probed_at < GREETING_EVERY:
                return False
            path.greetings += 1
        elif not loaded or flight.packets or since < (CLOSED_PROBE_EVERY if path.closed else PROBE_EVERY):
            return False
        path.probed_at = now
        return True

    def _note_processor(self, flights: Mapping[Hashable, FlightMeasures], queued: bool, now: float) -> None:
        limited = max((flight.limited_at for flight in flights.values()), default=0.0)
        self._held_at = max(self._held_at, limited) if queued else now
        self.is_cpu_bound = now - self._held_at > CPU_TIME

    # ---- admission -----------------------------------------------------------------------------------------------

    def _choose(self, known: Mapping[Hashable, _Path], delays: Mapping[Hashable, PathDelays], now: float) -> None:
        """Choose which paths carry bulk, and which ones shadows of it."""
        least = min((each.base for each in delays.values()), default=0.0)
        for key, path in self._paths.items():
            self._gate(path, known, now)
            if (
                key not in known
                or not admits(delays[key], least, self._budget)
                or path.gated
                or self._guard.is_out(key, now)
            ):
                path.admits = False
            path.shadow = path.gated and key in known
        fit = {
            key: path
            for key, path in known.items()
            if admits(delays[key], least, self._budget) and not path.gated and not self._guard.is_out(key, now)
        }
        if not fit:
            return
        first = min(fit, key=lambda key: delays[key].base)
        total = sum(_proven(path) for path in fit.values())
        lossy = any(path.estimator.losses.radio > SLIGHT_LOSS for path in fit.values())
        fast = any(
            path.estimator.rates.peak > FASTEST for path in fit.values()
        )  # copies would cost more than they show
        for key, path in fit.items():
            wanted = PROVEN_SHARE * (KEPT if path.admits else 1.0) * total / len(fit)
            shown = path.estimator.samples >= PROVEN_REPORTS and total > 0 and _proven(path) >= wanted
            wanted_now = path.admits or delays[key].base - least <= NEAR or _is_short(fit[first].estimator)
            path.admits = key == first or ((shown or fast) and wanted_now)
            path.shadow = path.facts.cost == 0 and not fast and _shadows(path, lossy)
            if path.admits and (shown or len(fit) == 1):
                path.presence.prove(now)

    def _gate(self, path: _Path, known: Mapping[Hashable, _Path], now: float) -> None:
        """Take a path out that loses far more than another one, and back when it has been good for a while."""
        losses = path.estimator.losses
        if not path.gated:
            others = [other.estimator.losses.radio for other in known.values() if other is not path and not other.gated]
            path.gated = losses.radio > GATE_LOSS and any(other < CLEARLY_LESS * losses.radio for other in others)
            path.good_since = None
        elif losses.recent > OPEN_LOSS or not path.presence.is_live:
            path.good_since = None
        elif path.good_since is None:
            path.good_since = now
        elif now - path.good_since > OPEN_TIME:
            path.gated = False
            losses.forget()
            path.estimator.restart(now)

    def _look_for_harm(
        self,
        known: Mapping[Hashable, _Path],
        delays: Mapping[Hashable, PathDelays],
        flights: Mapping[Hashable, FlightMeasures],
        waits: bool,
        now: float,
    ) -> None:
        carried = {}
        for key, path in known.items():
            flight, estimator = flights.get(key, _NOTHING), path.estimator
            packets = max(estimator.packets, 1)
            repeated = path.total * min(1.0, (flight.resent + flight.copies) / packets)
            harm = delays[key].base + delays[key].noise + estimator.losses.radio
            carried[key] = Carried(path.total, repeated, estimator.rate, harm, path.admits)
        self._guard.look(carried, waits, now)

    # ---- the plan ------------------------------------------------------------------------------------------------

    def _limits(self, delays: Mapping[Hashable, PathDelays]) -> dict[Hashable, PathLimits]:
        least = min((each.base for each in delays.values()), default=0.0)
        limits: dict[Hashable, PathLimits] = {}
        for key, path in self._paths.items():
            estimator = path.estimator
            is_live = path.presence.is_live and not path.closed
            if not delays:
                limits[key] = START_LIMITS._replace(line=path.facts.line, is_live=is_live)
                continue
            delay = delays[key].base - least if key in delays else UNKNOWN_DELAY
            limits[key] = PathLimits(
                window=SMALLEST_WINDOW if path.gated else int(estimator.window),
                pace=max(estimator.pace, LEAST_PACE) if estimator.pace else 0.0,
                burst=estimator.burst,
                delay=delay + estimator.penalty + PENALTY * path.facts.cost,
                rate=estimator.arrival_rate,
                slack=estimator.slack,
                is_live=is_live,
                admits=path.admits,
                line=path.facts.line,
                rto=estimator.round_trip + estimator.delays.queue + 0.2,
                shadow=path.shadow,
            )
        return limits

    def _order(self, known: Mapping[Hashable, _Path], delays: Mapping[Hashable, PathDelays], now: float) -> OrderLimits:
        if not delays:
            return START_ORDER
        self._scale.follow(min(each.base for each in delays.values()))
        admitted = [each for key, each in delays.items() if known[key].admits]
        self._playout.follow(wanted_playout(admitted, [each for key, each in delays.items() if known[key].shadow]), now)
        return OrderLimits(hold_of(admitted, delays.values()), self._playout.ticks())

    # ---- what is shown -------------------------------------------------------------------------------------------

    def _note_shares(self, now: float) -> None:
        elapsed = min(now - self._stepped_at, 1.0) if self._stepped_at is not None else 0.0
        for path in self._paths.values():
            path.recent = path.recent * (1 - elapsed) + path.acked
            path.total += path.acked
            path.acked = 0.0

    def _view(self, key: Hashable, path: _Path, least: float, total: float, now: float) -> PathView:
        state, reason = self._words(key, path, now)
        if (state, reason) != path.shown[:2]:
            path.shown = (state, reason, now)
        estimator, delays = path.estimator, path.estimator.delays
        return PathView(
            state,
            reason,
            path.shown[2],
            estimator.shown_rate or None,
            delays.base - least if delays.base is not None else None,
            delays.base,
            delays.queue,
            delays.rtt,
            estimator.losses.load,
            estimator.losses.radio,
            path.recent / total if total else 0.0,
        )

    def _words(self, key: Hashable, path: _Path, now: float) -> tuple[str, str]:
        """Return the state of a path and its reason."""
        presence, estimator = path.presence, path.estimator
        if presence.state is State.AWAY:
            return "dead", path.facts.why or "it may not be used"
        if presence.state is State.SILENT:
            if now < presence.waits_until:
                return "dead", "it was lost again and waits before it may return"
            return "dead", "what was sent over it did not arrive"
        if path.closed:
            return "gated", "cheaper lines have room"
        if path.gated:
            return "gated", "it loses far more than another line"
        if self._guard.is_out(key, now):
            return "gated", "all lines together carried less than the best one alone"
        if not estimator.is_known:
            return "probing", "nothing was sent yet"
        if not path.admits:
            bases = [each.estimator.delays.base for each in self._paths.values()]
            if (estimator.delays.base or 0.0) - min(each for each in bases if each is not None) > self._budget:
                return "gated", "it is later than the delay budget allows"
            if estimator.is_starting and not estimator.rate:
                return "probing", "it has not shown a fair share of the rate yet"
            return "gated", "its rate is too small beside the others"
        if estimator.is_starting and not estimator.rate:
            return "probing", "its rate is being found"
        return "active", "it carries bulk"


_NOTHING: Final = FlightMeasures()


def _is_data(flight: FlightMeasures) -> bool:
    """Return whether more is under way than probes."""
    return flight.octets > SMALL * flight.packets


def _is_unheard(path: _Path, flight: FlightMeasures, now: float) -> bool:
    """Return whether the lack of reports shows that a path is silent."""
    estimator = path.estimator
    queue = estimator.queue_of(flight.octets)
    return estimator.is_known and path.presence.is_unheard(now, flight.oldest, estimator.delays.rtt or 0.0, queue)


def _delays(path: _Path) -> PathDelays:
    """Return the delays of a path that are known."""
    delays = path.estimator.delays
    return PathDelays(delays.base or 0.0, delays.noise, delays.queue, delays.rtt or 0.0)


def _is_short(estimator: PathEstimator) -> bool:
    """Return whether the earliest path has less room than is wanted, or soon will: others are needed."""
    return not estimator.is_starting or estimator.is_full or estimator.delays.queue > SHORT_QUEUE


def _proven(path: _Path) -> float:
    """Return the rate that a path has shown."""
    estimator = path.estimator
    return estimator.rate or estimator.rates.peak


def _shadows(path: _Path, lossy: bool) -> bool:
    """Return whether a starting path carries copies of bulk: to be measured, and while nothing is known of the losses,
    or much is, and the path has room, so that a loss at the begin of a flow harms nobody."""
    estimator = path.estimator
    if not estimator.is_starting:
        return False
    if not path.admits or estimator.losses.sent < LOSS_KNOWN:
        return True
    known = estimator.rate
    return (
        lossy and estimator.delays.queue < SHADOW_QUEUE and (not known or estimator.rates.peak < SHADOW_SHARE * known)
    )

"""Decides for one adaptive connection how much goes over which path, from what the peer reports.

    set_paths(...)   which paths there are, what they cost, and whether they may be used
    report(...)      what the peer has got: changes the estimate of one path, and whether it is there
    step(...)        one plan for all paths: limits, order, rescues, probes

A path carries ordered bulk if it is *admitted*: there, within the delay budget, of an open cost class, not taken out by
its loss or the guard, and proven: it has shown a fair share of what all carry. Until then it carries *shadows*, copies
of bulk: they measure it, and nobody waits for them. So an unknown slow line beside a fast one harms nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, NamedTuple

from mpt.control.adaptivepath import AdaptivePath, PathFacts
from mpt.control.costs import PENALTY, OpenClasses
from mpt.control.delays import PeerClock, Scale
from mpt.control.estimator import FAST, FASTEST, LOADED, SLIGHT_LOSS, SMALLEST_WINDOW
from mpt.control.guard import Carried, Guard
from mpt.control.pathviews import PathView, view, words
from mpt.control.playout import (
    BUDGET,
    LARGEST_LEVELLING,
    PathDelays,
    Playout,
    admits,
    equalized,
    hold_of,
    wanted_levelling,
    wanted_playout,
)
from mpt.control.presence import State
from mpt.limits import START_LIMITS, START_ORDER, FlightMeasures, OrderLimits, PathLimits, Report, both

PROVEN_SHARE: Final = 0.3  # of the mean of all paths: 15 % of the sum of two
PROVEN_REPORTS: Final = 2
NEAR: Final = 0.005  # s; a later path is admitted only when the earliest is short of room
KEPT: Final = 0.7  # of that share, for a path that was admitted
GATE_LOSS: Final = 0.15  # share lost by the line
OPEN_LOSS: Final = 0.05
OPEN_TIME: Final = 3.0  # s with less
CLEARLY_LESS: Final = 0.5
GREETING: Final = 24  # probes of a new path: they measure delay and noise before these matter
GREETING_EVERY: Final = 0.040  # s
STEP: Final = 0.010  # s between two steps
EASY_STEP: Final = 0.050  # s between two steps of a connection at ease, which it is
EASY_AFTER: Final = 0.2  # s after a limit held a packet back
RATE_SPAN: Final = 0.1  # s of the rate of all that comes and goes
PROBE_EVERY: Final = 0.2  # s
CLOSED_PROBE_EVERY: Final = 10.0  # s, for paths of closed classes
ROUNDING: Final = 0.001  # s by which a step may come too early
CPU_TIME: Final = 0.2  # s with waiting packets that no path holds back
SMALL: Final = 200  # octets; no probe has more
UNKNOWN_DELAY: Final = 1.0  # s
LEAST_PACE: Final = 12_500.0  # octets a second


class Plan(NamedTuple):
    """What is to be done now: limits by path, the order, paths to rescue from, paths to probe (message 49), and paths
    to rescue from as far as the share of repair allows (`copies`)."""

    limits: dict[Hashable, PathLimits]
    order: OrderLimits
    rescues: list[Hashable]
    probes: list[Hashable]
    copies: Sequence[Hashable] = ()


class Traffic:
    """The octets that come and go in a second; `look` is given how many these were since the beginning."""

    __slots__ = ("_at", "_octets", "rate")

    def __init__(self) -> None:
        self.rate = 0.0
        self._at: float | None = None
        self._octets = 0

    def look(self, octets: int, now: float) -> None:
        """Take a look."""
        if self._at is None:
            self._at, self._octets = now, octets
        elif now - self._at >= RATE_SPAN:
            self.rate = (octets - self._octets) / (now - self._at)
            self._at, self._octets = now, octets


class AdaptiveControl:
    """One connection; `budget` in seconds: how much later than the earliest path one may be that carries bulk."""

    def __init__(self, budget: float = BUDGET) -> None:
        self._budget = budget
        self._scale = Scale()
        self._peer_clock = PeerClock()
        self._playout = Playout()
        self._levelling = 0.0  # s
        self._classes = OpenClasses()
        self._guard = Guard()
        self._paths: dict[Hashable, AdaptivePath] = {}
        self._rescues: list[Hashable] = []
        self._copies: list[Hashable] = []
        self._stepped_at: float | None = None
        self._easy_plan: Plan | None = None  # the last one, if the connection is at ease, without rescues and probes
        self._rests_until = 0.0  # if it is
        self._traffic = Traffic()
        self._carried_at = 0.0  # when more than probes arrived
        self._held_at = 0.0  # when a path held a packet back, or nothing waited
        self.is_cpu_bound = False  # packets wait, and no path is the reason

    # ---- what happens --------------------------------------------------------------------------------------------

    def set_paths(self, facts: Mapping[Hashable, PathFacts], now: float) -> None:
        """Take the paths of the connection, all of them."""
        self._easy_plan = None
        for key in [key for key in self._paths if key not in facts]:
            del self._paths[key]
        for key, each in facts.items():
            path = self._paths.get(key)
            if path is None:
                path = self._paths[key] = AdaptivePath(self._scale, each, now)
            path.facts = each
            if each.usable:
                self._come_back(path, now)
            elif path.presence.state is not State.AWAY:
                if path.presence.is_there:
                    self._rescues.append(key)
                path.presence.leave(now, each.by_hand)

    def report(self, report: Report) -> None:
        """Take what the peer says of one path; of an unknown one it is ignored. At ease it is looked at with the next
        step, unless it tells of trouble."""
        path = self._paths.get(report.path)
        if path is None:
            return
        unread = report if path.unread is None else both(path.unread, report)
        if self._easy_plan is not None and _is_routine(report):
            path.unread = unread
            return
        self._easy_plan = None
        path.unread = None
        self._take(path, unread)

    def _take(self, path: AdaptivePath, report: Report) -> None:
        now, estimator, presence = report.at, path.estimator, path.presence
        path.acked += report.acked
        if report.acked > SMALL * 2:
            self._carried_at = now
        if report.settled_moved:
            was_there = presence.is_there
            presence.moved(now)
            path.moved_at = now
            if presence.is_there and not was_there:
                estimator.restart(now)
        if not estimator.take(report):
            self._scale.forget()
        made = self._peer_clock.made(now, report.clock)
        queue = estimator.queue_of(report.in_flight)
        if not report.settled_moved and presence.is_overdue(made, report.oldest, estimator.longest_trip, queue):
            self._fall_silent(report.path, path, now)
        is_suspect, has_ended = path.is_suspect(report, made), path.peer_suspects and not report.suspect
        path.peer_suspects = report.suspect
        if is_suspect:
            self._suspect(report.path, path, now)
        elif has_ended:
            presence.expect(now)

    def step(self, flights: Mapping[Hashable, FlightMeasures], now: float) -> Plan:
        """Return the plan of now; `flights`: what is under way on the paths, by key. Before `pause` is over a
        connection at ease gets the last one."""
        is_urgent = self._rescues or self._copies
        if self._easy_plan is not None and not is_urgent and now < self._rests_until:
            return self._easy_plan
        for path in self._paths.values():
            if path.unread is not None:
                report, path.unread = path.unread, None
                self._take(path, report)
        queued = any(flights[key].queue_packets for key in self._paths if key in flights)
        loaded = queued or now - self._carried_at < PROBE_EVERY or any(_is_data(each) for each in flights.values())
        for key, path in self._paths.items():
            flight = flights.get(key, _NOTHING)
            if path.is_unheard(flight, now):
                self._fall_silent(key, path, now)
        self._note_processor(flights, queued, now)
        live = {key: path for key, path in self._paths.items() if path.presence.is_there}
        waits = queued and not self.is_cpu_bound
        self._classes.look((path.facts.cost for path in live.values()), waits, now)
        for path in self._paths.values():
            path.closed = path.facts.cost > self._classes.dearest
        known = {key: path for key, path in live.items() if path.estimator.is_known and not path.closed}
        delays_of = {key: path.delays for key, path in known.items()}
        self._choose(known, delays_of, now)
        self._look_for_harm(known, delays_of, flights, waits, now)
        probes = [
            key for key, path in self._paths.items() if self._wants_probe(path, flights.get(key, _NOTHING), loaded, now)
        ]
        self._note_shares(now)
        order = self._order(known, delays_of, loaded, now)
        plan = Plan(self._limits(delays_of), order, self._rescues, probes, self._copies)
        self._rescues, self._copies = [], []
        self._stepped_at = now
        is_easy = self._is_easy(flights, queued, now)
        self._easy_plan = plan._replace(rescues=[], probes=[], copies=()) if is_easy else None
        self._rests_until = now + EASY_STEP - ROUNDING
        return plan

    @property
    def pause(self) -> float:
        """Return the seconds from one step to the next one, while the connection is loaded."""
        return EASY_STEP if self._easy_plan is not None else STEP

    def _is_easy(self, flights: Mapping[Hashable, FlightMeasures], queued: bool, now: float) -> bool:
        """Return whether much comes or goes, and nothing holds it back but the processor: then there is little to
        decide, and the processor is needed elsewhere."""
        self._traffic.look(sum(each.sent + each.received for each in flights.values()), now)
        return (
            self._traffic.rate > FAST
            and not queued
            and all(now - each.limited_at > EASY_AFTER for each in flights.values())
            and all(
                path.presence.state is State.PRESENT and path.estimator.is_known
                for path in self._paths.values()
                if path.facts.usable
            )
        )

    def views(self, now: float) -> dict[Hashable, PathView]:
        """Return the paths for people."""
        bases = [path.estimator.delays.base for path in self._paths.values()]
        least = min((base for base in bases if base is not None), default=0.0)
        total = sum(path.recent for path in self._paths.values())
        latest = least + self._budget
        return {
            key: view(path, words(path, self._guard.is_out(key, now), latest, now), least, total, now)
            for key, path in self._paths.items()
        }

    # ---- presence ------------------------------------------------------------------------------------------------

    def _come_back(self, path: AdaptivePath, now: float) -> None:
        if path.presence.state is State.AWAY:
            path.presence.come_back(now)
            path.estimator.restart(now)
            path.estimator.delays.rebase()

    def _suspect(self, key: Hashable, path: AdaptivePath, now: float) -> None:
        """Let packets go over others until the path makes progress, if there is another one of an open class."""
        others = (other for other in self._paths.values() if other is not path and not other.closed)
        if path.presence.state is State.PRESENT and any(other.presence.is_live for other in others):
            path.presence.suspect(now)
            path.is_hearsay = path.peer_suspects
            self._copies.append(key)

    def _fall_silent(self, key: Hashable, path: AdaptivePath, now: float) -> None:
        """Take a silent path out, unless it is the last one."""
        if any(other.presence.is_live for other in self._paths.values() if other is not path):
            path.presence.silence(now)
            self._rescues.append(key)

    def _wants_probe(self, path: AdaptivePath, flight: FlightMeasures, loaded: bool, now: float) -> bool:
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

    def _choose(
        self, known: Mapping[Hashable, AdaptivePath], delays: Mapping[Hashable, PathDelays], now: float
    ) -> None:
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
        total = sum(path.proven for path in fit.values())
        lossy = any(path.estimator.losses.radio > SLIGHT_LOSS for path in fit.values())
        # on such lines copies would cost more than they show
        fast = any(path.estimator.rates.peak > FASTEST for path in fit.values())
        for key, path in fit.items():
            wanted = PROVEN_SHARE * (KEPT if path.admits else 1.0) * total / len(fit)
            shown = path.estimator.samples >= PROVEN_REPORTS and total > 0 and path.proven >= wanted
            wanted_now = path.admits or delays[key].base - least <= NEAR or fit[first].is_short
            path.admits = key == first or ((shown or fast) and wanted_now)
            path.shadow = path.facts.cost == 0 and not fast and path.shadows(lossy)
            if path.admits and (shown or len(fit) == 1):
                path.presence.prove(now)

    def _gate(self, path: AdaptivePath, known: Mapping[Hashable, AdaptivePath], now: float) -> None:
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
        known: Mapping[Hashable, AdaptivePath],
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
            is_live, is_suspect = path.presence.is_live and not path.closed, path.tells_suspicion
            if not delays:
                limits[key] = START_LIMITS._replace(line=path.facts.line, is_live=is_live, suspect=is_suspect)
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
                suspect=is_suspect,
            )
        return limits

    def _order(
        self, known: Mapping[Hashable, AdaptivePath], delays: Mapping[Hashable, PathDelays], loaded: bool, now: float
    ) -> OrderLimits:
        if not delays:
            return START_ORDER
        self._scale.follow(min(each.base for each in delays.values()))
        admitted = [each for key, each in delays.items() if known[key].admits]
        probable = [each for key, each in delays.items() if known[key].shadow]
        self._levelling = wanted_levelling(admitted, probable, self._levelling if loaded else LARGEST_LEVELLING)
        self._playout.follow(wanted_playout(admitted, probable, self._levelling), now)
        acks = bool(self._levelling) and equalized(admitted) is None
        return OrderLimits(hold_of(admitted, delays.values()), self._playout.ticks(), acks)

    def _note_shares(self, now: float) -> None:
        elapsed = min(now - self._stepped_at, 1.0) if self._stepped_at is not None else 0.0
        for path in self._paths.values():
            path.recent = path.recent * (1 - elapsed) + path.acked
            path.total += path.acked
            path.acked = 0.0


_NOTHING: Final = FlightMeasures()


def _is_data(flight: FlightMeasures) -> bool:
    """Return whether more is under way than probes."""
    return flight.octets > SMALL * flight.packets


def _is_routine(report: Report) -> bool:
    """Return whether a report tells of nothing but progress, or of a path that is idle, without a limit."""
    is_fine = report.settled_moved or report.oldest is None
    return is_fine and not (report.lost or report.suspect) and report.at - report.limited_at > LOADED

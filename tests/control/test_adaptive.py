"""The plan of one adaptive connection: which paths carry what, and what people read about it."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from mpt.control.adaptive import CPU_TIME, EASY_STEP, GREETING, AdaptiveControl, Plan
from mpt.control.adaptivepath import PathFacts
from mpt.limits import START_LIMITS, START_ORDER, FlightMeasures, Report
from tests.control.fluid import DATAGRAM, STEP, FluidLine

MBIT = 125_000.0


class Run:
    """A connection over fluid lines, keyed "a", "b" ...; each admitted one is filled as far as its window allows, and
    each with shadows, too."""

    def __init__(self, *lines: FluidLine, demand: float = 1e12, **facts: PathFacts) -> None:
        self.lines: dict[Hashable, FluidLine] = dict(zip("abcdefgh", lines, strict=False))
        self.facts: dict[Hashable, PathFacts] = {key: PathFacts(line=n) for n, key in enumerate(self.lines)}
        self.facts.update(facts)
        self.demand = demand
        self.dead: set[Hashable] = set()
        self.last: dict[Hashable, Report] = {}
        self.now = 1000.0
        self.control = AdaptiveControl()
        self.control.set_paths(self.facts, self.now)
        self.plan = self.control.step({}, self.now)
        self.probes: list[Hashable] = []
        self.rescues: list[Hashable] = []
        self.copies: list[Hashable] = []
        for key, line in self.lines.items():
            line.path = key

    def go(self, seconds: float, demand: float | None = None) -> Plan:
        """Let time go by; return the last plan."""
        demand = self.demand if demand is None else demand
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            flights: dict[Hashable, FlightMeasures] = {}
            for key, line in self.lines.items():
                limits = self.plan.limits[key]
                carries = limits.is_live and (limits.admits or limits.shadow)
                wanted = max(demand if carries else 0.0, DATAGRAM / 10 / STEP if key in self.plan.probes else 0.0)
                if key in self.dead:
                    report = stands_still(self.last[key], self.now)
                else:
                    report = self.last[key] = line.step(limits.window, limits.pace, wanted)
                    line.now = self.now
                if report.acked or key in self.dead:
                    self.control.report(report)
                flights[key] = FlightMeasures(
                    octets=report.in_flight,
                    packets=report.in_flight // DATAGRAM + (report.in_flight > 0),
                    oldest=report.oldest,
                    sent=report.octets,
                    queue_packets=10 if demand > 1e9 else 0,
                    limited_at=report.limited_at,
                )
            self.plan = self.control.step(flights, self.now)
            self.probes += self.plan.probes
            self.rescues += self.plan.rescues
            self.copies += self.plan.copies
        return self.plan

    def change(self, key: Hashable, facts: PathFacts) -> Plan:
        """Change what is known of a path; return the plan."""
        self.facts[key] = facts
        self.control.set_paths(self.facts, self.now)
        self.plan = self.control.step({}, self.now)
        self.rescues += self.plan.rescues
        return self.plan

    def words(self, key: Hashable) -> tuple[str, str]:
        """Return the state of a path and its reason."""
        view = self.control.views(self.now)[key]
        return view.state, view.reason


def stands_still(last: Report, now: float) -> Report:
    """Return a report that comes now, of a path on which nothing arrived after the `last` one."""
    clock = round(now * 1e6) & 0xFFFFFFFF
    return last._replace(at=now, clock=clock, acked=0, lost=0, least=None, median=None, rtt=None, settled_moved=False)


def test_before_anything_is_known() -> None:
    """Every path may carry a first window."""
    run = Run(FluidLine(5 * MBIT), FluidLine(5 * MBIT))
    limits = run.plan.limits["b"]
    assert limits == START_LIMITS._replace(line=1)
    assert run.plan.order == START_ORDER
    assert run.words("a") == ("probing", "nothing was sent yet")


def test_a_new_path_is_greeted_with_probes() -> None:
    """Some within a second, and then none while nothing is sent."""
    run = Run(FluidLine(5 * MBIT), FluidLine(5 * MBIT, 0.250))
    run.go(2.0, demand=0.0)
    assert all(GREETING <= run.probes.count(key) <= GREETING + 1 for key in "ab")
    before = len(run.probes)
    run.go(5.0, demand=0.0)
    assert len(run.probes) == before


def test_two_equal_lines_carry() -> None:
    """Each as much as it can, half of the sum."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT))
    run.go(1.0, demand=0.0)
    plan = run.go(3.0)
    assert all(each.admits and each.is_live for each in plan.limits.values())
    assert run.words("a") == run.words("b") == ("active", "it carries bulk")
    views = run.control.views(run.now)
    assert sum(view.share for view in views.values()) == pytest.approx(1.0)
    assert views["a"].rate == pytest.approx(20 * MBIT, rel=0.1) and views["a"].rtt == pytest.approx(0.040, abs=0.01)
    run.go(0.5, demand=MBIT)
    assert run.words("a")[0] == "active"


def test_a_line_beyond_the_budget_carries_no_bulk() -> None:
    """It may carry messages and what cannot go elsewhere."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.300))
    run.go(1.5, demand=0.0)
    plan = run.go(1.0)
    assert plan.limits["b"].is_live and not plan.limits["b"].admits and not plan.limits["b"].shadow
    assert plan.limits["b"].delay == pytest.approx(0.280, abs=0.001)
    assert run.words("b") == ("gated", "it is later than the delay budget allows")


def test_an_unknown_later_line_carries_shadows_first() -> None:
    """Until it has shown a fair share; a small one stays out."""
    run = Run(FluidLine(100 * MBIT, 0.010), FluidLine(3 * MBIT, 0.040))
    run.go(1.0, demand=0.0)
    plan = run.go(0.05)
    assert plan.limits["a"].admits and not plan.limits["b"].admits and plan.limits["b"].shadow
    assert run.words("b") == ("probing", "it has not shown a fair share of the rate yet")
    plan = run.go(2.0)
    assert not plan.limits["b"].admits
    assert run.words("b") == ("gated", "its rate is too small beside the others")


def test_a_line_that_has_shown_its_rate_carries() -> None:
    """The far one is admitted when the near one is full; early packets are held a little for it."""
    run = Run(FluidLine(20 * MBIT, 0.010), FluidLine(20 * MBIT, 0.070))
    run.go(1.0, demand=0.0)
    plan = run.go(2.0)
    assert plan.limits["b"].admits
    assert plan.order.playout is not None and 0.100 < plan.order.hold <= 0.300


def test_a_path_that_may_not_be_used_is_rescued_once() -> None:
    """Its reason is the one that was given; when it is back, it begins with copies."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.030))
    run.go(1.0, demand=0.0)
    run.go(1.0)
    plan = run.change("b", PathFacts(1, usable=False, why="the link is down"))
    assert not plan.limits["b"].is_live and run.rescues == ["b"]
    assert run.words("b") == ("dead", "the link is down")
    run.change("b", PathFacts(1, usable=False, why="the operator took it down"))
    assert run.words("b") == ("dead", "the operator took it down") and run.rescues == ["b"]
    plan = run.change("b", PathFacts(1))
    assert plan.limits["b"].is_live
    run.go(1.0)
    assert run.plan.limits["b"].admits


def test_a_silent_path_is_rescued_and_probed() -> None:
    """In less than 0.3 s, and it is back when something of it has arrived."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.030))
    run.go(1.0, demand=0.0)
    run.go(2.0)
    run.dead.add("b")
    run.go(0.12)
    assert run.copies == ["b"] and run.plan.limits["b"].suspect and not run.plan.limits["b"].is_live
    assert run.rescues == [] and run.words("b")[0] == "active"
    run.go(0.17)
    assert run.rescues == ["b"] and not run.plan.limits["b"].is_live
    assert run.words("b") == ("dead", "what was sent over it did not arrive")
    before = run.probes.count("b")
    run.go(1.0)
    assert run.probes.count("b") - before >= 4
    run.dead.clear()
    run.go(0.3)
    assert run.plan.limits["b"].is_live
    run.go(1.0)
    assert run.plan.limits["b"].admits
    run.dead.add("b")
    run.go(0.4)
    run.dead.clear()
    run.go(0.3)
    assert run.words("b") == ("dead", "it was lost again and waits before it may return")


def test_a_path_that_hesitates_is_not_dead() -> None:
    """Its packets go over the other one, too; with the first progress everything is as before."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.030))
    run.go(1.0, demand=0.0)
    run.go(2.0)
    for _ in range(3):
        rate = run.control.views(run.now)["b"].rate
        run.dead.add("b")
        run.go(0.11)
        assert not run.plan.limits["b"].is_live
        run.dead.clear()
        run.go(0.03)
        assert run.plan.limits["b"].is_live and run.plan.limits["b"].admits and not run.plan.limits["b"].suspect
        assert run.control.views(run.now)["b"].rate == pytest.approx(rate, rel=0.3)
        run.go(2.0)
    assert run.copies == ["b"] * 3 and run.rescues == []


def test_what_the_peer_suspects_is_suspect_here_too() -> None:
    """A line that is dead in one direction mostly is so in the other. It is asked; its own progress counts."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.030))
    run.go(1.0, demand=0.0)
    run.go(2.0)
    told = run.last["b"]._replace(at=run.now, acked=0, lost=0, settled_moved=False, suspect=True)
    run.control.report(told)
    run.go(0.01)
    assert run.copies == ["b"] and "b" in run.probes and not run.plan.limits["b"].suspect
    run.go(0.05)
    assert run.plan.limits["b"].is_live
    run.control.report(told._replace(at=run.now))
    run.control.report(told._replace(at=run.now))
    run.go(0.01)
    assert run.copies == ["b", "b"]


def test_the_only_path_of_an_open_class_is_not_suspect() -> None:
    """A moment of silence opens no dear line."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.030), b=PathFacts(1, cost=2))
    run.go(1.0, demand=0.0)
    run.go(2.0, demand=5 * MBIT)
    run.dead.add("a")
    run.go(0.11)
    assert run.copies == [] and run.plan.limits["a"].is_live


def test_what_was_taken_down_by_hand_was_not_lost() -> None:
    """However often: it carries again as soon as it is up."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, 0.030))
    run.go(1.0, demand=0.0)
    run.go(1.0)
    for _ in range(4):
        plan = run.change("b", PathFacts(1, usable=False, why="it was taken down", by_hand=True))
        assert not plan.limits["b"].is_live
        run.go(0.2)
        assert run.change("b", PathFacts(1)).limits["b"].is_live
        run.go(0.3)


def test_the_last_path_is_never_silent() -> None:
    """There is nothing else to use."""
    run = Run(FluidLine(20 * MBIT))
    run.go(1.0, demand=0.0)
    run.go(1.0)
    run.dead.add("a")
    run.go(3.0)
    assert run.plan.limits["a"].is_live and run.rescues == []


def test_a_dear_path_is_closed_while_the_cheap_one_has_room() -> None:
    """It opens when the cheap one is full, comes after it, and at once when that one is gone."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT), b=PathFacts(1, cost=2))
    run.go(1.0, demand=0.0)
    assert not run.plan.limits["b"].is_live
    assert run.words("b") == ("gated", "cheaper lines have room")
    run.go(1.5)
    assert run.plan.limits["b"].is_live and run.plan.limits["b"].admits
    assert run.plan.limits["b"].delay > run.plan.limits["a"].delay + 0.1
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT), b=PathFacts(1, cost=1))
    run.go(1.0, demand=0.0)
    assert run.change("a", PathFacts(0, usable=False)).limits["b"].is_live


def test_a_path_that_loses_most_is_gated() -> None:
    """It is used again when it has been good for some seconds."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT, loss=0.5))
    run.go(1.0, demand=0.0)
    run.go(2.0)
    assert run.words("b") == ("gated", "it loses far more than another line")
    assert run.plan.limits["b"].shadow and not run.plan.limits["b"].admits
    run.lines["b"].loss = 0.0
    run.go(6.0)
    assert run.plan.limits["b"].admits


def test_a_processor_that_is_the_limit_is_told() -> None:
    """Packets wait, and no path holds them back: that says nothing of the lines."""
    control = AdaptiveControl()
    control.set_paths({"a": PathFacts()}, 0.0)
    for step in range(100):
        now = step * STEP
        control.step({"a": FlightMeasures(octets=3000, packets=2, queue_packets=5, limited_at=min(now, 0.5))}, now)
        assert control.is_cpu_bound is (now > 0.5 + CPU_TIME)
    control.step({"a": FlightMeasures()}, 1.01)
    assert not control.is_cpu_bound


def test_a_path_that_is_gone_is_forgotten() -> None:
    """Its reports, too."""
    run = Run(FluidLine(20 * MBIT), FluidLine(20 * MBIT))
    run.go(1.0, demand=0.0)
    run.control.set_paths({"a": PathFacts()}, run.now)
    run.control.report(run.lines["b"].step(1500.0))
    assert run.control.step({}, run.now).limits.keys() == {"a"}


# --- at ease ---


def fast_and_unlimited() -> Run:
    """Two lines of 8 Gbit/s of which 800 Mbit/s are wanted: the processor is what limits."""
    run = Run(FluidLine(8000 * MBIT, 0.001), FluidLine(8000 * MBIT, 0.001))
    run.go(1.0, demand=0.0)
    run.go(3.0, demand=400 * MBIT)
    return run


def test_a_fast_connection_that_nothing_limits_is_at_ease() -> None:
    """Plans are made less often, and reports are looked at together."""
    run = fast_and_unlimited()
    assert run.control.pause == EASY_STEP
    plans = {id(run.go(STEP, demand=400 * MBIT)) for _ in range(20)}
    assert len(plans) <= 20 * STEP / EASY_STEP + 1
    view = run.control.views(run.now)["a"]
    assert view.rate == pytest.approx(400 * MBIT, rel=0.1) and view.share == pytest.approx(0.5, abs=0.05)


def test_a_slow_connection_is_never_at_ease() -> None:
    """Nor is one whose line limits."""
    run = Run(FluidLine(8000 * MBIT, 0.001), FluidLine(8000 * MBIT, 0.001))
    run.go(4.0, demand=20 * MBIT)
    assert run.control.pause == STEP
    run = Run(FluidLine(400 * MBIT), FluidLine(400 * MBIT))
    run.go(4.0)
    assert run.control.pause == STEP


def test_trouble_ends_the_ease_at_once() -> None:
    """A path that falls silent is found as soon as ever."""
    run = fast_and_unlimited()
    run.dead.add("b")
    run.go(0.3, demand=400 * MBIT)
    assert run.rescues == ["b"]

"""Adaptive connections between the data path and control: who is told what, and when."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from mpt.config.writer import file_text
from mpt.control.adaptive import EASY_STEP, STEP, Plan
from mpt.control.adaptivepath import PathFacts
from mpt.control.pathviews import PathView
from mpt.daemon.adaptive import AWAKE, Adaptation, Adaptations, adaptive_row
from mpt.daemon.machine import Machine
from mpt.data.pathtable import Adaptive, ClassRule
from mpt.limits import START_LIMITS, START_ORDER, FlightMeasures, OrderLimits, PathLimits, Report
from mpt.model import ClassConfig, ConnectionConfig, PathConfig, Status
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSystem
from mpt.wire.feedback import PROBE_MESSAGE
from mpt.wire.message import PathStatus
from tests.daemon.logged import logged
from tests.daemon.measuring import MEASURING, MeasuringDataPath
from tests.daemon.sealedpair import QUICK, SealedPair, a_side, b_side, paths, peer_path
from tests.daemon.stage import Run, Stage, connection, path

FIRST, SECOND = ("c", 0), ("c", 1)
WIDE = PathLimits(window=90_000)


@dataclass
class FakePath:
    """What an adaptation looks at of a path."""

    key: tuple[str, int]
    config: PathConfig
    status: Status = Status.OK
    reason: str = "it works"
    peer_cost: int = 0
    peer_took_it_down: bool = False
    is_proven: bool = True
    round_trip: float | None = None
    measured_loss: float | None = None

    @property
    def line(self) -> tuple[str, str]:
        return self.config.interface_name, ""

    def share(self, peer_down: bool) -> int:
        return int(self.status is Status.OK and self.is_proven and not peer_down)

    def __str__(self) -> str:
        return f"path_{self.key[1]}"


class FakeControl:
    """Decides what the test has said before."""

    def __init__(self) -> None:
        self.facts: Mapping[Hashable, PathFacts] = {}
        self.reports: list[Report] = []
        self.steps: list[float] = []
        self.flights: Mapping[Hashable, FlightMeasures] = {}
        self.plan = Plan({FIRST: WIDE, SECOND: WIDE}, START_ORDER, [], [])
        self.states = {FIRST: "active", SECOND: "active"}
        self.pause = STEP

    def set_paths(self, facts: Mapping[Hashable, PathFacts], now: float) -> None:
        self.facts = facts

    def report(self, report: Report) -> None:
        self.reports.append(report)

    def step(self, flights: Mapping[Hashable, FlightMeasures], now: float) -> Plan:
        self.steps.append(now)
        self.flights = flights
        plan, self.plan = self.plan, self.plan._replace(rescues=[], probes=[], copies=())
        return plan

    def views(self, now: float) -> Mapping[Hashable, PathView]:
        return {
            key: PathView(state, "a reason", 0.0, None, None, None, 0.0, 0.02, 0.01, 0.02, 0.0)
            for key, state in self.states.items()
        }


class FakeDataPath:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.flights: dict[Hashable, FlightMeasures] = {}

    def set_limits(
        self, limits: Mapping[Hashable, PathLimits], orders: Mapping[Hashable, OrderLimits], now: float
    ) -> None:
        self.told.append((dict(limits), dict(orders)))

    def rescue(self, path: Hashable, now: float, bounded: bool = False) -> int:
        self.told.append(("copy" if bounded else "rescue", path))
        return 0

    def send(self, path: Hashable, message: bytes, now: float) -> bool:
        self.told.append((message, path))
        return True

    def flight(self, path: Hashable) -> FlightMeasures:
        return self.flights.get(path, FlightMeasures())


class World:
    """An adaptation of two paths, whose limits the data path has got."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        system = FakeSystem()
        machine = Machine(self.reactor, self.reactor.seconds, cast("Any", system), FakeNetlink())
        self.datapath: Any = FakeDataPath()
        self.worked = 0
        self.adaptations = Adaptations(machine, lambda: self.datapath, self._worked)
        self.paths: list[Any] = [FakePath(FIRST, path(1)), FakePath(SECOND, path(2))]
        self.peer_down: set[int] = set()
        self.control = cast("Any", FakeControl())
        self.adaptation = Adaptation(
            machine,
            connection(),
            self.paths,
            self.peer_down.__contains__,
            lambda: None,
            self.adaptations,
            self.control,
        )
        self.adaptation.paths_changed()
        self.pass_time(0.1)
        self.told()
        self.control.steps.clear()

    def _worked(self) -> None:
        self.worked += 1

    def pass_time(self, seconds: float) -> None:
        self.reactor.pass_time(seconds, step=0.001)

    def told(self) -> list[Any]:
        told, self.datapath.told = self.datapath.told, []
        return list(told)

    @property
    def now(self) -> float:
        return self.reactor.seconds()

    def report(self, key: tuple[str, int] = FIRST) -> None:
        self.adaptations.reported(
            Report(key, self.now, 0, 1, 1500, 1500, 0, 100, 100, 0.02, 0, 0.0, None, settled_moved=True)
        )

    @property
    def timers(self) -> int:
        return len(self.reactor.getDelayedCalls())


@pytest.fixture
def world() -> World:
    return World()


def test_an_idle_connection_has_no_timer(world: World) -> None:
    """Nothing wakes the daemon for it."""
    world.pass_time(3.0)
    assert world.control.steps == [] and world.timers == 0 and world.told() == []


def test_a_loaded_connection_is_looked_at_until_it_is_idle(world: World) -> None:
    """From its first report on, every 10 ms, until a second after the last one."""
    world.report()
    began = world.now
    world.pass_time(AWAKE + 0.5)
    steps = world.control.steps
    assert steps[0] <= began + 0.002 and began + AWAKE - STEP <= steps[-1] <= began + AWAKE + 2 * STEP
    assert AWAKE / STEP * 0.8 <= len(steps) <= AWAKE / STEP * 1.2
    assert world.timers == 0


def test_a_connection_at_ease_is_looked_at_less_often(world: World) -> None:
    """As control says."""
    world.control.pause = EASY_STEP
    world.report()
    world.pass_time(AWAKE)
    assert AWAKE / EASY_STEP * 0.8 <= len(world.control.steps) <= AWAKE / EASY_STEP * 1.2


def test_a_connection_wakes_up_again(world: World) -> None:
    """As often as it is loaded."""
    for _ in range(3):
        world.control.steps.clear()
        world.report()
        world.pass_time(0.1)
        assert len(world.control.steps) > 5
        world.pass_time(AWAKE + 0.5)
        assert world.timers == 0


def test_it_is_not_idle_while_something_is_under_way(world: World) -> None:
    """A path that has died brings no reports, and must be found out all the same."""
    world.datapath.flights[SECOND] = FlightMeasures(packets=1)
    world.report()
    world.pass_time(5.0)
    assert world.control.flights == {FIRST: FlightMeasures(), SECOND: FlightMeasures(packets=1)}
    assert world.control.steps[-1] >= world.now - 2 * STEP
    world.datapath.flights.clear()
    world.pass_time(0.1)
    assert world.timers == 0


def test_the_data_path_gets_the_limits_that_have_changed(world: World) -> None:
    """Those of a path, or of the order, alone; nothing if nothing is new."""
    world.report()
    world.pass_time(0.1)
    assert world.told() == []
    narrow, order = PathLimits(window=3000), OrderLimits(hold=0.05, playout=7)
    world.control.plan = Plan({FIRST: WIDE, SECOND: narrow}, START_ORDER, [], [])
    world.pass_time(0.05)
    assert world.told() == [({SECOND: narrow}, {})]
    world.control.plan = Plan({FIRST: WIDE, SECOND: narrow}, order, [], [])
    world.pass_time(0.05)
    assert world.told() == [({}, {"c": order})]
    assert world.adaptations.limits_of(SECOND) == narrow and world.adaptations.limits_of("x") == START_LIMITS


def test_limits_come_before_the_rescue_and_probes_are_sent(world: World) -> None:
    """So nothing is sent again over the path that it is rescued from."""
    dead = PathLimits(window=3000, is_live=False)
    world.control.plan = Plan({FIRST: WIDE, SECOND: dead}, START_ORDER, [SECOND], [FIRST, SECOND], [FIRST])
    world.report()
    world.pass_time(0.02)
    assert world.told() == [
        ({SECOND: dead}, {}),
        ("rescue", SECOND),
        ("copy", FIRST),
        (PROBE_MESSAGE, FIRST),
        (PROBE_MESSAGE, SECOND),
    ]
    assert world.worked > 0


def test_control_knows_the_facts_of_each_path(world: World) -> None:
    """The higher cost of both ends, equal numbers for paths of one line, and why a path cannot be used."""
    assert world.control.facts == {FIRST: PathFacts(0, True, 0, ""), SECOND: PathFacts(1, True, 0, "")}
    first, second = world.paths
    first.config, first.peer_cost = replace(first.config, cost="metered"), 2
    second.config = replace(second.config, cost="metered", interface_name="eth1")
    world.adaptation.paths_changed()
    assert world.control.facts == {FIRST: PathFacts(0, True, 2, ""), SECOND: PathFacts(0, True, 1, "")}
    first.status, first.reason = Status.INTERFACE_DOWN, "the interface is down or gone"
    world.peer_down.add(1)
    world.adaptation.paths_changed()
    assert world.control.facts[FIRST] == PathFacts(0, False, 2, "the interface is down or gone")
    assert world.control.facts[SECOND] == PathFacts(0, False, 1, "the peer says that it does not work")
    world.peer_down.clear()
    second.is_proven = False
    world.adaptation.paths_changed()
    assert world.control.facts[SECOND].why == "nothing of the peer has come over it yet"


@pytest.mark.parametrize(
    ("reason", "by_hand", "why"),
    [
        (Status.MANUAL_DOWN, True, "the peer's operator took it down"),
        (Status.DISABLED, True, "the peer's operator took it down"),
        (Status.INTERFACE_DOWN, False, "the peer says that it does not work"),
        (7, False, "the peer says that it does not work"),
    ],
)
def test_what_an_operator_takes_down_was_not_lost(world: World, reason: int, by_hand: bool, why: str) -> None:
    """Ours, or the peer's, who says so in message 45."""
    world.paths[0].status, world.paths[0].reason = Status.MANUAL_DOWN, "taken down by hand"
    world.adaptation.reason_said(PathStatus(1, False, reason))
    world.peer_down.add(1)
    world.adaptation.paths_changed()
    assert world.control.facts[FIRST] == PathFacts(0, False, 0, "taken down by hand", by_hand=True)
    assert world.control.facts[SECOND] == PathFacts(1, False, 0, why, by_hand=by_hand)
    world.adaptation.reason_said(PathStatus(1, True, 2))
    assert world.control.facts[SECOND].cost == 2


def test_a_change_is_looked_at_at_once_and_only_once(world: World) -> None:
    """Several changes of one moment are one look, and a change that is none is no look."""
    world.adaptation.paths_changed()
    world.pass_time(0.05)
    assert world.control.steps == []
    for each in world.paths:
        each.status = Status.INTERFACE_DOWN
        world.adaptation.paths_changed()
    world.pass_time(0.005)
    assert len(world.control.steps) == 1
    world.pass_time(2.0)
    assert len(world.control.steps) == 1 and world.timers == 0


def test_a_new_data_path_gets_all_limits(world: World) -> None:
    """It knows nothing of the old one's."""
    world.datapath = FakeDataPath()
    world.adaptations.begin()
    world.pass_time(0.01)
    assert world.told() == [({FIRST: WIDE, SECOND: WIDE}, {"c": START_ORDER})]


def test_looks_take_a_fifth_of_the_time_at_most(world: World) -> None:
    """With many loaded connections each look comes later instead."""
    step = world.control.step

    def slow(flights: Mapping[Hashable, FlightMeasures], now: float) -> Plan:
        world.reactor.rightNow += 0.02
        plan: Plan = step(flights, now)
        return plan

    world.control.step = slow
    world.report()
    world.pass_time(0.9)
    assert 7 <= len(world.control.steps) <= 12


def test_the_log_tells_of_states_and_why(world: World) -> None:
    """Not of the first one, nor of a path that is down, which tells itself; and not without end."""
    with logged() as said:
        world.report()
        world.control.states = {FIRST: "active", SECOND: "gated"}
        world.pass_time(0.3)
        assert said == ["info: path_1 is gated: a reason"]
        assert [(each.round_trip, each.measured_loss) for each in world.paths] == [(0.02, 0.03)] * 2
        said.clear()
        world.paths[0].status = Status.DOWN
        world.control.states = {FIRST: "dead", SECOND: "gated"}
        world.adaptation.paths_changed()
        world.pass_time(0.3)
        assert said == []
        for number in range(100):
            world.report()
            world.control.states = {FIRST: "dead", SECOND: ("active", "gated")[number % 2]}
            world.pass_time(0.2)
        assert 10 < len(said) <= 25


def test_a_connection_that_is_gone_is_not_looked_at(world: World) -> None:
    """Nor are reports of it, or of a path that is gone, told to control."""
    world.report(("c", 7))
    world.report(("d", 0))
    assert world.control.reports == []
    world.report()
    world.adaptation.stop()
    world.report()
    world.adaptation.paths_changed()
    world.pass_time(0.5)
    assert len(world.control.reports) == 1 and world.control.steps == [] and world.timers == 0


def test_the_rules_of_the_classes_reach_the_data_path() -> None:
    """In the order of the file, ports as ranges; a connection that does not adapt has none."""
    classes = (
        ClassConfig("voice", True, protocol=17, ports=frozenset({5060, *range(10000, 20001)}), copies=2),
        ClassConfig("backup", False, dscps=frozenset({1, 46})),
    )
    config = replace(connection(), peer_keys=(bytes(32),), scheduler="adaptive", classes=classes, reorder_window=0)
    assert adaptive_row(config, True) == Adaptive(
        True,
        ordered=False,
        classes=(
            ClassRule(protocol=17, ports=((5060, 5060), (10000, 20000)), realtime=True, copies=2),
            ClassRule(dscps=frozenset({1, 46}), realtime=False),
        ),
    )
    assert adaptive_row(replace(config, scheduler="cycle"), True) is None
    assert adaptive_row(replace(config, peer_keys=()), True) is None


# ---- two daemons -----------------------------------------------------------------------------------------------------


def adaptive_pair(run: Run, a: ConnectionConfig | None = None, b: ConnectionConfig | None = None) -> SealedPair:
    a = a or a_side(scheduler="adaptive", reorder_window=100)
    pair = SealedPair(run, a, b or b_side(scheduler="adaptive", reorder_window=100), plane=MEASURING)
    pair.until(pair.carries, 5.0)
    pair.pass_time(0.5)
    return pair


def rows(pair: SealedPair) -> list[Adaptive | None]:
    return [each.root.runs.connections()[0].row(1400).adaptive for each in (pair.a, pair.b)]


def test_two_adaptive_ends_send_so(run: Run) -> None:
    """Each knows the other's word from the handshake; the status says so."""
    pair = adaptive_pair(run)
    assert rows(pair) == [Adaptive(sends=True)] * 2
    document = pair.a.root.operations.status().as_json()["connections"][0]
    assert document["adaptive"]["peer_adapts"] is True and document["adaptive"]["delay_budget"] == 0.11
    assert document["adaptive"]["hold_p99"] == 0.0 and document["adaptive"]["codel_marked"] == 0
    found = paths(pair.a)[0]["adaptive"]
    assert found["cost"] == "free" and found["quota"] is None and found["window"] > 0
    assert isinstance(pair.a.datapath, MeasuringDataPath)
    assert set(pair.a.datapath.limits) == {FIRST, SECOND} and set(pair.a.datapath.orders) == {"c"}


def test_a_peer_that_is_not_adaptive_gets_the_cycle(run: Run) -> None:
    """One line of the log says it; a change of its mind comes with the next keys."""
    with logged() as said:
        pair = adaptive_pair(run, b=b_side(reorder_window=100))
        pair.pass_time(300.0, step=1.0)
    assert rows(pair) == [Adaptive(sends=False), None]
    (told,) = (each for each in map(str, said) if "not adaptive" in each)
    assert "packets go by weight_out" in told
    assert paths(pair.b)[0]["adaptive"] is None
    assert pair.b.root.operations.status().as_json()["connections"][0]["adaptive"] is None


def test_the_peer_learns_the_costs(run: Run) -> None:
    """With the handshake, and at once when the operator changes one; the file gets it by `mpt save`."""
    a = a_side(path(1, **QUICK), path(2, cost="metered", **QUICK), scheduler="adaptive", reorder_window=100)
    b = b_side(peer_path(1), peer_path(2), scheduler="adaptive", reorder_window=100)
    pair = adaptive_pair(run, a, b)

    def costs(stage: Stage) -> list[str]:
        return [each["adaptive"]["cost"] for each in paths(stage)]

    assert costs(pair.a) == costs(pair.b) == ["free", "metered"]
    ours = pair.a.root.runs.connections()[0]
    ours.set_cost(0, "backup")
    pair.pass_time(0.3)
    assert costs(pair.a) == costs(pair.b) == ["backup", "metered"]
    assert [each.cost for each in ours.config.paths] == ["backup", "metered"]
    ours.set_cost(1, "free")
    pair.pass_time(0.3)
    assert costs(pair.b) == ["backup", "free"]
    pair.pass_time(200.0, step=1.0)
    assert costs(pair.a) == costs(pair.b) == ["backup", "free"], "new keys repeat it"


def test_the_operator_changes_a_cost(run: Run) -> None:
    """The answer says that the peer knows; what is not adaptive is refused, and nothing changes."""
    pair = adaptive_pair(run)
    asked = pair.a.ask("path cost eth2 backup")
    pair.pass_time(0.5)
    assert asked.text == "path_1 of c is backup; the peer knows"
    assert paths(pair.b)[1]["adaptive"]["cost"] == "backup"
    asked = pair.b.ask("path cost path_1 free")
    pair.pass_time(0.5)
    dearer = "backup holds, as the peer says: the higher cost of both ends counts"
    assert asked.text == f"path_1 of c is free; the peer knows. {dearer}"
    cycle = SealedPair(run)
    refused = cycle.a.ask("path cost path_1 backup")
    assert "c is not adaptive: only scheduler = adaptive looks at costs" in refused.text
    assert cycle.a.root.runs.connections()[0].config.paths[1].cost == "free"


def test_a_cable_that_is_pulled_is_rescued_from_at_once(run: Run) -> None:
    """By the kernel's word, long before anything is missed."""
    pair = adaptive_pair(run)
    assert isinstance(pair.a.datapath, MeasuringDataPath)
    pair.a.datapath.rescued.clear()
    pair.a.netlink.set_carrier("eth2", False)
    pair.pass_time(0.05, step=0.005)
    assert pair.a.datapath.limits[SECOND].is_live is False
    assert pair.a.datapath.rescued == [SECOND]


def test_idle_clients_cost_nothing(run: Run) -> None:
    """After its start an adaptive connection has no more timers than any other one, which asks for its round trips."""
    pairs = [SealedPair(run, a_side(scheduler=each), b_side(scheduler=each)) for each in ("cycle", "adaptive")]
    timers = []
    for pair in pairs:
        pair.until(pair.carries, 5.0)
        pair.pass_time(3.0, step=0.01)
        timers.append(len(pair.a.reactor.getDelayedCalls()))
    assert timers[1] <= timers[0]


def test_a_reload_takes_the_other_scheduler(run: Run, tmp_path: Path) -> None:
    """To the cycle and back; the peer learns it with the new keys, and packets go each time."""
    file = tmp_path / "connections" / "c.conf"
    a = a_side(scheduler="adaptive", reorder_window=100, file=file)
    pair = adaptive_pair(run, a)
    pair.a.root.runs.directory = tmp_path
    file.parent.mkdir()

    def reload(scheduler: str, expected: list[Adaptive | None]) -> None:
        file.write_text(file_text(replace(a, scheduler=scheduler), [Status.OK] * 2, 60456))
        assert pair.a.ask("reload c.conf").text.startswith("changed: c; 0 unchanged")
        pair.until(lambda: rows(pair) == expected and pair.carries(), 5.0)

    reload("cycle", [None, Adaptive(sends=False)])
    reload("adaptive", [Adaptive(sends=True)] * 2)

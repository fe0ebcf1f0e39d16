"""Adaptive connections on lines of every kind, in virtual time: two data paths with their control, and hosts that speak
TCP. One default configuration, and no rate in it. The lines are slow, so that a test has few packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from mpt.control.adaptivepath import PathFacts
from mpt.control.presence import State
from mpt.limits import Report
from mpt.testing.datapath import LOCAL, REMOTE, Stage, packet
from mpt.testing.session import PeerSession
from mpt.testing.simcongestion import Bbr, Cubic
from mpt.testing.simnet import MBIT, Simulation, Steps
from mpt.testing.simtcp import MSS, TcpReceiver
from mpt.testing.simtunnel import CONNECTION, End, Tunnel, ways
from tests.accel.loopback import loopback_stage
from tests.contract.conftest import SEALING

pytestmark = pytest.mark.lines

GOODPUT = MSS / (MSS + 52 + 70)  # of a line's rate: inner headers, GRE, envelope, UDP and IP
UDP = 17
VOICE_PORT = 4000
EXPEDITED = 46 << 2  # TOS octet

Lay = Callable[..., Tunnel]


def native() -> Stage:
    """Return the native data path with virtual time only: a wake-up serves one descriptor."""
    from mpt.accel.native import NativeDataPath  # it may not be built

    return loopback_stage(partial(NativeDataPath, budget=0.0))


MAKERS: dict[str, Callable[[], Stage]] = {"python": Stage.in_memory}
if any(name.startswith("native") for name in SEALING):
    MAKERS["native"] = native


@pytest.fixture(params=list(MAKERS))
def lay(request: pytest.FixtureRequest) -> Iterator[Lay]:
    """Return a function that lays a tunnel over lines (arguments of Line), and lets it greet for 1 s."""
    tunnels: list[Tunnel] = []

    def made(*lines: dict[str, Any], seed: int = 1, **changes: Any) -> Tunnel:
        simulation = Simulation()
        tunnel = Tunnel(simulation, ways(simulation, *lines, seed=seed), MAKERS[request.param], **changes)
        tunnels.append(tunnel)
        tunnel.run(1.0)
        return tunnel

    yield made
    for tunnel in tunnels:
        for end in (tunnel.here, tunnel.there):
            end.stage.counters()
        tunnel.close()


def line(mbit: float, milliseconds: float = 10, **more: Any) -> dict[str, Any]:
    """Return the arguments of a line."""
    return {"rate": mbit * MBIT, "delay": milliseconds / 1000, **more}


def goodput(tunnel: Tunnel, receivers: TcpReceiver | list[TcpReceiver], seconds: float) -> float:
    """Let time go by; return what the hosts got, in Mbit/s."""
    all_of_them = receivers if isinstance(receivers, list) else [receivers]
    before = sum(each.octets for each in all_of_them)
    tunnel.run(seconds)
    return (sum(each.octets for each in all_of_them) - before) / seconds / MBIT


class Voice:
    """A stream of 50 packets a second, with the marks of voice, and its receiver."""

    def __init__(self, tunnel: Tunnel, seconds: float, tos: int = EXPEDITED) -> None:
        self._tunnel = tunnel
        self.sent = 0
        self.delays: dict[int, float] = {}
        self.twice = 0
        tunnel.listen(VOICE_PORT, self)
        for number in range(round(seconds * 50)):
            tunnel.simulation.after(number / 50, self._send, number, tos)

    def _send(self, number: int, tos: int) -> None:
        self.sent += 1
        stamp = round(self._tunnel.simulation.now * 1e6).to_bytes(8, "big")
        ports = VOICE_PORT.to_bytes(2, "big") * 2
        body = ports + (180).to_bytes(2, "big") + bytes(2) + number.to_bytes(4, "big") + stamp + bytes(160)
        self._tunnel.here.from_host(packet(LOCAL, REMOTE, body, UDP, tos))

    def receive(self, octets: bytes) -> None:
        """Take a packet of the stream."""
        number = int.from_bytes(octets[28:32], "big")
        self.twice += number in self.delays
        self.delays[number] = self._tunnel.simulation.now - int.from_bytes(octets[32:40], "big") / 1e6

    @property
    def lost(self) -> int:
        """Return how many did not arrive."""
        return self.sent - len(self.delays)


@pytest.mark.parametrize("control", [Cubic, Bbr])
def test_two_lines_carry_their_sum(lay: Lay, control: type[Cubic] | type[Bbr]) -> None:
    """However unequal they are."""
    tunnel = lay(line(8), line(4, 25))
    _, receiver = tunnel.tcp(control())
    goodput(tunnel, receiver, 1.5)
    assert goodput(tunnel, receiver, 2.0) > 0.93 * 12 * GOODPUT


def test_a_lossy_line_is_repaired(lay: Lay) -> None:
    """2 % on one of two: CUBIC sees none of it."""
    tunnel = lay(line(6), line(6, loss=0.02))
    sender, receiver = tunnel.tcp(Cubic())
    goodput(tunnel, receiver, 1.5)
    before = sender.retransmitted
    assert goodput(tunnel, receiver, 2.0) > 0.93 * 12 * GOODPUT
    assert sender.retransmitted == before


def test_one_percent_on_every_line_is_nothing_inside(lay: Lay) -> None:
    """No packet is given up, and the overhead is below a tenth."""
    tunnel = lay(line(6, loss=0.01), line(6, loss=0.01))
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.0)
    before = sum(each.there.sent for each in tunnel.lines)
    octets = receiver.octets
    tunnel.run(2.0)
    carried = sum(each.there.sent for each in tunnel.lines) - before
    assert carried < 1.10 * (receiver.octets - octets) / GOODPUT
    received = tunnel.there.stage.datapath.adaptive_counters(CONNECTION)
    assert received.skipped == 0 and received.late == 0


@pytest.mark.parametrize("control", [Cubic, Bbr])
def test_jitter_is_no_queue(lay: Lay, control: type[Cubic] | type[Bbr]) -> None:
    """Although all packets of a full line are as late as its latest ones; nor does it end the slow start of CUBIC."""
    tunnel = lay(line(8, 30, jitter=0.020), line(8, 30, jitter=0.020))
    _, receiver = tunnel.tcp(control())
    tunnel.run(1.5)
    assert goodput(tunnel, receiver, 1.5) > 0.8 * 16 * GOODPUT


@pytest.mark.parametrize(("factor", "within"), [(0.5, 1.0), (2.0, 3.0)])
def test_a_rate_that_changes_is_followed(lay: Lay, factor: float, within: float) -> None:
    """Halved: 0.9 of the new sum within 1 s. Doubled: within 3 s."""
    tunnel = lay(line(4), line(4))
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(2.0)
    for each in tunnel.lines[0]:
        each.set_rate(4 * factor * MBIT)
    tunnel.run(within)
    assert goodput(tunnel, receiver, 1.0) > 0.9 * (4 + 4 * factor) * GOODPUT


def test_a_silent_death_is_a_short_gap(lay: Lay) -> None:
    """Bulk stands for 150 ms at most, no keepalive is asked, and no gap is given up."""
    tunnel = lay(line(5), line(5, 20))
    sender, receiver = tunnel.tcp(Cubic())
    tunnel.run(2.0)
    receiver.longest_gap = 0.0
    timeouts = sender.timeouts
    for each in tunnel.lines[0]:
        each.cut()
    tunnel.run(1.0)
    assert receiver.longest_gap < 0.150
    received = tunnel.there.stage.datapath.adaptive_counters(CONNECTION)
    assert (received.skipped, received.late, sender.timeouts) == (0, 0, timeouts)
    assert goodput(tunnel, receiver, 1.0) > 0.9 * 5 * GOODPUT
    assert tunnel.here.control.views(tunnel.here.now)[0].state == "dead"


@pytest.mark.parametrize("seen_by", ["both", "receiver"])
def test_a_link_event_is_a_shorter_gap_and_the_return_is_quick(lay: Lay, seen_by: str) -> None:
    """100 ms at most, also if only the receiver of the data sees it; the full rate within 1 s of the return."""
    tunnel = lay(line(5), line(5, 20))
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(2.0)
    receiver.longest_gap = 0.0
    for each in tunnel.lines[0]:
        each.cut()
    ends = (tunnel.here, tunnel.there) if seen_by == "both" else (tunnel.there,)
    for end in ends:
        end.set_paths({0: PathFacts(line=0, usable=False, why="the link is down")})
    tunnel.run(1.0)
    for end in ends:
        assert end.control.views(end.now)[0][:2] == ("dead", "the link is down")
    assert receiver.longest_gap < 0.100
    for each in tunnel.lines[0]:
        each.mend()
    for end in ends:
        end.set_paths({0: PathFacts(line=0)})
    tunnel.run(1.0)
    assert goodput(tunnel, receiver, 1.0) > 0.9 * 10 * GOODPUT


def test_a_line_that_died_silently_returns(lay: Lay) -> None:
    """Within three seconds everything flows again."""
    tunnel = lay(line(5), line(5, 20))
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.5)
    for each in tunnel.lines[0]:
        each.cut()
    tunnel.run(1.0)
    for each in tunnel.lines[0]:
        each.mend()
    tunnel.run(2.0)
    assert goodput(tunnel, receiver, 1.0) > 0.9 * 10 * GOODPUT


def test_a_line_that_flaps_harms_little(lay: Lay) -> None:
    """Down half of the time: at least 0.9 of the good line; each time it waits longer."""
    tunnel = lay(line(4, 20), line(3, 20))
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.0)
    before, began = receiver.octets, tunnel.simulation.now
    reasons: list[str] = []
    for _ in range(3):
        for each in tunnel.lines[1]:
            each.cut()
        tunnel.run(1.0)
        for each in tunnel.lines[1]:
            each.mend()
        tunnel.run(0.2)
        reasons.append(tunnel.here.control.views(tunnel.here.now)[1].reason)
        tunnel.run(0.8)
    rate = (receiver.octets - before) / (tunnel.simulation.now - began) / MBIT
    assert rate > 0.9 * 4 * GOODPUT
    assert any("waits" in reason for reason in reasons)


def test_a_line_that_pauses_is_not_dead(lay: Lay) -> None:
    """80 ms of every 400, as radio does: what waits goes over the other one meanwhile, and nothing has to return."""
    pauses = [(0.4 * number + late, rate) for number in range(20) for late, rate in ((0.0, 5 * MBIT), (0.32, 500.0))]
    tunnel = lay({"rate": pauses, "delay": 0.010, "queue": 60_000}, line(5, 20))
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.5)
    before = tunnel.here.stage.datapath.adaptive_counters(CONNECTION).resent
    octets = receiver.octets
    assert goodput(tunnel, receiver, 2.4) > 0.75 * (0.8 * 5 + 5) * GOODPUT
    assert tunnel.here.control._paths[0].presence.deaths == 0
    resent = tunnel.here.stage.datapath.adaptive_counters(CONNECTION).resent - before
    assert resent * MSS < 0.15 * (receiver.octets - octets)


def test_an_idle_connection_keeps_what_it_knows(lay: Lay) -> None:
    """Little demand says nothing of the rate: the next flow has its sum within half a second."""
    tunnel = lay(line(4), line(4, 20))
    sender, _ = tunnel.tcp(Cubic(), 1e6)
    tunnel.run(2.0)
    assert sender.finished is not None
    Voice(tunnel, 2.0, 0)
    tunnel.run(2.0)
    states = [each.state for each in tunnel.here.control.views(tunnel.here.now).values()]
    assert states == ["active", "active"]
    _, receiver = tunnel.tcp(Cubic(), port=5002)
    tunnel.run(0.5)
    assert goodput(tunnel, receiver, 1.0) > 0.85 * 8 * GOODPUT


def test_a_satellite_that_steps_is_followed(lay: Lay) -> None:
    """The delay rises by 30 ms, and falls again: the rate stays."""
    steps: Steps = [(0.0, 0.020), (2.5, 0.050), (4.5, 0.025)]
    tunnel = lay(line(4), {"rate": 4 * MBIT, "delay": steps})
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.2)
    assert goodput(tunnel, receiver, 4.0) > 0.85 * 8 * GOODPUT


def test_a_line_that_loses_most_in_one_direction_carries_nothing(lay: Lay) -> None:
    """71 % one way: never below the better line."""
    tunnel = lay(line(5), line(5, 20))
    tunnel.lines[1].there.loss = 0.71
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.5)
    assert goodput(tunnel, receiver, 2.0) > 0.97 * 5 * GOODPUT * 0.97
    view = tunnel.here.control.views(tunnel.here.now)[1]
    assert view.state != "active" and view.reason


def test_ten_beside_six_hundred_milliseconds(lay: Lay) -> None:
    """The far line is beyond the delay budget; the near one carries all that it can."""
    tunnel = lay(line(6), line(6, 300))
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.0)
    assert goodput(tunnel, receiver, 2.0) > 0.97 * 6 * GOODPUT
    assert tunnel.here.control.views(tunnel.here.now)[1][:2] == ("gated", "it is later than the delay budget allows")


def test_an_unknown_slow_line_beside_a_fast_one_harms_nothing(lay: Lay) -> None:
    """The begin of a flow: as quick as over the fast line alone, less three in a hundred."""
    fast, slow = line(30, 8), line(3, 40, jitter=0.008, loss=0.005)
    times = []
    for lines in ((fast,), (fast, slow)):
        tunnel = lay(*lines)
        began = tunnel.simulation.now
        sender, _ = tunnel.tcp(Cubic(), 2e6)
        tunnel.run(2.0)
        assert sender.finished is not None
        times.append(sender.finished - began)
    assert times[1] < times[0] / 0.97


@pytest.mark.parametrize("control", [Cubic, Bbr])
def test_long_queues_of_modems_stay_empty(lay: Lay, control: type[Cubic] | type[Bbr]) -> None:
    """Queues of 500 ms, full load: a ping inside takes 30 ms more than the base at the 95th percentile."""
    tunnel = lay(line(5, 20, queue=0.5 * 5 * MBIT), line(5, 25, queue=0.5 * 5 * MBIT))
    tunnel.tcp(control())
    tunnel.run(1.0)
    voice = Voice(tunnel, 3.0, tos=0)
    tunnel.run(3.2)
    delays = sorted(voice.delays.values())
    assert voice.lost == 0
    assert delays[round(0.95 * len(delays)) - 1] < 0.020 + 0.030


def test_four_flows_share_fairly(lay: Lay) -> None:
    """Jain's index is at least 0.9."""
    tunnel = lay(line(5), line(5, 20))
    flows = [tunnel.tcp(Cubic(), port=5001 + number)[1] for number in range(4)]
    tunnel.run(1.5)
    before = [each.octets for each in flows]
    tunnel.run(3.0)
    rates = [each.octets - old for each, old in zip(flows, before, strict=True)]
    assert sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates)) >= 0.9


@pytest.mark.parametrize("marks", [EXPEDITED, 0])
def test_voice_loses_nothing_when_a_line_dies(lay: Lay, marks: int) -> None:
    """Beside bulk, with a mark or without: 0 lost, 26 ms more than the base of the line that stays, none twice."""
    tunnel = lay(line(15, 20), line(15, 20))
    tunnel.tcp(Cubic())
    tunnel.run(1.5)  # its slow start is over
    voice = Voice(tunnel, 1.0, marks)
    tunnel.run(0.2)
    for each in tunnel.lines[0]:
        each.cut()
    tunnel.run(1.0)
    assert voice.lost == 0 and voice.twice == 0
    assert max(voice.delays.values()) < 0.020 + 0.026


def test_eight_lines_carry_their_sum(lay: Lay) -> None:
    """Each a little slower and farther than the one before."""
    tunnel = lay(*(line(1.6 - 0.1 * number, 10 + 3 * number) for number in range(8)))
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.5)
    total = sum(1.6 - 0.1 * number for number in range(8))
    assert goodput(tunnel, receiver, 1.5) > 0.8 * total * GOODPUT


def test_dear_lines_carry_only_what_the_cheap_ones_cannot(lay: Lay) -> None:
    """A backup line has probes alone while the other one has room, and bulk when it is full."""
    tunnel = lay(line(4), line(4))
    for end in (tunnel.here, tunnel.there):
        end.set_paths({1: PathFacts(line=1, cost=2)})
    dear = tunnel.lines[1].there
    before = dear.sent
    Voice(tunnel, 1.0, tos=0)
    tunnel.run(1.0)
    assert dear.sent - before < 1_000
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.5)
    assert goodput(tunnel, receiver, 1.5) > 0.9 * 8 * GOODPUT
    for each in tunnel.lines[0]:
        each.cut()
    for end in (tunnel.here, tunnel.there):
        end.set_paths({0: PathFacts(line=0, usable=False)})
    receiver.longest_gap = 0.0
    assert goodput(tunnel, receiver, 1.0) > 0.9 * 4 * GOODPUT
    assert receiver.longest_gap < 0.200


def test_reports_cost_little(lay: Lay) -> None:
    """A fiftieth of what comes, at full load; and there are enough of them to see a change in 25 ms."""
    tunnel = lay(line(4), line(4, 20))
    before = [(each.there.sent, each.back.sent) for each in tunnel.lines]
    made = dict.fromkeys(range(2), 0)
    told = tunnel.here.control.report

    def count(report: Report) -> None:
        made[int(str(report.path))] += 1
        told(report)

    tunnel.here.control.report = count  # type: ignore[method-assign]
    for number in range(1900):
        body = (5000).to_bytes(2, "big") * 2 + bytes(976)
        tunnel.simulation.after(number / 950, tunnel.here.from_host, packet(LOCAL, REMOTE, body, UDP))
    tunnel.run(2.0)
    there, back = (
        sum(line[way].sent - old[way] for line, old in zip(tunnel.lines, before, strict=True)) for way in (0, 1)
    )
    assert back < 0.02 * there
    assert sum(made.values()) >= 2 / 0.025


def test_lost_feedback_costs_little(lay: Lay) -> None:
    """Every third report is lost, on both lines."""
    tunnel = lay(line(5), line(5, 20))
    for each in tunnel.lines:
        each.back.loss = 0.33
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.5)
    assert goodput(tunnel, receiver, 2.0) > 0.85 * 10 * GOODPUT


def test_a_clock_that_drifts_changes_nothing(lay: Lay) -> None:
    """100 ppm."""
    tunnel = lay(line(4), line(4, 20))
    tunnel.there.drift = 1e-4
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.5)
    assert goodput(tunnel, receiver, 1.5) > 0.9 * 8 * GOODPUT


def test_a_machine_that_slept_goes_on(lay: Lay) -> None:
    """One end stands still for ten seconds; a second after that, everything flows."""
    tunnel = lay(line(5), line(5, 20))
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.0)
    tunnel.there.paused = True
    tunnel.run(10.0)
    tunnel.there.paused = False
    tunnel.run(3.0)
    assert goodput(tunnel, receiver, 1.0) > 0.85 * 10 * GOODPUT


def test_a_new_session_is_no_break(lay: Lay) -> None:
    """Keys are renewed under load: the estimates go on."""
    tunnel = lay(line(5), line(5, 20))
    _, receiver = tunnel.tcp(Cubic())
    tunnel.run(1.5)
    session = PeerSession()
    tunnel.there.renew(session, False)
    tunnel.here.renew(session, True)
    receiver.longest_gap = 0.0
    assert goodput(tunnel, receiver, 1.0) > 0.9 * 10 * GOODPUT
    assert receiver.longest_gap < 0.1
    assert all(path.presence.state is State.PRESENT for path in tunnel.here.control._paths.values())


def test_a_restarted_peer_is_learned_anew(lay: Lay) -> None:
    """It counts from nothing, with a new clock of its process; two seconds later everything flows."""
    tunnel = lay(line(5), line(5, 20))
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.5)
    tunnel.restart_there()
    tunnel.run(2.0)
    assert goodput(tunnel, receiver, 1.0) > 0.85 * 10 * GOODPUT
    assert all(path.presence.state is State.PRESENT for path in tunnel.here.control._paths.values())


def test_an_end_that_gets_little_of_the_processor_costs_little(lay: Lay) -> None:
    """It reads its sockets for a tenth of the time, every 20 ms: what waits there is no queue of the line."""
    tunnel = lay(line(5), line(5, 20))
    _, receiver = tunnel.tcp(Bbr())
    tunnel.run(1.0)
    for turn in range(150):
        tunnel.simulation.after(0.020 * turn, pause, tunnel.there, True)
        tunnel.simulation.after(0.020 * turn + 0.018, pause, tunnel.there, False)
    tunnel.run(1.0)
    assert goodput(tunnel, receiver, 1.9) > 0.8 * 10 * GOODPUT
    assert all(path.presence.state is State.PRESENT for path in tunnel.here.control._paths.values())


def pause(end: End, paused: bool) -> None:
    """Let the program of an end run no more, or again."""
    end.paused = paused
    if not paused:
        for each in end.sockets:
            end.stage.datapath.socket_readable(each, end.now)
        end.flush()

"""When a path is asked for a sign of life, and when it is silent."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.liveness import (
    DOUBT,
    FIRST_PAUSE,
    LONGEST_PATIENCE,
    LONGEST_PAUSE,
    LONGEST_STUCK_TIME,
    PATIENCE,
    SLEEP,
    STUCK_TIME,
    Liveness,
    Sleep,
    Step,
)

KEEPALIVE, ASK, SILENT, NEW_SOURCE_PORT = Step
NOW = 1000.0
KEEP, DEAD = 15.0, 45.0


class Line:
    """A path over a line that answers an ask after `delay` seconds; None: never. Times are seconds from the start."""

    def __init__(
        self, delay: float | None = 0.05, *, begins: bool = True, keep: float = KEEP, dead: float = DEAD
    ) -> None:
        self.path = Liveness(keep, dead, begins, NOW)
        self.delay = delay
        self.now = 0.0
        self.sent = self.heard = 0.0  # packets that went, datagrams that came
        self.steps: list[tuple[float, Step]] = []
        self._answers: list[float] = []

    def run(self, until: float, traffic: float | None = None) -> list[tuple[float, Step]]:
        """Follow the deadlines until then; `traffic`: a packet is sent every so many seconds. The steps since."""
        before = len(self.steps)
        packet = self.now + traffic if traffic is not None else until
        while True:
            due = self.path.next_deadline()
            deadline = until if due is None else max(due - NOW, self.now)
            arrival = min(self._answers, default=until)
            self.now = min(deadline, arrival, packet, until)
            if self.now >= until:
                return self.steps[before:]
            if self.now == packet and traffic is not None:
                self.sent, packet = self.now, packet + traffic
            if self.now == arrival:
                self._answers.remove(arrival)
                self.heard = self.now
            self.check()

    def check(self) -> list[Step]:
        steps = self.path.check(NOW + self.now, NOW + self.sent, NOW + self.heard)
        self.steps += [(round(self.now, 3), step) for step in steps]
        if self.delay is not None:
            self._answers += [self.now + self.delay] * steps.count(ASK)
        return steps

    def ask(self) -> None:
        self.path.ask(NOW + self.now)


def of(step: Step, steps: list[tuple[float, Step]]) -> list[float]:
    """When `step` was taken."""
    return [at for at, each in steps if each is step]


def test_an_idle_path_sends_a_keepalive_when_nothing_else_was_sent() -> None:
    """Every keepalive_time; a packet puts it off. The peer's keepalives keep the path from being asked."""
    line = Line()
    line.run(16.0)
    assert line.steps == [(15.0, KEEPALIVE)]
    line.sent = line.heard = 20.0
    line.run(36.0)
    assert line.steps[1:] == [(35.0, KEEPALIVE)]


def test_a_loaded_path_that_hears_its_peer_does_nothing() -> None:
    """Anything that opens is a sign of life."""
    line = Line()
    for second in range(100):
        line.sent = line.heard = float(second)
        assert line.run(second + 1.0) == []


def test_packets_without_an_answer_are_a_reason_to_ask() -> None:
    """A path that carries in one direction alone is asked now and then, and answers."""
    line = Line(0.05)
    steps = line.run(20.0, traffic=0.1)
    assert {step for _, step in steps} == {ASK}
    assert 5 <= len(steps) <= 10
    assert not line.path.is_silent


@pytest.mark.parametrize("begins", [True, False])
def test_a_path_that_dies_under_load_is_silent_soon(begins: bool) -> None:
    """Three asks in a second, and the verdict: some three seconds after the last sign of life."""
    line = Line(None, begins=begins)
    steps = line.run(9.0, traffic=0.1)
    (verdict,) = of(SILENT, steps)
    asks = of(ASK, steps)
    assert verdict == pytest.approx(DOUBT + PATIENCE, abs=0.2)
    assert [round(ask - asks[0], 2) for ask in asks[:3]] == [0.0, 0.33, 0.67]
    assert verdict == pytest.approx(asks[0] + PATIENCE, abs=0.01)
    assert line.path.is_silent and line.path.is_asked


def test_an_idle_path_is_silent_at_the_dead_time() -> None:
    """It is asked before, so a peer with a longer keepalive_time answers in time."""
    line = Line(None)
    steps = line.run(DEAD + 1)
    assert of(SILENT, steps)[0] == pytest.approx(DEAD, abs=DOUBT + 0.1)
    line = Line(0.1)
    assert SILENT not in {step for _, step in line.run(500.0)}


def test_a_silent_path_is_asked_with_growing_pauses() -> None:
    """One second, two, four, and fifteen in the end. Its first answer revives it."""
    line = Line(None, begins=False)
    line.ask()
    steps = line.run(200.0)
    assert of(SILENT, steps) == [PATIENCE]
    asks = of(ASK, steps)
    pauses = [round(later - earlier, 2) for earlier, later in pairwise(asks[2:])]
    assert pauses[:5] == [FIRST_PAUSE, 2.0, 4.0, 8.0, LONGEST_PAUSE] and set(pauses[4:]) == {LONGEST_PAUSE}
    line.delay = 0.05
    line.run(230.0)
    assert not line.path.is_silent


def test_the_beginning_end_takes_new_source_ports() -> None:
    """After 10 s without an answer, then after 20 more, 40, and 300 in the end; each time it asks at once."""
    line = Line(None)
    line.ask()
    ports = of(NEW_SOURCE_PORT, line.run(2000.0))
    assert [later - earlier for earlier, later in pairwise([0.0, *ports])][:6] == [
        STUCK_TIME,
        20.0,
        40.0,
        80.0,
        160.0,
        LONGEST_STUCK_TIME,
    ]
    asks = of(ASK, line.steps)
    assert set(ports) <= set(asks)


def test_reasons_to_ask_do_not_put_off_a_new_source_port() -> None:
    """A sibling that falls silent again and again does not keep the path in a stuck entry."""
    line = Line(None)
    line.ask()
    for second in range(1, 20):
        line.run(second / 2)
        line.ask()
    assert of(NEW_SOURCE_PORT, line.run(11.0)) == [STUCK_TIME]


def test_the_responder_keeps_its_port() -> None:
    """Others share it."""
    line = Line(None, begins=False)
    line.ask()
    assert of(NEW_SOURCE_PORT, line.run(1000.0)) == []


def test_an_answered_question_is_over() -> None:
    """Nothing more is asked, and the next trouble begins from the start."""
    line = Line(0.1)
    line.ask()
    assert line.run(1.0) == [(0.0, ASK)]
    assert not line.path.is_asked
    line.delay = None
    line.ask()
    steps = line.run(15.0)
    assert of(SILENT, steps) == [2.0] and of(NEW_SOURCE_PORT, steps) == [1.0 + STUCK_TIME]


def test_what_came_before_the_question_is_no_answer() -> None:
    """A sign of life that is told of late does not hide a path that has died since."""
    line = Line(None)
    line.run(1.0)
    line.ask()
    line.heard = 0.9
    line.check()
    assert line.path.is_asked


def test_a_slow_line_gets_more_patience() -> None:
    """A line that takes 1.5 s to answer is silent once; the next verdict waits for twice that."""
    line = Line(1.5)
    line.ask()
    steps = line.run(5.0)
    assert of(SILENT, steps) == [1.0]
    assert not line.path.is_silent
    for again in range(5):
        line.ask()
        assert SILENT not in {step for _, step in line.run(10.0 + 5 * again)}


def test_the_patience_has_an_end() -> None:
    """No line is waited for longer than ten seconds."""
    line = Line(30.0)
    line.ask()
    line.run(60.0)
    line.delay = None
    line.ask()
    steps = line.run(80.0)
    assert [at - 60.0 for at in of(SILENT, steps)] == [LONGEST_PATIENCE]


def test_times_of_zero_switch_it_off() -> None:
    """Nothing is sent and nothing is due, but for a question with a reason."""
    line = Line(None, keep=0.0, dead=0.0)
    assert line.path.next_deadline() is None
    assert line.run(1000.0, traffic=1.0) == []
    line.ask()
    steps = line.run(1005.0)
    assert len(of(ASK, steps)) >= 3 and of(SILENT, steps) == []


@given(
    st.floats(0.001, 0.9),
    st.lists(st.tuples(st.floats(0.1, 40.0), st.sampled_from([None, 0.1, 0.5]), st.booleans()), max_size=12),
    st.booleans(),
)
def test_a_line_that_answers_is_never_silent(
    delay: float, phases: list[tuple[float, float | None, bool]], begins: bool
) -> None:
    """Whatever the traffic and the reasons to ask are; and the messages are few."""
    line = Line(delay, begins=begins)
    for seconds, traffic, asked in phases:
        if asked:
            line.ask()
        line.run(line.now + seconds, traffic)
    assert of(SILENT, line.steps) == [] and of(NEW_SOURCE_PORT, line.steps) == []
    assert len(line.steps) <= line.now / DOUBT * 3 + 3 * len(phases) + 3


@given(st.floats(0.0, 100.0), st.sampled_from([None, 0.1, 1.0]), st.booleans())
def test_a_line_that_dies_is_silent_in_time(alive: float, traffic: float | None, begins: bool) -> None:
    """Soon under load, at the dead time without."""
    line = Line(0.02, begins=begins)
    line.run(alive, traffic)
    line.delay = None
    died = line.now
    line.run(died + DEAD + 10.0, traffic)
    (verdict,) = of(SILENT, [step for step in line.steps if step[0] >= died])
    assert verdict - died <= (DOUBT + PATIENCE + 1.1 if traffic else DEAD + DOUBT + PATIENCE)


def test_every_deadline_moves_on() -> None:
    """A check at the deadline leaves a later one, so a timer never spins."""
    line = Line(None)
    for _ in range(500):
        due = line.path.next_deadline()
        assert due is not None
        line.now = due - NOW
        line.check()
        after = line.path.next_deadline()
        assert after is not None and after > due


def test_a_machine_that_slept_is_noticed_once() -> None:
    """CLOCK_MONOTONIC stands during a suspend; the difference of the clocks otherwise stays as it is."""
    sleep = Sleep(10.0, 500.0)
    assert sleep.look(20.0, 510.0) == 0.0
    assert sleep.look(21.0, 511.0 + SLEEP / 2) == 0.0
    assert sleep.look(22.0, 512.0 + 3600.0) == pytest.approx(3600.0)
    assert sleep.look(23.0, 513.0 + 3600.0) == 0.0

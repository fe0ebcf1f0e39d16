"""What has arrived: when a report is due, what it says, and that lost reports cost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.flight import Entry, Flight
from mpt.data.receipts import (
    COST,
    GAPS,
    LATEST,
    MANY,
    MOST_CREDIT,
    PAUSE,
    SHARE,
    SHORT_PAUSE,
    SILENCES,
    SOON,
    SURE,
    SURE_AFTER,
    TOLD,
    TOLD_FOR,
    Receipt,
    Receipts,
)
from mpt.limits import OUTER
from mpt.wire.feedback import LARGEST, MOST_RANGES, Record, length
from mpt.wire.seal import stamp

SESSION = 0x1234
ROUNDING = 1e-9


class Desk:
    """Receipts on a clock, and the reports that are made when they are due."""

    def __init__(self, start: float = 100.0) -> None:
        self.receipts = Receipts()
        self.now = start
        self.reports: list[tuple[float, tuple[Record, ...]]] = []

    def arrive(
        self,
        *numbers: int,
        path: int = 0,
        size: int = 1000,
        is_data: bool = True,
        delay: float = 0.01,
        waited: float = 0.0,
    ) -> None:
        for number in numbers:
            self.receipts.arrived(
                Receipt(SESSION, path, number, size, stamp(self.now - delay), self.now - waited, is_data), self.now
            )
        self.look()

    def look(self) -> None:
        if self.receipts.is_due(self.now):
            self.reports.append((self.now, self.receipts.report(self.now)))
            assert length(self.reports[-1][1]) <= LARGEST

    def wait(self, seconds: float) -> None:
        """Let time go by, with a wake-up at each deadline."""
        end = self.now + seconds
        while (due := self.receipts.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.look()
        self.now = end

    def taken(self) -> list[tuple[float, Record]]:
        """The first record of each report since the last call."""
        taken, self.reports = self.reports, []
        return [(at, records[0]) for at, records in taken]


# --- when ---


def test_reports_come_every_pause_while_packets_come() -> None:
    """After the first one, which waits for nothing."""
    desk = Desk()
    for number in range(400):
        desk.arrive(number)
        desk.wait(0.001)
    times = [at for at, _ in desk.taken()]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == 100.0
    assert len(times) > 20
    assert all(pause >= PAUSE - ROUNDING for pause in pauses)


def test_many_packets_do_not_wait_for_the_pause() -> None:
    """If there is credit for it; half as long is enough."""
    desk = Desk()
    desk.arrive(0)
    desk.taken()
    desk.wait(SHORT_PAUSE)
    desk.arrive(*range(1, MANY))
    assert desk.taken() == []
    desk.arrive(MANY)
    assert [record.settled for _, record in desk.taken()] == [MANY]
    desk.arrive(*range(MANY + 1, 3 * MANY))
    assert desk.taken() == []
    desk.wait(SHORT_PAUSE)
    assert len(desk.taken()) == 1


def test_without_credit_a_report_waits_for_the_latest() -> None:
    """Small packets earn little: then there is a report each 200 ms while they come, and what the silences bring."""
    desk = Desk()
    for number in range(2000):
        desk.arrive(number, size=60)
        desk.wait(0.01)
    reports = desk.taken()
    octets = sum(COST + length((record,)) for _, record in reports)
    most = MOST_CREDIT + SHARE * 2000 * (60 + OUTER) + 20.0 / LATEST * (COST + length((reports[0][1],)))
    assert octets <= most
    assert len(reports) >= 20.0 / LATEST


def test_octets_that_go_earn_credit_too() -> None:
    """An end that sends bulk reports the acknowledgements that come as often as others report data."""
    desk = Desk()
    for number in range(2000):
        desk.arrive(number, size=60)
        desk.receipts.earn(2000)
        desk.wait(0.005)
    assert len(desk.taken()) > 700


def test_silences_bring_a_report_each_once() -> None:
    """So the sender learns where the arrivals ended."""
    desk = Desk()
    desk.arrive(0)
    desk.wait(10.0)
    times = [at - 100.0 for at, _ in desk.taken()]
    assert times == pytest.approx([0.0, *SILENCES])
    assert desk.receipts.deadline() is None


def test_messages_alone_cause_no_report() -> None:
    """Or two ends would report on each other's reports for ever; a message that is lost is told with the next ones."""
    desk = Desk()
    desk.arrive(0, 2, 3, 4, 9, is_data=False)
    desk.wait(10.0)
    assert desk.reports == []
    desk.arrive(10)
    desk.wait(0.001)
    assert [record.ranges for _, record in desk.taken()] == [((1, 1), (5, 4))]


@pytest.mark.parametrize("later", range(1, SURE + 1))
def test_a_number_is_missing_after_three_later_ones(later: int) -> None:
    """Then it is told soon; before, `settled` waits for it."""
    desk = Desk()
    desk.arrive(0)
    desk.wait(0.0015)
    desk.taken()
    desk.arrive(*range(2, 2 + later))
    desk.wait(SOON - 0.0015)
    found = [(record.settled, record.ranges) for _, record in desk.taken()]
    assert found == ([(SURE + 1, ((1, 1),))] if later == SURE else [])


def test_a_number_is_missing_after_two_milliseconds() -> None:
    """Whatever comes: the last gap of a burst is told, too."""
    desk = Desk()
    desk.arrive(0)
    desk.wait(0.005)
    desk.taken()
    desk.arrive(2)
    desk.wait(SURE_AFTER + ROUNDING)
    [(at, record)] = desk.taken()
    assert (record.settled, record.ranges) == (2, ((1, 1),))
    assert at == pytest.approx(100.005 + SURE_AFTER)


def test_two_that_were_turned_round_are_no_loss() -> None:
    """Nor one that comes three places late, within the time."""
    desk = Desk()
    desk.arrive(0, 2, 3, 1, 5, 4)
    desk.wait(1.0)
    assert {record.ranges for _, record in desk.taken()} == {()}


# --- what ---


def test_a_missing_number_is_told_for_long_enough() -> None:
    """In four reports, and for 150 ms: whichever is longer."""
    desk = Desk()
    desk.arrive(0, 2, 3, 4)
    for number in range(5, 400):
        desk.arrive(number)
        desk.wait(0.001)
    told = [at for at, record in desk.taken() if record.ranges]
    assert told[-1] - told[0] == pytest.approx(TOLD_FOR, abs=2 * PAUSE)
    desk.arrive(401, 402, 403)
    desk.wait(10.0)
    assert sum(1 for _, record in desk.taken() if record.ranges) >= TOLD


def test_more_gaps_than_a_report_has_room_for() -> None:
    """The rest is told in the next ones; until then `settled` waits for it."""
    desk = Desk()
    desk.arrive(*range(0, 2 * 100, 2), *range(200, 204))
    settled: list[int] = []
    told: set[int] = set()
    for _ in range(4):
        desk.wait(SOON)
    for _, record in desk.taken():
        assert len(record.ranges) <= MOST_RANGES
        told.update(first for first, _ in record.ranges)
        settled.append(record.settled)
        assert all(number in told for number in range(1, record.settled, 2) if number < 200)
    assert settled[-1] == 203
    assert told == set(range(1, 200, 2))


def test_counters_and_delays() -> None:
    """All datagrams of a path count; the delays are those since the last report."""
    desk = Desk()
    desk.arrive(0, delay=0.020)
    desk.taken()
    desk.arrive(1, delay=0.010)
    desk.arrive(2, delay=0.050)
    desk.arrive(3, delay=0.030, is_data=False)
    desk.wait(PAUSE)
    [(at, record)] = desk.taken()
    assert (record.session, record.path, record.packets, record.octets) == (SESSION, 0, 4, 4 * (1000 + OUTER))
    assert record.least is not None and abs(record.least - 160) <= 1
    assert record.median is not None and abs(record.median - 480) <= 1
    assert record.echo == stamp(100.0 - 0.030)
    assert record.held is not None and abs(record.held - (at - 100.0) * 16_000) <= 1
    desk.wait(SILENCES[0])
    [(_, later)] = desk.taken()
    assert (later.packets, later.least, later.median) == (4, None, None)


@given(st.integers(0, 0xFFFF), st.lists(st.integers(0, 3000), min_size=1, max_size=80))
def test_delays_are_compared_modulo(offset: int, delays: list[int]) -> None:
    """Two clocks have any offset; the least is the least whatever it is, the median one of the middle."""
    receipts = Receipts()
    for number, delay in enumerate(delays):
        receipts.arrived(Receipt(SESSION, 0, number, 100, (stamp(5.0) - offset - delay) & 0xFFFF, 5.0, True), 5.0)
    [record] = receipts.report(5.0)
    assert record.least is not None and record.median is not None
    assert record.least == (min(delays) + offset) & 0xFFFF
    lately = sorted(delays[-64:]) if len(delays) <= 64 else sorted(delays[64:] + delays[len(delays) - 64 : 64])
    assert record.median == (lately[(len(lately) - 1) // 2] + offset) & 0xFFFF


def test_the_time_in_the_socket_is_no_delay_of_the_line() -> None:
    """It counts as held, so it is in no round trip either."""
    desk = Desk()
    desk.arrive(0, delay=0.050, waited=0.030)
    [(_, [record])] = desk.reports
    assert record.least == record.median == 320
    assert record.held == 480


def test_every_path_and_session_has_its_record() -> None:
    """Two sessions are under way while keys are renewed; delays stand with the one that came last."""
    receipts = Receipts()
    for session, path in ((1, 0), (1, 63), (2, 63)):
        receipts.arrived(Receipt(session, path, 0, 100, 0, 5.0, True), 5.0)
    records = {(each.session, each.path): each for each in receipts.report(5.0)}
    assert records.keys() == {(1, 0), (1, 63), (2, 63)}
    assert (records[1, 63].packets, records[2, 63].packets) == (2, 2)
    assert (records[1, 63].least, records[1, 63].held) == (None, None)
    receipts.end(1)
    receipts.arrived(Receipt(2, 63, 1, 100, 0, 5.1, True), 5.1)
    assert {(each.session, each.path) for each in receipts.report(5.1)} == {(2, 63)}


def test_memory_is_bounded() -> None:
    """A peer that leaves out every second number for ever, and one that jumps: the oldest gap is forgotten."""
    desk = Desk()
    desk.arrive(*range(0, 20 * GAPS, 2))
    desk.arrive(2**40, 2**40 + 1, 2**40 + 2)
    desk.wait(10.0)
    assert all(len(record.ranges) <= MOST_RANGES for _, record in desk.taken())


# --- lost reports ---


@dataclass
class Step:
    """One datagram: how long after the one before, whether it arrives, and how many it is overtaken by."""

    pause: float
    lost: bool
    overtaken: int


STEP = st.builds(
    Step,
    pause=st.sampled_from((0.0, 0.0001, 0.001, 0.02)),
    lost=st.sampled_from((False, False, False, True)),
    overtaken=st.sampled_from((0, 0, 0, 1, 2)),
)


@given(st.lists(STEP, min_size=1, max_size=80), st.lists(st.booleans(), min_size=1, max_size=20))
def test_lost_reports_cost_nothing(steps: list[Step], fates: list[bool]) -> None:
    """While no more than TOLD - 1 in a row are lost, the sender learns of each number what became of it, and nothing
    else; but of those behind the last that arrived."""
    desk, flight = Desk(), Flight()
    order = sorted(range(len(steps)), key=lambda number: (number + steps[number].overtaken + 0.5, number))
    entries = {number: Entry(100, 0.0) for number in range(len(steps))}
    for number, entry in entries.items():
        flight.sent(SESSION, number, entry)
    under_way = dict(entries)
    lost: set[int] = set()
    made = in_a_row = 0

    def tell() -> None:
        nonlocal made, in_a_row
        for _, records in desk.reports:
            is_lost = fates[made % len(fates)] and in_a_row < TOLD - 1
            made, in_a_row = made + 1, in_a_row + 1 if is_lost else 0
            if not is_lost:
                for record in records:
                    found = flight.acknowledged(record.session, record.settled, record.ranges)
                    lost.update(number for number, entry in under_way.items() if entry in found.lost)
        desk.reports.clear()

    for number in order:
        desk.wait(steps[number].pause)
        if not steps[number].lost:
            desk.arrive(number)
        tell()
    desk.wait(10.0)
    tell()
    arrived = {number for number, step in enumerate(steps) if not step.lost}
    last = max(arrived, default=-1)
    assert flight.packets == len(steps) - 1 - last
    assert lost >= {number for number in range(last) if steps[number].lost}
    late = lost - {number for number in range(last) if steps[number].lost}
    assert all(steps[number].overtaken for number in late)  # more than 2 ms late: told to be missing, rightly

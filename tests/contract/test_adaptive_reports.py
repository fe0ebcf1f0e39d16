"""The reports between two adaptive ends: when a data path makes one, what it says, and what the peer's do here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt.data.pathtable import Adaptive
from mpt.data.receipts import LATEST, PAUSE, SILENCES
from mpt.limits import OUTER, OrderLimits
from mpt.testing.datapath import Stage, closing
from mpt.wire.feedback import FEEDBACK, PROBE_MESSAGE, Feedback, Record, encode
from mpt.wire.message import Keepalive
from mpt.wire.seal import stamp
from tests.contract.adaptive import WIDE, Peer, bulk, from_peer
from tests.contract.sealed import OTHER_PLACE, news

KEEPALIVE = Keepalive().encode()
MESSAGE = len(KEEPALIVE) + 30
DATAGRAM = 1000 + 70


# --- ours ---
SECOND, HALF, TURN = 16_000, 1 << 15, 1 << 16  # ticks


def test_a_report_comes_when_it_is_due(adapting_stage: Stage) -> None:
    """At once with the first packet, then each 10 ms while packets come, and four times after the last."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    times = []
    for number in range(50):
        peer.packet(0, number, from_peer(number))
        stage.wait(0.001)
        times += [stage.now] * len(peer.reports())
    assert 4 <= len(times) <= 6
    end = stage.now - 0.001
    silences = []
    while (due := stage.datapath.next_deadline()) is not None:
        stage.wait(due - stage.now)
        silences += [stage.now - end] * len(peer.reports())
    assert [round(each, 6) for each in silences if each > PAUSE] == list(SILENCES)


def test_the_peer_is_told_at_once_of_a_suspect_path(adapting_stage: Stage) -> None:
    """And again, as any report may be lost: over the paths that are live, although nothing comes."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.packet(0, 0, from_peer(0))
    peer.packet(1, 1, from_peer(1))
    stage.wait(0.5)
    peer.came()
    assert stage.datapath.next_deadline() is None
    peer.limit(WIDE._replace(is_live=False, suspect=True), WIDE)
    stage.wait(0.3)
    reports = peer.reports(1)
    assert len(reports) == 1 + len(SILENCES) and not peer.reports(0)
    for report in reports:
        assert {each.path: each.suspect for each in report.records} == {0: True, 1: False}
    peer.limit(WIDE, WIDE)
    peer.packet(0, 2, from_peer(2))
    stage.wait(0.3)
    assert not any(each.suspect for report in peer.reports() for each in report.records)


def test_control_hears_what_the_peer_suspects(adapting_stage: Stage) -> None:
    """Of a path of ours, by any path."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    stage.send(bulk(0), bulk(1))
    for settled, suspect in ((0, True), (1, False)):
        assert [each.suspect for each in peer.report(0, settled, over=1, suspect=suspect)] == [suspect]


def test_a_report_says_what_has_arrived(adapting_stage: Stage) -> None:
    """Counters over all sessions, packets and messages; delays and echo of the path."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE, WIDE, order=OrderLimits(0.123, 321))
    peer.deliver(1, KEEPALIVE)
    peer.packet(1, 0, from_peer(0), sent=stage.now - 0.020)
    [report] = peer.reports()
    assert (report.hold, report.playout) == (1968, 321)
    assert report.clock == int(stage.now * 1_000_000) & 0xFFFFFFFF
    [record] = report.records
    assert (record.session, record.path, record.settled) == (peer.session.index, 1, 1)
    sealed = len(from_peer(0)) + 12 + 30
    assert (record.packets, record.octets) == (2, MESSAGE + sealed + 2 * OUTER)
    assert record.least is not None and -SECOND < (record.least + HALF) % TURN - HALF <= 1  # it waited in its socket
    assert record.echo == stamp(stage.now - 0.020)
    assert record.held == 0
    assert record.ranges == ()


def test_messages_alone_cause_no_report(adapting_stage: Stage) -> None:
    """But a probe does: that is what it is for."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    for _ in range(5):
        peer.deliver(0, KEEPALIVE)
    stage.wait(1.0)
    assert peer.reports() == []
    peer.deliver(0, PROBE_MESSAGE)
    [report] = peer.reports()
    assert [(each.packets, each.settled) for each in report.records] == [(6, 5)]
    assert not [event for event in news(stage) if getattr(event, "octets", b"")[:1] == PROBE_MESSAGE[:1]]


def test_a_missing_number_is_told_soon(adapting_stage: Stage) -> None:
    """By its number of the path: whatever was in it."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.packet(0, 0, from_peer(0))
    stage.wait(PAUSE)
    peer.reports()
    peer.packet(0, 3, from_peer(3), number=3)
    stage.wait(0.0021)
    [record] = peer.reports()[-1].records
    assert (record.settled, record.ranges) == (3, ((1, 2),))


def test_reports_go_over_the_fastest_path_and_every_second_one_over_all(adapting_stage: Stage) -> None:
    """So a path that has died without anybody knowing costs no more than one."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=3)
    peer.limit(WIDE, WIDE, WIDE._replace(is_live=False))
    paths = []
    for number in range(4):
        peer.packet(2, number, from_peer(number))
        stage.wait(PAUSE)
        paths.append(sorted(each.path for each in peer.came() if each.message[:1] == bytes((FEEDBACK,))))
    assert paths == [[0], [0, 1], [0], [0, 1]]


def test_two_sessions_are_reported_apart(adapting_stage: Stage) -> None:
    """While keys are renewed; the counters go on. A session that has ended is reported no more."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.packet(0, 0, from_peer(0))
    first = peer.session
    peer.came()
    peer.renew()
    stage.wait(PAUSE)
    peer.came(session=peer.session)
    peer.packet(0, 1, from_peer(1))
    stage.wait(PAUSE)
    records = [each for report in peer.reports() for each in report.records]
    assert {each.session for each in records} == {first.index, peer.session.index}
    assert records[-1].packets == 2
    stage.datapath.end_session("c", first.index)
    peer.packet(0, 2, from_peer(2))
    stage.wait(PAUSE)
    assert {each.session for report in peer.reports() for each in report.records} == {peer.session.index}


def test_without_a_session_no_report_goes(adapting_stage: Stage) -> None:
    """And none is owed later: what it would have said the next one says."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.datapath.send_with("c", None, stage.now)
    peer.packet(0, 0, from_peer(0))
    stage.wait(1.0)
    assert peer.came() == []
    assert stage.datapath.next_deadline() is None


def test_reports_are_few(adapting_stage: Stage) -> None:
    """Two of a hundred octets that come, and what is due in any case."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    octets = reports = 0
    for number in range(1000):
        peer.packet(0, number, from_peer(number, size=60))
        stage.wait(0.005)
        found = [each for each in peer.came() if each.message]
        octets, reports = octets + sum(len(each.message) + 58 for each in found), reports + len(found)
    in_any_case = 5.0 / LATEST
    assert reports >= in_any_case
    assert octets <= 0.02 * 1000 * (60 + 70) + 1300 + in_any_case * 120


# --- the peer's ---


def test_control_is_told_what_a_report_says(adapting_stage: Stage) -> None:
    """And what it changes of the flight."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(bulk(0), bulk(1), bulk(2))
    sent = stage.now
    stage.wait(0.050)
    held = 0.010
    echo = stamp(sent + 0.005)
    [report] = peer.report(0, 1, (0, 1), packets=7, octets=8000, least=3, median=9, echo=echo, held=int(held * 16_000))
    assert (report.path, report.at, report.packets, report.octets) == (0, stage.now, 7, 8000)
    assert (report.acked, report.lost, report.least, report.median) == (DATAGRAM, 1, 3, 9)
    assert report.rtt == pytest.approx(0.050 - 0.005 - held, abs=0.0002)
    assert (report.oldest, report.settled_moved, report.limited_at) == (sent, True, 0.0)
    measures = stage.datapath.flight(0)
    assert (measures.lost, measures.resent, measures.reported_at) == (1, 1, stage.now)


def test_an_old_report_changes_nothing(adapting_stage: Stage) -> None:
    """By the peer's clock, modulo 2^32; so the same report over two paths counts once."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    stage.send(*(bulk(number) for number in range(4)))
    assert len(peer.report(0, 0, clock=2**32 - 10)) == 1
    assert peer.report(0, 1, clock=2**32 - 10, over=1) == []
    assert peer.report(0, 2, clock=2**32 - 500) == []
    assert stage.datapath.flight(0).packets == 3
    assert len(peer.report(0, 3, clock=5)) == 1
    assert stage.datapath.flight(0).packets == 0


def test_a_report_that_lost_its_way_costs_nothing(adapting_stage: Stage) -> None:
    """The next one says the same and more."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(*(bulk(number) for number in range(9)))
    [report] = peer.report(0, 8, (1, 1), (5, 2))
    assert (report.acked, report.lost) == (6 * DATAGRAM, 3)


def test_a_report_about_an_old_session_counts(adapting_stage: Stage) -> None:
    """Two sessions are under way; each has its numbers."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(*(bulk(number) for number in range(3)))
    peer.came()
    peer.renew()
    stage.send(*(bulk(number) for number in range(3, 5)))
    old = peer.other_sessions[0]
    assert peer.report(0, 1, session=old)[0].acked == 2 * DATAGRAM
    assert peer.report(0, 0)[0].acked == DATAGRAM
    assert peer.report(0, 2, session=old)[0].acked == DATAGRAM
    assert stage.datapath.flight(0).packets == 1


def test_a_malformed_report_is_dropped(adapting_stage: Stage) -> None:
    """With its reason; it changes nothing."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(bulk(0))
    good = encode(Feedback(0, None, 1, (Record(peer.session.peer_index, 0, 0, 0, 0, 0, 0, 0, 0, ((1, 1),)),)))
    for octets in (good[:11], good[:-1], bytes((FEEDBACK,)), good + bytes(1200)):
        peer.deliver(0, octets)
    assert stage.counters().ingress_dropped == {"feedback_malformed": 4}
    assert stage.datapath.flight(0).packets == 1


def test_a_row_that_does_not_adapt_knows_no_reports(adapting_stage: Stage) -> None:
    """As before there were any: unknown messages, counted."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.set_table(replace(peer.row, adaptive=None))
    peer.deliver(0, encode(Feedback(0, None, 1, ())))
    peer.deliver(0, PROBE_MESSAGE)
    assert stage.counters().ingress_dropped == {"message_unknown": 2}


def test_numbers_that_came_before_the_peer_was_known_are_not_told_to_be_missing(adapting_stage: Stage) -> None:
    """An end notes what arrives from the start, and reports when it knows that the peer understands."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1, sends=False)
    for number in range(3):
        peer.packet(0, number, from_peer(number))
    stage.set_table(replace(peer.row, adaptive=Adaptive(True)))
    peer.packet(0, 3, from_peer(3))
    stage.wait(PAUSE)
    records = [each for report in peer.reports() for each in report.records]
    assert {each.ranges for each in records} == {()}
    assert (records[-1].settled, records[-1].packets) == (3, 4)


def test_a_path_that_moves_goes_on_with_its_numbers(adapting_stage: Stage) -> None:
    """Roaming changes addresses, not numbers: what was under way goes again, there, and reports from there count."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(bulk(0), bulk(1))
    peer.came()
    stage.datapath.set_remote(0, peer.sockets[0], (OTHER_PLACE, 23456), stage.now)
    assert [address[0] for _, address in peer.sockets[0].sent()] == [OTHER_PLACE] * 2
    message = encode(Feedback(0, None, 7, (Record(peer.session.peer_index, 0, 2, 1, 1, 0, 0, 0, 0),)))
    stage.receive(peer.sockets[0], peer.session.seal(message), host=OTHER_PLACE)
    assert [report.acked for report in peer.told()] == [DATAGRAM]
    stage.send(bulk(2))
    assert [address[0] for _, address in peer.sockets[0].sent()] == [OTHER_PLACE]
    assert stage.datapath.flight(0).packets == 2


# --- a hostile peer: it has the keys, and may say anything ---

WORDS = st.integers(0, 2**32 - 1)
SMALL = st.integers(0, 0xFFFF)
HOSTILE = st.builds(
    Record,
    session=st.sampled_from((0, 1, 2)),  # none, ours at the peer, our own
    path=st.integers(0, 70).filter(lambda path: path < 64),
    settled=WORDS | st.integers(0, 40),
    packets=WORDS,
    octets=st.integers(0, 2**64 - 1),
    least=st.none() | SMALL,
    median=st.none() | SMALL,
    echo=SMALL,
    held=st.none() | st.integers(0, 0xFFFE),
    ranges=st.lists(st.tuples(WORDS | st.integers(0, 40), SMALL), max_size=6).map(tuple),
)
REPORT = st.builds(
    Feedback,
    hold=SMALL,
    playout=st.none() | SMALL,
    clock=WORDS,
    records=st.lists(HOSTILE, max_size=4).map(tuple),
)
REPORTS = st.lists(st.tuples(REPORT, st.sampled_from((0.0, 0.01, 0.3))), max_size=4)


@settings(settings.default, max_examples=min(100, settings().max_examples))
@given(REPORTS, st.integers(0, 12))
def test_whatever_a_peer_reports(reports: list[tuple[Feedback, float]], packets: int) -> None:
    """Nothing raises, sums hold, what is under way shrinks by what was sent alone, and repair is bounded."""
    with closing(Stage.in_memory()) as stage:
        peer = Peer(stage)
        stage.send(*(bulk(number) for number in range(packets)))
        sent = stage.datapath.flight(0).octets
        acked = 0
        for report, pause in reports:
            indexes = {0: 77, 1: peer.session.peer_index, 2: peer.session.index}
            records = tuple(each._replace(session=indexes[each.session]) for each in report.records)
            peer.deliver(0, encode(report._replace(records=records)))
            stage.wait(pause)
            stage.counters()
            acked += sum(told.acked for told in peer.told())
        flights = [stage.datapath.flight(path) for path in (0, 1)]
        assert all(flight.octets >= 0 and flight.packets >= 0 for flight in flights)
        assert acked <= sent + sum(each.resent for each in flights) * DATAGRAM + 10_000
        assert sum(each.resent for each in flights) <= 3 * packets
        peer.packet(0, 5, from_peer(1))


@given(st.binary(max_size=200))
def test_whatever_octets_a_peer_reports(octets: bytes) -> None:
    """They are decoded or dropped."""
    with closing(Stage.in_memory()) as stage:
        peer = Peer(stage)
        stage.send(*(bulk(number) for number in range(5)))
        peer.deliver(0, bytes((FEEDBACK,)) + octets)
        counters = stage.counters()
        assert counters.messages_received + counters.ingress_dropped.get("feedback_malformed", 0) == 1

"""The parts of adaptive connections, natively and in Python, side by side: the same steps give the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt.data import classes
from mpt.data.flight import Entry, Flight
from mpt.data.flowqueue import FlowQueue
from mpt.data.pathtable import ClassRule
from mpt.data.playout import FAR, UNORDERED, Playout
from mpt.data.receipts import OLD_SESSION, Receipt, Receipts
from mpt.errors import DecodeError
from mpt.testing.datapath import LOCAL_V6, REMOTE_V6, packet
from mpt.wire import feedback, ip, tos
from mpt.wire.feedback import Feedback, Record
from mpt.wire.seal import stamp
from mpt.wire.serial import MASK

native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
limits = pytest.importorskip("mpt.accel.limits", exc_type=ImportError)
ffi, lib = native.ffi, native.lib

TARGET, INTERVAL, LIMIT = 0.040, 0.300, 12
WINDOW, LONGEST = 6, 0.5
SPANS = st.sampled_from((0.0, 0.0, 0.0001, 0.001, 0.003, 0.011, 0.05, 0.2, 1.0))


class Native:
    """The native parts; `labels` gives those that were lost or delivered since the last call."""

    def __init__(self) -> None:
        self._tuning = ffi.new("struct mpt_tuning *", native.TUNING)
        self._labels = ffi.new("uint32_t[]", 1 << 16)
        self.parts = lib.mpt_rehearse(self._tuning, LIMIT, TARGET, INTERVAL, WINDOW, LONGEST, self._labels)

    def labels(self) -> list[int]:
        count = lib.mpt_rehearse_labels(self.parts)
        return list(ffi.unpack(self._labels, count)) if count else []


@contextmanager
def natively() -> Iterator[Native]:
    made = Native()
    yield made
    lib.mpt_rehearse_end(made.parts)


def or_none(deadline: float) -> float | None:
    return deadline if deadline >= 0 else None


# --- the queue ---

PUSHES = st.tuples(st.just("push"), st.integers(0, 3), st.integers(28, 1500), st.sampled_from((0, 1, 3)), st.booleans())
THINS = st.tuples(st.just("thin"), st.integers(0, 3), st.integers(28, 1500))


@given(st.lists(st.tuples(SPANS, st.one_of(PUSHES, PUSHES, THINS, st.tuples(st.just("pop")))), max_size=80))
def test_the_same_queue(steps: list[tuple[float, tuple[Any, ...]]]) -> None:
    """The same packets leave, marked alike, and as many are dropped, for whatever reason."""
    now, python = 1000.0, FlowQueue(LIMIT, TARGET, INTERVAL)
    room, counts = ffi.new("uint8_t[]", 2048), ffi.new("uint64_t[]", 5)
    with natively() as c:
        for number, (span, step) in enumerate(steps):
            now += span
            match step:
                case ("push", flow, size, ecn, urgent):
                    each = packet(body=number.to_bytes(8, "big") + bytes(size - 28), tos=ecn)
                    python.push(flow, each, 0, now, urgent)
                    assert lib.mpt_rehearse_push(c.parts, flow, each, len(each), urgent, now) == 0
                case ("thin", flow, size):
                    is_thin = python.is_thin(flow, size, now, 4000)
                    expected = is_thin + 2 * python.is_small(flow, 4000)
                    assert lib.mpt_rehearse_thin(c.parts, flow, size, 4000, now) == expected
                case _:
                    found = python.pop(now)
                    length = lib.mpt_rehearse_pop(c.parts, room, now)
                    assert bytes(ffi.buffer(room, length)) == (found.packet if found is not None else b"")
            lib.mpt_rehearse_queue_counts(c.parts, counts)
            in_python = [python.packets, python.octets, python.dropped, python.marked, python.overflowed]
            assert list(counts) == in_python


# --- the flight ---

RANGES = st.lists(st.tuples(st.integers(-5, 40), st.integers(0, 6)), max_size=5)
SENDS = st.tuples(st.just("send"), st.integers(0, 1), st.sampled_from((1, 1, 1, 2, 5, 300)))
RECORDS = st.tuples(st.just("record"), st.integers(0, 2), st.integers(-3, 12), RANGES, st.booleans())
PAUSES = st.tuples(st.just("pause"))
ENDS = st.tuples(st.just("end"), st.integers(0, 2))


@given(st.lists(st.one_of(SENDS, SENDS, SENDS, RECORDS, PAUSES, ENDS), max_size=60))
def test_the_same_flight(steps: list[tuple[Any, ...]]) -> None:
    """The same datagrams are acknowledged, lost or under way, whatever records say; numbers begin near 2^32."""
    now, clock, space, python = 1000.0, 0, 0, Flight()
    numbers = [MASK - 10, 0, 0]
    measured = ffi.new("struct mpt_flight *")
    with natively() as c:
        for label, step in enumerate(steps):
            now += 0.001
            lost: list[int] = []
            match step:
                case ("send", at, gap):
                    space = max(space, at)  # what is sent with one session comes before what is sent with the next
                    numbers[space] += gap
                    python.sent(space << 6, numbers[space], Entry(100 + label, now, label.to_bytes(4, "big")))
                    lib.mpt_rehearse_sent(c.parts, space, numbers[space], 100 + label, label, now)
                case ("record", at, back, ranges, again):
                    clock += not again
                    low = (numbers[at] - back) & MASK
                    missing = tuple(((low - first) & MASK, count) for first, count in ranges)
                    news = lib.mpt_rehearse_record(c.parts, at, clock, low, list(missing), len(missing))
                    assert (news != -2) == python.is_news(at << 6, clock)
                    if news != -2:
                        settled = python.acknowledged(at << 6, low, missing)
                        assert news == (settled.octets if settled.further else -1)
                        lost = [
                            int.from_bytes(entry.content or b"", "big") for entry in settled.lost + settled.replaced
                        ]
                case ("pause",):
                    now += OLD_SESSION
                case (_, at):
                    lost = [int.from_bytes(entry.content or b"", "big") for entry in python.end(at)]
                    lib.mpt_rehearse_session_end(c.parts, at)
                    numbers[at] += 1
            assert c.labels() == lost
            lib.mpt_rehearse_flight(c.parts, measured)
            oldest = python.oldest()
            assert (measured.octets, measured.packets, measured.lost) == (python.octets, python.packets, python.lost)
            assert measured.oldest == (oldest.sent if oldest is not None else 0)


def test_many_messages_between_two_packets() -> None:
    """Their numbers have no entries: what comes after them is found; natively what was sent before them is lost."""
    told = ffi.new("struct mpt_flight *")
    with natively() as c:
        lib.mpt_rehearse_sent(c.parts, 1, 5, 100, 1, 1000.0)
        lib.mpt_rehearse_sent(c.parts, 1, 20_000, 100, 2, 1001.0)
        assert c.labels() == [1]
        assert lib.mpt_rehearse_record(c.parts, 1, 1, 30_000, [], 0) == 100
        lib.mpt_rehearse_sent(c.parts, 1, 20_001 + (1 << 32), 100, 3, 1002.0)
        assert lib.mpt_rehearse_record(c.parts, 1, 2, 20_001, [], 0) == 100
        lib.mpt_rehearse_flight(c.parts, told)
        assert (told.packets, told.octets, c.labels()) == (0, 0, [])


# --- receipts and reports ---


def as_told(record: Record) -> Record:
    """Return a record of the Python path with the numbers that the message has room for."""
    return record._replace(ranges=tuple((first & MASK, count) for first, count in record.ranges))


def record_of(told: Any) -> Record:
    """Return a struct mpt_record as a value."""
    values = [None if each < 0 else each for each in (told.least, told.median, told.held)]
    ranges = tuple((told.ranges[i].first, told.ranges[i].count) for i in range(told.range_count))
    echo = told.echo
    return Record(
        told.session,
        told.path,
        told.settled,
        told.packets,
        told.octets,
        values[0],
        values[1],
        echo,
        values[2],
        ranges,
        bool(told.suspect),
    )


ARRIVALS = st.tuples(
    st.just("arrive"), st.integers(0, 1), st.integers(0, 2),
    st.sampled_from((1, 1, 1, 2, 4, -1, -2, -5, 70_000, 1 << 40)), st.booleans(),
)  # fmt: skip
REPORTS = st.tuples(st.just("report"))


@given(st.lists(st.tuples(SPANS, st.one_of(ARRIVALS, ARRIVALS, ARRIVALS, REPORTS, st.just(("end",)))), max_size=80))
def test_the_same_receipts(steps: list[tuple[float, tuple[Any, ...]]]) -> None:
    """Reports are due at the same time, and say the same, octet for octet."""
    now, python = 1000.0, Receipts()
    newest: dict[tuple[int, int], int] = {}
    came: dict[tuple[int, int], set[int]] = {}
    told, encoded = ffi.new("struct mpt_feedback *"), ffi.new("uint8_t[]", 1200)
    with natively() as c:
        for span, step in steps:
            now += span
            match step:
                case ("arrive", session, path, ahead, is_data):
                    number = max(newest.get((session, path), -1) + ahead, 0)
                    if number in came.setdefault((session, path), set()):
                        continue
                    came[session, path].add(number)
                    newest[session, path] = max(number, newest.get((session, path), -1))
                    sent, waited = stamp(now - 0.02 * path), 0.001 * (number % 3)
                    python.arrived(Receipt(session, path, number, 1000, sent, now - waited, is_data), now)
                    lib.mpt_rehearse_arrived(c.parts, session, path, number, 1000, sent, waited, is_data, now)
                case ("end",):
                    python.end(0)
                    lib.mpt_rehearse_forget(c.parts, 0)
                    newest = {key: value for key, value in newest.items() if key[0]}
                    came = {key: value for key, value in came.items() if key[0]}
                case _:
                    due = python.is_due(now)
                    assert lib.mpt_rehearse_report(c.parts, told, now) == due
                    if due:
                        records = python.report(now)
                        assert [record_of(told.records[i]) for i in range(told.record_count)] == [
                            as_told(each) for each in records
                        ]
                        told.playout, told.acks = -1, False
                        length = lib.mpt_feedback_encode(told, encoded)
                        expected = feedback.encode(Feedback(told.hold, None, told.clock, records))
                        assert bytes(ffi.buffer(encoded, length)) == expected
            assert or_none(lib.mpt_rehearse_report_deadline(c.parts)) == python.deadline()


@given(st.binary(max_size=150).map(lambda tail: b"\x42" + tail) | st.binary(max_size=20))
def test_the_same_reports_are_understood(octets: bytes) -> None:
    """And none other; a message is read to its last record."""
    told = ffi.new("struct mpt_feedback *")
    failed = lib.mpt_feedback_decode(octets, len(octets), told)
    try:
        report = feedback.decode(octets)
    except DecodeError:
        assert failed
        return
    assert not failed
    assert (told.hold, told.clock, or_none(told.playout)) == (report.hold, report.clock, report.playout)
    assert bool(told.acks) == report.acks
    assert [record_of(told.records[i]) for i in range(told.record_count)] == list(report.records)


# --- the playout ---

KEYS = st.sampled_from((None, 0, 1, UNORDERED))
PACKETS = st.tuples(
    st.just("arrive"), KEYS, st.sampled_from((1, 1, 1, 2, 3, -1, -2, -4, 200, FAR, -FAR, 5000)),
    st.sampled_from((0.0, 0.01, 0.1)), st.booleans(),
)  # fmt: skip
ORDERS = st.tuples(st.just("order"), st.sampled_from((0.0, 0.02, 0.2, 2.0)), st.sampled_from((None, 0, 800, 65_000)),
                   st.booleans())  # fmt: skip


@given(st.lists(st.tuples(SPANS, st.one_of(PACKETS, PACKETS, PACKETS, ORDERS, st.just(("wake",)), st.just(("flush",)))),
                max_size=80))  # fmt: skip
def test_the_same_playout(steps: list[tuple[float, tuple[Any, ...]]]) -> None:
    """The same packets are delivered at the same steps, held for as long, and given up or dropped alike."""
    now, python = 1000.0, Playout(WINDOW, LONGEST)
    newest: dict[int | None, int] = {}
    counted = ffi.new("struct mpt_adaptive_counters *")
    with natively() as c:
        for label, (span, step) in enumerate(steps):
            now += span
            delivered: list[bytes] = []
            match step:
                case ("arrive", key, ahead, under_way, is_tcp):
                    number = (newest.get(key, MASK - 3) + ahead) & MASK
                    newest[key] = number if ahead > 0 or abs(ahead) >= FAR else newest.get(key, MASK - 3)
                    head = bytes(12) + b"\x50" + bytes(7)
                    each = packet(body=head + label.to_bytes(4, "big"), protocol=ip.TCP if is_tcp else ip.UDP)
                    sent = stamp(now - under_way)
                    delivered = python.arrive(number, each, key, sent, now)
                    lib.mpt_rehearse_arrive(c.parts, -1 if key is None else key, number, sent, each, now)
                case ("order", hold, ticks, acks):
                    playout = None if ticks is None else (int(now * 16_000) + ticks - stamp(now)) & 0xFFFF
                    python.set(hold, playout, acks)
                    lib.mpt_rehearse_order(c.parts, hold, -1 if playout is None else playout, acks)
                case ("wake",):
                    delivered = python.deadline_reached(now)
                    lib.mpt_rehearse_wake(c.parts, now)
                case _:
                    delivered = python.flush(now)
                    lib.mpt_rehearse_flush(c.parts, now)
            assert c.labels() == [int.from_bytes(each[40:44], "big") for each in delivered]
            assert or_none(lib.mpt_rehearse_playout_deadline(c.parts)) == python.next_deadline()
            held = lib.mpt_rehearse_playout_counts(c.parts, counted)
            assert (held, counted.copies_dropped, counted.late, counted.skipped, list(counted.holds)) == (
                python.held, python.copies, python.late, python.skipped, python.holds
            )  # fmt: skip


# --- the classes ---

RULES = st.builds(
    ClassRule,
    dscps=st.frozensets(st.sampled_from((0, 10, 46)), max_size=2),
    protocol=st.sampled_from((None, ip.TCP, ip.UDP, 47)),
    ports=st.lists(st.sampled_from(((80, 80), (1000, 2000))), max_size=2).map(tuple),
    realtime=st.booleans(),
    copies=st.sampled_from((None, 1, 2)),
)


@given(
    st.lists(RULES, max_size=3).map(tuple),
    st.sampled_from((ip.TCP, ip.UDP, ip.ICMP, 47, 0, 44)),
    st.sampled_from((0, 40, 46 << 2, 34 << 2, 48 << 2)),
    st.binary(max_size=60),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=300)
def test_the_same_classes(
    rules: tuple[ClassRule, ...], protocol: int, marks: int, body: bytes, is_v6: bool, has_ports: bool
) -> None:
    """Whatever the packet is, by whatever rules."""
    if has_ports:
        body = b"\x04\x00\x00\x50" + body
    each = (
        packet(LOCAL_V6, REMOTE_V6, body, protocol, marks) if is_v6 else packet(body=body, protocol=protocol, tos=marks)
    )
    assert tos.octet(each) == marks
    keep: list[Any] = []
    fields = limits.class_rules(rules, keep)
    assert lib.mpt_rehearse_trait(each, len(each), fields, len(rules)) == classes.trait(each, rules)

"""The messages with which two adaptive ends measure their paths (docs/protocol.md): contents of an envelope.

    42 | flags 1 | records 1 | hold 2 | playout 2 | clock 4 | records
    record: session 4 | path 1, 0x80 more if suspect | ranges 1 | settled 4 | packets 4 | octets 8 | least 2 |
            median 2 | echo 2 | held 2 | ranges: first 4, count 2
    49 | zeros to 32 octets: takes a number of its path, so that the reports tell of it

A tick is 1/16 ms, as in the stamps. Counters of a path go on over all sessions; any one report may be lost. Decoding is
total: it raises nothing but DecodeError, and allocates by the octets that came.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from mpt.errors import DecodeError

FEEDBACK: Final = 0x42
PROBE: Final = 0x49
PROBE_MESSAGE: Final = bytes((PROBE,)).ljust(32, b"\0")

LARGEST: Final = 1200  # octets of a report
MOST_RANGES: Final = 60  # of a record
MOST_COUNT: Final = 0xFFFF  # numbers of a range
LONGEST_HELD: Final = 0xFFFE  # ticks
NONE: Final = 0xFFFF
_PLAYOUT: Final = 0x01  # flags: playout is valid,
_ACKS: Final = 0x02  # and holds for pure acknowledgements of TCP, too
_SUSPECT: Final = 0x80  # beside the path

_HEADER: Final = Struct("!BBBHHI")
_RECORD: Final = Struct("!IBBIIQHHHH")
_RANGE: Final = Struct("!IH")
HEADER_LENGTH: Final = _HEADER.size
RECORD_LENGTH: Final = _RECORD.size
RANGE_LENGTH: Final = _RANGE.size


class Record(NamedTuple):
    """What arrived over one `path` (0 .. 63) in the datagrams with `session`, the reader's own index.

    Every number up to `settled` (low 32 bits) has arrived, or is in one of the `ranges` (first, count) of missing
    numbers now, or was in one before. `packets` (modulo 2^32) and `octets` (modulo 2^64, UDP payload + 28 each) are all
    that ever arrived. `least` and `median` delay since the last report, receiver's clock - stamp, and the newest stamp
    `echo` are ticks modulo 2^16; `held` are ticks since that one came; None: nothing came, or it is too long ago.
    `suspect`: what the sender of the report sends over the path does not seem to arrive at the reader.
    """

    session: int
    path: int
    settled: int
    packets: int
    octets: int
    least: int | None
    median: int | None
    echo: int
    held: int | None
    ranges: tuple[tuple[int, int], ...] = ()
    suspect: bool = False


class Feedback(NamedTuple):
    """One report. `hold`: ticks that a gap in the sender's data is waited for; `playout`: ticks, the delay (receiver's
    clock - stamp, modulo 2^16) before which the sender's ordered TCP packets are not delivered, None: at once; `acks`:
    nor are its pure acknowledgements; `clock`: of the sender, microseconds modulo 2^32."""

    hold: int
    playout: int | None
    clock: int
    records: tuple[Record, ...]
    acks: bool = False


def length(records: Iterable[Record]) -> int:
    """Return the octets of a report with `records`."""
    return HEADER_LENGTH + sum(RECORD_LENGTH + RANGE_LENGTH * len(each.ranges) for each in records)


def encode(report: Feedback) -> bytes:
    """Return the octets. Raises ValueError for more than LARGEST octets, or MOST_RANGES ranges in a record."""
    if length(report.records) > LARGEST or any(len(each.ranges) > MOST_RANGES for each in report.records):
        raise ValueError("the report is too long")
    flags = _PLAYOUT | (_ACKS if report.acks else 0) if report.playout is not None else 0
    octets = bytearray(
        _HEADER.pack(
            FEEDBACK, flags, len(report.records), min(report.hold, NONE), report.playout or 0, report.clock & 0xFFFFFFFF
        )
    )
    for each in report.records:
        least, median = each.least, each.median
        if least is None or median is None:
            least = median = NONE
        elif least == median == NONE:
            least = NONE - 1  # both are all ones: nothing came
        octets += _RECORD.pack(
            each.session,
            each.path | (_SUSPECT if each.suspect else 0),
            len(each.ranges),
            each.settled & 0xFFFFFFFF,
            each.packets & 0xFFFFFFFF,
            each.octets & 0xFFFFFFFFFFFFFFFF,
            least,
            median,
            each.echo,
            NONE if each.held is None or each.held > LONGEST_HELD else each.held,
        )
        for first, count in each.ranges:
            octets += _RANGE.pack(first & 0xFFFFFFFF, count)
    return bytes(octets)


def decode(octets: bytes) -> Feedback:
    """Return a report. Raises DecodeError with one of the reasons message_unknown, message_short, message_size."""
    if not octets or octets[0] != FEEDBACK:
        raise DecodeError("message_unknown", octets[:1].hex())
    if len(octets) < HEADER_LENGTH:
        raise DecodeError("message_short", f"a report of {len(octets)} octets")
    _, flags, count, hold, playout, clock = _HEADER.unpack_from(octets)
    if len(octets) > LARGEST:
        raise DecodeError("message_size", f"a report of {len(octets)} octets")
    records: list[Record] = []
    at = HEADER_LENGTH
    for _ in range(count):
        record, at = _record(octets, at)
        records.append(record)
    has_playout, acks = bool(flags & _PLAYOUT), bool(flags & _ACKS)
    return Feedback(hold, playout if has_playout else None, clock, tuple(records), has_playout and acks)


def _record(octets: bytes, at: int) -> tuple[Record, int]:
    """Return the record at `at`, and where the next one begins."""
    if len(octets) - at < RECORD_LENGTH:
        raise DecodeError("message_short", "a record is cut")
    session, path, count, settled, packets, total, least, median, echo, held = _RECORD.unpack_from(octets, at)
    at += RECORD_LENGTH
    end = at + count * RANGE_LENGTH
    if len(octets) < end:
        raise DecodeError("message_short", "the ranges are cut")
    if count > MOST_RANGES:
        raise DecodeError("message_size", f"{count} ranges")
    ranges = tuple(_RANGE.iter_unpack(octets[at:end]))
    nothing = least == median == NONE
    record = Record(
        session,
        path & ~_SUSPECT,
        settled,
        packets,
        total,
        None if nothing else least,
        None if nothing else median,
        echo,
        None if held == NONE else held,
        ranges,
        bool(path & _SUSPECT),
    )
    return record, end

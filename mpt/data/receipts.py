"""What has arrived, for the reports to the peer: the receiving half of an adaptive connection (docs/protocol.md).

Always true:

- `settled` of a session and path: each number up to it has arrived, or was told to be missing, or is told so now. A
  number is missing when SURE later ones of its path have come, or SURE_AFTER since the first of them. So a line that
  turns two datagrams round loses none.
- A missing number is told in TOLD reports, and for TOLD_FOR, whichever is longer: any of them may be lost.
- Numbers that are not told yet come first; for what finds no room in a report `settled` waits.
- Memory is bounded: GAPS a session and path; the oldest gap is forgotten first.

When a report is due (`deadline`), after the last one:

- SOON, if a number became missing meanwhile;
- PAUSE, or SHORT_PAUSE if MANY have come, if packets or probes have come and there is credit: a report costs
  its octets, each octet that comes or goes earns SHARE. An end that sends receives little but acknowledgements: its
  reports go where most of its octets go;
- LATEST after the first of them, in any case;
- SILENCES after the last of them, once each: so the end of a burst shows, and the death of one path;
- SOON, and then as after an arrival, if control has news for the peer (`hurry`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, NamedTuple

from mpt.limits import OUTER
from mpt.wire.feedback import (
    HEADER_LENGTH,
    LARGEST,
    LONGEST_HELD,
    MOST_COUNT,
    MOST_RANGES,
    RANGE_LENGTH,
    RECORD_LENGTH,
    Record,
)
from mpt.wire.seal import OVERHEAD, STAMPS_A_SECOND

SURE: Final = 3  # datagrams
SURE_AFTER: Final = 0.002  # s
TOLD: Final = 4  # reports
TOLD_FOR: Final = 0.150  # s
GAPS: Final = 256

SOON: Final = 0.002  # s
PAUSE: Final = 0.010  # s
SHORT_PAUSE: Final = 0.005  # s; control looks at each report, which costs more than a thousand packets
MANY: Final = 64  # datagrams
LATEST: Final = 0.200  # s
SILENCES: Final = (0.025, 0.050, 0.100, 0.200)  # s
SHARE: Final = 0.02  # of the octets that come and go
COST: Final = OVERHEAD + OUTER  # octets of a report beside the message
MOST_CREDIT: Final = LARGEST + COST
SAMPLES: Final = 64  # the newest delays, of which the median is taken
SILENT: Final = 2.0  # s; a path without news for so long is not in the reports
OLD_SESSION: Final = 0.250  # s, the same for a session that is not the path's newest
_MODULUS: Final = 0x10000
_HALF: Final = 0x8000


@dataclass(slots=True)
class _Gap:
    """Numbers [first, end) that have not come, `found` at this time by the arrival number `reached` of the path."""

    first: int
    end: int
    found: float
    reached: int
    missing_since: float | None = None
    told: int = 0


class _Numbers:
    """The numbers of one session and path."""

    __slots__ = ("came", "gaps", "last", "newest", "reached")

    def __init__(self) -> None:
        self.newest = -1
        self.reached = 0  # how many datagrams came in the order of their numbers
        self.gaps: list[_Gap] = []  # in the order of their numbers
        self.last = 0.0  # when the last datagram came
        self.came = False  # since the last report

    def arrived(self, number: int, now: float) -> None:
        """Note a number, which comes for the first time."""
        self.last, self.came = now, True
        if number <= self.newest:
            self._fill(number)
            return
        self.reached += 1
        if number > self.newest + 1:
            self.gaps.append(_Gap(self.newest + 1, number, now, self.reached))
            if len(self.gaps) > GAPS:
                del self.gaps[0]
        self.newest = number

    def _fill(self, number: int) -> None:
        for place, gap in enumerate(self.gaps):
            if gap.first <= number < gap.end:
                rest = []
                if gap.first < number:
                    rest.append(_Gap(gap.first, number, gap.found, gap.reached, gap.missing_since, gap.told))
                if number + 1 < gap.end:
                    rest.append(_Gap(number + 1, gap.end, gap.found, gap.reached, gap.missing_since, gap.told))
                self.gaps[place : place + 1] = rest[: GAPS + 1 - len(self.gaps)]
                return

    def look(self, now: float) -> bool:
        """Find out which gaps are missing by now; return whether one is that was not before."""
        found = False
        for gap in self._open_gaps():
            if self.reached - gap.reached >= SURE - 1 or now >= gap.found + SURE_AFTER:
                gap.missing_since, found = now, True
        return found

    def _open_gaps(self) -> Iterator[_Gap]:
        """Return the gaps that may still be filled in time, the newest first; all older ones are missing."""
        return takewhile(lambda gap: gap.missing_since is None, reversed(self.gaps))

    def next_missing(self) -> float | None:
        """Return when the next gap becomes missing, if nothing comes."""
        return min((gap.found + SURE_AFTER for gap in self._open_gaps()), default=None)

    def tell(self, room: int, now: float) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return what is settled, and at most `room` ranges of missing numbers, which are told by this."""
        self.gaps = [gap for gap in self.gaps if not _is_told(gap, now)]
        missing = [gap for gap in self.gaps if gap.missing_since is not None]
        chosen = sorted(missing, key=lambda gap: (gap.told > 0, gap.first))
        ranges: list[tuple[int, int]] = []
        settled = self.newest
        for gap in chosen:
            starts = range(gap.first, gap.end, MOST_COUNT)[:room]  # a jump may be of any size
            parts = [(at, min(MOST_COUNT, gap.end - at)) for at in starts]
            if len(ranges) + len(parts) <= room:
                ranges += parts
                gap.told += 1
            elif not gap.told:
                settled = min(settled, gap.first - 1)
        for gap in self.gaps:
            if gap.missing_since is None:
                settled = min(settled, gap.first - 1)
                break
        self.came = False
        return settled, tuple(sorted(ranges))


def _is_told(gap: _Gap, now: float) -> bool:
    return gap.missing_since is not None and gap.told >= TOLD and now - gap.missing_since >= TOLD_FOR


@dataclass(slots=True)
class _Path:
    """What has come over one path, with whatever session."""

    sessions: dict[int, _Numbers] = field(default_factory=dict)
    session: int = 0  # of the datagram that came last
    packets: int = 0
    octets: int = 0
    stamp: int = 0  # of the datagram with the greatest number of the newest session
    stamp_came: float = 0.0
    least: int | None = None  # ticks modulo 2^16, since the last report
    samples: list[int] = field(default_factory=list)
    sampled: int = 0


class Receipt(NamedTuple):
    """A datagram that has opened: `session` is our index, `path` its id, `size` its UDP payload. `came`: when the
    kernel got it; the time until it is read is the processor's, not the line's. `is_data`: it brought a packet or a
    probe; messages alone cause no report."""

    session: int
    path: int
    number: int
    size: int
    stamp: int
    came: float
    is_data: bool


class Receipts:
    """The receipts of one connection."""

    __slots__ = ("_credit", "_first", "_last_came", "_paths", "_reported_at", "_shown", "_unreported", "_untold")

    def __init__(self) -> None:
        self._paths: dict[int, _Path] = {}
        self._credit = float(MOST_CREDIT)
        self._reported_at = 0.0
        self._unreported = 0  # packets and probes since the last report
        self._first = 0.0  # when the first of them came
        self._last_came = 0.0  # when the last packet or probe came
        self._shown = len(SILENCES)  # how many of the reports after the last arrival were made
        self._untold = False  # a number is missing that was not told

    def arrived(self, receipt: Receipt, now: float) -> None:
        """Note a datagram, which comes for the first time."""
        session, path, number, size, stamp, came, is_data = receipt
        found = self._paths.get(path)
        if found is None:
            found = self._paths[path] = _Path()
        numbers = found.sessions.get(session)
        if numbers is None:
            numbers = found.sessions[session] = _Numbers()
        is_newest = number > numbers.newest
        numbers.arrived(number, now)
        if numbers.gaps:
            self._untold = numbers.look(now) or self._untold
        found.packets += 1
        found.octets += size + OUTER
        self._sample(found, (_ticks(came) - stamp) % _MODULUS)
        if is_newest or session != found.session:
            found.session, found.stamp, found.stamp_came = session, stamp, came
        self.earn(size + OUTER)
        if is_data:
            if not self._unreported:
                self._first = now
            self._unreported += 1
            self._last_came = now
            self._shown = 0

    def earn(self, octets: int) -> None:
        """Note the octets of a datagram that comes, or goes with a packet: reports may cost a share of them."""
        self._credit = min(self._credit + SHARE * octets, MOST_CREDIT)

    def hurry(self, now: float) -> None:
        """Note that the peer has to know something at once, even if a report is lost."""
        self._untold = True
        self._last_came = now
        self._shown = 0

    def _sample(self, path: _Path, delay: int) -> None:
        if path.least is None or (delay - path.least + _HALF) % _MODULUS < _HALF:
            path.least = delay
        if len(path.samples) < SAMPLES:
            path.samples.append(delay)
        else:
            path.samples[path.sampled % SAMPLES] = delay
        path.sampled += 1

    def deadline(self) -> float | None:
        """Return when a report is due; None: nothing is to be told."""
        if self._shown == len(SILENCES):
            return None
        due = [self._last_came + SILENCES[self._shown]]
        if self._untold:
            due.append(self._reported_at + SOON)
        if self._unreported:
            due.append(self._first + LATEST)
            if self._credit >= self._cost():
                due.append(self._reported_at + (SHORT_PAUSE if self._unreported >= MANY else PAUSE))
        with_gaps = (each for path in self._paths.values() for each in path.sessions.values() if each.gaps)
        due += [missing for each in with_gaps if (missing := each.next_missing()) is not None]
        return min(due)

    def _cost(self) -> int:
        return COST + HEADER_LENGTH + RECORD_LENGTH * len(self._paths)

    def is_due(self, now: float) -> bool:
        """Return whether a report is due."""
        deadline = self.deadline()
        if deadline is None or deadline > now:
            return False
        for path in self._paths.values():
            for numbers in path.sessions.values():
                if numbers.gaps:
                    self._untold = numbers.look(now) or self._untold
        deadline = self.deadline()
        return deadline is not None and deadline <= now

    def report(self, now: float) -> tuple[Record, ...]:
        """Return the records of a report that is made now, those of the path that came last first."""
        records: list[Record] = []
        room = LARGEST - HEADER_LENGTH
        paths = sorted(self._paths.items(), key=lambda item: -item[1].stamp_came)
        for path_id, path in paths:
            for session, numbers in path.sessions.items():
                is_newest = session == path.session
                silent = now - numbers.last > (SILENT if is_newest else OLD_SESSION)
                if room < RECORD_LENGTH or (silent and not numbers.came and not numbers.gaps):
                    continue
                ranges_room = min(MOST_RANGES, (room - RECORD_LENGTH) // RANGE_LENGTH)
                records.append(self._record(path_id, path, session, numbers, ranges_room, is_newest, now))
                room -= RECORD_LENGTH + RANGE_LENGTH * len(records[-1].ranges)
        self._made(records, now)
        return tuple(records)

    def _record(
        self, path_id: int, path: _Path, session: int, numbers: _Numbers, room: int, is_newest: bool, now: float
    ) -> Record:
        settled, ranges = numbers.tell(room, now)
        least = median = held = None
        if is_newest:
            least, median = path.least, _median(path.samples, path.least)
            path.least, path.sampled = None, 0
            path.samples.clear()
            held = min(int((now - path.stamp_came) * STAMPS_A_SECOND), LONGEST_HELD + 1)
            held = held if held <= LONGEST_HELD else None
        settled %= 1 << 32
        return Record(session, path_id, settled, path.packets, path.octets, least, median, path.stamp, held, ranges)

    def _made(self, records: list[Record], now: float) -> None:
        """Note that a report was made."""
        while self._shown < len(SILENCES) and self._last_came + SILENCES[self._shown] <= now:
            self._shown += 1
        cost = COST + HEADER_LENGTH + sum(RECORD_LENGTH + RANGE_LENGTH * len(each.ranges) for each in records)
        self._credit = max(self._credit - cost, 0.0)
        self._reported_at = now
        self._unreported = 0
        self._untold = any(
            gap.missing_since is not None and not gap.told
            for path in self._paths.values()
            for numbers in path.sessions.values()
            for gap in numbers.gaps
        )

    def end(self, session: int) -> None:
        """Forget a session that has ended."""
        for path in self._paths.values():
            path.sessions.pop(session, None)


def _ticks(now: float) -> int:
    return int(now * STAMPS_A_SECOND)


def _median(samples: list[int], least: int | None) -> int | None:
    """Return the middle one of delays modulo 2^16, none of them more than half of that above the `least`."""
    if least is None:
        return None
    above = sorted((sample - least) % _MODULUS for sample in samples)
    return (least + above[(len(above) - 1) // 2]) % _MODULUS

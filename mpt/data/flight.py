"""What is under way on one path: every datagram that was sent with a packet or a probe, until the peer has said what
became of it.

The peer's records say it exactly: each number up to `settled` has arrived, unless it is in a range of missing ones.
Numbers belong to a `space`: a path id in a session, which is known by the peer's index. Always true:

- `octets` is the sum of the sizes of all entries, `packets` is their count.
- An entry leaves once: acknowledged, lost, or with its session.
- A peer tells of an old session for OLD_SESSION, and never if it has begun anew. So an entry is lost, too, when a later
  one has arrived that was sent so long after it, with a session that replaced its own.
- What a record says about numbers that were not sent, or not with packets and probes, changes nothing.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Final, NamedTuple

from mpt.data.receipts import OLD_SESSION
from mpt.wire.serial import ahead

MOST: Final = 16_384  # entries of a path; then it has no room


def space(session: int, path_id: int) -> int:
    """Return the number space of a path id in the session with this index of the peer's."""
    return session << 6 | path_id


class Entry:
    """A datagram under way: `size` is UDP payload and 28, `sent` when it was sent. `content` is what was sealed, for
    its repair, None if it is not repaired; `first` is when it was sent first, over whatever path, and `tries` how often
    it was sent again. `is_copied`: it is under way over another path, too, so its loss needs no repair; `other` is the
    entry there, if both went at once."""

    __slots__ = ("content", "first", "is_copied", "other", "outer_tos", "sent", "size", "tries")

    def __init__(
        self,
        size: int,
        sent: float,
        content: bytes | None = None,
        outer_tos: int = 0,
        first: float = -1.0,
        tries: int = 0,
    ) -> None:
        self.size = size
        self.sent = sent
        self.content = content
        self.outer_tos = outer_tos
        self.first = sent if first < 0 else first
        self.tries = tries
        self.is_copied = False
        self.other: Entry | None = None


class Settled(NamedTuple):
    """The news of one record: `octets` acknowledged, the `lost` entries, whether the peer has got any `further`, and
    the lost entries of `replaced` sessions."""

    octets: int
    lost: list[Entry]
    further: bool
    replaced: list[Entry]


NOTHING_SETTLED: Final = Settled(0, [], False, [])


class _Numbers:
    """The entries of one space, by number, the oldest first."""

    __slots__ = ("clock", "entries", "newest", "settled")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.newest = -1  # the greatest number that was sent
        self.settled = -1
        self.clock: int | None = None  # of the last record


class Flight:
    """The datagrams under way on one path."""

    __slots__ = ("_spaces", "lost", "octets", "packets")

    def __init__(self) -> None:
        self._spaces: dict[int, _Numbers] = {}
        self.octets = self.packets = 0
        self.lost = 0  # datagrams, since the beginning

    def sent(self, space: int, number: int, entry: Entry) -> None:
        """Note that `entry` went as `number`, which is greater than all before."""
        numbers = self._spaces.get(space)
        if numbers is None:
            numbers = self._spaces[space] = _Numbers()
        numbers.entries[number] = entry
        numbers.newest = number
        self.octets += entry.size
        self.packets += 1

    def is_news(self, space: int, clock: int) -> bool:
        """Return whether a record of `space` that the peer made at `clock` (modulo 2^32) is newer than all before;
        then it is the newest."""
        numbers = self._spaces.get(space)
        if numbers is None or (numbers.clock is not None and ahead(clock, numbers.clock) <= 0):
            return False
        numbers.clock = clock
        return True

    def acknowledged(self, space: int, settled: int, ranges: tuple[tuple[int, int], ...]) -> Settled:
        """Take what a record says: the low 32 bits of `settled`, and `ranges` of missing numbers (first, count)."""
        numbers = self._spaces.get(space)
        if numbers is None:
            return NOTHING_SETTLED
        # messages take numbers, too, and have no entry: so more may be settled than the newest that is under way
        end = min(numbers.newest + ahead(settled, numbers.newest), numbers.newest)
        if end <= numbers.settled:
            return NOTHING_SETTLED
        entries, octets, lost, arrived = numbers.entries, 0, [], 0.0
        found = [(numbers.newest + ahead(first, numbers.newest), count) for first, count in ranges]
        missing = [(first, first + count) for first, count in found if first <= end and first + count > numbers.settled]
        while entries and (number := next(iter(entries))) <= end:
            entry = entries.pop(number)
            self.octets -= entry.size
            self.packets -= 1
            if any(first <= number < after for first, after in missing):
                lost.append(entry)
            else:
                octets += entry.size
                arrived = entry.sent
        numbers.settled = end
        self.lost += len(lost)
        return Settled(octets, lost, True, self._replaced(space, arrived - OLD_SESSION))

    def _replaced(self, space: int, until: float) -> list[Entry]:
        """Take out what was sent before `until` in the spaces before this one."""
        found = []
        for each in takewhile(space.__ne__, self._spaces):
            entries = self._spaces[each].entries
            while entries and entries[first := next(iter(entries))].sent < until:
                found.append(entries.pop(first))
        self.octets -= sum(entry.size for entry in found)
        self.packets -= len(found)
        return found

    def end(self, session: int) -> list[Entry]:
        """Forget a session, by the peer's index; return its entries, which nobody will acknowledge."""
        return self._end([each for each in self._spaces if each >> 6 == session])

    def end_all(self) -> list[Entry]:
        """Forget all sessions; return their entries."""
        return self._end(list(self._spaces))

    def _end(self, spaces: list[int]) -> list[Entry]:
        entries = [entry for each in spaces for entry in self._spaces.pop(each).entries.values()]
        self.octets -= sum(entry.size for entry in entries)
        self.packets -= len(entries)
        return entries

    def oldest(self) -> Entry | None:
        """Return the entry that was sent first; None: nothing is under way."""
        return min((next(iter(each.entries.values())) for each in self._spaces.values() if each.entries),
                   key=_sent, default=None)  # fmt: skip

    def repaired(self) -> list[Entry]:
        """Return the entries that are repaired and not under way elsewhere, the oldest first."""
        found = [
            entry
            for each in self._spaces.values()
            for entry in each.entries.values()
            if entry.content is not None and not entry.is_copied
        ]
        return sorted(found, key=_sent)


def _sent(entry: Entry) -> float:
    return entry.sent

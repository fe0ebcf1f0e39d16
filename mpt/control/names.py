"""In which order the addresses of a peer are tried, and when its name is asked for again (session 5; RFC 8305).

A path may list several addresses and names of its peer. A handshake goes to the next one whenever an answer is overdue,
so one address that is dead costs a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import zip_longest
from typing import Final

from mpt.model import Address

FIRST_REST: Final = 5.0  # s until a name is asked for again; doubled each time
LONGEST_REST: Final = 60.0  # s
RETRY: Final = 1.0  # s until a question without an answer is put again; doubled each time
MOST_ADDRESSES: Final = 16  # of a path; a name may have any number


def in_order(addresses: Iterable[Address], families: Collection[int] = (4, 6)) -> tuple[Address, ...]:
    """Return the addresses of these `families` (4, 6) in the order of their trial, each once, `MOST_ADDRESSES` at most.

    Within a family the order is as given.
    """
    known = list(dict.fromkeys(addresses))
    six, four = ([each for each in known if each.version == version and version in families] for version in (6, 4))
    by_turns = (address for pair in zip_longest(six, four) for address in pair if address is not None)
    return tuple(by_turns)[:MOST_ADDRESSES]


class NameWatch:
    """When a name is asked for: from `now` on until it was answered, and again while its path stays silent.

    An answer holds as long as the path works, whatever its time to live says: only the silence of a path shows that its
    peer is elsewhere. The addresses of the last answer hold until the next one.
    """

    def __init__(self, now: float) -> None:
        self.addresses: tuple[Address, ...] = ()
        self._due: float | None = now  # of the next question; None: none is needed
        self._asks = False
        self._rest = FIRST_REST
        self._retry = RETRY

    def silent(self, now: float) -> None:
        """Note that the path is silent: the name is asked for at once, if that was not done lately."""
        if self._due is None and not self._asks:
            self._due = now

    def works(self) -> None:
        """Note that the path works: nothing is asked any more."""
        self._rest = FIRST_REST
        if self.addresses:
            self._due = None

    def deadline_reached(self, now: float) -> bool:
        """Return whether to ask now; `answered` or `failed` follows."""
        if self._asks or self._due is None or now < self._due:
            return False
        self._asks = True
        return True

    def next_deadline(self) -> float | None:
        """Return when to call `deadline_reached` next; None: not before something happens."""
        return None if self._asks else self._due

    def answered(self, addresses: Iterable[Address], now: float) -> None:
        """Note the answer. The name is asked for again after a rest, unless the path works by then."""
        self.addresses = tuple(addresses)
        self._asks = False
        self._retry = RETRY
        self._due = now + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)

    def failed(self, now: float) -> None:
        """Note that no answer came, or none with an address."""
        self._asks = False
        self._due = now + self._retry
        self._retry = min(2 * self._retry, LONGEST_REST)

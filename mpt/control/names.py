"""Which address of a peer is tried when, and when its name is asked for again (session 5; after RFC 8305).

A path may list several addresses and names of its peer. They are tried in the order of RFC 8305 section 4: IPv6 first,
then the families by turns. The next one is tried while the earlier ones have not answered yet, so one address that is
dead costs a quarter of a second. The first that answers wins; it is the first of the next race.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import zip_longest
from typing import Final

from mpt.model import Address

ATTEMPT_DELAY: Final = 0.25  # s to the next address (RFC 8305 section 8)
FIRST_PAUSE: Final = 1.0  # s until the addresses are tried again; doubled each time
LONGEST_PAUSE: Final = 15.0  # s (session 2)
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


class Race:
    """The trial of a path's addresses, from `now` on (monotonic seconds), until the caller has an answer."""

    def __init__(self, now: float) -> None:
        self._addresses: tuple[Address, ...] = ()
        self._tried: set[Address] = set()
        self._winner: Address | None = None
        self._pause = FIRST_PAUSE
        self._tried_at = now - ATTEMPT_DELAY  # the latest
        self._due: float | None = now  # None: it has ended

    def set_addresses(self, addresses: tuple[Address, ...], now: float) -> None:
        """Take these addresses, `in_order`. Those that are new are tried without a pause."""
        self._addresses = addresses
        if self._due is not None and self._left():
            self._due = min(self._due, max(now, self._tried_at + ATTEMPT_DELAY))

    def begin(self, now: float) -> None:
        """Begin anew: the path is silent, or it has another address of ours. A race that runs goes on."""
        if self._due is None:
            self._pause = FIRST_PAUSE
            self._tried = set()
            self._due = now

    def won(self, address: Address) -> None:
        """Note that `address` has answered: the race is over."""
        self._winner = address
        self._due = None

    def failed(self, address: Address, now: float) -> None:
        """Note that `address` cannot be tried at all: the next one is tried at once."""
        if self._due is not None and address in self._tried and self._left():
            self._due = now

    def next_deadline(self) -> float | None:
        """Return when to call `deadline_reached` next; None: the race is over, or there is no address."""
        return self._due if self._addresses else None

    def deadline_reached(self, now: float) -> Address | None:
        """Return the address to try now; None: none."""
        if self._due is None or now < self._due or not self._addresses:
            return None
        left = self._left()
        if not left:
            self._tried = set()
            left = self._left()
        address = left[0]
        self._tried.add(address)
        self._tried_at = now
        if len(left) > 1:
            self._due = now + ATTEMPT_DELAY
        else:
            self._due = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return address

    def _left(self) -> list[Address]:
        """Return the addresses that are still to be tried in this turn, the latest winner first."""
        left = [address for address in self._addresses if address not in self._tried]
        return sorted(left, key=lambda address: address != self._winner)


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

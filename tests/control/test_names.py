"""The order of a peer's addresses, and when a name is asked for again."""

from __future__ import annotations

import itertools
from ipaddress import ip_address

import pytest

from mpt.control.names import (
    FIRST_REST,
    LONGEST_REST,
    MOST_ADDRESSES,
    RETRY,
    NameWatch,
    in_order,
)
from mpt.model import Address

NOW = 1000.0
A, B, C = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3))
X, Y = (ip_address(f"2001:db8::{number}") for number in (1, 2))


@pytest.mark.parametrize(
    ("given_order", "families", "expected"),
    [
        ([A, B, C, X, Y], (4, 6), (X, A, Y, B, C)),
        ([X, Y, A], (4, 6), (X, A, Y)),
        ([A, X, A, X], (4, 6), (X, A)),
        ([A, X, B], (4,), (A, B)),
        ([A, X, B], (6,), (X,)),
        ([A, X, B], (), ()),
        ([], (4, 6), ()),
    ],
)
def test_the_order_of_trial(
    given_order: list[Address], families: tuple[int, ...], expected: tuple[Address, ...]
) -> None:
    """IPv6 first, then by turns; each once; only families that the path's interface has."""
    assert in_order(given_order, families) == expected


def test_a_name_with_many_addresses_is_cut() -> None:
    """A zone may list any number."""
    assert len(in_order(ip_address(number) for number in range(1000))) == MOST_ADDRESSES


def questions(watch: NameWatch, seconds: float, answer: tuple[Address, ...] = (), begin: float = 0.0) -> list[float]:
    """Answer each question after 0.1 s, with nothing: fail. Return when it is asked, in seconds from the start."""
    found = []
    while (due := watch.next_deadline()) is not None and due < NOW + begin + seconds:
        assert not watch.deadline_reached(due - 0.01)
        assert watch.deadline_reached(due)
        assert not watch.deadline_reached(due) and watch.next_deadline() is None  # one question at a time
        found.append(round(due - NOW, 3))
        if answer:
            watch.answered(answer, due)
        else:
            watch.failed(due)
    return found


def test_a_name_is_asked_for_at_once_and_until_there_is_an_answer() -> None:
    """With pauses of one second, two, four, and a minute at the most."""
    watch = NameWatch(NOW)
    asked = questions(watch, 600.0)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert asked[0] == 0.0 and pauses[:4] == [RETRY, 2.0, 4.0, 8.0] and max(pauses) == LONGEST_REST


def test_a_name_whose_path_works_is_not_asked_for() -> None:
    """However old the answer is. When the path falls silent it is asked for at once."""
    watch = NameWatch(NOW)
    assert questions(watch, 1.0, (A,)) == [0.0]
    watch.works()
    assert watch.next_deadline() is None
    watch.silent(NOW + 50_000.0)
    assert questions(watch, 1.0, (B,), begin=50_000.0) == [50_000.0]
    assert watch.addresses == (B,)


def test_a_path_that_stays_silent_asks_with_growing_rests() -> None:
    """The name servers may have the old answer for a while. The path's silence that is told again changes nothing."""
    watch = NameWatch(NOW)
    asked = questions(watch, 20.0, (A,))
    watch.silent(NOW + 20.0)
    asked += questions(watch, 600.0, (A,))
    rests = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert rests[:4] == [FIRST_REST, 10.0, 20.0, 40.0] and max(rests) == LONGEST_REST


def test_the_last_answer_holds_while_there_is_no_other() -> None:
    """A name server that is down takes no address away."""
    watch = NameWatch(NOW)
    questions(watch, 1.0, (A, X))
    watch.silent(NOW + 100.0)
    questions(watch, 100.0, begin=0.0)
    assert watch.addresses == (A, X)


def test_a_path_that_works_by_a_listed_address_still_wants_its_name() -> None:
    """Until it was answered once."""
    watch = NameWatch(NOW)
    watch.works()
    assert watch.next_deadline() == NOW

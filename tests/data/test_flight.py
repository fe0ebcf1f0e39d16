"""What is under way on a path, against a model that remembers each number by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.flight import Entry, Flight, space
from mpt.data.receipts import OLD_SESSION
from mpt.wire.serial import MASK


@dataclass
class Model:
    """One space: the size of each number under way, and how far the peer has settled."""

    under_way: dict[int, int] = field(default_factory=dict)
    settled: int = -1
    newest: int = -1

    def record(self, settled: int, missing: set[int]) -> tuple[int, list[int]]:
        settled = min(settled, self.newest)  # messages have numbers, and no entry
        if settled <= self.settled:
            return 0, []
        self.settled = settled
        known = [number for number in self.under_way if number <= settled]
        lost = [self.under_way.pop(number) for number in known if number in missing]
        acked = sum(self.under_way.pop(number) for number in known if number in self.under_way)
        return acked, lost


SENT = st.tuples(st.just("sent"), st.integers(1, 3), st.integers(1, 1500), st.just(()))
RANGES = st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 10)), max_size=4).map(tuple)
RECORD = st.tuples(st.just("record"), st.integers(-5, 70), st.just(0), RANGES)
STARTS = st.sampled_from((0, 7, 2**32 - 20, 2**32, 2**40))
STEPS = st.lists(SENT | SENT | RECORD, max_size=60)


@given(STARTS, STEPS)
def test_a_record_settles_what_it_says(
    start: int, steps: list[tuple[str, int, int, tuple[tuple[int, int], ...]]]
) -> None:
    """For any record, also one about numbers that were never sent, or with ranges from anywhere."""
    tested, model, number, clock = Flight(), Model(), start, 0
    for step, value, size, ranges in steps:
        if step == "sent":
            number += value  # messages take numbers, too
            tested.sent(1, number, Entry(size, float(number)))
            model.under_way[number], model.newest = size, number
        else:
            clock += 1
            settled = start + value
            missing = {start + first + each for first, count in ranges for each in range(count)}
            wire = tuple(((start + first) & MASK, count) for first, count in ranges)
            is_news = tested.is_news(1, clock)
            assert is_news is (model.newest >= 0)
            found = tested.acknowledged(1, settled & MASK, wire)
            before = model.settled
            acked, lost = model.record(settled, missing)
            assert (found.octets, [entry.size for entry in found.lost]) == (acked, lost)
            assert found.further is (model.settled > before)
        oldest = tested.oldest()
        assert (tested.octets, tested.packets) == (sum(model.under_way.values()), len(model.under_way))
        assert (oldest.sent if oldest else None) == (min(model.under_way) if model.under_way else None)


def test_an_old_record_is_no_news() -> None:
    """The peer's clock runs modulo 2^32; each space has its own."""
    tested = Flight()
    assert not tested.is_news(1, 5)
    tested.sent(1, 0, Entry(100, 0.0))
    tested.sent(2, 0, Entry(100, 0.0))
    assert tested.is_news(1, 2**32 - 1)
    assert not tested.is_news(1, 2**32 - 1)
    assert not tested.is_news(1, 2**32 - 7)
    assert tested.is_news(1, 3)
    assert tested.is_news(2, 3)


def test_two_sessions_are_under_way_at_once() -> None:
    """The numbers of one say nothing of the other's; a session that ends gives back its entries."""
    tested = Flight()
    for session in (1, 2):
        for path_id in (0, 63):
            for number in range(3):
                tested.sent(space(session, path_id), number, Entry(100 * session, float(number + 10 * session)))
    tested.acknowledged(space(1, 0), 2, ())
    assert (tested.packets, tested.octets) == (9, 3 * 100 + 6 * 200)
    assert [entry.size for entry in tested.end(1)] == [100] * 3
    oldest = tested.oldest()
    assert oldest is not None and oldest.sent == 20.0
    assert len(tested.end_all()) == 6
    assert (tested.packets, tested.octets, tested.oldest()) == (0, 0, None)


def test_what_a_restarted_peer_will_not_tell_of_is_given_back() -> None:
    """A later datagram of a later session has arrived; a peer that goes on tells of the old one for so long."""
    tested, later = Flight(), 10.0 + OLD_SESSION
    for number in range(3):
        tested.sent(space(1, 0), number, Entry(100, 10.0 + number))
    for number, sent in enumerate((later, later + 0.5, later + 1.5, later + 3.0)):
        tested.sent(space(2, 0), number, Entry(200, sent))
    assert tested.acknowledged(space(2, 0), 0, ()).replaced == []
    assert [entry.sent for entry in tested.acknowledged(space(2, 0), 1, ()).replaced] == [10.0]
    assert tested.acknowledged(space(2, 0), 2, ((2, 1),)).replaced == []  # it has not arrived
    assert (tested.packets, tested.octets) == (3, 2 * 100 + 200)
    assert [entry.sent for entry in tested.acknowledged(space(2, 0), 3, ()).replaced] == [11.0, 12.0]
    assert tested.acknowledged(space(1, 0), 2, ()).octets == 0
    assert (tested.packets, tested.octets, tested.oldest()) == (0, 0, None)


def test_what_is_repaired_is_found_in_the_order_in_which_it_went() -> None:
    """But not what has no content, or is under way elsewhere."""
    tested = Flight()
    entries = [Entry(100, 3.0, b"a"), Entry(100, 4.0), Entry(100, 5.0, b"b")]
    for number, entry in enumerate(entries):
        tested.sent(1, number, entry)
    tested.sent(2, 0, earlier := Entry(100, 2.0, b"c"))
    assert tested.repaired() == [earlier, entries[0], entries[2]]
    entries[0].is_copied = True
    assert tested.repaired() == [earlier, entries[2]]

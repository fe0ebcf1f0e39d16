"""The weighted cycle, against the draft's vectors and the draft's own algorithm (section 5.1)."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from math import gcd, lcm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.scheduler import WeightedCycle
from mpt.model import MAX_WEIGHT
from mpt.testing.strategies import weights


def picks(weights: list[int], count: int) -> list[int]:
    """The first `count` path indices."""
    return list(islice(WeightedCycle(list(enumerate(weights))), count))


def draft(weights: list[int], count: int) -> list[int]:
    """The first `count` path indices by the letter of the draft's section 5.1, with a fresh start each cycle."""
    common = lcm(*weights)
    chosen: list[int] = []
    s = [0] * len(weights)
    while len(chosen) < count:
        z = min(s[i] + common // weights[i] for i in range(len(weights)))
        k = next(i for i in range(len(weights)) if s[i] + common // weights[i] == z)
        s[k] = z
        chosen.append(k)
        if len(set(s)) == 1:
            s = [0] * len(weights)
    return chosen


@pytest.mark.parametrize(
    ("weights", "cycle"),
    [
        ([12, 18, 15], [1, 2, 0, 1, 2, 0, 1, 2, 1, 0, 2, 1, 0, 1, 2]),
        ([5, 2, 3], [0, 2, 0, 1, 0, 2, 0, 0, 1, 2]),
        ([1, 2], [1, 0, 1]),
        ([10, 10], [0, 1]),
        ([100, 80], [0, 1, 0, 1, 0, 1, 0, 0, 1]),
        ([1], [0]),
        ([MAX_WEIGHT], [0]),
    ],
)
def test_the_vectors_of_the_draft(weights: list[int], cycle: list[int]) -> None:
    """The cycle of these weights is the draft's, again and again; its length is their sum over their common divisor."""
    assert len(cycle) == sum(weights) // gcd(*weights)
    assert picks(weights, 3 * len(cycle)) == 3 * cycle


def test_what_the_c_program_sends() -> None:
    """With weights 1:2 the first seven packets of a running C mptsrv take paths 2, 1, 2, 2, 1, 2, 2."""
    assert [index + 1 for index in picks([1, 2], 7)] == [2, 1, 2, 2, 1, 2, 2]


@given(weights)
def test_any_weights_give_the_cycle_of_the_draft(weights: list[int]) -> None:
    """For 1 to 20 paths of weights 1 to 10,000 the choice is the draft's, pick by pick."""
    assert picks(weights, 1500) == draft(weights, 1500)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_a_whole_cycle_has_each_path_by_its_weight(weights: list[int]) -> None:
    """In a cycle each path is chosen weight / gcd times, and the next cycle is the same."""
    divisor = gcd(*weights)
    length = sum(weights) // divisor
    first = picks(weights, 2 * length)
    assert [first[:length].count(index) for index in range(len(weights))] == [weight // divisor for weight in weights]
    assert first[length:] == first[:length]


@given(weights, st.integers(1, 2000))
def test_the_share_is_right_at_every_moment(weights: list[int], count: int) -> None:
    """After any number of packets no path is further, by its weight, than any other will be with one packet more."""
    chosen = picks(weights, count)
    counts = [chosen.count(index) for index in range(len(weights))]
    furthest = max(Fraction(count, weight) for count, weight in zip(counts, weights, strict=True))
    assert furthest <= min(Fraction(count + 1, weight) for count, weight in zip(counts, weights, strict=True))


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.data())
def test_the_share_of_a_path_left_out_goes_to_the_others_in_proportion(weights: list[int], data: st.DataObject) -> None:
    """Without one path the others keep their ratio, under their own indices."""
    missing = data.draw(st.integers(0, len(weights) - 1))
    rest = [(index, weight) for index, weight in enumerate(weights) if index != missing]
    total = sum(weight for _, weight in rest)
    chosen = list(islice(WeightedCycle(rest), total))
    assert {index: chosen.count(index) for index, _ in rest} == dict(rest)


def test_the_length_of_a_cycle_costs_nothing() -> None:
    """Weights whose cycle has 190,000 packets and whose common multiple has dozens of digits are no trouble."""
    weights = list(range(MAX_WEIGHT - 19, MAX_WEIGHT + 1))
    assert picks(weights, 1000) == draft(weights, 1000)


def test_without_a_path_there_is_no_next() -> None:
    """When every path is left out the cycle is empty, and stays so."""
    cycle = WeightedCycle([])
    assert next(cycle, None) is None
    assert next(cycle, None) is None


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=40),
)
def test_the_first_that_fits(weights: list[int], fittings: list[set[int]]) -> None:
    """As if the cycle were asked until it names a path that fits; where none does, nothing changes."""
    cycle, asked = WeightedCycle(list(enumerate(weights))), WeightedCycle(list(enumerate(weights)))
    for fitting in fittings:
        some = any(index < len(weights) for index in fitting)
        expected = next(index for index in asked if index in fitting) if some else None
        assert cycle.next_of(fitting) == expected
    assert list(islice(cycle, 20)) == list(islice(asked, 20))

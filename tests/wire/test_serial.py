"""Serial number arithmetic, against a model that counts on without a modulus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.testing.strategies import sequences
from mpt.wire.serial import HALF, MASK, MODULUS, ahead

positions = st.integers(0, 10 * MODULUS) | st.builds(
    lambda turn, near: turn * MODULUS + near, st.integers(1, 9), st.integers(-9, 9)
)


@given(positions, st.integers(-HALF, HALF - 1))
def test_a_distance_survives_the_modulus(position: int, distance: int) -> None:
    """Two positions less than 2^31 apart are as far apart by their numbers on the wire, over any wrap."""
    assert ahead((position + distance) & MASK, position & MASK) == distance


@given(sequences, sequences)
def test_one_is_ahead_where_the_other_is_behind(one: int, other: int) -> None:
    """Seen from the other side the distance has the other sign; only at 2^31 both call the other behind."""
    if (one - other) & MASK == HALF:
        assert ahead(one, other) == ahead(other, one) == -HALF
    else:
        assert ahead(one, other) == -ahead(other, one)


@given(positions)
def test_a_reference_may_be_an_unwrapped_position(position: int) -> None:
    """The reference may lie beyond 2^32, as the positions of the reorder buffer do."""
    assert ahead((position + 1) & MASK, position) == 1


@pytest.mark.parametrize(
    ("sequence", "reference", "distance"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (0, 1, -1),
        (0, MASK, 1),
        (MASK, 0, -1),
        (HALF - 1, 0, HALF - 1),
        (HALF, 0, -HALF),
        (5, MASK - 4, 10),
    ],
)
def test_distances_at_the_wrap(sequence: int, reference: int, distance: int) -> None:
    """The edges, by hand."""
    assert ahead(sequence, reference) == distance

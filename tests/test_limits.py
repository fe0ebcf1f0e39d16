"""The values between the data path and control."""

from __future__ import annotations

import pytest

from mpt.limits import START_LIMITS, START_WINDOW, PathLimits, quantile


@pytest.mark.parametrize(
    ("holds", "share", "expected"),
    [
        ((), 0.5, 0.0),
        ((0, 0), 0.99, 0.0),
        ((10,), 0.5, 0.001),
        ((50, 50), 0.5, 0.001),
        ((50, 50), 0.51, 0.002),
        ((98, 0, 0, 2), 0.99, 0.008),
        ((0, 1, 0), 0.0, 0.002),
    ],
)
def test_how_long_packets_were_held(holds: tuple[int, ...], share: float, expected: float) -> None:
    """The upper edge of the octave in which the quantile lies."""
    assert quantile(holds, share) == expected


def test_a_new_path_may_carry_a_first_window() -> None:
    """Until control has said otherwise."""
    assert PathLimits(START_WINDOW) == START_LIMITS and START_LIMITS.is_live and START_LIMITS.rate > 0

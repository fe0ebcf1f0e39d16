"""A shape in the words of tc and of our wire process."""

from __future__ import annotations

import pytest

from mpt.lab.links import PLAIN, Shape


@pytest.mark.parametrize(
    ("shape", "netem", "expected"),
    [
        (PLAIN, False, ""),
        (PLAIN, True, ""),
        (Shape(rate_mbit=50), True, "tbf rate 50000000bit burst 12500 limit 512500"),
        (Shape(rate_mbit=1), False, "tbf rate 1000000bit burst 5000 limit 15000"),
        (Shape(rate_mbit=50, delay_ms=20), False, "tbf rate 50000000bit burst 12500 limit 512500"),
        (Shape(delay_ms=20, loss_percent=1), False, ""),
        (Shape(50, 20), True, "netem limit 422 delay 20ms rate 50000000bit"),
        (Shape(50, 20, 5, 0.1), True, "netem limit 443 delay 20ms 5ms loss 0.1% rate 50000000bit"),
        (Shape(loss_percent=2), True, "netem limit 66060 delay 0ms loss 2% rate 10000000000bit"),
    ],
)
def test_a_shape_as_a_queueing_discipline(shape: Shape, netem: bool, expected: str) -> None:
    """A rate alone is a token bucket with 80 ms of queue; delay, jitter and loss are netem's where there is netem."""
    assert shape.qdisc(netem, 1500) == expected


def test_a_shape_as_the_settings_of_our_own_wire() -> None:
    """Our wire process takes seconds and shares of 1, and leaves the rate to the kernel."""
    assert Shape(50, 20, 5, 0.5, reorder=True).wire_settings(False) == {
        "delay": 0.020,
        "jitter": 0.005,
        "loss": 0.005,
        "reorder": True,
        "open": False,
    }

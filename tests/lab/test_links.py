"""A shape in the words of tc and of our wire process."""

from __future__ import annotations

import pytest

from mpt.lab.links import PLAIN, Shape
from mpt.lab.netem.line import Settings
from mpt.lab.traces import parse


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
        (Shape(50, queue_packets=100), False, "tbf rate 50000000bit burst 12500 limit 163900"),
        (Shape(50, 20, queue_packets=100), True, "netem limit 182 delay 20ms rate 50000000bit"),
        (Shape(loss_percent=2), True, "netem limit 66060 delay 0ms loss 2% rate 10000000000bit"),
    ],
)
def test_a_shape_as_a_queueing_discipline(shape: Shape, netem: bool, expected: str) -> None:
    """A rate alone is a token bucket with 80 ms of queue; delay, jitter and loss are netem's where there is netem."""
    assert shape.qdisc(netem, 1500) == expected


def test_a_shape_as_the_settings_of_our_own_wire() -> None:
    """Our wire process takes seconds, shares of 1, bits a second, and a queue in octets or in frames."""
    settings = Settings(**Shape(50, 20, 5, 0.5, reorder=True).wire_settings(False))
    assert settings == Settings(0.020, 0.005, 0.005, True, False, 50e6, queue_octets=500_000)
    settings = Settings(**Shape(50, queue_packets=100).wire_settings(True))
    assert settings == Settings(rate=50e6, queue_frames=100)
    assert Settings(**Shape(delay_ms=1).wire_settings(True)) == Settings(0.001)


def test_a_trace_as_the_settings_of_our_own_wire() -> None:
    """Each step has its end, and a delay and a loss below zero where they are the line's own."""
    shape = Shape(delay_ms=7, queue_ms=500, trace=parse("0.5 10\n0.5 30 20 1"))
    settings = Settings(**shape.wire_settings(True, began=99.0))
    steps = (0.5, 10e6, -1.0, -1.0), (1.0, 30e6, 0.020, 0.01)
    assert settings == Settings(0.007, rate=20e6, queue_octets=1_250_000, began=99.0, steps=steps)
    assert shape.needs_process(netem=True) and not shape.is_plain

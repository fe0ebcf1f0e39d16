"""The wire as a queue with deadlines, against a list that is sorted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.lab.netem.delayline import MAX_HELD, DelayLine
from mpt.lab.netem.dice import Dice

GAPS = st.lists(st.floats(0, 0.01), min_size=1, max_size=50)


def frame(number: int) -> bytes:
    return number.to_bytes(4, "big")


def run(line: DelayLine, gaps: list[float], step: float = 0.001) -> list[tuple[float, int]]:
    """Put numbered frames in with `gaps` between them; each frame's number with the time at which it came out."""
    out: list[tuple[float, int]] = []
    now = 0.0
    for number, gap in enumerate(gaps):
        now += gap
        line.put(frame(number), now)
        out += [(now, int.from_bytes(data, "big")) for data in line.take_due(now)]
    while line.next_deadline() is not None:
        now += step
        out += [(now, int.from_bytes(data, "big")) for data in line.take_due(now)]
    return out


@given(gaps=GAPS, delay=st.floats(0, 0.05), jitter=st.floats(0, 0.05), loss=st.floats(0, 1), reorder=st.booleans())
def test_nothing_is_made_up_or_doubled_or_early(
    gaps: list[float], delay: float, jitter: float, loss: float, reorder: bool
) -> None:
    """Every frame that comes out went in, comes out once, and none earlier than delay less jitter."""
    line = DelayLine(delay, jitter, loss, reorder, seed=3)
    arrivals = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    out = run(line, gaps)
    numbers = [number for _, number in out]
    assert len(set(numbers)) == len(numbers)
    assert len(numbers) + line.frames_lost == len(gaps)
    assert all(at >= arrivals[number] + max(delay - jitter, 0) - 1e-9 for at, number in out)
    if not reorder:
        assert numbers == sorted(numbers)


@given(gaps=GAPS, delay=st.floats(0, 0.05), jitter=st.floats(0, 0.05), seed=st.integers(0, 1000))
def test_with_reordering_it_is_a_sorted_list(gaps: list[float], delay: float, jitter: float, seed: int) -> None:
    """With reorder frames come out by their deadlines, drawn from the seed one after the other."""
    dice = Dice(seed)
    now, model = 0.0, []
    for number, gap in enumerate(gaps):
        now += gap
        offset = jitter * (2.0 * dice.roll() - 1.0) if jitter else 0.0
        model.append((max(now, now + delay + offset) if jitter else now + delay, number))
    line = DelayLine(delay, jitter, reorder=True, seed=seed)
    now = 0.0
    for number, gap in enumerate(gaps):
        now += gap
        line.put(frame(number), now)
    out = [int.from_bytes(data, "big") for data in line.take_due(float("inf"))]
    assert out == [number for _, number in sorted(model)]


def test_a_frame_waits_exactly_the_delay() -> None:
    """Without jitter the deadline is the arrival and the delay; before it nothing is due."""
    line = DelayLine(0.020)
    line.put(b"x", 1.0)
    assert line.next_deadline() == pytest.approx(1.020)
    assert list(line.take_due(1.0199)) == []
    assert list(line.take_due(1.0201)) == [b"x"]
    assert line.next_deadline() is None


def test_loss_is_a_share_and_repeats_with_its_seed() -> None:
    """A tenth of 10,000 frames is lost, the same ones for the same seed and others for another."""

    def survivors(seed: int) -> list[bytes]:
        line = DelayLine(loss=0.1, seed=seed)
        for number in range(10_000):
            line.put(frame(number), 0.0)
        return list(line.take_due(0.0))

    assert 8_800 < len(survivors(1)) < 9_200
    assert survivors(1) == survivors(1) != survivors(2)


def test_a_shorter_delay_lets_nothing_overtake() -> None:
    """When the delay shrinks, later frames still wait for those already inside."""
    line = DelayLine(0.050)
    line.put(b"first", 0.0)
    line.adjust(0.001)
    line.put(b"second", 0.01)
    assert list(line.take_due(0.02)) == []
    assert list(line.take_due(0.05)) == [b"first", b"second"]


def test_what_is_inside_can_be_forgotten_and_is_bounded() -> None:
    """clear() empties the line; more than MAX_HELD frames are lost instead of held."""
    line = DelayLine(1.0)
    for _ in range(MAX_HELD + 3):
        line.put(b"", 0.0)
    assert (len(line), line.frames_lost) == (MAX_HELD, 3)
    line.clear()
    assert (len(line), line.next_deadline()) == (0, None)

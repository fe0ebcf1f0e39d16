"""A line with its bottleneck: against the rule, and the one in C against the one in Python."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.lab.netem.frames import adjust_native
from mpt.lab.netem.line import Line, Settings

FRAME = bytes(1250)  # 10,000 bits


def departures(line: Line, until: float = math.inf) -> list[float]:
    """When each frame leaves, until that time."""
    times = []
    while (due := line.next_deadline()) <= until and not math.isinf(due):
        times += [due for _ in line.take_due(due)]
    return times


def test_frames_leave_one_after_the_other_at_the_rate() -> None:
    """Three frames that come at once leave after the delay, each 1 ms at 10 Mbit/s after the one before."""
    line = Line()
    line.adjust(Settings(delay=0.020, rate=10e6), 5.0)
    for _ in range(3):
        line.put(FRAME, 5.0)
    assert departures(line) == pytest.approx([5.021, 5.022, 5.023])
    line.put(FRAME, 6.0)
    assert departures(line) == pytest.approx([6.021])


@pytest.mark.parametrize(
    "settings", [Settings(rate=10e6, queue_octets=2 * len(FRAME) + 1), Settings(rate=10e6, queue_frames=2)]
)
def test_a_full_queue_loses_what_comes(settings: Settings) -> None:
    """A queue of two frames takes two of five that come at once, and one more when one has left."""
    line = Line()
    line.adjust(settings, 0.0)
    for _ in range(5):
        line.put(FRAME, 0.0)
    assert departures(line, 0.0015) == pytest.approx([0.001])
    line.put(FRAME, 0.0015)
    assert departures(line) == pytest.approx([0.002, 0.003])
    assert line.frames_lost == 3


def test_a_trace_is_followed_and_begins_again() -> None:
    """Two frames in a step of 10 Mbit/s, none in one of nothing, and the next when the trace begins again."""
    line = Line()
    line.adjust(Settings(began=1.0, steps=((0.0025, 10e6, -1, -1), (0.5, 0.0, -1, -1))), 1.0)
    for _ in range(4):
        line.put(FRAME, 1.0)
    assert departures(line) == pytest.approx([1.001, 1.002, 1.5005, 1.5015])


def test_the_delay_and_the_loss_of_a_step() -> None:
    """A step has its own delay and loss, or the line's."""
    line = Line()
    line.adjust(Settings(delay=0.1, steps=((1.0, 1e9, 0.02, -1), (2.0, 1e9, -1, 1.0), (3.0, 1e9, -1, -1))), 0.0)
    for at in (0.5, 1.5, 2.5):
        line.put(FRAME, at)
    assert departures(line) == pytest.approx([0.52, 2.6], abs=1e-4)
    assert line.frames_lost == 1


def test_a_closed_line_loses_what_is_inside_and_what_comes() -> None:
    """Nothing comes out later, whatever was in the delay or in the queue."""
    line = Line()
    line.adjust(Settings(rate=10e6), 0.0)
    line.put(FRAME, 0.0)
    list(line.take_due(0.0001))  # now it is in the queue
    line.put(FRAME, 0.0002)
    line.adjust(Settings(rate=10e6, open=False), 0.0003)
    line.put(FRAME, 0.0004)
    assert math.isinf(line.next_deadline())
    line.adjust(Settings(rate=10e6), 1.0)
    assert departures(line) == []


def test_a_new_rate_holds_from_now_on() -> None:
    """A frame in the queue begins anew at the new rate; without a rate all leave at once."""
    line = Line()
    line.adjust(Settings(rate=1e3), 0.0)
    line.put(FRAME, 0.0)
    line.put(FRAME, 0.0)
    list(line.take_due(0.0))
    line.adjust(Settings(rate=10e6), 0.5)
    assert departures(line, 0.5015) == pytest.approx([0.501])
    line.adjust(Settings(), 0.6)
    assert departures(line) == pytest.approx([0.6])


class NativeLine:
    """The line in C, with the methods of the one in Python."""

    def __init__(self, seed: int) -> None:
        from mpt.lab.netem._wire import ffi, lib

        self._ffi, self._lib = ffi, lib
        self._pool = ffi.new("struct pool *", {"frame_size": 1600})
        self._line = ffi.gc(lib.line_new(self._pool, seed), lib.line_free)

    @property
    def frames_lost(self) -> int:
        return int(self._line.frames_lost)

    def adjust(self, settings: Settings, now: float) -> None:
        adjust_native(self._ffi, self._lib, self._line, settings, now)

    def put(self, frame: bytes, now: float) -> None:
        taken = self._lib.pool_take(self._pool)
        taken.size = len(frame)
        self._ffi.memmove(taken.octets, frame, len(frame))
        self._lib.line_put(self._line, taken, now)

    def next_deadline(self) -> float:
        return self._lib.line_next_deadline(self._line)

    def take_due(self, now: float) -> list[bytes]:
        frames = []
        while (frame := self._lib.line_take(self._line, now)) != self._ffi.NULL:
            frames.append(bytes(self._ffi.buffer(frame.octets, frame.size)))
            self._lib.pool_give(self._pool, frame)
        return frames


SHARES = st.one_of(st.just(0.0), st.floats(0, 0.5))
STEPS = st.lists(
    st.tuples(st.floats(0.001, 0.1), st.sampled_from([0.0, 1e6, 2.5e7]), st.sampled_from([-1.0, 0.004]), SHARES),
    max_size=6,
)
SETTINGS = st.builds(
    Settings,
    delay=SHARES,
    jitter=SHARES,
    loss=SHARES,
    reorder=st.booleans(),
    open=st.sampled_from([True, True, True, False]),
    rate=st.sampled_from([0.0, 1e6, 5e7]),
    queue_octets=st.sampled_from([0, 5000]),
    queue_frames=st.sampled_from([0, 3]),
    began=st.floats(0, 2),
)
ACTIONS = st.lists(
    st.tuples(st.floats(0, 0.05), st.one_of(st.integers(4, 1600), SETTINGS, STEPS)), min_size=1, max_size=60
)


def with_ends(steps: list[tuple[float, float, float, float]]) -> tuple[tuple[float, float, float, float], ...]:
    """Steps whose first number is the end, not the length; the first has some rate."""
    end = 0.0
    made: list[tuple[float, float, float, float]] = []
    for length, rate, delay, loss in steps:
        end += length
        made.append((end, rate if made else max(rate, 1e6), delay, loss))
    return tuple(made)


@pytest.mark.skipif(find_spec("mpt.lab.netem._wire") is None, reason="needs the compiled wire")
@given(actions=ACTIONS, seed=st.integers(0, 2**64 - 1))
def test_the_line_in_c_is_the_line_in_python(actions: list[tuple[float, Any]], seed: int) -> None:
    """Whatever frames come and whatever changes, the same frames leave in the same order at the same times."""
    python, native = Line(seed), NativeLine(seed)
    now = 1.0
    settings = Settings()
    for number, (gap, action) in enumerate(actions):
        now += gap
        assert list(python.take_due(now)) == native.take_due(now)
        if isinstance(action, int):
            for line in (python, native):
                line.put(number.to_bytes(4, "big") + bytes(action - 4), now)
        else:
            kept = {**settings.__dict__, "steps": with_ends(action)} if isinstance(action, list) else action.__dict__
            settings = Settings(**kept)
            for line in (python, native):
                line.adjust(settings, now)
        assert python.next_deadline() == native.next_deadline()
    assert list(python.take_due(now + 1000)) == native.take_due(now + 1000)
    assert (python.frames_lost, python.next_deadline()) == (native.frames_lost, native.next_deadline())

"""The order of a connection natively and in Python, side by side: the same steps deliver the same at the same time."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpt.data import reorder
from mpt.data.ordering import Ordering
from mpt.data.reorder import STREAMS
from mpt.wire.seal import stamp
from mpt.wire.serial import MASK

native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
ffi, lib = native.ffi, native.lib

ARRIVE, DEADLINE, KEEPALIVE, PATH_UP, PATH_DOWN, FLUSH = range(6)


class Step(NamedTuple):
    """The fields of struct mpt_order_step."""

    kind: int
    now: float
    path: int = 0
    sequence: int = 0
    key: int = 0
    has_key: int = 0
    stamp: int = 0


def run_python(window: int, max_delay: float, steps: list[Step]) -> tuple[Any, ...]:
    """Return what was delivered, how much after each step, the deadlines, the drops, and how many packets are held."""
    order = Ordering(window, max_delay, has_stamps=True)
    delivered: list[int] = []
    ends, deadlines = [], []
    for number, (kind, now, path, sequence, key, has_key, a_stamp) in enumerate(steps):
        packets: Any = ()
        match kind:
            case 0:
                label = number.to_bytes(4, "big")
                packets = order.arrive(sequence, label, path, now, key if has_key else None, a_stamp)
            case 1:
                packets = order.deadline_reached(now)
            case 2:
                order.keepalive(path, now)
            case 3:
                order.path_up(path, now)
            case 4:
                packets = order.path_down(path, now)
            case _:
                packets = order.flush()
        delivered += [int.from_bytes(packet, "big") for packet in packets]
        ends.append(len(delivered))
        deadlines.append(order.next_deadline())
    return delivered, ends, deadlines, {reason: count for reason, count in order.dropped.items() if count}, order.held


def run_native(window: int, max_delay: float, steps: list[Step], streams: int) -> tuple[Any, ...]:
    """Return the same of the native order."""
    tuning = ffi.new("struct mpt_tuning *", native.TUNING | {"streams": streams})
    array = ffi.new("struct mpt_order_step[]", [step._asdict() for step in steps])
    delivered, ends = ffi.new("uint32_t[]", len(steps) + 1), ffi.new("uint32_t[]", len(steps) + 1)
    deadlines, dropped = ffi.new("double[]", len(steps) + 1), ffi.new("uint64_t[]", lib.MPT_REASONS)
    held = lib.mpt_order(tuning, window, max_delay, True, array, len(steps), delivered, ends, deadlines, dropped)
    times = [deadline if deadline >= 0 else None for deadline in ffi.unpack(deadlines, len(steps))]
    ends_list = ffi.unpack(ends, len(steps))
    count = ends_list[-1] if ends_list else 0
    drops = {native.REASONS[number]: one for number, one in enumerate(dropped) if one}
    return ffi.unpack(delivered, count) if count else [], ends_list, times, drops, held


@st.composite
def scripts(draw: st.DrawFn) -> list[Step]:
    """Flows over three paths: runs, gaps, numbers from anywhere, late ones, pauses, keepalives, paths that change."""
    now, steps = 5000.0, [Step(PATH_UP, 5000.0, path) for path in range(3)]
    numbers = {key: draw(st.sampled_from((0, 7, 2**31, MASK - 4))) for key in (None, 0, 1, 2, 4095)}
    kinds = st.sampled_from(
        ("packet", "packet", "run", "skip", "back", "far", "pause", "keepalive", "down", "up", "flush")
    )
    for kind in draw(st.lists(kinds, max_size=60)):
        path, key = draw(st.integers(0, 2)), draw(st.sampled_from((None, 0, 1, 2, 4095)))
        if kind == "pause":
            now += draw(st.sampled_from((0.0001, 0.001, 0.004, 0.02, 0.1, 0.4, 11.0)))
            steps.append(Step(DEADLINE, now))
        elif kind == "keepalive":
            steps.append(Step(KEEPALIVE, now, path))
            now += 0.004
        elif kind in ("up", "down"):
            steps.append(Step(PATH_UP if kind == "up" else PATH_DOWN, now, path))
        elif kind == "flush":
            steps.append(Step(FLUSH, now))
        else:
            count = draw(st.integers(2, 70)) if kind == "run" else 1
            under_way = draw(st.sampled_from((0.0, 0.0, 0.001, 0.03, 1.0)))
            if kind == "skip":
                numbers[key] += draw(st.integers(1, 12))
            for _ in range(count):
                number = numbers[key]
                if kind == "back":
                    number -= draw(st.integers(1, 12))
                elif kind == "far":
                    number += draw(st.sampled_from((50, 2**30, 2**31, -1000)))
                else:
                    numbers[key] += 1
                steps.append(Step(ARRIVE, now, path, number & MASK, key or 0, key is not None, stamp(now - under_way)))
                if kind == "run":
                    path = (path + draw(st.integers(0, 2))) % 3
    steps.append(Step(DEADLINE, now + 1))
    return steps


@given(scripts(), st.integers(1, 20), st.sampled_from((0.01, 0.1)), st.sampled_from((2, STREAMS)))
def test_the_same_order_of_flows(steps: list[Step], window: int, max_delay: float, streams: int) -> None:
    """Whatever comes in whatever flow at whatever time; also if there are more flows than are known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reorder, "STREAMS", streams)
        in_python = run_python(window, max_delay, steps)
    assert run_native(window, max_delay, steps, streams) == in_python


@given(st.lists(st.tuples(st.sampled_from((1, 2, 9)), st.sampled_from((0.0, 0.001, 0.03, 11.0))), max_size=20))
def test_the_same_order_over_lines_that_lose_and_reorder(losses: list[tuple[int, float]]) -> None:
    """Some packets of a row of ten are lost, or come so many seconds after packets that both lines sent later."""
    now, steps = 5000.0, [Step(PATH_UP, 5000.0, path) for path in range(2)]
    steps += [Step(ARRIVE, now, number % 2, number, stamp=stamp(now)) for number in range(80)]
    now += 1.0  # the parts of both lines are known
    for first, (missing, later) in enumerate(losses, 8):
        lost = [10 * first + k for k in range(missing)]
        for number in range(10 * first + missing, 10 * first + 10):
            steps += [Step(ARRIVE, now, number % 2, number, stamp=stamp(now)), Step(DEADLINE, now)]
            now += 0.0002
        if later:
            sent, now = now - 0.003, now + later
            steps += [Step(DEADLINE, now), Step(ARRIVE, now, lost[0] % 2, lost[0], stamp=stamp(sent))]
    steps.append(Step(DEADLINE, now + 1))
    assert run_native(200, 0.3, steps, STREAMS) == run_python(200, 0.3, steps)


@example(0.1, 0.05, [(3, 0.0)] * 8)
@given(
    st.sampled_from((0.1, 0.21)),
    st.sampled_from((0.0, 0.01, 0.03, 0.05, 0.06)),
    st.lists(st.tuples(st.sampled_from((0, 1, 2, 3)), st.sampled_from((0.0, 0.002, 0.009))), min_size=8, max_size=20),
)
def test_the_same_belief_in_keepalives(interval: float, difference: float, rounds: list[tuple[int, float]]) -> None:
    """Some of them are lost and some rounds are late; half an interval apart they tell nothing."""
    due = [(5000.0 + number * interval + late, arrived) for number, (arrived, late) in enumerate(rounds)]
    came = [(now + path * difference, path) for now, arrived in due for path in (0, 1) if arrived & 1 << path]
    steps = [Step(PATH_UP, 5000.0, path) for path in range(2)]
    steps += [Step(KEEPALIVE, now, path) for now, path in sorted(came)]
    for number in range(10):
        now = steps[-1].now + 0.2
        steps.append(Step(ARRIVE, now, number % 2, number, stamp=stamp(now)))
        steps += [Step(DEADLINE, now + later) for later in (0.02, 0.04, 0.1)]
    in_python = run_python(100, 0.07, steps)
    assert run_native(100, 0.07, steps, STREAMS) == in_python
    if (interval, difference) == (0.1, 0.05) and set(rounds) == {(3, 0.0)}:
        assert in_python[2][-40:] == [None] * 40  # no packet waits

"""The pure meters behind the estimate of a path: extremes, delays, rates, losses, and the playout made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.delays import IDLE_SAMPLES, TICKS_A_SECOND, DelayMeter, PeerClock, Scale
from mpt.control.extremes import Least
from mpt.control.losses import ENOUGH, LossMeter
from mpt.control.playout import (
    BUDGET,
    LARGEST_LEVELLING,
    LONGEST_HOLD,
    STEP,
    PathDelays,
    Playout,
    admits,
    hold_of,
    wanted_levelling,
    wanted_playout,
)
from mpt.control.rates import GAP, RateMeter

NEAR, FAR = PathDelays(0.010, 0.0, 0.0, 0.020), PathDelays(0.060, 0.0, 0.0, 0.120)
STEPS = st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(-100, 100)), min_size=1, max_size=40)


@given(STEPS)
def test_the_least_of_a_window(steps: list[tuple[float, float]]) -> None:
    """As a list of all values gives it; the newest one does not grow old."""
    least, now = Least(5.0), 0.0
    values: list[tuple[float, float]] = []
    for pause, value in steps:
        now += pause
        least.add(now, value)
        values.append((now, value))
        young = [each for at, each in values if at > now - 5.0]
        assert least.get(now) == min(young)
    assert least.get(now + 100.0) == values[-1][1]


@given(st.integers(0, 1 << 40), st.integers(-TICKS_A_SECOND, 3 * TICKS_A_SECOND))
def test_delays_are_unwound(reference: int, ahead: int) -> None:
    """A delay is at most 1 s below the reference and 3 s above, whatever the clocks are."""
    scale = Scale()
    first = scale.seconds(reference & 0xFFFF)
    assert scale.seconds((reference + ahead) & 0xFFFF) - first == pytest.approx(ahead / TICKS_A_SECOND)


def test_a_clock_that_drifts_for_hours_is_followed() -> None:
    """Each delay is a little more than the last one."""
    scale = Scale()
    first = scale.seconds(0)
    for minute in range(24 * 60):
        delay = scale.seconds(minute * 96 & 0xFFFF)  # 100 ppm
        assert delay - first == pytest.approx(minute * 0.006)
        scale.follow(delay)


@given(st.lists(st.tuples(st.integers(0, 30_000), st.floats(0.0, 0.3)), min_size=1, max_size=20), st.integers(0, 2**32))
def test_a_late_report_was_made_when_it_was_made(reports: list[tuple[int, float]], clock: int) -> None:
    """Whatever way it took: never later than it came, and in the order of the peer's clock."""
    peer, now, last = PeerClock(), 1000.0, 0.0
    assert peer.made(now, clock % 2**32) == now
    for elapsed, late in reports:
        clock += elapsed
        now += elapsed / 1e6
        made = peer.made(now + late, clock % 2**32)
        assert made == pytest.approx(now, abs=1e-5)
        assert made >= last - 1e-6
        last = made


def test_base_queue_and_noise() -> None:
    """The base is the least delay; without load what is above it is noise, under load it is a queue."""
    meter = DelayMeter()
    for number in range(IDLE_SAMPLES):
        meter.take(number * 0.04, 0.020 + 0.001 * (number % 4), 0.040, None, True)
    assert (meter.base, meter.rtt) == (0.020, 0.040)
    assert meter.noise == meter.jitter == pytest.approx(0.003)
    for number in range(4):
        meter.take(2.0 + number * 0.01, 0.043, 0.063, 0.1, False)
    assert meter.queue == meter.calm == pytest.approx(0.020)
    assert meter.jitter == pytest.approx(0.003)


def test_under_load_the_base_is_young() -> None:
    """A delay that has risen by a step is the base within a second, and the noise is in it."""
    meter = DelayMeter()
    meter.take(0.0, 0.020, 0.040, None, True)
    for number in range(150):
        meter.take(1.0 + number * 0.01, 0.050, 0.070, number * 0.01, False)
    assert meter.base == 0.050 and meter.queue == 0.0 and meter.noise == 0.0


def jitter(meter: DelayMeter, now: float, base: float, most: float) -> None:
    """Let a second of load go by on a line with jitter: most reports are of the latest packets, few of lucky ones."""
    for number in range(100):
        lucky = number % 25 == 0
        delay = base + (0.1 if lucky else 0.9) * most
        meter.take(now + number * 0.01, delay, 2 * delay, now - 1.0 + number * 0.01, False)


def test_the_jitter_of_a_line_is_no_queue() -> None:
    """Under load all packets are late, if the order is kept, and the least delay is a lucky one."""
    meter = DelayMeter()
    for number in range(IDLE_SAMPLES):
        meter.take(number * 0.04, 0.020 + 0.005 * (number % 9), 0.040 + 0.010 * (number % 9), None, True)
    assert meter.noise == pytest.approx(0.040)
    assert meter.trip_noise == pytest.approx(0.080)
    for second in range(2, 30):
        jitter(meter, second, 0.020, 0.040)
        assert meter.base is not None and meter.rtt is not None
        assert meter.base + meter.noise == pytest.approx(0.060) and meter.queue == 0.0
        assert meter.rtt + meter.trip_noise == pytest.approx(0.120)
    meter.take(31.0, 0.090, 0.150, 30.0, False)
    assert meter.queue == pytest.approx(0.030)
    jitter(meter, 32.0, 0.070, 0.040)  # the line is later by a step
    jitter(meter, 33.0, 0.070, 0.040)
    assert meter.noise == 0.0
    jitter(meter, 34.0, 0.020, 0.040)  # and earlier again
    assert meter.base is not None and meter.base + meter.noise == pytest.approx(0.060)


def reported(
    meter: RateMeter, rate: float, seconds: float, queue: float, begin: tuple[float, int]
) -> tuple[float, int]:
    """Take reports of 10 ms at `rate` octets a second."""
    now, octets = begin
    for _ in range(round(seconds / 0.010)):
        now, octets = now + 0.010, octets + round(rate * 0.010)
        meter.take(now, round(now * 1e6) & 0xFFFFFFFF, octets, queue, True)
    return now, octets


def test_delivered_peak_and_capacity() -> None:
    """Only a queue that stands shows what the line takes."""
    meter = RateMeter()
    meter.take(4294.9, 4294_900_000, 0, 0.0, False)  # the clock turns over
    at = reported(meter, 1e6, 0.3, 0.0, (4294.9, 0))
    assert (meter.delivered, meter.peak, meter.capacity) == pytest.approx((1e6, 1e6, 0.0))
    at = reported(meter, 3e6, 0.3, 0.010, at)
    assert meter.capacity == pytest.approx(3e6)
    at = reported(meter, 1e6, 0.3, 0.0, at)
    assert meter.delivered == pytest.approx(1e6) and meter.peak == pytest.approx(3e6)
    assert meter.fresh_capacity(at[0], 0.5) == pytest.approx(3e6) and not meter.fresh_capacity(at[0], 0.1)
    at = reported(meter, 1e6, 0.6, 0.0, at)
    assert meter.peak == pytest.approx(1e6)


def test_a_pause_says_nothing_of_the_rate() -> None:
    """After it the rate is measured anew."""
    meter = RateMeter()
    meter.take(1.0, 1_000_000, 0, 0.0, False)
    now, octets = reported(meter, 1e6, 0.3, 0.0, (1.0, 0))
    meter.take(now + 2 * GAP, round((now + 2 * GAP) * 1e6), octets + 100, 0.0, True)
    assert meter.delivered == pytest.approx(1e6)


def test_counters_that_began_anew_are_seen() -> None:
    """The peer is another process."""
    meter = RateMeter()
    meter.take(1.0, 1_000_000, 5000, 0.0, True)
    assert meter.take(1.1, 1_100_000, 7000, 0.0, True) == 2000
    assert meter.take(1.2, 50, 100, 0.0, True) == -1


def test_the_last_round() -> None:
    """What was acknowledged within a round trip."""
    meter = RateMeter()
    assert [meter.acknowledge(number * 0.010, 1000, 0.025) for number in range(5)] == [1000, 2000, 3000, 3000, 3000]


def test_losses_by_their_cause() -> None:
    """What is lost on a full queue is ours; nothing is said until enough was sent."""
    meter = LossMeter()
    meter.take(1.0, 1, 10, False)
    assert meter.radio == meter.load == meter.recent == 0.0
    meter.take(1.1, 4, 85, False)
    meter.take(1.2, 10, 90, True)
    assert meter.sent == pytest.approx(200, abs=5) and meter.sent > ENOUGH
    assert meter.radio == pytest.approx(0.025, abs=0.001) and meter.load == pytest.approx(0.05, abs=0.001)
    assert meter.recent == pytest.approx(15 / 200)
    meter.take(50.0, 0, 1000, False)
    assert meter.radio < 0.002 and meter.recent == 0.0
    meter.forget()
    assert meter.sent == 0.0


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([NEAR], None),
        ([NEAR, NEAR._replace(base=0.0115)], None),  # TCP fills both
        ([NEAR, FAR], 0.010 + 0.02675),  # half of what equalizes them
        ([NEAR, NEAR._replace(base=0.110, rtt=0.220)], 0.010 + 0.05425),
        ([NEAR._replace(noise=0.020)], 0.010 + 0.020),  # levelled,
        ([NEAR._replace(noise=0.050)], 0.010 + LARGEST_LEVELLING),  # by so much at most
        ([], None),
    ],
)
def test_what_playout_is_wanted(paths: list[PathDelays], expected: float | None) -> None:
    """None where TCP can fill all paths by itself."""
    wanted = wanted_playout(paths, (), wanted_levelling(paths, (), LARGEST_LEVELLING))
    assert wanted == (pytest.approx(expected) if expected is not None else None)


def test_levelling_does_not_grow_under_load() -> None:
    """Then `most` is what it is already."""
    noisy = [NEAR._replace(noise=0.020, rtt=0.100)]
    assert wanted_levelling(noisy, (), LARGEST_LEVELLING) == pytest.approx(0.020)
    assert wanted_levelling(noisy, (), 0.008) == 0.008
    assert wanted_levelling([NEAR._replace(noise=0.005)], (), LARGEST_LEVELLING) == wanted_levelling([], (), 1.0) == 0.0


def test_a_noisy_path_that_is_hardly_later_is_levelled_before_it_carries() -> None:
    """A far one is not: the near one would be slower for it."""
    assert wanted_levelling([NEAR], [NEAR._replace(noise=0.020)], LARGEST_LEVELLING) == pytest.approx(0.020)
    assert wanted_levelling([NEAR], [FAR._replace(noise=0.020)], LARGEST_LEVELLING) == 0.0


def test_a_probable_path_counts_if_it_costs_little() -> None:
    """A playout that grew in a slow start would end it; one that doubles the round trip for nothing costs more."""
    middle = PathDelays(0.028, 0.0, 0.0, 0.056)
    assert wanted_playout([NEAR], [middle]) is not None
    assert wanted_playout([NEAR], [FAR]) is None


@given(st.lists(st.builds(PathDelays, *[st.floats(0.0, 2.0)] * 4), max_size=8))
def test_the_hold_is_bounded(paths: list[PathDelays]) -> None:
    """Whatever the lines are."""
    assert 0.0 < hold_of(paths, paths) <= LONGEST_HOLD


def test_the_delay_budget() -> None:
    """What is later than the earliest by more carries no bulk."""
    assert admits(FAR, 0.010, BUDGET) and not admits(FAR._replace(base=0.121), 0.010, BUDGET)


def test_the_playout_moves_in_small_steps() -> None:
    """No flow sees a jump; the first value is taken at once, and none, too."""
    playout = Playout()
    playout.follow(0.050, 0.0)
    assert playout.ticks() == 800
    playout.follow(0.060, 0.010)
    assert playout.value == pytest.approx(0.050 + STEP)
    for number in range(2, 40):
        playout.follow(0.060, number * 0.010)
    assert playout.value == 0.060
    playout.follow(None, 0.5)
    assert playout.ticks() is None
    playout.follow(-0.001, 0.6)
    assert playout.ticks() == 0x10000 - 16

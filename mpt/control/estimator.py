"""What one path carries, and how much may be under way on it: window and pace, from the reports of the peer.

What must hold:

- Only samples under load decide. A path that nobody wanted to fill says nothing of its rate, and an empty queue never
  makes a window smaller.
- A queue above `TARGET` makes the window smaller, to capacity x (round trip + TARGET), at once.
- The loss of the line itself makes no window smaller.

A path *starts*: its window is four times what the last round acknowledged (TCP doubles, in bursts), until the queue
stands in two reports in a row, or one in ten datagrams is lost. Then it is *steady*: the window follows the rate. A
second without load, and it starts again, with the window that it has.

A *drain* lets the queue run empty for a round, so that the base delay is seen under load: when it has not been nearly
empty for `DRAIN_EVERY`. The least delay of the last second is then the base: it may have risen with a step of the line.

On lines of several hundred Mbit/s a busy processor makes delays that look like a queue: the target is larger there.
"""

from __future__ import annotations

from typing import Final

from mpt.control.delays import DelayMeter, Scale
from mpt.control.losses import LossMeter
from mpt.control.rates import EMPTY_QUEUE, RateMeter
from mpt.limits import START_WINDOW, Report

REPORT: Final = 0.010  # s between two reports of a loaded path
TARGET: Final = 0.015  # s of queue
FAST: Final = 25e6  # octets a second from which the target grows, up to
FASTEST: Final = 75e6  # octets a second and
FAST_TARGET: Final = 0.050  # s: on such lines a busy processor makes delays like a queue
GAIN: Final = 1.25  # of the pace over the window
BURST: Final = 0.002  # s of the pace that may go at once
GROWTH: Final = 0.25  # of the acknowledged octets,
GROWTH_TRIP: Final = 0.1  # s: less on a longer round trip, where the queue shows later
OWN_QUEUE: Final = 0.022  # s of queue with which a loss is ours
START_GROWTH: Final = 4.0  # of the octets of the last round: twice what TCP doubles
MOST_START_GROWTH: Final = 16.0
START_BURST: Final = 0.5  # of a round trip: two rounds at once
START_PACE: Final = 4.0  # of the rate of the last round, whose mean is 2 / ln 2 smaller where TCP doubles
SMALLEST_WINDOW: Final = 6_000  # octets
START_RATE: Final = 625_000.0  # octets a second
HOT_REPORTS: Final = 2
START_LOSS: Final = 0.10
FULL: Final = 0.6  # share of reports in which the window held packets back
FULL_TIME: Final = 0.060  # s
DRAIN_EVERY: Final = 0.800  # s
DRAIN_DEPTH: Final = 0.75
LOADED: Final = 0.100  # s
UNLOADED: Final = 1.0  # s
FRESH: Final = 0.500  # s that a capacity is taken for the present one
START_FRESH: Final = 0.300  # s
LOSS_PENALTY: Final = 0.300  # s of delay for a path that loses everything
LARGEST_PENALTY: Final = 0.015  # s
SLIGHT_LOSS: Final = 0.001
FEW_OCTETS: Final = 3_500  # two datagrams


class PathEstimator:
    """One path from `now` on; `scale` is the one of its connection."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self.delays = DelayMeter()
        self.rates = RateMeter()
        self.losses = LossMeter()
        self.window = float(START_WINDOW)
        self.pace = 0.0
        self.burst = BURST
        self.rate = 0.0  # octets a second that the line is believed to carry; 0.0: unknown
        self.is_starting = True
        self.since = 0.0  # of the present state
        self.reports = 0
        self.packets = 0  # datagrams that arrived, as far as was seen
        self._packets: int | None = None
        self._at = 0.0  # of the last report
        self._full = 0.0
        self._full_since: float | None = None
        self._hot = 0
        self._is_fresh = False  # the next report tells what was lost before
        self._loaded_since: float | None = None
        self.samples = 0  # reports of loaded time since the start
        self._round = 0  # octets acknowledged in the last round
        self._low_at = 0.0  # when the queue was nearly empty
        self._drain_until = 0.0
        self._drain_window = 0.0
        self._in_flight = 0

    # ---- what others want to know --------------------------------------------------------------------------------

    @property
    def is_known(self) -> bool:
        """Return whether delays were measured."""
        return self.delays.base is not None and self.delays.rtt is not None

    @property
    def is_full(self) -> bool:
        """Return whether the window is what limits."""
        return self._full > FULL

    @property
    def is_loaded(self) -> bool:
        """Return whether packets were held back lately."""
        return self._loaded_since is not None

    @property
    def target(self) -> float:
        """Return the seconds of queue that are wanted at most."""
        share = (max(self.rate, self.rates.peak) - FAST) / (FASTEST - FAST)
        return TARGET + (FAST_TARGET - TARGET) * min(max(share, 0.0), 1.0)

    @property
    def round_trip(self) -> float:
        """Return the round trip of an empty line with its report, in seconds; 0.2 while it is unknown."""
        return (self.longest_trip if self.is_known else 0.2) + REPORT

    @property
    def longest_trip(self) -> float:
        """Return the longest round trip of an empty line, in seconds; 0.0 while it is unknown."""
        return (self.delays.rtt or 0.0) + self.delays.trip_noise

    @property
    def arrival_rate(self) -> float:
        """Return the rate with which arrivals are foretold, octets a second, more than 0."""
        if not self.is_starting and self.rate:
            return self.rate
        return self.rates.capacity or max(START_RATE, max(2 * self._round, START_WINDOW / 2) / self.round_trip)

    @property
    def shown_rate(self) -> float:
        """Return the rate for people, octets a second."""
        return self.rate or self.rates.capacity or self.rates.peak

    @property
    def penalty(self) -> float:
        """Return the seconds by which a lossy path is taken to be later: a clean one first."""
        loss = self.losses.radio
        return min(LARGEST_PENALTY, loss * LOSS_PENALTY) if loss > SLIGHT_LOSS else 0.0

    @property
    def slack(self) -> float:
        """Return the seconds for which something under way is in no queue."""
        return self.longest_trip + REPORT / 2

    def queue_of(self, in_flight: int) -> float:
        """Return the seconds for which what is under way may wait on the line."""
        return max(self.delays.queue, in_flight / self.arrival_rate)

    # ---- reports -------------------------------------------------------------------------------------------------

    def take(self, report: Report) -> bool:
        """Take a report. Return False if the peer counts anew: another process; the estimate has begun anew, too."""
        now = report.at
        arrived = 0 if self._packets is None else (report.packets - self._packets) & 0xFFFFFFFF
        self._packets = report.packets
        self._in_flight = report.in_flight
        delay = self._scale.seconds(report.least) if report.least is not None else None
        by_load = self.delays.queue > OWN_QUEUE
        octets = self.rates.take(
            now, report.clock, report.octets, self.delays.queue, delay is not None, EMPTY_QUEUE * self.target / TARGET
        )
        if octets < 0 or arrived > 1 << 24:
            self._begin_anew(report)
            return False
        self.reports += 1
        self.packets += arrived
        self.losses.take(now, 0 if self._is_fresh else report.lost, arrived, by_load)
        self._is_fresh = False
        if delay is None and not report.acked and not report.lost:
            return True
        self._note_load(report)
        loaded_for = now - self._loaded_since if self._loaded_since is not None else None
        idle = octets < FEW_OCTETS and loaded_for is None and report.in_flight < SMALLEST_WINDOW
        self.delays.take(now, delay, report.rtt if report.acked else None, loaded_for, idle)
        if self.is_known:
            self._control(now, report.acked)
        return True

    def restart(self, now: float) -> None:
        """Begin to start, with little: after a death, or a change of the line. What was lost then says nothing."""
        self.samples = 0
        self.window = float(START_WINDOW)
        self.rate = 0.0
        self.losses.forget_recent()
        self._is_fresh = True
        self._start_again(now)

    def _start_again(self, now: float) -> None:
        """Begin to start, with the window that there is."""
        self.is_starting = True
        self.since = now
        self.pace = 0.0
        self._hot = 0
        self._loaded_since = None
        self._drain_until = 0.0

    def _begin_anew(self, report: Report) -> None:
        self.delays, self.rates, self.losses = DelayMeter(), RateMeter(), LossMeter()
        self.restart(report.at)
        self.rates.take(report.at, report.clock, report.octets, 0.0, False)

    def _note_load(self, report: Report) -> None:
        now, limited = report.at, report.limited_at
        fade = min(0.5, (now - self._at) / FULL_TIME)
        self._full += ((limited > self._at) - self._full) * fade
        if not self.is_full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        self._at = now
        if now - limited < max(LOADED, self.round_trip + self.delays.queue):
            if self._loaded_since is None:
                self._loaded_since = self._low_at = now
        elif now - limited > UNLOADED:
            self._loaded_since = None
            if not self.is_starting:
                self._start_again(now)

    # ---- the window ----------------------------------------------------------------------------------------------

    def _control(self, now: float, acked: int) -> None:
        self._round = self.rates.acknowledge(now, acked, self.round_trip)
        if self.is_starting:
            self._start(now, acked)
        else:
            self._follow(now, acked)

    def _start(self, now: float, acked: int) -> None:
        target = self.target
        growth = min(START_GROWTH * 2 ** (REPORT / max(self.delays.rtt or 0.0, 0.001)), MOST_START_GROWTH)
        self.window = max(self.window, growth * self._round, START_WINDOW)
        self.pace = START_PACE * max(self._round, START_WINDOW) / self.round_trip
        self.burst = START_BURST * self.round_trip
        self.samples += self._round > SMALLEST_WINDOW
        self._hot = self._hot + 1 if self.delays.queue > target and acked else 0
        if self._hot < HOT_REPORTS and not self._loses_much:
            return
        self.is_starting = False
        self.since = now
        self._loaded_since = self._low_at = now
        self.rate = self.rates.fresh_capacity(now, START_FRESH) or max(self.rates.delivered, self.rates.peak)
        self.window = max(self.rate * (self.round_trip + target), SMALLEST_WINDOW)
        self.pace = self.rate * GAIN
        self.burst = BURST

    @property
    def _loses_much(self) -> bool:
        """Return whether one in ten datagrams is lost under load: probes that a narrow line loses say nothing."""
        carries = self.is_loaded and self._round > SMALLEST_WINDOW
        return carries and self.losses.recent > START_LOSS and self.rates.delivered > 0

    def _follow(self, now: float, acked: int) -> None:
        target = self.target
        queue, rates = self.delays.calm, self.rates
        full = self.is_full
        capacity = rates.fresh_capacity(now, FRESH)
        if capacity:
            rate = capacity
        elif full:
            rate = rates.delivered if queue > 2 * target else rates.peak
        else:
            rate = max(rates.peak, self.rate)
        if full and queue <= 2 * target:
            rate = max(rate, rates.peak)
        self.rate = rate
        goal = max(rate * (self.round_trip + target), SMALLEST_WINDOW)
        if queue > target or (full and queue > target / 2):
            self.window = goal if goal < self.window else self.window + min(goal - self.window, acked)
        elif self._loaded_since is not None:
            if queue < target / 2 and self._is_long_full(now):
                self.window = min(self.window + acked * self._growth(), max(2 * goal, self.window))
            elif goal > self.window:
                self.window += min(goal - self.window, acked)
        if self._loaded_since is not None:
            self._drain(now)
            self.pace = GAIN * self.window / (self.round_trip + target)

    def _growth(self) -> float:
        return GROWTH * min(1.0, GROWTH_TRIP / self.round_trip)

    def _is_long_full(self, now: float) -> bool:
        """Return whether the window has been full for a round, so that the queue shows what it does."""
        return self._full_since is not None and now - self._full_since > self.round_trip

    def _drain(self, now: float) -> None:
        """Let the queue run empty now and then."""
        target = self.target
        queue = self.delays.calm
        if queue < target / 4:
            self._low_at = now
        if now < self._drain_until:
            if self._in_flight <= self._drain_window:
                self._drain_until = now
            else:
                self.window = min(self.window, max(self._drain_window, SMALLEST_WINDOW / 2))
        elif now - self._low_at > DRAIN_EVERY:
            self._low_at = now
            self._drain_until = now + 2 * (self.delays.rtt or 0.0) + target
            self._drain_window = DRAIN_DEPTH * self.rate * self.round_trip

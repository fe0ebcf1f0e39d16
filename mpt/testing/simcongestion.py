"""Congestion control for TCP connections in virtual time: CUBIC with HyStart, and a BBR, near enough to the kernel's.

Sources: RFC 9438 (CUBIC), RFC 9406 (HyStart), and the first draft of BBR
(draft-cardwell-iccrg-bbr-congestion-control-00).
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Final, Protocol

FIRST_WINDOW: Final = 10  # segments


class Sender(Protocol):
    """What a congestion control sees of its sender, in segments and seconds."""

    delivered: int
    least_rtt: float

    @property
    def in_flight(self) -> int: ...


class Cubic:
    """CUBIC with HyStart (delay), in segments."""

    def __init__(self) -> None:
        self.window = float(FIRST_WINDOW)
        self.pace = 0.0
        self.threshold = math.inf
        self._most = 0.0
        self._epoch = -1.0
        self._k = 0.0
        self._least = math.inf  # RTT
        self._round_end = 0
        self._round_least = math.inf
        self._samples = 0
        self.left_slow_start: tuple[float, float] | None = None  # (time, window)

    def measured(self, now: float, rtt: float, rate: float, delivered: int, sender: Sender) -> None:
        """Take an RTT; leave slow start when that of a round has grown."""
        if delivered >= self._round_end:
            self._round_end = sender.delivered
            self._round_least, self._samples = math.inf, 0
        self._least = min(self._least, rtt)
        if self.window < self.threshold and self._samples < 8:
            self._samples += 1
            self._round_least = min(self._round_least, rtt)
            limit = min(max(self._least / 8, 0.004), 0.016)
            if self._samples == 8 and self.window >= 16 and self._round_least > self._least + limit:
                self.threshold = self.window
                self.left_slow_start = (now, self.window)

    def acknowledged(self, now: float, count: int, sender: Sender, recovering: bool) -> None:
        """Grow."""
        if recovering and self.window >= self.threshold:
            return
        if self.window < self.threshold:
            if sender.in_flight + count >= self.window / 2:
                self.window += count
            return
        if self._epoch < 0:
            self._epoch = now
            self._most = max(self._most, self.window)
            self._k = ((self._most - self.window) / 0.4) ** (1 / 3)
            self._reno = self.window
        t = now - self._epoch + sender.least_rtt
        target = 0.4 * (t - self._k) ** 3 + self._most
        self._reno += 0.53 * count / self.window
        target = max(target, self._reno)
        if target > self.window:
            self.window += min((target - self.window) / self.window, 0.5) * count
        else:
            self.window += 0.01 * count / self.window

    def lost(self, now: float, sender: Sender) -> None:
        """Shrink, once a round."""
        if self.left_slow_start is None:
            self.left_slow_start = (now, self.window)
        self._most = self.window if self.window >= self._most else self.window * 0.85
        self.window = self.threshold = max(self.window * 0.7, 2.0)
        self._epoch = -1.0

    def timed_out(self, now: float, sender: Sender) -> None:
        """Begin anew."""
        self._most = self.window
        self.threshold = max(self.window * 0.7, 2.0)
        self.window = 1.0
        self._epoch = -1.0

    def app_limited(self, sender: Sender) -> None:
        """Do nothing."""


class Bbr:
    """BBR version 1, in segments."""

    def __init__(self) -> None:
        self.window = float(FIRST_WINDOW)
        self.pace = 0.0
        self._rates: deque[tuple[int, float]] = deque()  # (round, segments a second)
        self._round = 0
        self._round_end = 0
        self._rtt = math.inf
        self._rtt_at = 0.0
        self._full = 0.0
        self._full_rounds = 0
        self.state = "startup"
        self._phase = 0
        self._phase_at = 0.0
        self._probe_until = 0.0
        self._before = 0.0
        self._app_limited_until = -1
        self.left_slow_start: tuple[float, float] | None = None
        self._random = random.Random(1)

    def measured(self, now: float, rtt: float, rate: float, delivered: int, sender: Sender) -> None:
        """Take an RTT and a delivery rate."""
        new_round = delivered >= self._round_end
        if new_round:
            self._round_end = sender.delivered
            self._round += 1
        limited = delivered < self._app_limited_until
        if not limited or rate > self._rate():
            while self._rates and self._rates[-1][1] <= rate:
                self._rates.pop()
            self._rates.append((self._round, rate))
        while len(self._rates) > 1 and self._rates[0][0] < self._round - 10:
            self._rates.popleft()
        expired = now - self._rtt_at > 10
        if rtt <= self._rtt or expired:
            self._rtt, self._rtt_at = rtt, now
            if expired and self.state == "probe_bw":
                self.state, self._before, self._probe_until = "probe_rtt", self.window, now + 0.2 + rtt
        if self.state == "startup" and new_round and not limited:
            if self._rate() >= self._full * 1.25:
                self._full, self._full_rounds = self._rate(), 0
            else:
                self._full_rounds += 1
                if self._full_rounds >= 3:
                    self.state = "drain"
                    self.left_slow_start = (now, self.window)
        self._control(now, sender)

    def _rate(self) -> float:
        return self._rates[0][1] if self._rates else 0.0

    def _control(self, now: float, sender: Sender) -> None:
        bdp = self._rate() * self._rtt
        gain = 2.0
        pacing = 1.0
        if self.state == "startup":
            pacing = gain = 2.885
        elif self.state == "drain":
            pacing, gain = 1 / 2.885, 2.885
            if sender.in_flight <= bdp:
                self.state, self._phase, self._phase_at = "probe_bw", self._random.randrange(2, 8), now
        elif self.state == "probe_rtt" and now > self._probe_until:
            self.state, self._phase_at, self.window = "probe_bw", now, self._before
            self._rtt_at = now
        if self.state == "probe_bw":
            pacing = (1.25, 0.75, 1, 1, 1, 1, 1, 1)[self._phase]
            over = now - self._phase_at > self._rtt
            if self._phase == 1:
                over = over or sender.in_flight <= bdp
            if self._phase == 0:
                over = (over and sender.in_flight >= 1.2 * bdp) or now - self._phase_at > 2 * self._rtt
            if over:
                self._phase, self._phase_at = (self._phase + 1) % 8, now
        self._target = max(gain * bdp + 3, 4.0)
        self.pace = max(pacing * self._rate(), 10.0)

    def acknowledged(self, now: float, count: int, sender: Sender, recovering: bool) -> None:
        """Set the window."""
        if not self._rates:
            return
        if self.state == "probe_rtt":
            self.window = 4.0
        elif self.state == "startup":
            self.window = max(self.window, min(self.window + count, max(self._target, FIRST_WINDOW)))
        else:
            self.window = min(self.window + count, self._target)

    def lost(self, now: float, sender: Sender) -> None:
        """Do nothing: losses are no signal."""

    def timed_out(self, now: float, sender: Sender) -> None:
        """Begin with little."""
        self.window = 4.0

    def app_limited(self, sender: Sender) -> None:
        """Note that the sender has nothing more to send."""
        self._app_limited_until = sender.delivered + sender.in_flight

"""TCP connections in virtual time, near enough to the kernel's for what a tunnel does to them: SACK, RACK and tail loss
probes. Packets are IPv4 octets. One connection sends one way. The congestion control is `mpt.testing.simcongestion`.

Sources: RFC 8985 (RACK), RFC 6298 (timeouts).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from mpt.testing.datapath import LOCAL, REMOTE, packet
from mpt.testing.simcongestion import Bbr, Cubic
from mpt.testing.simnet import Simulation

MSS: Final = 1378  # octets of a segment in a packet of 1430
TCP: Final = 6
_ACK: Final = 0x10
_TCP: Final = Struct("!HHIIBBHHH")
_BLOCK: Final = Struct("!II")
_OPTIONS: Final = 12  # octets, as with timestamps
_BODY: Final = bytes(MSS)
_ZEROS: Final = bytes(_OPTIONS)

Host = Callable[[bytes], None]  # takes a packet


def _segment(
    source: str,
    destination: str,
    ports: tuple[int, int],
    sequence: int,
    acknowledgement: int,
    rest: bytes,
    options: int,
) -> bytes:
    header = _TCP.pack(
        ports[0], ports[1], sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF, (20 + options) << 2, _ACK, 0xFFFF, 0, 0
    )
    return packet(source, destination, header + rest, TCP)


def ports_of(octets: bytes) -> tuple[int, int]:
    """Return the source and destination port of a packet of this module."""
    return int.from_bytes(octets[20:22], "big"), int.from_bytes(octets[22:24], "big")


class TcpReceiver:
    """Acknowledges every second segment, each that is out of order at once, and counts what is in order."""

    def __init__(self, simulation: Simulation, send: Host, port: int) -> None:
        self._simulation = simulation
        self._send = send
        self._port = port
        self._next = 0  # segment
        self._beyond: set[int] = set()
        self._recent: deque[int] = deque(maxlen=3)  # segments out of order that came last
        self._unacknowledged = 0
        self.octets = 0  # in order
        self.out_of_order = self.duplicates = 0
        self.last = simulation.now
        self.longest_gap = 0.0  # s between two arrivals

    def receive(self, octets: bytes) -> None:
        """Take a segment."""
        number = int.from_bytes(octets[24:28], "big") // MSS
        now = self._simulation.now
        self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now
        if number < self._next or number in self._beyond:
            self.duplicates += 1
            self._acknowledge()
        elif number == self._next:
            self._next += 1
            while self._next in self._beyond:
                self._beyond.discard(self._next)
                self._next += 1
            self.octets = self._next * MSS
            self._unacknowledged += 1
            if self._unacknowledged >= 2 or self._beyond:
                self._acknowledge()
            else:
                self._simulation.after(0.025, self._delayed, self._next)
        else:
            self.out_of_order += 1
            self._beyond.add(number)
            self._recent.append(number)
            self._acknowledge()

    def _delayed(self, number: int) -> None:
        if self._unacknowledged and self._next == number:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._unacknowledged = 0
        blocks: list[tuple[int, int]] = []
        for number in reversed(self._recent):
            if number in self._beyond and not any(begin <= number < end for begin, end in blocks):
                begin = end = number
                while begin - 1 in self._beyond:
                    begin -= 1
                while end in self._beyond:
                    end += 1
                blocks.append((begin, end))
        options = b"".join(_BLOCK.pack(begin * MSS & 0xFFFFFFFF, end * MSS & 0xFFFFFFFF) for begin, end in blocks)
        ports = self._port, self._port
        self._send(_segment(REMOTE, LOCAL, ports, 0, self._next * MSS, options, len(options)))


@dataclass(slots=True)
class _Sent:
    at: float
    delivered: int  # segments delivered when it was sent
    delivered_at: float
    retransmitted: bool = False


class TcpSender:
    """Sends `total` octets, or for ever, with the congestion control `control` (a Cubic or a Bbr)."""

    def __init__(
        self, simulation: Simulation, send: Host, control: Cubic | Bbr, port: int, total: float = math.inf
    ) -> None:
        self._simulation = simulation
        self._send = send
        self.control = control
        self._ports = port, port
        self._last = math.ceil(total / MSS) if total < math.inf else 1 << 60
        self._next = 0
        self._acknowledged = 0  # all below
        self._sacked: set[int] = set()
        self._out: dict[int, _Sent] = {}  # in the order of sending
        self._lost: deque[int] = deque()
        self._lost_set: set[int] = set()
        self.delivered = 0
        self._delivered_at = simulation.now
        self.rtt = 0.0
        self._variance = 0.0
        self.least_rtt = math.inf
        self._newest_sent = 0.0  # of what is delivered
        self._reordering = 0.0  # share of the least RTT that is waited for what is out of order
        self._recover = -1
        self._timer = math.inf
        self._armed = math.inf
        self._backoff = 0
        self._probed = False
        self._free = 0.0  # when pacing allows the next
        self._pacing = False
        self.retransmitted = 0
        self.timeouts = 0
        self.finished: float | None = None
        self.rtts: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin to send."""
        self._fill()

    @property
    def in_flight(self) -> int:
        """Return the segments under way."""
        return len(self._out)

    def receive(self, octets: bytes) -> None:
        """Take an acknowledgement."""
        if self.finished is not None:
            return
        now = self._simulation.now
        cumulative = int.from_bytes(octets[28:32], "big") // MSS
        end_of_header = 20 + (octets[32] >> 2)
        newly: list[tuple[int, _Sent]] = []
        for number in range(self._acknowledged, cumulative):
            if number in self._sacked:
                self._sacked.discard(number)
            else:
                self._deliver(number, newly)
        self._acknowledged = max(self._acknowledged, cumulative)
        for at in range(40, end_of_header, 8):
            begin, end = (edge // MSS for edge in _BLOCK.unpack_from(octets, at))
            for number in range(max(begin, self._acknowledged), end):
                if number not in self._sacked:
                    self._sacked.add(number)
                    self._deliver(number, newly)
        if newly:
            self._measure(newly, now)
        if self._acknowledged >= self._last:
            self.finished = now
            return
        lost = self._detect(now)
        if lost and self._acknowledged > self._recover:
            self._recover = self._next
            self.control.lost(now, self)
        if newly:
            self._backoff = 0
            self._probed = False
            self.control.acknowledged(now, len(newly), self, self._acknowledged <= self._recover)
            self._arm(now)
        self._fill()

    def _deliver(self, number: int, newly: list[tuple[int, _Sent]]) -> None:
        sent = self._out.pop(number, None)
        if sent is None:
            if number in self._lost_set:
                self._lost_set.discard(number)
                self._reordering = min(1.0, self._reordering + 0.25)  # it was not lost
            else:
                return
            sent = _Sent(-1.0, self.delivered, self._delivered_at, True)
        newly.append((number, sent))

    def _measure(self, newly: list[tuple[int, _Sent]], now: float) -> None:
        self.delivered += len(newly)
        self._delivered_at = now
        newest = max((sent for _, sent in newly), key=lambda sent: sent.at)
        if newest.at < 0:
            return
        self._newest_sent = max(self._newest_sent, newest.at)
        if not newest.retransmitted:
            rtt = now - newest.at
            self.rtts.append((now, rtt))
            self.least_rtt = min(self.least_rtt, rtt)
            if not self.rtt:
                self.rtt, self._variance = rtt, rtt / 2
            else:
                self._variance += (abs(rtt - self.rtt) - self._variance) / 4
                self.rtt += (rtt - self.rtt) / 8
            elapsed = max(now - newest.delivered_at, newest.at - newest.delivered_at, 1e-6)
            self.control.measured(now, rtt, (self.delivered - newest.delivered) / elapsed, newest.delivered, self)

    def _detect(self, now: float) -> int:
        """Take what RACK calls lost out of what is under way; return how many."""
        window = min(self.least_rtt * max(0.25, self._reordering), self.rtt) if self.rtt else 0.0
        lost = 0
        while self._out:
            number, sent = next(iter(self._out.items()))
            if sent.at + window >= self._newest_sent:
                if sent.at < self._newest_sent and lost == 0:
                    self._simulation.at(sent.at + window + self.rtt, self._look)
                break
            del self._out[number]
            self._lost.append(number)
            self._lost_set.add(number)
            lost += 1
        return lost

    def _look(self) -> None:
        if self.finished is None and self._out:
            now = self._simulation.now
            first = next(iter(self._out.values()))
            window = min(self.least_rtt * max(0.25, self._reordering), self.rtt)
            if first.at < self._newest_sent and now - first.at >= self.rtt + window:
                for number, sent in list(self._out.items()):
                    if sent.at >= self._newest_sent or now - sent.at < self.rtt + window:
                        break
                    del self._out[number]
                    self._lost.append(number)
                    self._lost_set.add(number)
                if self._acknowledged > self._recover:
                    self._recover = self._next
                    self.control.lost(now, self)
                self._fill()

    def _fill(self) -> None:
        now = self._simulation.now
        while len(self._out) < int(self.control.window):
            rate = self.control.pace  # segments a second
            if rate and self._free > now + 0.001:
                if not self._pacing:
                    self._pacing = True
                    self._simulation.at(self._free, self._paced)
                return
            number = None
            while self._lost:
                candidate = self._lost.popleft()
                if candidate in self._lost_set:
                    self._lost_set.discard(candidate)
                    number = candidate
                    self.retransmitted += 1
                    break
            again = number is not None
            if number is None:
                if self._next >= self._last:
                    self.control.app_limited(self)
                    return
                number = self._next
                self._next += 1
            if rate:
                self._free = max(self._free, now) + 1 / rate
            self._transmit(number, again, now)

    def _transmit(self, number: int, again: bool, now: float) -> None:
        if not self._out:
            self._delivered_at = now
        self._out[number] = _Sent(now, self.delivered, self._delivered_at, again)
        self._send(_segment(LOCAL, REMOTE, self._ports, number * MSS, 0, _ZEROS + _BODY, _OPTIONS))
        if self._timer == math.inf:
            self._arm(now)

    def _paced(self) -> None:
        self._pacing = False
        if self.finished is None:
            self._fill()

    def _arm(self, now: float) -> None:
        rto = max(0.2, self.rtt + 4 * self._variance) if self.rtt else 1.0
        if self.rtt and not self._probed:
            rto = min(rto, max(2 * self.rtt, 0.01) + (0.025 if len(self._out) < 2 else 0))
        self._timer = now + rto * 2**self._backoff
        if self._timer < self._armed:
            self._armed = self._timer
            self._simulation.at(self._timer, self._expire)

    def _expire(self) -> None:
        now = self._simulation.now
        self._armed = math.inf
        if self.finished is not None or not (self._out or self._lost):
            self._timer = math.inf
            return
        if now < self._timer:
            self._armed = self._timer
            self._simulation.at(self._timer, self._expire)
            return
        if not self._probed and self.rtt and self._out:
            self._probed = True
            number = next(reversed(self._out))
            del self._out[number]
            self.retransmitted += 1
            self._transmit(number, True, now)
        else:
            self.timeouts += 1
            self._backoff = min(self._backoff + 1, 6)
            for number in sorted(self._out):
                self._lost.append(number)
                self._lost_set.add(number)
            self._out.clear()
            self._recover = self._next
            self.control.timed_out(now, self)
            self._fill()
        self._arm(now)

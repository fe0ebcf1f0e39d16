"""Levelling out the delays of the paths: learning, holding back, and the cost of a wrong belief."""

from __future__ import annotations

import random

import pytest

from mpt.data.equalizer import SHARE, Equalizer
from mpt.data.ordering import Ordering

MAX_DELAY = 0.1
WINDOW = 1000


class Wire:
    """Two paths with fixed delays into an Ordering; time moves from event to event."""

    def __init__(self, *delays: float, window: int = WINDOW) -> None:
        self.ordering = Ordering(window, MAX_DELAY)
        self.delays = delays
        self.delivered: list[tuple[float, int]] = []  # (time, number)
        self.events: list[tuple[float, int, str, int, int]] = []
        self.newest = [0.0] * len(delays)
        for path in range(len(delays)):
            self.ordering.path_up(path, 0.0)

    def keepalives(self, start: float, interval: float, rounds: int, *offsets: float) -> None:
        """Each path brings `rounds` of them; a peer that does not send them together has `offsets`."""
        for number in range(rounds):
            for path, delay in enumerate(self.delays):
                offset = offsets[path] if offsets else 0.0
                self._event(start + offset + number * interval + delay, "keepalive", path, number)

    def packets(self, start: float, count: int, interval: float, first: int = 0) -> None:
        """Packets that take the paths in turn, each path keeping its order."""
        for number in range(first, first + count):
            path = number % len(self.delays)
            self.newest[path] = max(self.newest[path] + 1e-6, start + (number - first) * interval + self.delays[path])
            self._event(self.newest[path], "packet", path, number)

    def _event(self, when: float, kind: str, path: int, number: int) -> None:
        self.events.append((when, len(self.events), kind, path, number))

    def run(self) -> Wire:
        """Play what was planned, and then wait until nothing waits."""
        for when, _, kind, path, number in sorted(self.events):
            self._until(when)
            if kind == "keepalive":
                self.ordering.keepalive(path, when)
            else:
                self._deliver(when, self.ordering.arrive(number, number, path, when))  # type: ignore[arg-type]
        self.events.clear()
        self._until(float("inf"))
        return self

    def _until(self, when: float) -> None:
        while (deadline := self.ordering.next_deadline()) is not None and deadline <= when:
            self._deliver(deadline, self.ordering.deadline_reached(deadline))

    def _deliver(self, when: float, packets: object) -> None:
        self.delivered += [(when, number) for number in packets]  # type: ignore[attr-defined]

    def latencies(self, start: float, interval: float, first: int = 0) -> list[float]:
        """From sending to delivery, packet by packet, for what packets() sent."""
        return [
            round(when - start - (number - first) * interval, 4) for when, number in self.delivered if number >= first
        ]


def test_paths_that_are_equally_late_are_not_touched() -> None:
    """No packet waits, no timer is wanted."""
    wire = Wire(0.010, 0.010)
    wire.keepalives(0.0, 0.1, 3)
    wire.packets(1.0, 100, 0.001)
    wire.run()
    assert wire.latencies(1.0, 0.001) == [0.01] * 100


def test_keepalives_that_arrive_apart_tell_the_difference_before_any_data() -> None:
    """So the very first packets, a TCP handshake, see the same delay on both paths."""
    wire = Wire(0.005, 0.045)
    wire.keepalives(0.0, 0.1, 3)
    wire.packets(1.0, 10, 0.2)
    wire.run()
    assert wire.latencies(1.0, 0.2) == [0.045] * 10


def test_a_difference_is_told_from_the_interval() -> None:
    """With keepalives every 0.1 s, 60 ms earlier and 40 ms later look the same; the nearer one is believed."""
    wire = Wire(0.045, 0.005)
    wire.keepalives(0.0, 0.1, 4)
    wire.packets(1.0, 10, 0.2)
    wire.run()
    assert wire.latencies(1.0, 0.2) == [0.045] * 10


def test_keepalives_that_arrive_half_an_interval_apart_tell_nothing() -> None:
    """Which path is later is not to be seen then, and a difference of the wrong sign is worse than none."""
    wire = Wire(0.005, 0.055)
    wire.keepalives(0.0, 0.1, 10)
    wire.packets(2.0, 10, 0.2)
    wire.run()
    assert wire.latencies(2.0, 0.2) == [0.005, 0.055] * 5


def test_a_lost_keepalive_makes_no_interval_longer() -> None:
    """The next one of its path is as near to those before it and after it as ever."""
    wire = Wire(0.005, 0.055)
    wire.keepalives(0.0, 0.1, 5)
    wire.events = [event for event in wire.events if event[3:] != (0, 3)]
    wire.packets(0.43, 2, 0.2)
    wire.run()
    assert wire.latencies(0.43, 0.2) == [0.005, 0.055]


@pytest.mark.parametrize("difference", [0.05, 0.06])
def test_keepalives_do_not_turn_round_what_dense_traffic_taught(difference: float) -> None:
    """Of two readings, the one nearer to what is known is taken."""
    wire = Wire(0.005, 0.005 + difference)
    wire.packets(0.0, 500, 0.0005)
    wire.keepalives(0.6, 0.1, 10)
    wire.packets(2.0, 10, 0.2, first=500)
    wire.run()
    expected = pytest.approx(0.005 + difference, abs=0.003)
    assert all(latency == expected for latency in wire.latencies(2.0, 0.2, first=500))


def test_keepalives_tell_that_a_long_difference_is_gone() -> None:
    """They arrive together then, and a difference of a whole interval is not possible."""
    wire = Wire(0.005, 0.065)
    wire.packets(0.0, 500, 0.0005)
    wire.run()
    wire.delays = (0.005, 0.005)
    wire.keepalives(1.0, 0.1, 15)
    wire.packets(3.0, 10, 0.2, first=500)
    wire.run()
    assert wire.latencies(3.0, 0.2, first=500) == [0.005] * 10


def test_dense_traffic_teaches_it_without_keepalives() -> None:
    """Packets that wait in the reorder buffer show which path is later, and by how much."""
    wire = Wire(0.005, 0.045)
    wire.packets(0.0, 500, 0.0005)
    wire.packets(1.0, 10, 0.2, first=500)
    wire.run()
    assert all(latency == pytest.approx(0.045, abs=0.003) for latency in wire.latencies(1.0, 0.2, first=500))
    assert [number for _, number in wire.delivered] == list(range(510))


def test_a_path_that_becomes_faster_is_followed() -> None:
    """The estimate moves in both directions."""
    wire = Wire(0.005, 0.045)
    wire.packets(0.0, 500, 0.0005)
    wire.run()
    wire.delays = (0.005, 0.015)
    wire.packets(1.0, 500, 0.0005, first=500)
    wire.packets(2.0, 10, 0.2, first=1000)
    wire.run()
    assert all(latency == pytest.approx(0.015, abs=0.003) for latency in wire.latencies(2.0, 0.2, first=1000))


def test_what_waits_does_not_keep_up_a_difference_that_is_too_small() -> None:
    """While packets of a path wait, later ones of it queue up behind them, but not for longer than these wait."""
    equalizer = Equalizer(0.075, 100)
    for path in ("fast", "slow"):
        equalizer.path_up(path)
    for time in (0.0, 1.0):
        equalizer.keepalive("fast", time)
        equalizer.keepalive("slow", time + 0.010)
    assert equalizer.shifts == {"fast": pytest.approx(0.010)}
    equalizer.delay(1, b"", "fast", 2.0)
    for _ in range(40):
        equalizer.gap_filled("slow", "fast", 0.002)
    assert equalizer.shifts == {"fast": 0.0}
    equalizer.delay(2, b"", "fast", 2.005)
    assert [equalizer.due(2.0101), equalizer.due(2.0101)] == [
        (1, b"", "fast", 2.0, None, 0),
        (2, b"", "fast", 2.005, None, 0),
    ]
    equalizer.gap_filled("slow", "fast", 0.002)
    assert equalizer.shifts == {}


def test_a_path_that_goes_takes_its_lateness_with_it() -> None:
    """The fast path alone is as fast as it is."""
    wire = Wire(0.005, 0.045)
    wire.keepalives(0.0, 0.1, 3)
    wire.run()
    wire.ordering.path_down(1, 1.0)
    assert wire.ordering.arrive(0, b"packet", 0, 1.0) == (b"packet",)


def test_a_peer_that_sends_its_keepalives_apart_costs_no_packet_and_is_seen_through() -> None:
    """Its 70 ms look like a delay; the first packets that come late because of it end the belief."""
    wire = Wire(0.005, 0.045)
    wire.keepalives(0.0, 0.2, 5, 0.080, 0.0)
    wire.packets(2.0, 2000, 0.0005)
    wire.packets(4.0, 10, 0.2, first=2000)
    wire.run()
    numbers = [number for _, number in wire.delivered]
    assert numbers == sorted(numbers)
    assert len(numbers) > 1900
    assert max(wire.latencies(4.0, 0.2, first=2000)) < 0.05


def test_nothing_waits_longer_than_max_delay_in_all() -> None:
    """Levelling and waiting for a gap share max_buffdelay."""
    wire = Wire(0.005, 0.045)
    wire.keepalives(0.0, 0.1, 3)
    wire.packets(1.0, 400, 0.0005)
    wire.events = [event for event in wire.events if event[2] == "keepalive" or event[4] % 50 or not event[4]]
    arrivals = {event[4]: event[0] for event in wire.events if event[2] == "packet"}
    wire.run()
    assert len(wire.delivered) == len(arrivals)
    assert max(when - arrivals[number] for when, number in wire.delivered) <= MAX_DELAY + 1e-9


def test_no_more_than_a_window_of_packets_waits_in_the_line() -> None:
    """Memory is bounded; a packet that does not fit goes on at once."""
    wire = Wire(0.005, 0.045, window=10)
    wire.keepalives(0.0, 0.1, 3)
    wire.run()
    for number in range(0, 100, 2):
        wire.ordering.arrive(number, b"packet", 0, 1.0)
    assert wire.ordering.held <= 2 * 10 + 4


def test_differences_beyond_the_limit_are_not_levelled_out() -> None:
    """A satellite beside a DSL line: only a share of max_buffdelay is spent."""
    wire = Wire(0.005, 0.305)
    wire.packets(0.0, 40, 0.0001)
    wire.run()
    assert wire.ordering._equalizer.longest_shift <= SHARE * MAX_DELAY


def test_flush_gives_back_everything_in_order() -> None:
    """The line and the buffer."""
    wire = Wire(0.005, 0.045)
    wire.keepalives(0.0, 0.1, 3)
    wire.run()
    for number in (0, 2, 4):
        wire.ordering.arrive(number, bytes([number]), 0, 1.0)
    wire.ordering.arrive(3, bytes([3]), 1, 1.0)
    assert wire.ordering.flush() == [bytes([number]) for number in (0, 2, 3, 4)] or wire.ordering.held == 0


@pytest.mark.parametrize("seed", range(10))
def test_random_delays_and_bursts_lose_nothing(seed: int) -> None:
    """Paths whose delays wander, traffic in bursts: all is delivered, in order."""
    random.seed(seed)
    wire = Wire(0.005, 0.03)
    wire.keepalives(0.0, 0.1, 40)
    wire.packets(0.4, 1, 0.0)
    start, first = 0.5, 1
    for _ in range(60):
        count = random.randint(1, 40)
        wire.delays = (0.005 + random.random() * 0.01, 0.03 + random.random() * 0.015)
        wire.packets(start, count, random.choice((0.0, 0.0003, 0.003)), first)
        start, first = start + random.random() * 0.1, first + count
    wire.run()
    assert [number for _, number in wire.delivered] == list(range(first))


def test_one_late_packet_does_not_end_the_belief_in_keepalives() -> None:
    """An exception costs ten seconds of it; afterwards keepalives tell the difference again."""
    wire = Wire(0.005, 0.045)
    wire.keepalives(0.0, 0.1, 10)
    wire.packets(1.5, 2, 0.2)
    wire.run()
    wire.ordering._equalizer.came_late(0, 2.0)
    wire.keepalives(2.1, 0.5, 15)
    wire.packets(10.0, 10, 0.2, first=2)
    wire.run()
    assert wire.latencies(10.0, 0.2, first=2) == [0.005, 0.045] * 5
    wire.keepalives(13.0, 0.5, 4)
    wire.packets(20.0, 10, 0.2, first=12)
    wire.run()
    assert wire.latencies(20.0, 0.2, first=12) == [0.045] * 10


def test_the_doubt_about_keepalives_grows_and_ends() -> None:
    """A peer that does not send them together is believed ever more seldom, and an exception after long counts once."""

    def doubted(equalizer: Equalizer, start: float) -> float:
        """For how long keepalives teach nothing after a late packet at `start`."""
        equalizer.shifts = {"fast": 0.02}
        equalizer.came_late("fast", start)
        assert equalizer.shifts == {}
        time = start
        while not equalizer.shifts:
            time += 1.0
            equalizer.keepalive("fast", time)
            equalizer.keepalive("slow", time + 0.03)
        return time - start

    equalizer = Equalizer(0.075, 100)
    for path in ("fast", "slow"):
        equalizer.path_up(path)
    first = [doubted(equalizer, time) for time in (1000.0, 1100.0, 1200.0, 1300.0)]
    assert first == [10.0, 20.0, 40.0, 80.0]
    assert doubted(equalizer, 1390.0) == 160.0
    assert [doubted(equalizer, 2600.0 + n * 1000) for n in range(3)] == [10.0, 10.0, 10.0]

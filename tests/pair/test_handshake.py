"""Two whole ends, each initiator and responder, joined by a network that loses, repeats, delays and reorders."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from heapq import heappop, heappush

import pytest

from mpt.control.agreement import Agreement
from mpt.control.handshake import Handshakes, Outgoing
from mpt.control.initiator import Endpoint, Outcome, create_request, path_status_request
from mpt.control.responder import ConnectionCreate, PathStatusChange, concerned_path
from mpt.model import AuthType, ConnectionConfig
from mpt.wire import command
from mpt.wire.command import Result
from tests.control.peers import (
    A_END,
    B_END,
    TEXT,
    Everybody,
    NotingHost,
    Side,
    begin,
    connection,
    create_3,
    octets,
    reply_to,
    round_1,
    round_3,
)

SETTLED = 20.0  # seconds: two reports that fail (6 each, 3 of waiting between them), or one that fails and is confirmed
FUZZ = int(os.environ.get("MPT_FUZZ", "10000"))


@dataclass
class Weather:
    """What the network does. Probabilities, and the longest delay in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.05


class End(NotingHost):
    """One daemon: its handshakes, and what it agrees on with the other."""

    def __init__(self, world: World, config: ConnectionConfig, own: Endpoint, peer: Endpoint, seed: int) -> None:
        super().__init__([config])
        self.world = world
        self.config = config
        self.own = own
        self.peer = peer
        dice = random.Random(seed)
        self.handshakes = Handshakes(self, lambda: dice.randrange(1, 2**32).to_bytes(4, "little"))
        self.agreement = Agreement([True, True], [True, True])
        self.state = [True, True]
        self.outcomes: list[Outcome] = []

    def path_status(self, change: PathStatusChange) -> int:
        index = concerned_path(change, {})
        if index is not None:
            self.agreement.peer_says(index, change.up, self.world.now)
        return super().path_status(change)

    def set_path(self, index: int, up: bool) -> None:
        self.state[index] = up
        self.agreement.own_state(index, up, self.world.now)
        self.work()

    def work(self) -> None:
        """Begin the report that is due, if there is one."""
        report = self.agreement.next_report(self.world.now)
        if report is not None:
            path = self.config.paths[report.path]
            request = path_status_request(self.config, path.public_ipaddr, path.remote_ipaddr, report.up)
            self.send(self.handshakes.begin(request, self.peer, self.ended, self.world.now))

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.agreement.report_ended(outcome.ok, self.world.now)

    def send(self, datagrams: list[Outgoing]) -> None:
        for out in datagrams:
            self.world.carry(out.datagram, self.own, out.destination)

    def receive(self, datagram: bytes, source: Endpoint) -> None:
        self.send(self.handshakes.receive(datagram, source, self.world.now))
        self.work()

    def next_deadline(self) -> float | None:
        deadlines = (self.handshakes.next_deadline(), self.agreement.next_deadline(self.world.now))
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def deadline_reached(self) -> None:
        self.send(self.handshakes.deadline_reached(self.world.now))
        self.work()


@dataclass
class World:
    """Both ends, and everything that is under way between them."""

    seed: int
    auth_type: AuthType
    weather: Weather = field(default_factory=Weather)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.flying: list[tuple[float, int, bytes, Endpoint, Endpoint]] = []
        self.carried = 0
        a, b = connection(2, 3, self.auth_type), connection(3, 2, self.auth_type)
        self.ends = {A_END: End(self, a, A_END, B_END, 1), B_END: End(self, b, B_END, A_END, 2)}

    def carry(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        copies = 0 if self.dice.random() < self.weather.loss else 1
        copies += copies and self.dice.random() < self.weather.duplication
        for _ in range(copies):
            self.carried += 1
            arrival = self.now + self.dice.random() * self.weather.delay
            heappush(self.flying, (arrival, self.carried, datagram, source, destination))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            deadlines = [(deadline, 0, each) for each in self.ends.values() if (deadline := each.next_deadline())]
            deadline, _, late = min(deadlines, key=lambda one: one[0], default=(end + 1, 0, None))
            arrival = self.flying[0][0] if self.flying else end + 1
            if min(arrival, deadline) > end:
                self.now = end
                return
            if arrival <= deadline:
                self.now, _, datagram, source, destination = heappop(self.flying)
                self.ends[destination].receive(datagram, source)
            elif late is not None:
                self.now = max(self.now, deadline)
                late.deadline_reached()
        raise AssertionError("the two ends never come to rest")

    def agreed(self) -> bool:
        """Each end knows what holds at the other."""
        a, b = self.ends.values()
        return all(
            one.agreement.peer_down(index, self.now) is not other.state[index]
            for one, other in ((a, b), (b, a))
            for index in (0, 1)
        )


@pytest.mark.parametrize("auth_type", AuthType)
@pytest.mark.parametrize("seed", range(15))
def test_two_ends_agree_soon_whatever_the_network_does(seed: int, auth_type: AuthType) -> None:
    """Paths go up and down on both sides, also at once; after each change both ends soon see it the same way."""
    dice = random.Random(seed)
    world = World(seed, auth_type)
    for _ in range(8):
        world.weather = Weather(dice.uniform(0, 0.35), dice.uniform(0, 0.5), dice.choice((0.0, 0.1, 0.7, 1.5)))
        for _ in range(dice.randint(1, 4)):
            end = world.ends[dice.choice((A_END, B_END))]
            end.set_path(dice.randrange(2), dice.random() < 0.5)
            world.run(dice.choice((0.0, 0.0, 0.01, 1.0)))
        world.run(SETTLED)
        assert world.agreed(), (world.now, world.weather)


@pytest.mark.parametrize("auth_type", AuthType)
@pytest.mark.parametrize("first", [A_END, B_END])
def test_reports_that_cross_undo_nothing(auth_type: AuthType, first: Endpoint) -> None:
    """Both ends find the path dead at once, and it returns to one of them only; in either order both know it."""
    world = World(7, auth_type, Weather(delay=0.1))
    second = A_END if first == B_END else B_END
    world.ends[first].set_path(0, False)
    world.ends[second].set_path(0, False)
    world.run(1.0)
    assert world.agreed()
    world.ends[second].set_path(0, True)
    world.run(1.0)
    assert world.agreed() and world.ends[second].agreement.peer_down(0, world.now)
    world.ends[first].set_path(0, True)
    world.run(1.0)
    assert world.agreed()


@pytest.mark.parametrize("auth_type", AuthType)
def test_a_network_that_was_gone_is_caught_up_with(auth_type: AuthType) -> None:
    """Nothing gets through for five minutes; then both ends agree within the pause between two reports."""
    world = World(3, auth_type)
    world.weather.loss = 1.0
    for up in (False, True, False):
        world.ends[A_END].set_path(0, up)
        world.run(100.0)
    assert {outcome.result for outcome in world.ends[A_END].outcomes} == {Result.NO_ANSWER}
    world.weather.loss = 0.0
    world.run(11.0)
    assert world.agreed()


def test_a_down_stays_known_as_long_as_it_lasts() -> None:
    """It is reported again and again, and so outlasts its lease."""
    world = World(4, AuthType.SHA256, Weather(loss=0.2))
    world.ends[A_END].set_path(1, False)
    for _ in range(60):
        world.run(5.0)
        assert world.agreed()


@pytest.mark.parametrize("seed", range(10))
def test_a_create_is_executed_once(seed: int) -> None:
    """However often its datagrams are lost and repeated."""
    world = World(seed, AuthType.NONE, Weather(0.3, 0.5, 0.4))
    a, b = world.ends.values()
    b.connections.clear()
    a.send(a.handshakes.begin(create_request(a.config, TEXT), B_END, a.ended, world.now))
    world.run(10.0)
    assert len(a.outcomes) == 1
    assert a.outcomes[0].text == TEXT if a.outcomes[0].ok else len(b.creates) <= 1
    assert len(b.creates) == 1


# ---- hostile datagrams ----------------------------------------------------------------------------------------------


def mutated(datagram: bytes, dice: random.Random) -> bytes:
    """`datagram` with octets changed, cut off or added."""
    data = bytearray(datagram)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) or 1)
        match dice.randrange(4):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del data[at : at + dice.randint(1, 20)]
            case 2:
                data[at:at] = dice.randbytes(dice.randint(1, 20))
            case _:
                if data:
                    data[at % len(data)] ^= 1 << dice.randrange(8)
    return bytes(data)


def knocked_at(auth_type: AuthType) -> tuple[Side, list[bytes]]:
    """Return a host that is asked and asks, in the midst of handshakes, and the next good datagram of each."""
    config = connection(3, 2, auth_type)
    host = Side(NotingHost([config]), Everybody())
    path = config.paths[0]
    first = octets(round_1(auth_type))
    create = octets(round_1(AuthType.SHA256, 0, command.CREATE))
    offers = [host.answer(datagram) for datagram in (first, create)]
    one = begin(host, path_status_request(config, path.public_ipaddr, path.remote_ipaddr, False))
    two = begin(host, create_request(config, TEXT))
    return host, [
        first,
        create,
        octets(round_3(auth_type, offers[0].random)),
        octets(create_3(offers[1].random, TEXT * 20)),
        octets(reply_to(one.last)),
        octets(reply_to(two.last)),
    ]


def test_spoilt_datagrams_change_nothing() -> None:
    """Of an authenticated connection: each is counted under a reason, and good ones are still answered afterwards."""
    dice = random.Random(8086)
    host, good = knocked_at(AuthType.SHA256)
    before = len(host.handshakes._responder)
    sent = 0
    for _ in range(FUZZ):
        datagram = mutated(dice.choice(good), dice)
        if datagram in good:
            continue
        sent += 1
        for reply in host.ask(datagram, dice.choice((A_END, A_END, B_END))):
            assert reply[4 + reply[3]] == 4 or command.decode(reply).value
    assert host.counters.total() == sent
    assert not host.host.changes and not host.host.creates and len(host.handshakes._responder) == before
    assert all(count > 0 for count in host.counters.values()) and len(host.counters) > 6
    assert host.answer(good[2]).value == Result.DONE and len(host.host.changes) == 1


@pytest.mark.parametrize("auth_type", AuthType)
def test_no_datagram_raises(auth_type: AuthType) -> None:
    """Neither spoilt nor random ones, from any endpoint, at any time."""
    dice = random.Random(4754)
    host, good = knocked_at(auth_type)
    for number in range(FUZZ // 4):
        random_one = dice.randbytes(dice.randint(0, 120))
        datagram = mutated(dice.choice(good), dice) if number % 5 else bytes([dice.randrange(0xA0, 0xA6)]) + random_one
        host.ask(datagram, dice.choice((A_END, B_END)))
        host.now += dice.random() * 0.01
        host.handshakes.deadline_reached(host.now)


def test_forged_sources_and_replays_from_a_recording_change_nothing() -> None:
    """Somebody heard a whole exchange and plays it again, from the true address and from his own, in any order."""
    dice = random.Random(1)
    world = World(1, AuthType.SHA256)
    recording: list[bytes] = []
    carry = world.carry

    def record(datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        recording.append(datagram)
        carry(datagram, source, destination)

    world.carry = record  # type: ignore[method-assign]
    world.ends[A_END].set_path(0, False)
    world.run(1.0)
    world.ends[A_END].set_path(0, True)
    world.run(30.0)
    b = world.ends[B_END]
    executed = len(b.changes)
    heard = list(recording)
    for _ in range(2000):
        world.now += dice.random()
        b.handshakes.receive(dice.choice(heard), dice.choice((A_END, B_END, (A_END[0], 5))), world.now)
    assert len(b.changes) == executed and world.agreed()


def test_a_create_of_a_peer_is_not_executed_for_the_create_of_another() -> None:
    """Two peers create at the same time: each gets its own."""
    host = Side(NotingHost())
    other = (A_END[0], 1234)
    create = octets(round_1(AuthType.SHA256, 0, command.CREATE))
    offers = [host.answer(create, source) for source in (A_END, other)]
    assert host.answer(octets(create_3(offers[1].random)), A_END).value == Result.ROUND_MISMATCH
    assert host.answer(octets(create_3(offers[0].random)), A_END).value == Result.DONE
    requests: list[ConnectionCreate] = host.host.creates
    assert [request.source for request in requests] == [A_END]

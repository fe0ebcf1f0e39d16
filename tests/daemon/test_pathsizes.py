"""The sizes of a connection's paths, with a peer that answers what fits; and a machine that sleeps."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mpt.control.pathmtu import CONFIRM_TIME, SMALL, TRIES, WAIT
from mpt.daemon.machine import Machine
from mpt.daemon.pathsizes import PathKey, PathSizes
from mpt.daemon.sleepwatch import INTERVAL, SleepWatch
from mpt.data.pathstate import PathMeasures
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSystem
from mpt.wire import message, seal

FIRST, SECOND = ("c", 0), ("c", 1)
FRAME = seal.OVERHEAD + 12


class Stage:
    """Paths whose lines pass datagrams of `passes` octets; every path carries packets."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.reactor.advance(1000.0)
        self.passes = {FIRST: 1472, SECOND: 1472}
        self.told: list[dict[PathKey, int]] = []
        self.sent: list[tuple[PathKey, int]] = []
        self.packets = 0
        netlink = FakeNetlink()
        machine = Machine(self.reactor, self.reactor.seconds, FakeSystem(netlink), netlink)
        self.sizes = PathSizes(machine, FRAME, self.send, self.measured, self.changed)

    def send(self, path: PathKey, octets: bytes) -> None:
        probe = message.decode_message(octets)
        assert isinstance(probe, message.SizeProbe)
        self.sent.append((path, probe.size))
        if probe.size <= self.passes[path]:
            self.reactor.callLater(0.02, self.sizes.seen, path, probe.size)

    def measured(self, path: PathKey) -> PathMeasures:
        self.packets += 1
        return PathMeasures(packets_sent=self.packets)

    def changed(self, mtus: Mapping[PathKey, int]) -> None:
        self.told.append(dict(mtus))


@pytest.mark.parametrize(("version", "expected"), [(4, 1430), (6, 1410)])
def test_a_path_that_carries_all_is_known_after_a_round_trip(version: int, expected: int) -> None:
    """The link says at first how much it carries, and the TUN waits until that is known (session 3)."""
    stage = Stage()
    stage.sizes.begin(FIRST, 1500, version)
    assert stage.told == [{FIRST: expected}] and stage.sizes.tunnel_mtu() is None
    stage.reactor.pass_time(0.1)
    assert stage.sizes.mtu(FIRST) == expected == stage.sizes.tunnel_mtu()
    assert stage.told[-1] == {}  # the tunnel's
    stage.sizes.stop()
    assert stage.reactor.getDelayedCalls() == []


def test_the_narrower_path_decides_for_the_tunnel() -> None:
    """Every change is told once; a path that ends takes its size along."""
    stage = Stage()
    stage.passes[SECOND] = 1400
    stage.sizes.begin(FIRST, 1500, 4)
    stage.sizes.begin(SECOND, 1500, 4)
    stage.reactor.pass_time(TRIES * WAIT * 12)
    assert stage.sizes.mtu(FIRST) == 1430
    assert 1400 - FRAME - 4 < stage.sizes.mtu(SECOND) <= 1400 - FRAME
    assert stage.sizes.tunnel_mtu() == stage.sizes.mtu(SECOND)
    assert all(one != two for one, two in zip(stage.told[1:], stage.told[2:], strict=False))
    stage.sizes.end(SECOND)
    stage.sizes.end(SECOND)
    assert stage.sizes.mtu(SECOND) == 0 and stage.sizes.tunnel_mtu() == 1430
    stage.sizes.seen(SECOND, 1400)
    stage.sizes.doubt(SECOND)
    stage.sizes.stop()


def test_a_path_that_goes_another_way_is_probed_again() -> None:
    """Over another link, with another IP version."""
    stage = Stage()
    stage.sizes.begin(FIRST, 1500, 4)
    stage.reactor.pass_time(0.1)
    stage.sent.clear()
    stage.sizes.begin(FIRST, 1400, 6)
    stage.reactor.pass_time(0.1)
    assert stage.sent == [(FIRST, 1352), (FIRST, SMALL)]
    assert stage.sizes.mtu(FIRST) == 1352 - FRAME
    stage.sizes.stop()


def test_a_doubt_probes_at_once() -> None:
    """A sign that large datagrams are lost is looked into before the next look is due."""
    stage = Stage()
    stage.sizes.begin(FIRST, 1500, 4)
    stage.reactor.pass_time(10.0)
    stage.sent.clear()
    stage.sizes.doubt(FIRST)
    stage.reactor.pass_time(0.1)
    assert stage.sent == [(FIRST, 1472), (FIRST, SMALL)]
    stage.sizes.stop()


def test_a_peer_that_asks_about_a_smaller_size_is_a_doubt() -> None:
    """Its line may have become narrower, which nothing else shows here; the same and larger sizes say nothing."""
    stage = Stage()
    stage.sizes.begin(FIRST, 1500, 4)
    stage.reactor.pass_time(10.0)
    stage.sent.clear()
    for size in (SMALL, 1472, 9000):
        stage.sizes.probed(FIRST, size)
    stage.sizes.probed(SECOND, 1252)
    stage.reactor.pass_time(1.0)
    assert stage.sent == []
    stage.passes[FIRST] = 1252
    stage.sizes.probed(FIRST, 1252)
    stage.reactor.pass_time(10.0)
    assert 1248 - FRAME < stage.sizes.mtu(FIRST) <= 1252 - FRAME
    stage.sizes.stop()


def test_an_idle_path_is_not_probed() -> None:
    """Only a path that has carried packets since the last look."""
    stage = Stage()
    stage.sizes.begin(FIRST, 1500, 4)
    stage.reactor.pass_time(1.0)
    stage.sizes._measured = lambda path: PathMeasures(packets_sent=7)
    stage.reactor.pass_time(CONFIRM_TIME + 1.0, 0.5)
    stage.sent.clear()
    stage.reactor.pass_time(5 * CONFIRM_TIME, 0.5)
    assert stage.sent == []
    stage.sizes.stop()


def test_a_machine_that_has_slept_is_told_of_within_a_second(logged: list[str]) -> None:
    """Once for each sleep."""
    reactor, netlink = FakeReactor(), FakeNetlink()
    asleep = 0.0
    machine = Machine(
        reactor,
        reactor.seconds,
        FakeSystem(netlink),
        netlink,
        sleep_clocks=lambda: (reactor.seconds(), reactor.seconds() + 77.0 + asleep),
    )
    told: list[float] = []
    watch = SleepWatch(machine, told.append)
    watch.startService()
    reactor.pass_time(10.0)
    assert told == []
    asleep = 3600.0
    reactor.pass_time(5 * INTERVAL)
    assert told == [pytest.approx(3600.0)] and any("slept for 3600 s" in text for text in logged)
    watch.stopService()
    watch.stopService()
    assert reactor.getDelayedCalls() == []

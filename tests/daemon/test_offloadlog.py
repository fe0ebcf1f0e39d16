"""What the log tells of a data path: its offloads at the start, what becomes of them, and ECN fields out of order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from mpt.accel.choice import DataPathChoice, choose_datapath
from mpt.data.datapath import PythonDataPath
from tests.daemon.stage import GENERAL, Run, connection, path

ALL = frozenset({"vnet_hdr", "join_tcp", "join_udp", "udp_segment"})


class Told(PythonDataPath):
    """A data path of which a test says what offloads it has, and how many packets came with wrong ECN fields."""

    given = ALL
    unexpected = 0

    def ecn_unexpected(self) -> int:
        return self.unexpected

    def offloads(self) -> frozenset[str]:
        return self.given


PLANE = DataPathChoice("native", "the test says so", choose_datapath("python").tun_flags, Told)


@implementer(ILogObserver)
class Said(list[str]):
    """The lines of the log that speak of offloads or ECN."""

    def __call__(self, event: LogEvent) -> None:
        text = formatEvent(event)
        if "offload" in text or "ECN" in text:
            self.append(f"{event['log_level'].name}: {text}")


@pytest.fixture
def said() -> Iterator[Said]:
    """What is said while the test runs."""
    observer = Said()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


def test_the_offloads_are_told_at_the_start(run: Run, said: Said) -> None:
    """The log has one line for the tunnel."""
    run(plane=PLANE)
    assert said == ["info: tun0: offloads in use: join_tcp, join_udp, udp_segment, vnet_hdr"]


def test_the_python_data_path_says_that_it_has_none(run: Run, said: Said) -> None:
    """The log has its line all the same, so that nobody misses it."""
    run()
    assert said == ["info: tun0: offloads in use: none"]


def test_an_offload_that_is_given_up_is_told_once(run: Run, said: Said) -> None:
    """It is logged also without keepalives, but not again when it comes back with a path and is refused again."""
    stage = run(connection(path(1, keepalive_time=0.0, dead_time=0.0)), plane=PLANE)
    datapath = stage.datapath
    assert isinstance(datapath, Told)
    said.clear()
    for given in (ALL - {"udp_segment"}, ALL, ALL - {"udp_segment"}, ALL - {"udp_segment", "join_udp"}):
        datapath.given = given
        stage.reactor.pass_time(10.1, step=1.0)
        assert stage.root.operations.status().tunnels[0].offloads == sorted(given)
    assert said == [
        f"warn: tun0: the kernel or a link refuses the offload {offload}: packets go without it, at more CPU time"
        for offload in ("udp_segment", "join_udp")
    ]


def test_wrong_ecn_fields_are_told_once_an_hour(run: Run, said: Said) -> None:
    """The line has their number since the last line; without new ones there is no line."""
    stage = run(plane=PLANE)
    datapath = stage.datapath
    assert isinstance(datapath, Told)
    stage.reactor.pass_time(11.0, step=1.0)
    said.clear()
    for unexpected, seconds in ((3, 11.0), (5, 3000.0), (5, 570.0), (5, 40.0), (5, 4000.0), (6, 11.0)):
        datapath.unexpected = unexpected
        stage.reactor.pass_time(seconds, step=1.0)
    text = "something on the way changes them (log_ecn = 0 silences this)"
    assert said == [f"warn: tun0: packets with ECN fields that no honest path makes: {n}; {text}" for n in (3, 2, 1)]


def test_wrong_ecn_fields_can_be_passed_over(run: Run, said: Said) -> None:
    """log_ecn = 0, also by a reload, silences them."""
    stage = run(plane=PLANE, general=replace(GENERAL, log_ecn=False))
    datapath = stage.datapath
    assert isinstance(datapath, Told)
    said.clear()
    datapath.unexpected = 3
    stage.reactor.pass_time(11.0, step=1.0)
    assert said == []
    stage.root.runs.settings.general = GENERAL
    stage.reactor.pass_time(11.0, step=1.0)
    assert len(said) == 1

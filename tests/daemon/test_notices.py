"""What the log tells of a data path: its offloads at the start, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from mpt.accel import DataPlane, choose_datapath
from mpt.data.datapath import PythonDataPath
from tests.daemon.stage import KEEPALIVE_IN, Run

ALL = frozenset({"vnet_hdr", "join_tcp", "join_udp", "udp_segment"})


class Offloading(PythonDataPath):
    """A data path of which a test says what offloads it has."""

    given = ALL

    def offloads(self) -> frozenset[str]:
        return self.given


PLANE = DataPlane("native", "the test says so", choose_datapath("python").tun_flags, Offloading)


@implementer(ILogObserver)
class Said(list[str]):
    """The lines of the log that speak of offloads."""

    def __call__(self, event: LogEvent) -> None:
        text = formatEvent(event)
        if "offload" in text:
            self.append(f"{event['log_level'].name}: {text}")


@pytest.fixture
def said() -> Iterator[Said]:
    """What is said while the test runs."""
    observer = Said()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


def test_the_offloads_are_told_at_the_start(run: Run, said: Said) -> None:
    """One line for the tunnel."""
    run(plane=PLANE)
    assert said == ["info: tun0: offloads in use: join_tcp, join_udp, udp_segment, vnet_hdr"]


def test_the_python_data_path_says_that_it_has_none(run: Run, said: Said) -> None:
    """So that nobody looks for the line."""
    run()
    assert said == ["info: tun0: offloads in use: none"]


def test_an_offload_that_is_given_up_is_told_once(run: Run, said: Said) -> None:
    """When a keepalive comes; not again when it comes back with a path and is refused again."""
    stage = run(plane=PLANE)
    datapath = stage.datapath
    assert isinstance(datapath, Offloading)
    stage.receive(1, KEEPALIVE_IN)
    said.clear()
    for given in (ALL - {"udp_segment"}, ALL, ALL - {"udp_segment"}, ALL - {"udp_segment", "join_udp"}):
        datapath.given = given
        stage.reactor.pass_time(1.1)
        assert stage.root.operations.status().tunnels[0].offloads == sorted(given)
        stage.receive(1, KEEPALIVE_IN)
    assert said == [
        f"warn: tun0: the kernel or a link refuses the offload {offload}: packets go without it, at more CPU time"
        for offload in ("udp_segment", "join_udp")
    ]


def test_a_heap_of_keepalives_makes_it_look_once(run: Run, said: Said) -> None:
    """A server hears thousands of them in a second; it looks at the offloads no more often than every second."""
    stage = run(plane=PLANE)
    datapath = stage.datapath
    assert isinstance(datapath, Offloading)
    stage.receive(1, KEEPALIVE_IN)
    datapath.given = frozenset()
    stage.receive(1, KEEPALIVE_IN)
    assert len(said) == 1
    stage.reactor.pass_time(1.1)
    stage.receive(1, KEEPALIVE_IN)
    assert len(said) == 1 + len(ALL)

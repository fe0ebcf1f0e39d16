"""The daemon looks at what arrives when a path is silent, and says what is wrong."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from mpt.daemon.looks import FIRST_PAUSE, LONGEST_PAUSE, SHORTEST
from tests.daemon.stage import KEEPALIVE_IN, Run, Stage, connection, path
from tests.wire.packets import icmp_packet, udp_packet

DEAD, LOOK = 3.1, 2.3  # s: the stage's dead time, and a look with its keepalives
FORGOTTEN = 3600.0  # s after which the log repeats a cause


@implementer(ILogObserver)
class Log:
    """What the log says, from the moment on when it is made."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))


@pytest.fixture
def logged() -> Log:
    log = Log()
    globalLogPublisher.addObserver(log)
    return log


def arrive(stage: Stage, port: int = 23456) -> None:
    """A keepalive of the peer arrives at eth1, but not at our socket."""
    stage.taps.arrive("eth1", udp_packet("10.1.1.3", port, "10.1.1.2", 23456, KEEPALIVE_IN))


def refuse(stage: Stage, peer: str = "10.1.1.3") -> None:
    """A host answers that nothing listens at the peer's port: its mptsrv does not run at the moment."""
    sent = udp_packet("10.1.1.2", 23456, peer, 23456, KEEPALIVE_IN)
    stage.taps.arrive("eth1", icmp_packet(peer, "10.1.1.2", 3, 3, sent))


def causes(stage: Stage) -> list[str | None]:
    """Return the cause of each path in `mpt show status`."""
    return [each.cause for each in stage.root.operations.status().connections[0].paths]


def silent(run: Run) -> Stage:
    """Two paths whose dead time is over."""
    stage = run()
    stage.reactor.pass_time(DEAD)
    assert stage.statuses() == ["DOWN", "DOWN"]
    return stage


def test_a_silent_path_is_told_what_keeps_its_keepalives_away(run: Run, logged: Log) -> None:
    """The cause stands in the log and in the status; the other path, of which nothing was seen, has none."""
    stage = silent(run)
    stage.filtered.add("eth1")
    arrive(stage)
    stage.reactor.pass_time(LOOK)
    first, second = causes(stage)
    assert first is not None and "net.ipv4.conf.eth1.rp_filter to 2" in first
    assert second is None
    assert any("path_0 of c" in line and "rp_filter" in line for line in logged.lines)
    assert "; the peer's keepalives arrive at eth1" in " ".join(stage.ask("show status").text.split())


def test_the_tap_is_open_for_a_moment_only_and_less_and_less_often(run: Run) -> None:
    """Looks go on while the path stays silent; when it is heard, or ends, there are none."""
    stage = silent(run)
    assert len(stage.taps.open_now) == 2
    stage.reactor.pass_time(LOOK)
    assert not stage.taps.open_now
    assert stage.taps.opened == 2
    stage.reactor.pass_time(10 * FIRST_PAUSE, step=5.0)
    assert stage.taps.opened == 2 * (1 + 3)  # after 60, 120 and 240 seconds more
    stage.reactor.pass_time(5 * LONGEST_PAUSE, step=5.0)
    before = stage.taps.opened
    stage.reactor.pass_time(10 * LONGEST_PAUSE, step=5.0)
    assert 9 <= (stage.taps.opened - before) // 2 <= 10


def test_a_cause_is_logged_when_it_is_news_and_once_an_hour(run: Run, logged: Log) -> None:
    """The log has the same cause once an hour, not at every look."""
    stage = silent(run)
    told = 0
    for _ in range(int(FORGOTTEN / SHORTEST)):
        arrive(stage)
        stage.reactor.pass_time(SHORTEST, step=SHORTEST)
        told = sum("a firewall of this host" in line for line in logged.lines)
    assert told == 1
    for _ in range(int(FORGOTTEN)):
        arrive(stage)
        stage.reactor.pass_time(SHORTEST, step=SHORTEST)
    assert 2 <= sum("a firewall of this host" in line for line in logged.lines) <= 3


def test_a_path_that_is_heard_again_has_no_cause(run: Run) -> None:
    """The cause is forgotten."""
    stage = silent(run)
    arrive(stage)
    stage.reactor.pass_time(LOOK)
    assert causes(stage)[0] is not None
    stage.receive(1, KEEPALIVE_IN)
    assert causes(stage)[0] is None


def test_what_was_seen_before_the_peer_came_back_is_no_cause(run: Run, logged: Log) -> None:
    """The peer's daemon was started anew: what answered for it meanwhile says nothing of the path that works now."""
    stage = silent(run)
    refuse(stage)
    stage.receive(1, KEEPALIVE_IN)
    stage.reactor.pass_time(LOOK)
    assert stage.statuses()[0] == "OK"
    assert causes(stage)[0] is None
    assert not any("nothing listens" in line for line in logged.lines)


def test_what_others_have_seen_before_a_peer_was_heard_is_no_cause(run: Run) -> None:
    """A path that is heard while others there are looked at has a look after theirs."""
    late = path(1, remote_ipaddr=ip_address("10.1.1.9"), dead_time=1000.0)
    stage = run(connection(path(1), late))
    stage.reactor.pass_time(DEAD)
    assert stage.statuses() == ["DOWN", "OK"]
    refuse(stage, "10.1.1.9")
    stage.receive(1, KEEPALIVE_IN, source="10.1.1.9")
    stage.reactor.pass_time(LOOK)
    assert causes(stage)[1] is None
    refuse(stage, "10.1.1.9")
    stage.reactor.pass_time(LOOK)
    assert "remote_port is not its local_port" in str(causes(stage)[1])


def test_a_cause_that_is_seen_no_longer_is_forgotten(run: Run) -> None:
    """Also where the path was heard all the time."""
    stage = run()
    stage.receive(1, KEEPALIVE_IN)
    refuse(stage)
    stage.reactor.pass_time(LOOK)
    assert causes(stage)[0] is not None
    for _ in range(40):
        stage.receive(1, KEEPALIVE_IN)
        stage.reactor.pass_time(2.0)
    assert stage.statuses()[0] == "OK"
    assert causes(stage)[0] is None


def test_a_peer_behind_a_nat_that_changes_its_port_is_named_though_it_is_heard(run: Run, logged: Log) -> None:
    """The peer is heard, but does not hear us: only this side can see that."""
    stage = run()
    stage.receive(1, KEEPALIVE_IN)
    arrive(stage, port=61001)
    stage.reactor.pass_time(LOOK)
    assert stage.statuses()[0] == "OK"
    first, _ = causes(stage)
    assert first is not None and "come from port 61001, not remote_port = 23456" in first
    assert any("path_0 of c" in line and "61001" in line for line in logged.lines)


def test_paths_of_one_interface_and_port_share_a_look(run: Run) -> None:
    """A server with many silent clients opens one tap."""
    peers = [path(1, remote_ipaddr=ip_address(f"10.1.1.{number}")) for number in range(3, 20)]
    stage = run(connection(*peers))
    stage.reactor.pass_time(DEAD)
    assert set(stage.statuses()) == {"DOWN"}
    assert stage.taps.opened == 1


def test_without_privilege_nothing_is_seen_and_nothing_fails(run: Run) -> None:
    """A tap that is refused changes nothing for the path."""
    stage = run()
    stage.taps.refused = True
    stage.reactor.pass_time(DEAD + 200, step=0.5)
    assert causes(stage) == [None, None]
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses() == ["OK", "DOWN"]


def test_a_path_that_is_down_for_another_reason_is_not_looked_at(run: Run) -> None:
    """The status already names the cable, the address or the operator."""
    stage = run()
    stage.netlink.set_carrier("eth1", False)
    stage.network_changed()
    stage.ask("path down 10.2.2.2 10.2.2.3")
    stage.reactor.pass_time(10.0)
    assert stage.taps.opened == 0

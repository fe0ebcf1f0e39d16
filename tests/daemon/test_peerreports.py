"""Two daemons tell each other how their paths are, over a network that loses and repeats what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpt.control.agreement import LEASE
from mpt.daemon.peerport import BothVersions
from mpt.model import AuthType, Permission
from tests.config import files
from tests.daemon.pair import KEY, Pair, write_pair
from tests.daemon.stage import KEEPALIVE_IN, PACKET, Run, Stage, connection, path

DOWN = "path down 10.1.1.2 10.1.1.3"
UP = "path up 10.1.1.2 10.1.1.3"
SETTLED = 30.0  # s: two reports that fail and one that does not


@pytest.fixture
def pair(run: Run, tmp_path: Path) -> Pair:
    """Return the guide's two hosts, both with permission = 3."""
    write_pair(tmp_path)
    return Pair(run, tmp_path)


def asking(stage: Stage) -> int:
    """Return how many command datagrams have left since the last call."""
    return len(stage.command_socket.take_sent())


def test_a_path_that_is_taken_down_by_hand_is_told_and_shown_at_both_ends(pair: Pair) -> None:
    """The peer is told of its return, too; keepalives do not revive it meanwhile."""
    asked = pair.a.ask(DOWN)
    assert asked.progress == ["path_0 of MPT_connection_10.0.0.2 is manual down; telling the peer"]
    pair.cables.exchange()
    assert asked.text == "path_0 of MPT_connection_10.0.0.2 is manual down; the peer knows"
    assert pair.statuses() == [["manual down", "up"], ["down", "up"]]
    pair.cables.pass_time(SETTLED)
    assert pair.statuses() == [["manual down", "up"], ["down", "up"]]
    asked = pair.a.ask(UP)
    pair.cables.exchange()
    assert asked.text.endswith("is up; the peer knows")
    pair.cables.pass_time(6.0)
    assert pair.statuses() == [["up", "up"]] * 2


def test_a_connection_that_starts_anew_takes_back_what_was_said_before(pair: Pair, tmp_path: Path) -> None:
    """After a restart, or with another weight, the path that was down by hand stays down.
    When its file says that it is up again, the peer hears of it, and need not wait for the end of its lease."""
    pair.a.ask(DOWN)
    pair.cables.exchange()
    pair.cables.pass_time(3.0)
    (file,) = (tmp_path / "a" / "connections").glob("*.conf")
    for command in ("restart", "reload"):
        file.write_text(files.changed(file.read_text(), "path_0", weight_out="3"))
        assert "MPT_connection" in pair.a.ask(command).text
        for _ in range(20):
            pair.cables.pass_time(0.2)
            (own, other), of_the_peer = pair.statuses()
            assert own == "manual down" and other in ("waiting", "up")  # it begins anew, the peer does not
            assert of_the_peer == ["down", "up"]
    assert pair.a.ask("save").text == "saved: c.conf"
    file.write_text(files.changed(file.read_text(), "path_0", status="0"))
    assert pair.a.ask("reload").text.startswith("changed: ")
    pair.cables.pass_time(1.0)
    assert pair.statuses() == [["waiting", "waiting"], ["up", "up"]]
    pair.cables.pass_time(5.0)
    assert pair.statuses() == [["up", "up"]] * 2


def test_it_is_told_over_another_path_than_the_one_concerned(pair: Pair) -> None:
    """The path itself may be dead."""
    pair.a.ask(DOWN)
    pair.cables.exchange()
    assert {cable for _, cable in pair.cables.commands} == {2}


def test_a_cable_that_is_pulled_at_one_end_takes_the_path_down_at_the_other_at_once(pair: Pair) -> None:
    """The path goes down long before its dead time, and comes back."""
    pair.a.netlink.set_carrier("eth1", False)
    pair.cables.pass_time(0.2)
    assert pair.statuses() == [["interface down", "up"], ["down", "up"]]
    pair.a.netlink.set_carrier("eth1", True)
    pair.cables.pass_time(6.0)
    assert pair.statuses() == [["up", "up"]] * 2


@pytest.mark.parametrize("auth_type", list(AuthType))
@pytest.mark.parametrize("seed", range(3))
def test_loss_and_duplication_only_delay_the_agreement(run: Run, tmp_path: Path, seed: int, auth_type: int) -> None:
    """Each of the authentication types, a third of all datagrams lost, a third doubled, both ends talking at once."""
    write_pair(tmp_path, auth_type=str(int(auth_type)), auth_key=KEY)
    pair = Pair(run, tmp_path)
    pair.cables.loss, pair.cables.duplication = 0.3, 0.3
    for stage, number in ((pair.a, 1), (pair.b, 2)):
        own, peer = (2, 3) if stage is pair.a else (3, 2)
        stage.ask(f"path down 10.{number}.{number}.{own} 10.{number}.{number}.{peer}")
    pair.cables.pass_time(SETTLED)
    assert pair.statuses() == [["manual down", "down"], ["down", "manual down"]]
    pair.a.ask(UP)
    pair.cables.pass_time(SETTLED)
    assert pair.statuses() == [["up", "down"], ["up", "manual down"]]


def test_a_peer_that_cannot_be_reached_is_said_so_after_the_attempts(pair: Pair) -> None:
    """Six times 500 ms, and the command ends."""
    pair.cables.loss = 1.0
    asked = pair.a.ask(DOWN)
    pair.cables.pass_time(2.9)
    assert asked.reply is None
    pair.cables.pass_time(0.3)
    assert asked.text == (
        "path_0 of MPT_connection_10.0.0.2 is manual down; the peer was not told: the peer did not answer"
    )


def test_a_command_that_changes_nothing_does_not_wait_for_the_report_on_another_path(pair: Pair) -> None:
    """path_1 is up already; what is being told is path_0."""
    pair.cables.loss = 1.0
    pair.a.ask(DOWN)
    assert pair.a.ask("path up 10.2.2.2 10.2.2.3").text == "path_1 of MPT_connection_10.0.0.2 is up"


def test_a_command_that_is_taken_back_while_the_peer_is_told_waits_for_the_last_word(pair: Pair) -> None:
    """Down and at once up again: both commands end when the peer knows that it is up, or cannot be told that."""
    pair.cables.loss = 1.0
    down, up = pair.a.ask(DOWN), pair.a.ask(UP)
    pair.cables.pass_time(3.2)
    assert down.reply is up.reply is None  # told that it is down, in vain; being told that it is up
    pair.cables.loss = 0.0
    pair.cables.pass_time(0.5)
    assert down.text.endswith("the peer knows") and up.text.endswith("is up; the peer knows")
    assert pair.statuses() == [["up", "up"]] * 2


def test_a_connection_that_is_deleted_while_the_peer_is_asked_asks_no_more(pair: Pair) -> None:
    """The waiting command ends, and nothing begins anew after the attempts."""
    pair.cables.loss = 1.0
    asked = pair.a.ask(DOWN)
    assert pair.a.ask("delete c.conf").reply is not None
    assert asked.text.endswith("the peer was not told: the peer did not answer")
    pair.cables.pass_time(4.0)
    pair.cables.commands.clear()
    pair.cables.pass_time(SETTLED)
    assert pair.a not in [sender for sender, _ in pair.cables.commands]


def test_the_answer_to_a_report_of_before_a_restart_is_not_taken_for_a_newer_one(pair: Pair) -> None:
    """The connection that was restarted tells its peer again, and in the end it knows."""
    pair.cables.loss = 1.0
    pair.a.ask(DOWN)
    pair.cables.pass_time(1.0)
    pair.a.ask("restart")
    pair.cables.pass_time(1.0)
    pair.cables.loss = 0.0
    pair.cables.pass_time(SETTLED)
    assert pair.statuses() == [["manual down", "up"], ["down", "up"]]


def test_what_the_peer_says_is_a_lease(run: Run) -> None:
    """A "down" that is not repeated for 30 s is over for a path that has keepalives, and packets take it again."""
    stage = run(connection())
    (running,) = stage.root.runs.connections()
    running.peer_says(0, False)
    stage.reactor.advance(0)
    for _ in range(int(LEASE) - 1):
        stage.reactor.advance(1.0)
        stage.receive(1, KEEPALIVE_IN)
        stage.receive(2, KEEPALIVE_IN)
    assert [status.name for status in running.statuses()] == ["DOWN", "OK"]
    stage.reactor.pass_time(1.1)
    assert [status.name for status in running.statuses()] == ["OK", "OK"]
    stage.clear()
    for _ in range(2):
        stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert PACKET in [datagram[4:] for datagram in stage.sent("eth1")]


def test_a_path_without_keepalives_is_revived_by_the_word_of_the_peer(run: Run) -> None:
    """Its only source is the peer's report, which holds until the next."""
    stage = run(connection(path(1, keepalive_time=0.0), path(2)))
    (running,) = stage.root.runs.connections()
    running.peer_says(0, False)
    stage.reactor.pass_time(2 * LEASE, step=1.0)
    assert running.statuses()[0].name == "DOWN"
    running.peer_says(0, True)
    assert running.statuses()[0].name == "OK"


def test_without_permission_to_send_nothing_is_told(run: Run) -> None:
    """permission = 2: only the peer may change things here. The command does not pretend."""
    stage = run(connection(permission=Permission.RECEIVE))
    assert stage.ask(DOWN).text == "path_0 of c is manual down"
    stage.reactor.pass_time(5.0)
    assert asking(stage) == 0


def test_with_the_published_key_nothing_is_told_and_nothing_spins(run: Run) -> None:
    """auth_type = 2 without an auth_key: a warning, once, and peace."""
    stage = run(connection(permission=Permission(3), auth_type=AuthType.SHA256))
    before = len(stage.reactor.getDelayedCalls())
    assert stage.ask(DOWN).text == "path_0 of c is manual down"
    stage.ask("path down 10.2.2.2 10.2.2.3")
    stage.reactor.pass_time(5.0)
    assert asking(stage) == 0
    assert len(stage.reactor.getDelayedCalls()) <= before


def test_how_the_paths_are_at_the_start_is_not_told(run: Run) -> None:
    """Both ends know nothing of each other yet; keepalives say it."""
    stage = run(connection(path(1), path(2, interface_name="wwan0"), permission=Permission(3)))
    stage.reactor.pass_time(2.0)
    assert asking(stage) == 0


def test_a_report_waits_for_a_path_that_can_carry_it(run: Run) -> None:
    """While both cables are out the report waits; when one is back it goes."""
    stage = run(connection(permission=Permission(3)))
    for name in ("eth1", "eth2"):
        stage.netlink.set_carrier(name, False)
    stage.network_changed()
    assert asking(stage) <= 1  # about the first, while the second still worked
    stage.netlink.set_carrier("eth2", True)
    stage.network_changed()
    stage.receive(2, KEEPALIVE_IN)
    stage.reactor.pass_time(10.0)
    assert asking(stage) > 0


# ---- which path carries a report ------------------------------------------------------------------------------------


def carriers(stage: Stage) -> list[str]:
    """Return the local addresses from which command datagrams have left since the last call."""
    return [str(BothVersions.way(ancillary[0][2]).address) for _, _, ancillary in stage.command_socket.take_sent()]


@pytest.fixture
def three(run: Run) -> Stage:
    """Return a daemon with three paths, over all of which the peer is heard."""
    stage = run(connection(path(1), path(2), path(3), permission=Permission(3)), lines=3)
    for number in (1, 2, 3):
        stage.receive(number, KEEPALIVE_IN)
    stage.reactor.pass_time(0.1)
    stage.clear()
    return stage


def test_a_report_goes_over_a_path_that_both_ends_think_good(three: Stage) -> None:
    """The peer has called path_0 dead, path_1 falls silent: all goes over path_2, which works both ways."""
    (running,) = three.root.runs.connections()
    running.peer_says(0, False)
    three.netlink.set_carrier("eth2", False)
    three.network_changed()
    three.reactor.pass_time(2.0)
    sent = carriers(three)
    assert len(sent) > 3 and set(sent) == {"10.3.3.2"}


def test_a_report_that_was_not_answered_goes_over_another_path(three: Stage) -> None:
    """A firewall may let the command port through on one line only. The good ones come first, then the others."""
    (running,) = three.root.runs.connections()
    running.peer_says(2, False)
    asked = three.ask(DOWN)
    order: list[str] = []
    for _ in range(200):
        three.reactor.pass_time(0.1)
        for number in (2, 3):
            three.receive(number, KEEPALIVE_IN)
        order += [each for each in carriers(three) if order[-1:] != [each]]
    assert order[:4] == ["10.2.2.2", "10.3.3.2", "10.1.1.2", "10.2.2.2"]
    assert asked.reply is not None


def test_a_report_that_came_through_stays_on_its_path(pair: Pair) -> None:
    """The first answer ends the memory of lost reports."""
    (reporter,) = (each.reporter for each in pair.a.root.runs.connections())
    pair.cables.loss = 1.0
    pair.a.ask(DOWN)
    pair.cables.pass_time(3.2)
    assert reporter.failure == "path_0 is down: the peer did not answer"
    pair.cables.loss = 0.0
    pair.cables.pass_time(SETTLED)
    assert reporter.failure is None and reporter._failures == [0, 0]


def test_a_peer_that_cannot_be_told_is_logged_once_and_shown(pair: Pair, logged: list[str]) -> None:
    """Its firewall drops what comes to the command port: a line that fails one way is not noticed there."""
    pair.cables.loss = 1.0
    pair.a.ask(DOWN)
    pair.cables.pass_time(60.0)
    assert sum("was not told that path_0 is down" in each for each in logged) == 2, "once at each end"
    reply = pair.a.ask("show status").reply
    assert reply is not None and reply.data is not None
    (status,) = reply.data["connections"]
    assert status["report_failure"] == "path_0 is down: the peer did not answer"
    assert "the peer was not told that path_0 is down: the peer did not answer" in " ".join(reply.text.split())
    assert "UDP 60456" in reply.text
    pair.cables.loss = 0.0
    pair.cables.pass_time(SETTLED)
    (status,) = pair.a.root.operations.status().connections
    assert status.report_failure is None


def test_a_peer_that_changes_its_mind_all_the_time_does_not_fill_the_log(run: Run, logged: list[str]) -> None:
    """With auth_type 0 and 1 reports can be forged."""
    stage = run(connection(permission=Permission(3)))
    (running,) = stage.root.runs.connections()
    before = len(logged)
    for number in range(2000):
        running.peer_says(0, number % 2 == 1)
        running.peer_says(1, number % 2 == 1)
        stage.reactor.advance(0.01)
    assert len(logged) - before < 60

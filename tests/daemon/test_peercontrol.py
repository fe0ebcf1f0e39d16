"""What the command port does with what it hears: local commands by their user, and the rounds of handshakes."""

from __future__ import annotations

import errno

import pytest

from mpt.control.initiator import Outcome, path_status_request
from mpt.daemon.peercontrol import END_AFTER, LOCAL_COMMANDS_AT_ONCE
from mpt.daemon.peerport import Peer, Way
from mpt.errors import PeerError
from mpt.local.protocol import END, encode_text_request
from mpt.model import Permission
from tests.daemon.stage import LOCAL, REMOTE, Run, Stage, connection, path

CLIENT = 40001  # a UDP port
DOWN = ("path", "down", "10.1.1.2", "10.1.1.3")


def say(stage: Stage, *words: str, source: str = "::ffff:127.0.0.1", port: int = CLIENT) -> None:
    """Let the C client's datagram come."""
    stage.command_socket.deliver(encode_text_request(words), (source, port, 0, 0))
    stage.reactor.read_all()


def replies(stage: Stage, port: int = CLIENT) -> list[bytes]:
    return [datagram for datagram, to, _ in stage.command_socket.take_sent() if to[1] == port]


def test_root_may_change_things_over_udp_and_is_answered_as_the_c_program_does(run: Run) -> None:
    """The text, and 5 ms later the end."""
    stage = run()
    stage.uids[CLIENT] = 0
    say(stage, *DOWN)
    assert replies(stage) == [b"\xa4\0\0\0CMD_OK:path_0 of c is MANUAL_DOWN"]
    stage.reactor.advance(END_AFTER)
    assert replies(stage) == [END]
    assert stage.statuses() == ["MANUAL_DOWN", "OK"]


@pytest.mark.parametrize("uid", [None, 65534], ids=["nobody knows whose", "a stranger"])
def test_others_may_look_but_not_touch(run: Run, uid: int | None) -> None:
    """A sender whose user cannot be found is a stranger."""
    stage = run()
    if uid is not None:
        stage.uids[CLIENT] = uid
    say(stage, *DOWN, source="::1")
    (reply,) = replies(stage)
    assert reply.startswith(b"\xa4\0\0\0CMD-ERROR:not permitted")
    assert stage.statuses() == ["OK", "OK"]
    say(stage, "show", "status")
    stage.reactor.advance(END_AFTER)
    assert any(datagram.startswith(b"\xa4\0\0\0CMD_OK:mpt ") for datagram in replies(stage))


def test_a_local_command_from_another_host_is_dropped_and_counted(run: Run) -> None:
    """Whatever uid its port number happens to have here."""
    stage = run()
    stage.uids[CLIENT] = 0
    say(stage, *DOWN, source="::ffff:10.1.1.3")
    assert replies(stage) == []
    assert stage.statuses() == ["OK", "OK"]
    assert stage.root.commands.counters == {"command_short": 1}


def test_a_local_command_without_words_is_dropped_and_counted(run: Run) -> None:
    """Nothing to answer."""
    stage = run()
    say(stage)
    assert replies(stage) == []
    assert stage.root.commands.counters == {"local_request": 1}


def test_more_commands_than_can_be_answered_at_once_are_refused(run: Run) -> None:
    """They wait for a peer that does not answer; when it has been given up there is room again."""
    stage = run(connection(permission=Permission(3)))
    for number in range(LOCAL_COMMANDS_AT_ONCE + 2):
        stage.uids[CLIENT + number] = 0
        say(stage, *DOWN, port=CLIENT + number)
    assert stage.root.commands.counters == {"local_busy": 2}
    stage.reactor.pass_time(4.0)
    assert replies(stage)[0].endswith(b"the peer was not told: the peer did not answer")
    say(stage, "show", "status")
    assert len(replies(stage)) == 1


def test_a_stop_ends_the_commands_that_are_under_way(run: Run) -> None:
    """No timer is left, nothing is sent afterwards: the fixture looks."""
    stage = run(connection(permission=Permission(3)))
    stage.uids[CLIENT] = 0
    say(stage, *DOWN)
    say(stage, "show", "status")
    stage.stop()
    assert stage.reactor.getDelayedCalls() == []


def test_every_attempt_leaves_by_the_way_that_was_chosen_for_it(run: Run) -> None:
    """Also when another request to the same peer has ended meanwhile; and nothing is kept when all have."""
    first = connection(path(1, keepalive_time=0.0), permission=Permission(3))
    second = connection(path(1), name="d", ip_local=REMOTE, ip_remote=LOCAL, permission=Permission(3))
    stage = run(first)
    commands = stage.root.commands
    peer, way = Peer(path(1).remote_ipaddr, 60456), Way(path(1).public_ipaddr, 2)
    outcomes: list[Outcome] = []
    for config in (first, second):
        asked = path_status_request(config, path(1).public_ipaddr, path(1).remote_ipaddr, False)
        commands.begin(asked, peer, way, outcomes.append)
        stage.reactor.pass_time(0.2)
    stage.reactor.pass_time(6.0)
    sent = stage.command_socket.take_sent()
    assert len(sent) == 12 and len({bytes(ancillary[0][2]) for _, _, ancillary in sent}) == 1
    assert [outcome.ok for outcome in outcomes] == [False, False]
    assert commands._ways == {}


def test_the_same_cannot_be_asked_twice_at_once(run: Run) -> None:
    """The answers could not be told apart; the first goes on."""
    config = connection(permission=Permission(3))
    stage = run(config)
    asked = path_status_request(config, path(1).public_ipaddr, path(1).remote_ipaddr, False)
    peer = Peer(path(1).remote_ipaddr, 60456)
    outcomes: list[Outcome] = []
    stage.root.commands.begin(asked, peer, Way(), outcomes.append)
    with pytest.raises(PeerError, match="still being asked"):
        stage.root.commands.begin(asked, peer, Way(), outcomes.append)
    stage.reactor.pass_time(3.1)
    assert len(outcomes) == 1


def test_a_request_that_cannot_be_sent_is_tried_again(run: Run) -> None:
    """A link that has just gone takes one attempt, not the handshake."""
    config = connection(permission=Permission(3))
    stage = run(config)
    stage.system.fail("sendmsg", errno.ENETUNREACH)
    stage.ask(" ".join(DOWN))
    assert stage.command_socket.take_sent() == []
    stage.reactor.pass_time(0.55)
    assert len(stage.command_socket.take_sent()) == 1

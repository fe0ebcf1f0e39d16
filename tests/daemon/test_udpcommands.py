"""Local commands over UDP: who may change things, and how many are answered."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest

from mpt.daemon.turns import SHARE, SHORTEST
from mpt.daemon.udpcommands import AT_ONCE, END_AFTER
from mpt.local.protocol import END, encode_text_request
from mpt.model import Permission
from tests.daemon.stage import GENERAL, Run, Stage, connection

CLIENT = 40001  # a UDP port
DOWN = ("path", "down", "10.1.1.2", "10.1.1.3")
PAUSE = 1.01 * SHORTEST / SHARE  # s; after that it is the next one's turn


def say(stage: Stage, *words: str, source: str = "::ffff:127.0.0.1", port: int = CLIENT) -> None:
    """Let the C client's datagram come."""
    stage.command_socket.deliver(encode_text_request(words), (source, port, 0, 0))
    stage.reactor.read_all()
    stage.reactor.advance(PAUSE)


def replies(stage: Stage, port: int = CLIENT) -> list[bytes]:
    return [datagram for datagram, to, _ in stage.command_socket.take_sent() if to[1] == port]


def test_root_may_change_things_over_udp_and_is_answered_as_the_c_program_does(run: Run) -> None:
    """The reply is the text and, 5 ms later, the end."""
    stage = run()
    stage.uids[CLIENT] = 0
    say(stage, *DOWN)
    assert replies(stage) == [b"\xa4\0\0\0CMD_OK:path_0 of c is manual down"]
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


def test_root_is_not_believed_from_a_socket_that_is_not_connected_to_our_port(run: Run) -> None:
    """A user may have sent from root's port and closed the socket. Looking is for everybody."""
    stage = run()
    stage.uids[CLIENT] = 0
    stage.unconnected.add(CLIENT)
    say(stage, *DOWN)
    (reply,) = replies(stage)
    assert reply.startswith(b"\xa4\0\0\0CMD-ERROR:not permitted") and b"udp_commands = unconnected" in reply
    assert stage.statuses() == ["OK", "OK"]
    say(stage, "show", "status")
    assert replies(stage)[-1].startswith(b"\xa4\0\0\0CMD_OK:mpt ")


def test_udp_commands_unconnected_is_for_the_client_of_the_c_program(run: Run, logged: list[str]) -> None:
    """Root's socket need not be connected then, and the log says at the start what that means. Others are refused."""
    stage = run(general=replace(GENERAL, udp_commands="unconnected"))
    assert sum("udp_commands = unconnected" in text and "SO_REUSEADDR" in text for text in logged) == 1
    stage.uids.update({CLIENT: 0, CLIENT + 1: 65534})
    stage.unconnected.update({CLIENT, CLIENT + 1})
    say(stage, *DOWN, port=CLIENT + 1)
    assert stage.statuses() == ["OK", "OK"]
    say(stage, *DOWN)
    assert stage.statuses() == ["MANUAL_DOWN", "OK"]


def test_a_reload_that_lets_unconnected_sockets_in_warns_of_it(
    run: Run, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the start does; a reload that changes nothing of it is silent."""
    stage = run()
    general = replace(GENERAL, udp_commands="unconnected")

    def read() -> Generator[None, None, object]:
        yield
        return general, (), None, ()

    monkeypatch.setattr(stage.root.operations, "_read_all", read)
    for _ in range(2):
        stage.ask("reload")
        assert sum("udp_commands = unconnected" in text and "SO_REUSEADDR" in text for text in logged) == 1


def test_the_sender_is_looked_up_only_for_a_command_that_changes_something(run: Run) -> None:
    """The look-up costs more than most replies."""
    stage = run()
    stage.uids[CLIENT] = 65534
    for words in (("show", "status"), ("nonsense",), ("path", "sideways")):
        say(stage, *words)
    assert stage.look_ups == 0
    say(stage, *DOWN)
    assert stage.look_ups == 1


def test_a_local_command_from_another_host_is_dropped_and_counted(run: Run) -> None:
    """Only loopback senders are looked up."""
    stage = run()
    stage.uids[CLIENT] = 0
    say(stage, *DOWN, source="::ffff:10.1.1.3")
    assert replies(stage) == []
    assert stage.statuses() == ["OK", "OK"]
    assert stage.root.peer_control.counters == {"command_short": 1}


def test_a_local_command_without_words_is_dropped_and_counted(run: Run) -> None:
    """A bad datagram gets no answer."""
    stage = run()
    say(stage)
    assert replies(stage) == []
    assert stage.root.peer_control.counters == {"local_request": 1}


def test_more_commands_than_can_be_answered_at_once_are_refused(run: Run) -> None:
    """They wait for a peer that does not answer; when it has been given up there is room again."""
    stage = run(connection(permission=Permission(3)))
    for number in range(AT_ONCE + 2):
        stage.uids[CLIENT + number] = 0
        say(stage, *DOWN, port=CLIENT + number)
    assert stage.root.peer_control.counters == {"local_busy": 2}
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

"""The unix socket: requests in order, permissions, clients that misbehave, and where it listens."""

from __future__ import annotations

import errno
import grp
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.testing import StringTransport

from mpt.daemon.localcommands import FRESH, LocalCommands
from mpt.daemon.localsocket import CLIENTS_AT_ONCE, PIECE, LocalClient, LocalSocket
from mpt.daemon.machine import Machine
from mpt.daemon.turns import SHARE, SHORTEST
from mpt.errors import HostError
from mpt.host.system import System
from mpt.local.protocol import MAX_REQUEST_LINE
from mpt.local.status import StatusDocument
from mpt.model import Permission
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from tests.daemon.stage import GENERAL, Run, Stage, connection

PATH = GENERAL.control_socket
DOWN = "path down 10.1.1.2 10.1.1.3"
SOME_USER = 12345


class PeerSocket:
    """A connected unix socket, as far as the kernel tells who is at its other end."""

    def __init__(self, uid: int, gid: int) -> None:
        self._credentials = struct.pack("=iII", 42, uid, gid)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return self._credentials if option == socket.SO_PEERCRED else struct.pack("=I", SOME_USER)


class Client:
    """A client that is connected to the control socket of `stage`."""

    def __init__(self, stage: Stage, uid: int = 0, gid: int = 0) -> None:
        assert PATH is not None
        self.protocol: LocalClient = stage.reactor.unix_ports[PATH].factory.buildProtocol(None)
        self.transport = StringTransport()
        self.transport.socket = PeerSocket(uid, gid)  # type: ignore[attr-defined]
        self._id = 0
        self.protocol.makeConnection(self.transport)

    def line(self, command: str) -> bytes:
        self._id += 1
        return json.dumps({"mpt": 1, "id": self._id, "command": command.split()}).encode() + b"\n"

    def say(self, *commands: str) -> None:
        """Send these commands in one piece."""
        self.protocol.dataReceived(b"".join(map(self.line, commands)))

    def heard(self) -> list[dict[str, Any]]:
        """Return the answers since the last call."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    @property
    def is_read(self) -> bool:
        return self.transport.producerState == "producing"


def test_a_request_is_answered_with_its_id(run: Run) -> None:
    """A request and a reply are one JSON object in a line."""
    client = Client(run())
    client.say("show status")
    (reply,) = client.heard()
    assert (reply["id"], reply["ok"], reply["code"]) == (1, True, 0)
    assert reply["data"]["schema"] == "mpt.status/1" and "tun0" in reply["text"]


def test_requests_in_one_piece_are_answered_in_their_order(run: Run) -> None:
    """Any number of requests is answered in their order."""
    client = Client(run())
    client.say(*["path down 10.1.1.2 10.1.1.3", "path up 10.1.1.2 10.1.1.3"] * 1000, "nonsense")
    heard = client.heard()
    assert [reply["id"] for reply in heard] == list(range(1, 2002))
    assert heard[-1]["code"] == 2
    assert client.is_read


def test_lines_that_are_no_requests_are_answered_and_forgiven(run: Run) -> None:
    """A client may send thousands of requests, half of one, or none."""
    client = Client(run())
    client.protocol.dataReceived(b"x\n" * 5000 + b"\n \r\n" + client.line("show status")[:10])
    heard = client.heard()
    assert len(heard) == 5000 and {(reply["id"], reply["code"]) for reply in heard} == {(0, 2)}
    client.protocol.dataReceived(client.line("show status")[10:])
    assert [reply["code"] for reply in client.heard()] == [0]


@pytest.mark.parametrize("portion", [1000, 200_000])
def test_a_line_that_is_too_long_is_answered_and_ends_the_connection(run: Run, portion: int) -> None:
    """A line that is too long is refused, with its end or without; at most a line of it is kept."""
    client = Client(run())
    octets = b"y" * 100_000 + b"\n" + client.line("show status")
    for start in range(0, len(octets), portion):
        if not client.transport.disconnecting:  # a real one reads no more then
            client.protocol.dataReceived(octets[start : start + portion])
            assert len(client.protocol._buffer) <= MAX_REQUEST_LINE + portion
    (reply,) = client.heard()
    assert (reply["id"], reply["code"]) == (0, 2) and "65536 octets" in reply["text"]
    assert client.transport.disconnecting


def test_while_a_command_is_carried_out_the_next_waits_and_nothing_more_is_read(run: Run) -> None:
    """Its progress is reported meanwhile; a client cannot fill the memory with requests."""
    stage = run(connection(permission=Permission(3)))
    client = Client(stage)
    client.say(DOWN, "show status")
    assert [reply.get("progress") for reply in client.heard()] == ["path_0 of c is manual down; telling the peer"]
    assert not client.is_read
    stage.reactor.pass_time(3.1)
    assert [(reply["id"], reply["code"]) for reply in client.heard()] == [(1, 0), (2, 0)]
    assert client.is_read


def test_a_client_that_does_not_take_its_replies_is_not_served_until_it_does(run: Run) -> None:
    """Else the replies to its requests would fill the memory."""
    client = Client(run())
    producer = client.transport.producer
    assert producer is client.protocol
    client.protocol.pauseProducing()
    client.say("show status", "show status", "show status")
    assert len(client.heard()) == 1 and not client.is_read
    client.protocol.resumeProducing()
    assert len(client.heard()) == 2 and client.is_read


@pytest.mark.parametrize(
    ("uid", "gid", "code"),
    [(0, 0, 0), (SOME_USER, -1, 0), (SOME_USER, SOME_USER, 5)],
    ids=["root", "in the group", "a stranger"],
)
def test_only_root_and_the_group_may_change_things(run: Run, uid: int, gid: int, code: int) -> None:
    """Others may look. The kernel tells who is who."""
    stage = run()
    client = Client(stage, uid, stage.root.local_socket.commands.group if gid == -1 else gid)
    client.say(DOWN, "show status")
    stage.reactor.pass_time(0.1)
    assert [reply["code"] for reply in client.heard()] == [code, 0]


def strangers(stage: Stage, count: int) -> list[Client]:
    """Clients of a user who may only look, all of them let in."""
    clients = [Client(stage, SOME_USER, SOME_USER) for _ in range(count)]
    stage.reactor.advance(0)
    stage.reactor.advance(SHORTEST / SHARE)
    return clients


def test_of_all_who_may_only_look_one_is_answered_in_a_round(run: Run) -> None:
    """All callers and requests together have one turn a round; nothing is made, read or decoded for others then."""
    stage = run()
    clients = strangers(stage, 60)
    for client in clients:
        client.say(*["show status"] * 100)
        assert client.heard() == [] and not client.is_read
    answered = []
    for _ in range(120):
        stage.reactor.advance(SHORTEST / SHARE)
        answered.append(sum(len(client.heard()) for client in clients))
    assert set(answered) == {1}


def test_who_may_change_things_does_not_wait_for_those_who_may_not(run: Run) -> None:
    """Root's command is carried out at once."""
    stage = run()
    for client in strangers(stage, 60):
        client.say(*["show status"] * 100)
    root = Client(stage)
    root.say(DOWN)
    assert [reply["code"] for reply in root.heard()] == [0]


def test_a_status_is_made_once_for_all_who_may_only_look(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared reply is at most 0.2 s old. Root gets a new one."""
    stage = run()
    operations = stage.root.local_socket.commands.operations
    made: list[float] = []
    status = operations.status

    def counted() -> StatusDocument:
        made.append(stage.reactor.seconds())
        return status()

    monkeypatch.setattr(operations, "status", counted)
    clients = strangers(stage, 10)
    for client in clients:
        client.say(*["show status"] * 50)
    stage.reactor.pass_time(1.0, step=SHORTEST / SHARE)
    assert sum(len(client.heard()) for client in clients) == 500
    assert 2 <= len(made) <= 1.0 / FRESH + 1
    assert all(later - earlier >= FRESH for earlier, later in pairwise(made))
    root = Client(stage)
    root.say("show status", "show status")
    assert len(made) > 2 and made[-1] == made[-2] == stage.reactor.seconds()


def test_who_may_only_look_gets_a_tenth_of_the_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status of a thousand connections may take 0.2 s to make: what follows waits for nine times as long."""
    stage = run()
    operations = stage.root.local_socket.commands.operations
    status = operations.status

    def slow() -> StatusDocument:
        stage.reactor.rightNow += 0.2
        return status()

    monkeypatch.setattr(operations, "status", slow)
    clients = strangers(stage, 2)
    for client in clients:
        client.say("show status")
    stage.reactor.advance(0)
    assert [len(client.heard()) for client in clients] == [1, 0]
    stage.reactor.advance(1.7)
    assert clients[1].heard() == []
    stage.reactor.advance(0.2)
    assert len(clients[1].heard()) == 1


def test_a_stranger_who_hangs_up_while_it_waits_is_forgotten(run: Run) -> None:
    """A client goes by itself or is sent away; the turn of the next comes."""
    stage = run()
    gone, sent_away, last = strangers(stage, 3)
    for client in (gone, sent_away, last):
        client.say("show status", "show status")
    gone.protocol.connectionLost()
    sent_away.protocol.close()
    stage.reactor.pass_time(0.1)
    assert gone.heard() == sent_away.heard() == [] and len(last.heard()) == 2


def test_strangers_are_let_in_one_at_a_turn(run: Run) -> None:
    """Connecting costs time, too. After root the next caller is let in at once."""
    stage = run()
    assert PATH is not None
    port = stage.reactor.unix_ports[PATH]
    Client(stage)
    assert port.is_reading
    for _ in range(2):
        Client(stage, SOME_USER, SOME_USER)
        assert not port.is_reading
    stage.reactor.advance(SHORTEST / SHARE)
    assert port.is_reading
    Client(stage, SOME_USER, SOME_USER)
    stage.stop()


def test_a_descriptor_that_a_client_sends_along_is_closed(run: Run) -> None:
    """It is not logged, as Twisted would do: anybody could fill the log."""
    client = Client(run())
    assert IFileDescriptorReceiver.providedBy(client.protocol)
    descriptor = os.open("/dev/null", os.O_RDONLY)
    client.protocol.fileDescriptorReceived(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_of_a_stranger_only_a_little_is_read_at_once(run: Run) -> None:
    """Cutting 64 kB into a thousand lines would take a while, too."""
    (client,) = strangers(run(), 1)
    assert client.transport.bufferSize == PIECE  # type: ignore[attr-defined]


def test_there_is_a_limit_to_the_clients_and_the_next_one_is_told(run: Run) -> None:
    """When a client goes there is room again; callers who may change things always get in."""
    stage = run()
    clients = [Client(stage, SOME_USER, SOME_USER) for _ in range(CLIENTS_AT_ONCE)]
    root = Client(stage)
    root.say(DOWN)
    assert [reply["code"] for reply in root.heard()] == [0]
    root.protocol.connectionLost()
    refused = Client(stage, SOME_USER, SOME_USER)
    (reply,) = refused.heard()
    assert (reply["id"], reply["code"]) == (0, 1) and "64 clients" in reply["text"]
    assert refused.transport.disconnecting
    refused.protocol.dataReceived(refused.line("show status"))
    refused.protocol.connectionLost()
    assert refused.heard() == []
    clients[0].protocol.connectionLost()
    next_one = Client(stage, SOME_USER, SOME_USER)
    next_one.say("show status")
    stage.reactor.pass_time(0.1)
    assert len(next_one.heard()) == 1


def test_a_client_that_hangs_up_in_the_middle_ends_nothing_but_its_queue(run: Run) -> None:
    """A command under way is carried out; no reply is sent."""
    stage = run(connection(permission=Permission(3)))
    client = Client(stage)
    client.say(DOWN, "path down 10.2.2.2 10.2.2.3")
    client.heard()
    client.protocol.connectionLost()
    stage.reactor.pass_time(3.1)
    assert client.heard() == []
    assert stage.statuses()[0] == "MANUAL_DOWN" and stage.statuses()[1] != "MANUAL_DOWN"
    assert stage.root.local_socket.clients == set()


def test_a_client_that_hangs_up_while_its_replies_wait_is_forgotten(run: Run) -> None:
    """No request waits any more."""
    stage = run()
    client = Client(stage)
    client.protocol.pauseProducing()
    client.say("show status", DOWN)
    client.protocol.connectionLost()
    assert stage.statuses() == ["OK", "OK"]
    assert client.protocol._working is None


def test_a_client_that_only_shuts_down_its_sending_side_gets_its_replies(run: Run) -> None:
    """printf ... | nc -N -U: the connection is closed once everything is answered."""
    client = Client(run())
    client.say("show status")
    client.protocol.readConnectionLost()
    assert len(client.heard()) == 1
    assert client.transport.disconnecting


def test_a_stop_answers_what_is_under_way(run: Run) -> None:
    """The client learns that the daemon goes; then the connection is closed."""
    stage = run(connection(permission=Permission(3)))
    client = Client(stage)
    client.say(DOWN, DOWN)
    client.heard()
    stage.stop()
    (reply,) = client.heard()
    assert (reply["id"], reply["code"], reply["text"]) == (1, 1, "the daemon is stopping")
    assert client.transport.disconnecting
    client.protocol.connectionLost()


class Broken:
    """Operations that have a bug, or never end."""

    def __init__(self, wait: Deferred[str] | None = None) -> None:
        self._wait = wait

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def operation(*_: object) -> str:
            if self._wait is None:
                raise RuntimeError("a bug")
            return await self._wait

        return operation


def test_a_bug_is_answered_and_the_next_command_is_carried_out(run: Run) -> None:
    """The client need not wait for its timeout."""
    stage = run()
    client = Client(stage)
    good = stage.root.local_socket.commands.operations
    stage.root.local_socket.commands.operations = Broken()
    client.say(DOWN)
    (reply,) = client.heard()
    assert reply["code"] == 1 and "bug" in reply["text"]
    stage.root.local_socket.commands.operations = good
    client.say("show status")
    assert [reply["code"] for reply in client.heard()] == [0]


# ---- where it listens -----------------------------------------------------------------------------------------------


class Listening:
    """A control socket on its own, with a reactor that may refuse to listen."""

    def __init__(self, path: str | None, *defaults: str) -> None:
        self.reactor = FakeReactor()
        machine = Machine(self.reactor, self.reactor.seconds, System(), FakeNetlink())
        self.control = LocalSocket(machine, path, LocalCommands(machine, Broken()), lambda: defaults)


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[str]:
    """The path of a socket that somebody listens at."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "taken.sock"))
        listener.listen()
        yield str(tmp_path / "taken.sock")


def test_a_configured_socket_that_is_not_to_be_had_ends_the_start(tmp_path: Path, taken: str) -> None:
    """The error names it, says why, and what to do."""
    refused = Listening(str(tmp_path / "x.sock"))
    refused.reactor.unix_refusal = OSError(errno.EACCES, "Permission denied")
    with pytest.raises(HostError, match=r"x\.sock: Permission denied: name another control_socket"):
        refused.control.startService()
    with pytest.raises(HostError, match="another mpt listens there"):
        Listening(taken).control.startService()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(HostError, match="is no socket"):
        Listening(str(file)).control.startService()
    assert file.exists()


def test_a_default_socket_that_is_not_to_be_had_is_a_warning_and_the_next_is_tried(tmp_path: Path, taken: str) -> None:
    """Without a usable place, commands come over UDP."""
    second = str(tmp_path / "made" / "second.sock")
    listening = Listening(None, taken, second)
    listening.control.startService()
    assert listening.control.path == second and list(listening.reactor.unix_ports) == [second]
    assert (tmp_path / "made").is_dir()
    nowhere = Listening(None, taken)
    nowhere.control.startService()
    assert nowhere.control.path is None and nowhere.reactor.unix_ports == {}
    for each in (listening, nowhere):
        each.control.stopService()
        assert each.reactor.unix_ports == {}


def test_a_socket_that_a_crashed_daemon_has_left_is_replaced(tmp_path: Path) -> None:
    """A socket without a listener is removed."""
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listening = Listening(str(path))
    listening.control.startService()
    assert listening.control.path == str(path) and not path.exists()  # the fake reactor makes no file


def test_the_group_that_may_change_things_is_mpt_or_the_daemons_own(tmp_path: Path) -> None:
    """As this machine has it."""
    listening = Listening(str(tmp_path / "x.sock"))
    listening.control.startService()
    groups = {each.gr_name: each.gr_gid for each in grp.getgrall()}
    assert listening.control.commands.group == groups.get("mpt", os.getgid())

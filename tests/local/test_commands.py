"""From words to operations, and from outcomes to replies."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any

import pytest

from mpt.errors import HostError, MptError, PeerError
from mpt.local.commands import answer
from mpt.local.operations import Operations, PeerRefusedError, ProgressReport, UnknownFileError
from mpt.local.protocol import Reply
from mpt.local.status import StatusDocument
from mpt.model import Address

DOCUMENT = StatusDocument(
    version="1", pid=42, uptime=1.0, cmdport=65050, accept_remote=False, tunnels=(), connections=()
)


class FakeOperations:
    """Notes what it is asked, reports one line of progress where that may take long, and says `text`, or raises
    `error`."""

    def __init__(self, text: str = "", error: MptError | None = None) -> None:
        self.text = text
        self.error = error
        self.calls: list[tuple[object, ...]] = []

    async def _do(self, *call: object) -> str:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return self.text

    async def address(self, add: bool, address: IPv4Interface | IPv6Interface, interface: str) -> str:
        return await self._do("address", add, address, interface)

    async def interface(self, interface: str, up: bool) -> str:
        return await self._do("interface", interface, up)

    async def reload(self, file: str | None) -> str:
        return await self._do("reload", file)

    async def restart(self, file: str | None) -> str:
        return await self._do("restart", file)

    async def delete(self, file: str) -> str:
        return await self._do("delete", file)

    async def save(self, file: str | None) -> str:
        return await self._do("save", file)

    async def create(self, file: str, progress: ProgressReport) -> str:
        progress("working")
        return await self._do("create", file)

    async def path(self, up: bool, path: Address | str, destination: Address | None, progress: ProgressReport) -> str:
        progress("working")
        return await self._do("path", up, path, destination)

    async def cost(self, path: Address | str, cost: str, progress: ProgressReport) -> str:
        progress("working")
        return await self._do("path cost", path, cost)

    async def connection(self, up: bool, name: str, progress: ProgressReport) -> str:
        progress("working")
        return await self._do("up" if up else "down", name)

    def status(self) -> StatusDocument:
        return DOCUMENT

    def status_of(self, name: str) -> StatusDocument:
        raise HostError(f"there is no connection {name}")

    def history(self, name: str) -> Mapping[str, Any]:
        return {"schema": "mpt.history/1", "connection": name, "paths": []}

    def events(self, after: int) -> Mapping[str, Any]:
        return {"schema": "mpt.events/1", "last": after, "events": []}


def run(coroutine: Coroutine[Any, Any, Reply]) -> Reply:
    """Drive a coroutine that never has to wait."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    reply: Reply = stopped.value.value
    return reply


def ask(line: str, operations: Operations, may_change: bool = True) -> tuple[Reply, list[str]]:
    progress: list[str] = []
    return run(answer(line.split(), operations, may_change, progress.append)), progress


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("addr add 10.0.0.5 dev eth1", ("address", True, ip_interface("10.0.0.5/24"), "eth1")),
        ("int eth1 down", ("interface", "eth1", False)),
        ("path up 10.1.1.2 10.1.1.3", ("path", True, ip_address("10.1.1.2"), ip_address("10.1.1.3"))),
        ("path down eth1", ("path", False, "eth1", None)),
        ("up home", ("up", "home")),
        ("down home", ("down", "home")),
        ("reload", ("reload", None)),
        ("reload a.conf", ("reload", "a.conf")),
        ("restart", ("restart", None)),
        ("delete a.conf", ("delete", "a.conf")),
        ("save a.conf", ("save", "a.conf")),
        ("create a.conf", ("create", "a.conf")),
    ],
)
def test_a_command_is_carried_out(line: str, call: tuple[object, ...]) -> None:
    """Each command calls its operation; the reply is the operation's text, else the command in full."""
    operations = FakeOperations("the peer knows it")
    takes_long = call[0] in ("path", "up", "down", "create")
    assert ask(line, operations) == (Reply(0, "the peer knows it"), ["working"] if takes_long else [])
    assert operations.calls == [call]
    silent, _ = ask(line, FakeOperations())
    assert silent.ok and silent.text.split()[0] == call[0]


@pytest.mark.parametrize(
    "line",
    [
        "addr add 10.0.0.5 dev eth1",
        "int eth1 up",
        "path up 10.1.1.2 10.1.1.3",
        "down home",
        "reload",
        "restart",
        "delete a.conf",
        "save",
        "create a.conf",
    ],
)
def test_who_may_only_look_changes_nothing(line: str) -> None:
    """The command is refused with code 5 before anything is done; the text says who may."""
    operations = FakeOperations()
    reply, progress = ask(line, operations, may_change=False)
    assert reply.code == 5
    assert reply.text.startswith("not permitted: ")
    assert "root" in reply.text
    assert operations.calls == [] and progress == []


def test_everybody_may_look() -> None:
    """The status is a text for people and a document for programs."""
    reply, _ = ask("show status", FakeOperations(), may_change=False)
    assert reply.code == 0
    assert "pid 42" in reply.text
    assert reply.data is not None and reply.data["schema"] == "mpt.status/1"


def test_programs_may_look_at_one_connection_at_the_past_and_at_events() -> None:
    """The past and the events are data, too; a name that nobody has is a failure."""
    past, _ = ask("show history home", FakeOperations(), may_change=False)
    assert past.data == {"schema": "mpt.history/1", "connection": "home", "paths": []}
    assert past.text.startswith("home: ")
    events, _ = ask("show events 7", FakeOperations(), may_change=False)
    assert events.data == {"schema": "mpt.events/1", "last": 7, "events": []}
    assert events.text == "nothing has happened since\n"
    reply, _ = ask("show status nobody", FakeOperations())
    assert (reply.code, reply.text) == (1, "Show unsuccessful. there is no connection nobody")


def test_words_that_are_no_command_are_told() -> None:
    """The daemon parses what the client has parsed: it trusts nobody."""
    operations = FakeOperations()
    reply, _ = ask("int eth1;reboot up", operations)
    assert reply.ok  # a strange name, but one that Linux would take; no shell ever sees it
    reply, _ = ask("delete ../../etc/passwd", operations)
    assert (reply.code, len(operations.calls)) == (2, 1)
    assert ask("", operations)[0].code == 2


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("reload F.conf", UnknownFileError(), "Reload unsuccessful. Config file not found in the connection: F.conf"),
        ("restart F.conf", UnknownFileError(), "Restart unsuccessful. Config file not found in the connection: F.conf"),
        ("delete F.conf", UnknownFileError(), "Delete unsuccessful. Config file not found: F.conf"),
        ("save F.conf", UnknownFileError(), "Save unsuccessful. Config file not found in connection: F.conf"),
        ("create F.conf", UnknownFileError("why"), "Create unsuccessful. Config file not found: F.conf: why"),
        ("create F.conf", PeerRefusedError(5, ""), "ERROR: Connection already exists (error code:5)"),
        (
            "create F.conf",
            PeerRefusedError(1, "no answer from 10.1.1.3"),
            "Connection creation failed (code: 1; Remote server problem?): no answer from 10.1.1.3",
        ),
        ("create F.conf", HostError("no path"), "Create unsuccessful. no path"),
        ("path up 10.1.1.2 10.1.1.3", PeerError("no such path"), "Path unsuccessful. no such path"),
        ("int eth9 up", HostError("there is no interface eth9"), "Interface unsuccessful. there is no interface eth9"),
    ],
)
def test_a_failure_has_the_c_programs_words_and_our_reason(line: str, error: MptError, text: str) -> None:
    """Code 1 and a text that the C client's users know, with the reason after it."""
    assert ask(line, FakeOperations(error=error))[0] == Reply(1, text)


def test_a_bug_is_not_hidden() -> None:
    """Any exception but MptError is raised, for the daemon to log."""

    class Broken(FakeOperations):
        async def save(self, file: str | None) -> str:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer(["save"], Broken(), True, lambda text: None).send(None)

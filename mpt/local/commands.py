"""What the commands of guide chapter 4 do: from words to an operation of the daemon, and its outcome to a reply.

The daemon offers `Operations`; `answer` is called for every request of the unix socket and of the UDP loopback alike:

    reply = await answer(words, operations, may_change, progress)

A coroutine that imports no framework: under Twisted it is run with ``ensureDeferred``. The texts of failures are those
of the C program where it has one (over UDP they follow "CMD-ERROR:"), with our reason after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, Protocol

from mpt.errors import MptError, PeerError
from mpt.local import grammar
from mpt.local.grammar import Command, GrammarError
from mpt.local.protocol import BAD_USAGE, DONE, FAILED, NOT_PERMITTED, NOT_PERMITTED_TEXT, Reply
from mpt.local.status import StatusDocument, status_text
from mpt.model import Address

ALREADY_EXISTS: Final = 5  # the peer's answer to `create`, by the C program's number

_WHO_MAY = "that is for root and for members of the control socket's group; `mpt show status` is for everybody"

ProgressReport = Callable[[str], None]
"""Takes one line on what a long command is doing."""


class UnknownFileError(MptError):
    """No connection runs from this file, or there is no such file in conf/connections."""


class PeerRefusedError(PeerError):
    """The peer answered a command with the result `code` (1: it did not answer at all); the text says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Operations(Protocol):
    """What a running daemon can do. Each returns what has happened, in words ("" lets the command speak for itself).

    Failures are raised as MptError: UnknownFileError for a file that is not there, PeerRefusedError from the peer.
    A file is the name of a connection file without its directory; None stands for all of them.
    """

    async def address(
        self, add: bool, address: IPv4Interface | IPv6Interface, interface: str, progress: ProgressReport
    ) -> str: ...

    async def interface(self, interface: str, up: bool, progress: ProgressReport) -> str: ...

    async def reload(self, file: str | None, progress: ProgressReport) -> str: ...

    async def restart(self, file: str | None, progress: ProgressReport) -> str: ...

    async def delete(self, file: str, progress: ProgressReport) -> str: ...

    async def save(self, file: str | None, progress: ProgressReport) -> str: ...

    async def create(self, file: str, progress: ProgressReport) -> str: ...

    async def path(self, up: bool, source: Address, destination: Address, progress: ProgressReport) -> str: ...

    def status(self) -> StatusDocument: ...


async def answer(words: Sequence[str], operations: Operations, may_change: bool, progress: ProgressReport) -> Reply:
    """The reply to the request `words` of somebody who may change things, or only look. What is raised is a bug."""
    try:
        command = grammar.parse(words)
    except GrammarError as error:
        return Reply(BAD_USAGE, str(error))
    return await execute(command, operations, may_change, progress)


async def execute(command: Command, operations: Operations, may_change: bool, progress: ProgressReport) -> Reply:
    """Carry out `command`, if that is permitted, and tell how it went."""
    if grammar.form_of(command).changes and not may_change:
        return Reply(NOT_PERMITTED, f"{NOT_PERMITTED_TEXT}: {command}: {_WHO_MAY}")
    if isinstance(command, grammar.ShowStatus):
        document = operations.status()
        return Reply(DONE, status_text(document), document.as_json())
    try:
        happened = await _perform(command, operations, progress)
    except MptError as error:
        return Reply(FAILED, _failure(command, error))
    return Reply(DONE, happened or str(command))


async def _perform(command: Command, operations: Operations, progress: ProgressReport) -> str:
    match command:
        case grammar.ChangeAddress(add, address, interface):
            return await operations.address(add, address, interface, progress)
        case grammar.SwitchInterface(interface, up):
            return await operations.interface(interface, up, progress)
        case grammar.SwitchPath(up, source, destination):
            return await operations.path(up, source, destination, progress)
        case grammar.Reload(file):
            return await operations.reload(file, progress)
        case grammar.Restart(file):
            return await operations.restart(file, progress)
        case grammar.Delete(file):
            return await operations.delete(file, progress)
        case grammar.Save(file):
            return await operations.save(file, progress)
        case grammar.Create(file):
            return await operations.create(file, progress)
    raise TypeError(f"no command: {command!r}")


_NOT_FOUND: dict[type[Command], str] = {  # the C program's words
    grammar.Reload: "Reload unsuccessful. Config file not found in the connection: ",
    grammar.Restart: "Restart unsuccessful. Config file not found in the connection: ",
    grammar.Delete: "Delete unsuccessful. Config file not found: ",
    grammar.Save: "Save unsuccessful. Config file not found in connection: ",
    grammar.Create: "Create unsuccessful. Config file not found: ",  # ours: the C program only says CMD-ERROR
}


def _failure(command: Command, error: MptError) -> str:
    """What to say about a `command` that ended in `error`."""
    name = grammar.form_of(command).name
    match error:
        case UnknownFileError() if type(command) in _NOT_FOUND:
            file = getattr(command, "file", None) or ""
            return f"{_NOT_FOUND[type(command)]}{file}{_because(error)}"
        case PeerRefusedError(code=code) if isinstance(command, grammar.Create):
            if code == ALREADY_EXISTS:
                return f"ERROR: Connection already exists (error code:{code}){_because(error)}"
            return f"Connection creation failed (code: {code}; Remote server problem?){_because(error)}"
    return f"{name.capitalize()} unsuccessful.{_because(error)[1:] or ' No reason is known.'}"


def _because(error: MptError) -> str:
    return f": {error}" if str(error) else ""

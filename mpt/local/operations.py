"""The operations of a running daemon, one for each command of guide chapter 4 (`mpt.local.grammar`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, Protocol

from mpt.errors import MptError, PeerError
from mpt.local.status import StatusDocument
from mpt.model import Address

ProgressReport = Callable[[str], None]
"""Takes one line on the progress of a long command."""


class UnknownFileError(MptError):
    """No connection runs from this file, or there is no such file in conf/connections."""


class PeerRefusedError(PeerError):
    """The peer refused a command with the result `code` (1: it did not answer); the text says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Operations(Protocol):
    """The operations. Each returns its result as text for the operator; "" stands for the words of the command.

    An operation that fails raises MptError, and has changed nothing: UnknownFileError for a file that is not there,
    PeerRefusedError for a peer that refuses. A `file` is the name of a connection file without its directory; None
    stands for all files.
    """

    async def address(self, add: bool, address: IPv4Interface | IPv6Interface, interface: str) -> str:
        """Give `interface` the address, or take it away (guide 4.1)."""

    async def interface(self, interface: str, up: bool) -> str:
        """Take `interface` up or down, and the paths over it (guide 4.2)."""

    async def path(self, up: bool, path: Address | str, destination: Address | None, progress: ProgressReport) -> str:
        """Take a path up or down by hand: the one from our address `path` to the peer's `destination`; those over the
        interface `path`; the one with the name `path`, "path_1" or "home/path_1"."""

    async def cost(self, path: Address | str, cost: str, progress: ProgressReport) -> str:
        """Give a path another cost, one of model.COSTS: those over the interface `path`, or the one of that name."""

    async def connection(self, up: bool, name: str, progress: ProgressReport) -> str:
        """Take all paths of the connection with this name or file up or down by hand."""

    async def reload(self, file: str | None) -> str:
        """Take in what is new or changed in `file` (guide 4.3)."""

    async def restart(self, file: str | None) -> str:
        """Stop and start the connection of `file`, without reading files (guide 4.4)."""

    async def delete(self, file: str) -> str:
        """End the connection of `file`, and rename the file to ``*.conf.disabled`` (guide 4.5)."""

    async def save(self, file: str | None) -> str:
        """Write what changed at run time to `file` (guide 4.6)."""

    async def create(self, file: str, progress: ProgressReport) -> str:
        """Make the connection of `file` at the peer, too (guide 4.7)."""

    def status(self) -> StatusDocument:
        """Return the state of the daemon."""

    def status_of(self, name: str) -> StatusDocument:
        """Return the state of the connection with this name or file; raises MptError if there is none."""

    def events(self, after: int) -> Mapping[str, Any]:
        """Return the last lines of the log with numbers above `after`, as plain values (docs/commands.md)."""

    def history(self, name: str) -> Mapping[str, Any]:
        """Return the recent past of the paths of a connection, as plain values (docs/commands.md)."""

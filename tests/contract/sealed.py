"""Sealed connections for the contract tests: rows, and sessions with a peer that the test plays."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

from mpt.data.events import Event
from mpt.data.framing import Sealed
from mpt.data.pathtable import ConnectionRow, PathRow
from mpt.testing.datapath import LOCAL, PORT, REMOTE, Stage, connection_row, numbered, path_row
from mpt.testing.session import OpenedDatagram, PeerSession
from mpt.wire import gre
from mpt.wire.message import Keepalive

OTHER_PLACE = "10.9.9.9"  # where no path of the table is
KEEPALIVE = Keepalive().encode()


def sealed_row(*paths: PathRow, order: Literal["flow", "connection", "none"] = "none", **changes: Any) -> ConnectionRow:
    """A sealed connection."""
    return connection_row(*paths, framing=Sealed(order), **changes)


def begin(stage: Stage, connection: Hashable = "c", session: PeerSession | None = None) -> PeerSession:
    """A session that the data path seals with from now on."""
    session = session or PeerSession()
    stage.datapath.add_session(connection, session.keys(), stage.now)
    stage.datapath.send_with(connection, session.index, stage.now)
    return session


def one_path(stage: Stage, **changes: Any) -> tuple[Any, PeerSession]:
    """The socket and the session of a connection "c" with the path "p"."""
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan), **changes))
    return wan, begin(stage)


def reply(number: int) -> bytes:
    """A packet of the peer."""
    return numbered(1, number, REMOTE, LOCAL)[0]


def content(number: int, sequence: int | None = None) -> bytes:
    """The same as the content of an envelope."""
    return gre.encode(4, sequence) + reply(number)


def opened(session: PeerSession, data_socket: Any) -> list[OpenedDatagram]:
    """What the peer opens of what was sent over a socket since the last call, in the order of path ids and numbers."""
    return sorted(session.open(datagram) for datagram, _ in data_socket.sent())


def news(stage: Stage) -> list[Event]:
    """The events since the last call."""
    return list(stage.datapath.take_events())


def place(host: str) -> tuple[Any, ...]:
    """The address of a host's data port."""
    return host, PORT


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]

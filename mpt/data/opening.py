"""Sealed datagrams as they arrive: what is for control becomes an event, the rest gives the content of its envelope.

Sessions and paths are found by what the datagram says, never by where it came from. A stranger costs a look-up and a
hash, or a look-up and a tag that is wrong; what he sends is counted and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, Final, NamedTuple, Protocol

from mpt.data.counters import Reason
from mpt.data.events import Confirmed, Copied, Event, Handshake, Message, Moved
from mpt.data.framing import Sealed
from mpt.data.gate import Gate, Retried
from mpt.data.pathtable import DataSocket, Table
from mpt.data.receipts import Receipt
from mpt.data.sessions import Sessions
from mpt.data.toobig import Allowance
from mpt.data.transmit import send_message
from mpt.errors import DecodeError
from mpt.wire import message, seal
from mpt.wire.feedback import FEEDBACK, PROBE

MESSAGES: Final = 64  # to control in a wake-up: of one path, and handshake datagrams
TOLD: Final = 500.0  # messages a second of one connection, at up to 0.1 ms each in control; and as many moves
TOLD_AT_ONCE: Final = 250.0


class Content(NamedTuple):
    """The GRE datagram from an envelope, the key of the path that it came over, and its stamp."""

    path: Hashable
    octets: bytes
    stamp: int


class Measures(Protocol):
    """The part that learns from what comes over the paths of adaptive connections (`mpt.data.adaptives`)."""

    def arrived(self, connection: Hashable, receipt: Receipt, now: float) -> None:
        """Note a datagram that has opened."""

    def feedback_came(self, connection: Hashable, octets: bytes, now: float) -> Reason | None:
        """Take a report of the peer. Return the reason to drop it, or None."""


class _Place:
    """Where the datagrams of a sealed path go, and so where they should come from: `address` is host and port."""

    __slots__ = ("address", "is_adaptive", "path", "socket")

    def __init__(
        self, path: Hashable, socket: DataSocket | None, remote: tuple[Any, ...], is_adaptive: bool = False
    ) -> None:
        self.path = path
        self.is_adaptive = is_adaptive
        self.set(socket, remote)

    def set(self, socket: DataSocket | None, remote: tuple[Any, ...]) -> None:
        self.socket = socket
        self.address = remote[:2]


class _Told:
    """How much control may be told of one connection, whatever its peer does: messages, and places."""

    __slots__ = ("messages", "moves")

    def __init__(self) -> None:
        self.messages, self.moves = (Allowance(TOLD, TOLD_AT_ONCE) for _ in range(2))


class Opening:
    """All sealed paths; `events` is where control's events are put."""

    def __init__(self, sessions: Sessions, events: list[Event]) -> None:
        self._sessions = sessions
        self._events = events
        self._places: dict[Hashable, dict[int, _Place]] = {}  # connection -> path id
        self._place_of: dict[Hashable, _Place] = {}  # by path
        self._plain: set[DataSocket | None] = set()  # the sockets that plain paths have alone
        self.gate = Gate()
        self._messages: Counter[Hashable] = Counter()  # in this wake-up, by path
        self._told: dict[Hashable, _Told] = {}  # by connection
        self._handshakes = 0  # in this wake-up
        self._moved: set[Hashable] = set()  # paths of which control was told in this wake-up
        self._copied: set[Hashable] = set()
        self.measures: Measures | None = None
        self.keepalives_received = 0
        self.messages_received = 0
        self.handshakes_received = 0

    def set_table(self, table: Table) -> None:
        """Take the datagrams of the sealed paths of `table`."""
        self._places.clear()
        self._place_of.clear()
        for row in table:
            if isinstance(row.framing, Sealed):
                places = self._places.setdefault(row.key, {})
                self._told.setdefault(row.key, _Told())
                for path in row.paths:
                    place = places.setdefault(
                        path.id, _Place(path.key, path.socket, path.remote, row.adaptive is not None)
                    )
                    self._place_of[path.key] = place
        self._told = {key: told for key, told in self._told.items() if key in self._places}
        by_framing = {
            sealed: {path.socket for row in table if isinstance(row.framing, Sealed) is sealed for path in row.paths}
            for sealed in (False, True)
        }
        self._plain = by_framing[False] - by_framing[True]

    def set_remote(self, path: Hashable, socket: DataSocket, remote: tuple[Any, ...]) -> None:
        """Note where the datagrams of a sealed path go from now on."""
        if path in self._place_of:
            self._place_of[path].set(socket, remote)

    def wake_up(self) -> None:
        """Begin to count anew how much control is told."""
        self._messages.clear()
        self._handshakes = 0
        self._moved.clear()
        self._copied.clear()

    def reads(self, socket: DataSocket) -> bool:
        """Return whether sealed datagrams may come to this socket: not if plain paths have it alone. A path has one
        socket, but its peer may begin anew at another one that the path had."""
        return socket not in self._plain

    def take(
        self, datagram: bytes, socket: DataSocket, source: tuple[Any, ...], now: float, waited: float = 0.0
    ) -> Content | Reason | None:
        """Return what a sealed datagram brings that has `waited` in its socket, or the reason to drop it; None: control
        is told."""
        match datagram[0]:
            case seal.ENVELOPE:
                return self._open(datagram, socket, source, now, waited)
            case seal.HANDSHAKE | seal.RETRY:
                return self._handshake(datagram, socket, source, now)
        return Reason.SEAL_UNKNOWN_KIND

    def _handshake(self, datagram: bytes, socket: DataSocket, source: tuple[Any, ...], now: float) -> Reason | None:
        """Pass a handshake datagram to control, or answer it, if its mac1 is right; nothing is kept."""
        refused = self.gate.check(datagram, source, now)
        if isinstance(refused, Retried):
            send_message(socket, refused.retry, source, 0)
            return Reason.HANDSHAKE_RETRY
        if refused is not None:
            return refused
        if self._handshakes >= MESSAGES:
            return Reason.HANDSHAKE_FLOOD
        self._handshakes += 1
        self.handshakes_received += 1
        self._events.append(Handshake(socket, source, datagram, now))
        return None

    def _open(
        self, datagram: bytes, socket: DataSocket, source: tuple[Any, ...], now: float, waited: float
    ) -> Content | Reason | None:
        """Open an envelope; what is inside comes from the peer, and for the first time."""
        try:
            header = seal.envelope(datagram)
        except DecodeError:
            return Reason.SEAL_TRUNCATED
        session = self._sessions.find(header.session)
        if session is None:
            return Reason.SEAL_SESSION
        place = self._places[session.connection].get(header.path_id)
        if place is None:
            return Reason.SEAL_PATH
        is_elsewhere = socket is not place.socket or source[:2] != place.address
        opened = session.open(header, datagram)
        if isinstance(opened, Reason):
            is_copy = opened is Reason.SEAL_REPLAY and is_elsewhere and session.is_recent(header)
            if is_copy and place.path not in self._copied and self._told[session.connection].moves.take(now):
                self._copied.add(place.path)
                self._events.append(Copied(place.path, socket, source, len(datagram), now))
            return opened
        content = opened[seal.STAMP_LENGTH :]
        if not session.is_confirmed:
            session.is_confirmed = True
            self._events.append(Confirmed(session.connection, session.index, now))
        is_moved = is_elsewhere and session.is_newest(header) and place.path not in self._moved
        if is_moved and self._told[session.connection].moves.take(now):
            self._moved.add(place.path)
            self._events.append(Moved(place.path, socket, source, len(datagram), now))
        stamp = int.from_bytes(opened[: seal.STAMP_LENGTH], "big")
        is_message = seal.is_sealed(content)
        if place.is_adaptive and self.measures is not None:
            is_data = not is_message or content[0] == PROBE
            self.measures.arrived(
                session.connection,
                Receipt(session.index, header.path_id, header.number, len(datagram), stamp, now - waited, is_data),
                now,
            )
            if is_message and content[0] in (FEEDBACK, PROBE):
                dropped = None
                if content[0] == FEEDBACK:
                    dropped = self.measures.feedback_came(session.connection, content, now)
                self.messages_received += dropped is None
                return dropped
        if is_message:
            event = Message(place.path, content, now, source, socket, session.index, len(datagram))
            return self._message(event, self._told[session.connection].messages)
        return Content(place.path, content, stamp)

    def _message(self, event: Message, allowance: Allowance) -> Reason | None:
        """Pass a message to control.

        Its keepalives tell the equalizer nothing: unlike those of plain paths they do not leave at one moment.
        """
        if event.octets[0] not in message.KNOWN:
            return Reason.MESSAGE_UNKNOWN
        if self._messages[event.path] >= MESSAGES or not allowance.take(event.at):
            return Reason.MESSAGE_FLOOD
        self._messages[event.path] += 1
        if event.octets[0] == message.KEEPALIVE:
            self.keepalives_received += 1
        else:
            self.messages_received += 1
        self._events.append(event)
        return None

"""The sessions of all connections: their keys, their numbers, and what has come with them.

What must always hold: no number is used twice with one key and path id. So the numbers and the replay windows belong to
the session, and are found by path id. They know no table: paths may come, go, and change their keys and rows. A session
begins once, with keys that are taken from whoever brought them, and once it has ended it cannot come back.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from mpt.data.counters import Reason
from mpt.data.framing import Sealed
from mpt.data.pathtable import Table
from mpt.data.replay import ReplayWindow
from mpt.wire.seal import Envelope, Opener, Sealer, SessionKeys, stamp


class Session:
    """One session of a connection, both directions; `keys` are wiped. `index` is ours, `peer_index` the peer's."""

    __slots__ = ("_next_numbers", "_opener", "_sealer", "_windows", "connection", "index", "is_confirmed", "peer_index")

    def __init__(self, connection: Hashable, keys: SessionKeys) -> None:
        self.connection = connection
        self.index, self.peer_index = keys.index, keys.peer_index
        self.is_confirmed = False
        self._sealer = Sealer(keys.cipher, keys.send_key, keys.send_iv, keys.peer_index)
        self._opener = Opener(keys.cipher, keys.receive_key, keys.receive_iv)
        self._next_numbers: dict[int, int] = {}  # by path id
        self._windows: dict[int, ReplayWindow] = {}
        keys.wipe()

    def seal(self, path_id: int, content: bytes, now: float) -> bytes:
        """Return a datagram of `content`; it uses up a number, whether it is sent then or not."""
        number = self._next_numbers.get(path_id, 0)
        self._next_numbers[path_id] = number + 1
        return self._sealer.seal(path_id, number, stamp(now), content)

    def next_number(self, path_id: int) -> int:
        """Return the number that the next datagram of a path has."""
        return self._next_numbers.get(path_id, 0)

    def sent_numbers(self) -> int:
        """Return the largest number that a path has used, 0 before the first."""
        return max(max(self._next_numbers.values(), default=0) - 1, 0)

    def open(self, header: Envelope, datagram: bytes) -> bytes | Reason:
        """Return the stamp (2 octets) and the content of a datagram that comes for the first time, or the reason to
        drop it."""
        window = self._windows.get(header.path_id)
        if window is None:
            window = self._windows[header.path_id] = ReplayWindow()
        if not window.is_new(header.number):
            return Reason.SEAL_REPLAY
        opened = self._opener.open(header, datagram)
        if opened is None:
            return Reason.SEAL_TAG
        window.accept(header.number)
        return opened

    def is_recent(self, header: Envelope) -> bool:
        """Return whether the number of `header` is one of the newest of its path."""
        return self._windows[header.path_id].is_recent(header.number)

    def is_newest(self, header: Envelope) -> bool:
        """Return whether no greater number of the path than that of `header` has opened."""
        return self._windows[header.path_id].newest == header.number


class Sessions:
    """All sessions by our index, and which one each connection seals with. `ended` is called with each that ends."""

    __slots__ = ("_by_index", "_connections", "_sealing", "ended")

    def __init__(self) -> None:
        self.ended: Callable[[Session], None] = _ignore
        self._by_index: dict[int, Session] = {}
        self._sealing: dict[Hashable, Session] = {}  # by connection
        self._connections: frozenset[Hashable] = frozenset()  # those that may have sessions

    def set_table(self, table: Table) -> None:
        """End the sessions of all connections that are not sealed ones of `table`."""
        self._connections = frozenset(row.key for row in table if isinstance(row.framing, Sealed))
        for session in list(self._by_index.values()):
            if session.connection not in self._connections:
                self.end(session.connection, session.index)

    def add(self, connection: Hashable, keys: SessionKeys) -> None:
        """Begin a session; raises KeyError and ValueError as `DataPath.add_session`."""
        if connection not in self._connections:
            raise KeyError(connection)
        if keys.is_wiped:
            raise ValueError("the keys were taken before")
        if keys.index in self._by_index:
            raise ValueError(f"the session index {keys.index:08x} is in use")
        self._by_index[keys.index] = Session(connection, keys)

    def find(self, index: int) -> Session | None:
        """Return the session with this index."""
        return self._by_index.get(index)

    def sealing(self, connection: Hashable) -> Session | None:
        """Return the session with which a connection seals."""
        return self._sealing.get(connection)

    def send_with(self, connection: Hashable, index: int | None) -> None:
        """Let a connection seal with this session of its own, or with none; raises KeyError."""
        if index is None:
            self._sealing.pop(connection, None)
            return
        session = self._by_index[index]
        if session.connection != connection:
            raise KeyError(index)
        self._sealing[connection] = session

    def end(self, connection: Hashable, index: int) -> None:
        """Forget a session, if the connection has it."""
        session = self._by_index.get(index)
        if session is None or session.connection != connection:
            return
        del self._by_index[index]
        if self._sealing.get(connection) is session:
            del self._sealing[connection]
        self.ended(session)


def _ignore(_: Session) -> None:
    """Do nothing."""

"""What one tunnel gives its data path: tables of its connections, new shares of paths, and messages after them.

Changes are only noted; the data path gets them in one go, before it works again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from twisted.logger import Logger

from mpt.daemon.connection import Connection
from mpt.daemon.machine import Machine
from mpt.data.datapath import DataPath
from mpt.data.pathtable import ConnectionRow

log = Logger()

GROWTH: Final = 10.0  # times as long as the last table took: until one that only has more paths


class Tables:
    """The tables of the tunnel `name` with `connections`, by their names, which may come and go.

    `mtu()` returns the MTU of the tunnel's interface, `datapath()` the data path; None while there is none.
    `worked(data path)` is called after each call of the data path, `given()` after a new table.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        connections: Mapping[str, Connection],
        mtu: Callable[[], int],
        datapath: Callable[[], DataPath | None],
        worked: Callable[[DataPath], None],
        given: Callable[[], None],
    ) -> None:
        self.is_refused = False  # the last table, by the data path
        self._machine = machine
        self._name = name
        self._connections = connections
        self._mtu = mtu
        self._datapath = datapath
        self._worked = worked
        self._given = given
        self._is_asked = False
        self._seconds = 0.0  # that the last one took
        self._growth: Any = None  # the timer of a table with more paths
        self._shares_asked: set[str] = set()  # names of connections
        self._unsent: dict[Hashable, bytes] = {}  # messages that wait for the table that is asked for, by path
        self._left_out: frozenset[str] = frozenset()  # connections whose rows failed; that was logged

    def begin(self) -> None:
        """Note that there is a new data path: the first table comes by `give`, whatever changes until then."""
        self._is_asked = True

    def stop(self) -> None:
        """Wait no longer for a table with more paths."""
        if self._growth is not None:
            self._growth.cancel()
            self._growth = None

    # --- asking ------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Ask for a new table. Several changes at once (a cable of a hundred connections is pulled) make one table."""
        if self._datapath() is not None and not self._is_asked:
            self._is_asked = True
            self._machine.reactor.callLater(0, self.catch_up)

    def grows(self) -> None:
        """Ask for a new table soon, for paths over which nothing has come yet.

        A thousand clients that begin at once make few tables, which take a tenth of the time at most.
        """
        if self._datapath() is not None and not self._is_asked and self._growth is None:
            self._growth = self._machine.reactor.callLater(GROWTH * self._seconds, self._grow)

    def _grow(self) -> None:
        self._growth = None
        self.changed()

    def shares_changed(self, connection: str) -> None:
        """Ask for new shares of `connection`; the number of other connections does not matter."""
        if self._datapath() is not None and not self._is_asked:
            if not self._shares_asked:
                self._machine.reactor.callLater(0, self.catch_up)
            self._shares_asked.add(connection)

    def send(self, path: Hashable, message: bytes) -> None:
        """Send a message over a path. If a table is asked for, which may bring another socket, send it after that."""
        datapath = self._datapath()
        if self._is_asked or datapath is None:
            self._unsent[path] = message
        else:
            datapath.send(path, message, self._machine.now())

    # --- giving ------------------------------------------------------------------------------------------------------

    def newest_datapath(self) -> DataPath | None:
        """Return the data path, with the table that was asked for."""
        self.catch_up()
        return self._datapath()

    def catch_up(self) -> None:
        """Give the data path the table that was asked for, before it works again.

        The old table may name closed sockets, whose descriptors may belong to other files by now.
        """
        if self._is_asked or (self._shares_asked and self._left_out):  # the row is tried again at every change
            self.give()
        elif self._shares_asked:
            self._give_shares()

    def give(self) -> None:
        """Give the data path a new table now, then the messages that wait for it."""
        self._is_asked = False
        self._shares_asked.clear()
        self.stop()
        datapath = self._datapath()
        if datapath is not None:
            now = self._machine.now()
            try:
                datapath.set_table(self._rows(), now)
                self.is_refused = False
            except Exception:
                log.failure("{name}: the data path refuses its table; no packet is carried", name=self._name)
                datapath.set_table((), now)  # the old one may name descriptors of other files by now
                self.is_refused = True
            unsent, self._unsent = self._unsent, {}
            for path, message in unsent.items():
                datapath.send(path, message, now)
            self._seconds = self._machine.now() - now
            self._worked(datapath)
            self._given()

    def _rows(self) -> tuple[ConnectionRow, ...]:
        """Return the rows of the table. A bug in one connection's row leaves only that connection out."""
        rows: list[ConnectionRow] = []
        left_out: set[str] = set()
        for name, connection in self._connections.items():
            if connection.config.is_down:
                continue
            try:
                rows.append(connection.row(self._mtu()))
            except Exception:
                left_out.add(name)
                if name not in self._left_out:
                    log.failure("{name}: a bug keeps this connection from carrying packets", name=name)
        self._left_out = frozenset(left_out)
        return tuple(rows)

    def _give_shares(self) -> None:
        asked, self._shares_asked = self._shares_asked, set()
        datapath = self._datapath()
        if datapath is not None:
            shares: dict[Hashable, int] = {}
            for name in asked & self._connections.keys():
                shares |= self._connections[name].shares()
            datapath.set_shares(shares, self._machine.now())
            self._worked(datapath)

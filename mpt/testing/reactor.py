"""A reactor without a world: a test moves the time, and says when descriptors are read."""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock


class FakeUnixPort:
    """A unix socket at which only a test can connect: ``factory.buildProtocol(None)``."""

    def __init__(self, reactor: FakeReactor, path: str, factory: Any) -> None:
        self.factory = factory
        self.is_reading = True
        self._reactor = reactor
        self._path = path

    def stopReading(self) -> None:
        self.is_reading = False

    def startReading(self) -> None:
        self.is_reading = True

    def stopListening(self) -> None:
        del self._reactor.unix_ports[self._path]


class FakeReactor(Clock):
    """Twisted's Clock, with readers. `readers` are watched now, `unix_ports` are the open ports by path.

    listenUNIX() fails with `unix_refusal` if it is not None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.unix_ports: dict[str, FakeUnixPort] = {}
        self.unix_refusal: OSError | None = None

    def listenUNIX(self, path: str, factory: Any, backlog: int = 50, mode: int = 0o666) -> FakeUnixPort:
        """Listen at `path`, which is not in the file system."""
        if self.unix_refusal is not None:
            raise CannotListenError(None, path, self.unix_refusal)
        self.unix_ports[path] = FakeUnixPort(self, path, factory)
        return self.unix_ports[path]

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def read_all(self) -> None:
        """Let every reader that has something read, until none has anything."""
        while True:
            ready = select.select(self.readers, [], [], 0)[0]
            if not ready:
                return
            for reader in ready:
                if reader in self.readers:
                    reader.doRead()

    def pass_time(self, seconds: float, step: float = 0.01) -> None:
        """Let `seconds` go by in small steps, and read meanwhile."""
        end = self.seconds() + seconds
        while self.seconds() < end - step / 2:
            self.advance(min(step, end - self.seconds()))
            self.read_all()

    def stand_still(self, seconds: float) -> None:
        """Let `seconds` go by while nothing is done, then go on as a reactor does: calls that are due, then reading."""
        self.rightNow += seconds
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
        self.read_all()
        self.advance(0)

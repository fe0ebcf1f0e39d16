"""File descriptors under the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger

log = Logger()

PAUSE: Final = 0.01  # s without reading after a bug: the descriptor may stay ready for ever
LOG_EVERY: Final = 60.0  # s between two log entries on bugs of one descriptor


class Readable(FileDescriptor):
    """Calls `readable()` while the descriptor `fd()` has data, and `lost()` at an error condition without data.

    An exception from `readable` is a bug: it is logged, and reading goes on after a short pause.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        fd: Callable[[], int],
        readable: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        super().__init__(reactor)
        self._clock = reactor
        self._name = name
        self._fd = fd
        self._readable = readable
        self._lost = lost
        self._resumed: Any = None
        self._log_due = 0.0

    def stop(self) -> None:
        """Read no more; the descriptor stays open."""
        if self._resumed is not None:
            self._resumed.cancel()
            self._resumed = None
        self.stopReading()

    def fileno(self) -> int:
        """Return the descriptor that is read, or -1."""
        return self._fd()

    def doRead(self) -> None:
        """Let the owner read; an exception is logged, and reading goes on."""
        try:
            self._readable()
        except Exception:
            self._failed()

    def connectionLost(self, reason: object) -> None:
        """Note an error condition; the reactor has stopped reading."""
        self._lost()

    def logPrefix(self) -> str:
        """Return the name for the log."""
        return f"mpt {self._name}"

    def _failed(self) -> None:
        now = self._clock.seconds()
        if now >= self._log_due:
            self._log_due = now + LOG_EVERY
            log.failure("a bug while the {name} descriptor is read; reading goes on", name=self._name)
        if self._resumed is None:
            self.stopReading()
            self._resumed = self._clock.callLater(PAUSE, self._resume)

    def _resume(self) -> None:
        self._resumed = None
        self.startReading()

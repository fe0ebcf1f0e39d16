"""What the daemon logs while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer


@implementer(ILogObserver)
class Logged(list[str]):
    """The log, one "level: text" for each entry."""

    def __call__(self, event: LogEvent) -> None:
        self.append(f"{event['log_level'].name}: {formatEvent(event)}")

    def of(self, level: str) -> list[str]:
        """Return the texts of this level."""
        return [text.removeprefix(f"{level}: ") for text in self if text.startswith(f"{level}: ")]


@contextmanager
def logged() -> Iterator[Logged]:
    """Collect the log while the block runs."""
    observer = Logged()
    globalLogPublisher.addObserver(observer)
    try:
        yield observer
    finally:
        globalLogPublisher.removeObserver(observer)

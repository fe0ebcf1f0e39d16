"""The last lines of the log in memory, with numbers: `mpt monitor` and the page ask for those that are new."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

SCHEMA: Final = "mpt.events/1"
KEPT: Final = 1000  # lines
LONGEST: Final = 1000  # characters of a line
LEVELS: Final = {LogLevel.info: "info", LogLevel.warn: "warning", LogLevel.error: "error", LogLevel.critical: "error"}


@implementer(ILogObserver)
class RecentEvents(Service):
    """Keeps the last lines that mpt itself has logged."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._numbers = count(1)
        self._last = 0

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()
        globalLogPublisher.addObserver(self)

    def stopService(self) -> None:
        """Listen no more."""
        super().stopService()
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Note one line of the log."""
        level = LEVELS.get(event.get("log_level", LogLevel.debug))
        source = str(event.get("log_namespace", ""))
        if level is None or not source.startswith("mpt."):
            return
        self._last = next(self._numbers)
        self._events.append(
            {
                "number": self._last,
                "time": round(event["log_time"], 3),
                "level": level,
                "source": source.rpartition(".")[2],
                "text": formatEvent(event)[:LONGEST],
            }
        )

    def after(self, number: int) -> dict[str, Any]:
        """Return the events with a higher number, as far as they are kept, and the number of the last one."""
        found = [event for event in self._events if event["number"] > number]
        return {"schema": SCHEMA, "last": self._last, "events": found}

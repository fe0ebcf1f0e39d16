"""The log of the daemon: lines for people, JSON for programs, and lines for the journal, which knows time and program.

twistd takes `observer` as its ``--logger``; `mptsrv` asks for it. Until the configuration is read it writes the format
that fits the place; `choose` says what the configuration wants.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, formatEventAsClassicLogText
from twisted.python.logfile import LogFile
from zope.interface import implementer

PRIORITIES: Final = {  # syslog's numbers, which journald takes from the head of a line (sd-daemon(3))
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}
LEVELS: Final = {level.name: level for level in PRIORITIES}


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether the journal reads `stream`: $JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
    try:
        state = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"


@implementer(ILogObserver)
class LogOutput:
    """Writes events of `level` and above to `stream`, or to `file`, a log file that grows and is rotated."""

    def __init__(self) -> None:
        self.file: str | None = None
        self.stream: Any = None
        self.format = "text"
        self.level = LogLevel.info

    def open(self) -> None:
        """Begin to write, now that the process is what it will be."""
        if self.file is not None:
            self.stream = LogFile.fromFullPath(self.file)
            signal.signal(signal.SIGUSR1, self._rotate_soon)  # as twistd does for a log of its own
        else:
            self.stream = sys.stdout
            if is_journal(sys.stdout, os.environ):
                self.format = "journal"

    def _rotate_soon(self, number: int, frame: FrameType | None) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(self.stream.rotate)  # type: ignore[attr-defined]

    def choose(self, format: str, level: str) -> None:
        """Take what the configuration wants; "text" is the journal's own where the journal reads."""
        if format != "text":
            self.format = format
        self.level = LEVELS[level]

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        level = event.get("log_level") or LogLevel.info
        if level < self.level or self.stream is None:
            return
        line = _FORMATS[self.format](event, level)
        if line:
            self.stream.write(line)
            self.stream.flush()


def _text(event: LogEvent, level: Any) -> str:
    return formatEventAsClassicLogText(event) or ""


def _journal(event: LogEvent, level: Any) -> str:
    text = _told(event)
    return "".join(f"<{PRIORITIES[level]}>{line}\n" for line in text.splitlines())


def _json(event: LogEvent, level: Any) -> str:
    at = event["log_time"]
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"
    source = str(event.get("log_namespace", ""))
    return json.dumps({"time": clock, "level": level.name, "source": source, "text": _told(event)}) + "\n"


def _told(event: LogEvent) -> str:
    """Return the text of an event, with the traceback of a failure."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    return text if failure is None else f"{text}\n{failure.getTraceback()}".strip()


_FORMATS: Final = {"text": _text, "journal": _journal, "json": _json}

output: Final = LogOutput()


def observer() -> LogOutput:
    """Return the output of this process, opened; twistd calls it as its ``--logger``."""
    output.open()
    return output

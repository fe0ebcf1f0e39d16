"""The keys of the foreground daemon (as in the guide): q quits, p prints the status, r reloads the configuration."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import Service

from mpt.daemon.descriptors import Readable

KEYS = "Keys: q quit, p print the status, r reload the configuration"


class Console(Service):
    """Reads single keys from the terminal `fd` and calls their `actions`."""

    def __init__(self, reactor: Any, actions: Mapping[str, Callable[[], None]], fd: int = 0) -> None:
        self._reader = Readable(reactor, "console", lambda: fd, self._readable, lambda: None)
        self._actions = actions
        self._fd = fd
        self._before: list[Any] | None = None

    def startService(self) -> None:
        """Begin to take each key as it is typed; ^C still interrupts."""
        super().startService()
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        self._reader.startReading()

    def stopService(self) -> None:
        """Restore the terminal."""
        super().stopService()
        self._reader.stop()
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def _readable(self) -> None:
        try:
            keys = os.read(self._fd, 64)
        except OSError:
            keys = b""
        if not keys:
            self._reader.stopReading()  # the terminal is gone; the daemon is not
        for key in keys.decode("ascii", "replace"):
            action = self._actions.get(key)
            if action is not None:
                action()


def has_terminal(fd: int = 0) -> bool:
    """Return whether `fd` is a terminal and this process is in its foreground: a background job must not touch it."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def show(text: str) -> None:
    """Print to the real standard output, which twistd takes away for the log; a closed one is no error."""
    if sys.__stdout__ is not None:
        with suppress(OSError, ValueError):  # ValueError: it is closed
            sys.__stdout__.write(text)
            sys.__stdout__.flush()

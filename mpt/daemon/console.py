"""The keys of the foreground daemon (guide program's): q quits, p prints the status, r reloads the configuration."""

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
    """Reads single keys from the terminal `fd` and calls what `actions` has for them."""

    def __init__(self, reactor: Any, actions: Mapping[str, Callable[[], None]], fd: int = 0) -> None:
        self._reader = Readable(reactor, "console", lambda: fd, self._readable, lambda: None)
        self._actions = actions
        self._fd = fd
        self._before: list[Any] | None = None

    def startService(self) -> None:
        """Take the keys as they are typed; ^C still interrupts."""
        super().startService()
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        self._reader.startReading()

    def stopService(self) -> None:
        """Leave the terminal as it was."""
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
    """Whether somebody sits at `fd`, and it is for us: a job in the background must not touch the terminal."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def show(text: str) -> None:
    """Print to the real standard output, which twistd takes away for the log; nothing happens if nobody reads it."""
    if sys.__stdout__ is not None:
        with suppress(OSError, ValueError):  # ValueError: it is closed
            sys.__stdout__.write(text)
            sys.__stdout__.flush()

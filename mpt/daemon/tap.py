"""The twistd plugin: ``twistd mpt`` and everything that starts the daemon come through here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from mpt import __version__
from mpt.config.directory import find_directory, load_directory
from mpt.daemon.machine import Machine
from mpt.daemon.root import Root
from mpt.data.datapath import PythonDataPath
from mpt.errors import MptError
from mpt.host.netlink import Netlink
from mpt.host.system import System

log = Logger()


class Options(usage.Options):
    """Options of ``twistd mpt``."""

    synopsis = "[--config DIR]"
    longdesc = (
        "A multipath tunnel: one TUN interface over many UDP paths (GRE-in-UDP, RFC 8086), as configured in DIR/interface.conf "
        "and DIR/connections/*.conf."
    )
    optParameters = [
        ["config", "c", None, "Configuration directory [default: $MPT_CONFIG_DIR, else ./conf, else /etc/mpt]"],
        ["ready-fd", None, None, "Write a line to this file descriptor when packets can flow, then close it", int],
    ]

    def opt_version(self) -> None:
        """Print mpt's version and exit."""
        print(f"mpt {__version__}")
        sys.exit(0)


def makeService(options: Options) -> IService:
    """The daemon that `options` ask for. What is wrong with them ends the program with one screen of text."""
    from twisted.internet import reactor

    if "asyncio" in type(reactor).__module__:
        sys.exit("mpt: the asyncio reactor does not go with netlink access: start without --reactor asyncio")
    try:
        directory = find_directory(options["config"], os.environ, Path.cwd())
        loaded = load_directory(directory)
    except MptError as error:
        sys.exit(f"mpt: {error}")
    for warning in loaded.warnings:
        log.warn("{warning}", warning=warning)
    machine = Machine(reactor, time.monotonic, System(), Netlink())
    parent: dict[str, Any] | None = options.parent
    foreground = parent is None or bool(parent["nodaemon"])
    return Root(
        machine,
        loaded.config,
        PythonDataPath,
        started=_announcer(options["ready-fd"], foreground),
        refuse=_refuser(foreground),
        lost=lambda name: reactor.stop(),  # type: ignore[attr-defined]
    )


def _announcer(ready_fd: int | None, foreground: bool) -> Callable[[Root], None]:
    """What to do once packets flow: print the guide's block, and tell whoever waits at `ready_fd`."""

    def started(root: Root) -> None:
        if foreground and sys.__stdout__ is not None:
            sys.__stdout__.write(root.information())
            sys.__stdout__.flush()
        if ready_fd is not None:
            os.write(ready_fd, b"ready\n")
            os.close(ready_fd)

    return started


def _refuser(foreground: bool) -> Callable[[MptError], None]:
    """How a failed start ends: in the foreground with its text alone, else as the error that twistd's parent process
    reports. By now sys.stderr leads into the log, so the text goes to the real one."""

    def refuse(error: MptError) -> None:
        if not foreground:
            raise error
        if sys.__stderr__ is not None:
            sys.__stderr__.write(f"mpt: {error}\n")
        sys.exit(1)

    return refuse

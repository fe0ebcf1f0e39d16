"""The twistd plugin: ``twistd mpt`` and everything that starts the daemon come through here."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from mpt import __version__
from mpt.accel.choice import configured_datapath
from mpt.config.directory import load_directory
from mpt.config.location import find_directory
from mpt.daemon import logoutput, rights
from mpt.daemon.console import KEYS, Console, has_terminal, show
from mpt.daemon.lifetime import GarbageCollection, WhenRunning, fail, prepare
from mpt.daemon.machine import Machine, interfaces_here
from mpt.daemon.quotafile import state_directory
from mpt.daemon.root import Root
from mpt.daemon.supervision import Supervision
from mpt.errors import MptError
from mpt.host.netlink import Netlink
from mpt.host.notify import ServiceManager
from mpt.host.system import System
from mpt.local.commands import answer
from mpt.local.statustext import start_text, status_text
from mpt.model import Status

log = Logger()


class Options(usage.Options):
    """Options of ``twistd mpt``."""

    synopsis = "[--config DIR]"
    longdesc = (
        "A multipath tunnel: one TUN interface over many UDP paths (GRE-in-UDP, RFC 8086), as configured in "
        "DIR/interface.conf and DIR/connections/*.conf."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "Configuration directory [default: $MPT_CONFIG_DIR, else ./conf, else /etc/mpt]"],
        ["user", None, None, "Run as this user, with few rights, instead of root"],
        ["ready-fd", None, None, "Write a line to this file descriptor when packets can flow, then close it", int],
    ]

    def opt_version(self) -> None:
        """Print mpt's version and exit."""
        print(f"mpt {__version__}")
        sys.exit(0)


def makeService(options: Options) -> IService:
    """Return the daemon for `options`. A fault in them ends the program with one screen of text."""
    from twisted.internet import reactor

    if "asyncio" in type(reactor).__module__:
        sys.exit("mpt: the asyncio reactor does not go with netlink access: start without --reactor asyncio")
    parent: dict[str, Any] | None = options.parent
    user: str | None = options["user"]
    try:
        if user is not None:
            _become(user, parent or {})
        directory = find_directory(options["config"], os.environ, Path.cwd())
        loaded = load_directory(directory, interfaces_here())
        if user is not None:
            rights.keep_what_is_needed(loaded.config)
        datapath_choice = configured_datapath(loaded.config.general, os.environ)
    except MptError as error:
        print(f"mpt: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    sealed = any(each.is_sealed for each in loaded.config.connections)
    logoutput.output.choose(loaded.config.general.log_format, loaded.config.general.log_level)
    log.info("mpt {version} on Linux {kernel}", version=__version__, kernel=os.uname().release)
    log.info("{which}", which=datapath_choice.told(sealed))
    for warning in loaded.warnings:
        log.warn("{warning}", warning=warning)
    ready_fd: int | None = options["ready-fd"]
    if ready_fd is not None and not _is_open(ready_fd):
        sys.exit(f"mpt: --ready-fd {ready_fd}: there is no open file descriptor of that number")
    prepare(reactor)
    state = state_directory(os.environ)
    machine = Machine(reactor, time.monotonic, System(), Netlink(), state_directory=state)
    foreground = parent is None or bool(parent["nodaemon"])
    root = Root(
        machine,
        loaded.config,
        datapath_choice,
        started=lambda: _announce(root, supervision, ready_fd, foreground),
        refuse=lambda error: _refuse(reactor, error),
        lost=lambda name: fail(reactor),
    )
    supervision = Supervision(reactor, ServiceManager(os.environ), lambda: _summary(root))
    supervision.setServiceParent(root)
    GarbageCollection().setServiceParent(root)  # the last that starts
    reactor.callWhenRunning(signal.signal, signal.SIGHUP, lambda *_: reactor.callFromThread(_reload, root, supervision))  # type: ignore[attr-defined]
    if foreground and has_terminal():
        keys = {"q": reactor.stop, "p": lambda: show(_status(root)), "r": lambda: _reload(root, supervision)}
        Console(reactor, keys).setServiceParent(root)
    return WhenRunning(reactor, root)


def _become(user: str, parent: Mapping[str, Any]) -> None:
    """Give up root's rights before the log is opened, and the pidfile of twistd's `parent`. Raises HostError."""
    logfile = logoutput.output.file or parent.get("logfile") or (None if parent.get("nodaemon") else "twistd.log")
    rights.become(user, logfile)
    rights.check_files(logfile, parent.get("pidfile"), user)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        return False
    return True


def _announce(root: Root, supervision: Supervision, ready_fd: int | None, foreground: bool) -> None:
    """Print the guide's block now that packets flow, unless programs read the log, and write a line to `ready_fd`."""
    if foreground and logoutput.output.format != "json":
        tunnels = [(each.config, each.tun.device, each.tun.fd) for each in root.runs.tunnels if each.tun is not None]
        text = start_text(root.runs.settings.general, tunnels)
        show(text + (f"{KEYS}\n" if has_terminal() else ""))
    supervision.ready()
    if ready_fd is not None:
        try:
            os.write(ready_fd, b"ready\n")
            os.close(ready_fd)
        except OSError as error:
            log.warn("--ready-fd {fd}: {reason}", fd=ready_fd, reason=error.strerror)


def _refuse(reactor: Any, error: Exception) -> None:
    """End a start that failed with its text alone, on the real standard error, which twistd takes away for the log."""
    text = str(error)
    if isinstance(error, MptError):
        log.critical("{error}", error=error)
    else:
        log.failure("the start failed", Failure(error))
        text = f"the daemon cannot start, because of a bug: {error!r}; its log has the details"
    print(f"mpt: {text}", file=sys.__stderr__)
    fail(reactor)


def _reload(root: Root, supervision: Supervision) -> None:
    """Reload as ``mpt reload`` does, after SIGHUP or the key r."""
    supervision.reloading()
    reloading = ensureDeferred(answer(["reload"], root.operations, True, lambda text: None))
    reloading.addCallbacks(
        lambda reply: log.info("reload: {text}", text=reply.text) if reply.ok else log.error("{text}", text=reply.text),
        lambda failure: log.failure("reload failed", failure),
    )
    reloading.addCallback(lambda _: supervision.reloaded())


def _summary(root: Root) -> str:
    """Return a line about all paths."""
    paths = [path for each in root.runs.connections() for path in each.paths]
    good = sum(path.status is Status.OK for path in paths)
    return f"{good} of {len(paths)} paths work, {len(root.runs.connections())} connections"


def _status(root: Root) -> str:
    return status_text(root.operations.status()) + "\n"

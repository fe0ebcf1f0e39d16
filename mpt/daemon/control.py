"""The unix socket for local commands: JSON lines (`mpt.wire.local`), and who may do what.

Everybody may connect and look; only root and the members of the socket's group may change things. The kernel says who
connected (SO_PEERCRED), so the mode of the socket need not: it is open to all.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from mpt.config.directory import RUNTIME_DIRECTORY, control_sockets
from mpt.control.commands import Operations, answer
from mpt.daemon.machine import Machine
from mpt.errors import HostError
from mpt.host.credentials import peer_may_change, peer_of, user_may_change
from mpt.wire.local import BAD_USAGE, BadRequest, Progress, Reply, RequestReader, encode_progress, encode_reply

log = Logger()

GROUP = "mpt"  # if there is such a group, its members may change things
MODE = 0o666
CLIENTS_AT_ONCE = 64


class ControlProtocol(Protocol):
    """One client: its requests are carried out one after the other."""

    def __init__(self, service: ControlSocket) -> None:
        self._service = service
        self._reader = RequestReader()
        self._may_change = False
        self._running: Deferred[None] | None = None
        self._queue: list[Any] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        try:
            self._may_change = peer_may_change(peer_of(self.transport.socket), self._service.group)  # type: ignore[attr-defined]
        except OSError:
            self.transport.loseConnection()
            return
        if len(self._service.clients) >= CLIENTS_AT_ONCE:
            self.transport.loseConnection()
            return
        self._service.clients.add(self)

    def connectionLost(self, reason: object = None) -> None:
        """What was begun for the client goes on; nobody is told of it."""
        self._service.clients.discard(self)
        self._queue.clear()

    def dataReceived(self, data: bytes) -> None:
        self._queue += self._reader.feed(data)
        self._next()

    def _next(self) -> None:
        if self._running is not None or not self._queue or self.transport is None:
            return
        request = self._queue.pop(0)
        self.transport.pauseProducing() if self._queue else self.transport.resumeProducing()  # type: ignore[attr-defined]
        if isinstance(request, BadRequest):
            self._write(encode_reply(request.id, Reply(BAD_USAGE, request.text)))
            self._next()
            return
        self._running = ensureDeferred(self._carry_out(request.id, request.command))
        self._running.addErrback(_report)
        self._running.addCallback(self._ended)

    def _ended(self, _: object) -> None:
        self._running = None
        self._next()

    async def _carry_out(self, number: int, words: Sequence[str]) -> None:
        def progress(text: str) -> None:
            self._write(encode_progress(number, Progress(text)))

        reply = await answer(words, self._service.operations, self._may_change, progress)
        self._write(encode_reply(number, reply))

    def _write(self, line: bytes) -> None:
        if self in self._service.clients and self.transport is not None:
            self.transport.write(line)


class ControlSocket(Service):
    """The socket at `path`, or at a default place if that is None. There, one that is not to be had is only a warning."""

    def __init__(self, machine: Machine, path: str | None, operations: Operations) -> None:
        self._machine = machine
        self._configured = path
        self._port: Any = None
        self.operations = operations
        self.group = 0
        self.path: str | None = None
        self.clients: set[ControlProtocol] = set()

    def startService(self) -> None:
        super().startService()
        self.group = _group()
        for path in (self._configured,) if self._configured else control_sockets(os.environ):
            try:
                self._listen(path)
                return
            except OSError as error:
                reason = f"cannot take local commands at {path}: {error.strerror or error}"
                if self._configured:
                    raise HostError(f"{reason}: name another control_socket in [general] of interface.conf") from error
                log.warn("{reason}; they are taken over UDP", reason=reason)

    def stopService(self) -> None:
        super().stopService()
        for client in list(self.clients):
            if client.transport is not None:
                client.transport.loseConnection()
        if self._port is not None:
            self._port.stopListening()
            self._port = None
        self.path = None

    async def answer_for_user(self, words: Sequence[str], uid: int | None) -> Reply:
        """A command that came over UDP from the socket of user `uid`."""
        return await answer(words, self.operations, user_may_change(uid, self.group), lambda text: None)

    def _listen(self, path: str) -> None:
        directory = os.path.dirname(path)
        if directory.startswith(RUNTIME_DIRECTORY) or not self._configured:
            os.makedirs(directory, mode=0o755, exist_ok=True)
        _remove_dead(path)
        factory = Factory.forProtocol(lambda: ControlProtocol(self))  # type: ignore[arg-type]
        factory.noisy = False
        try:
            self._port = self._machine.reactor.listenUNIX(path, factory, mode=MODE)
        except Exception as error:  # Twisted's CannotListenError wraps the OSError
            raise OSError(errno.EADDRINUSE, str(getattr(error, "socketError", error))) from error
        if self.group != os.getgid():
            os.chown(path, -1, self.group)
        self.path = path


def _remove_dead(path: str) -> None:
    """Remove a socket that nobody listens at any more; raises OSError if somebody does, or if it is something else."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "it exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another mpt listens there")


def _group() -> int:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return os.getgid()


def _report(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("a local command failed", failure)

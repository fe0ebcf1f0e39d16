"""The unix socket for local commands: JSON lines (`mpt.local.protocol`), and the rights of callers.

Everybody may connect and look; only root and the members of the socket's group may change things. The kernel says who
connected (SO_PEERCRED), so the socket's mode lets all connect.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IFileDescriptorReceiver, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from mpt.daemon.localcommands import LocalCommands
from mpt.daemon.machine import Machine
from mpt.errors import HostError
from mpt.host.credentials import ROOT, caller_may_change, caller_of
from mpt.host.rights import give_directory
from mpt.local.protocol import (
    BAD_USAGE,
    FAILED,
    MAX_REQUEST_LINE,
    BadRequest,
    Progress,
    Reply,
    Request,
    decode_request,
    encode_progress,
    encode_reply,
)
from mpt.local.sockets import RUNTIME_DIRECTORY, control_sockets

log = Logger()

MODE = 0o666
CLIENTS_AT_ONCE = 64
BACKLOG = 8  # callers who wait to be let in; `mpt` tries again while there are more
PIECE = 4096  # octets read at once from a client without rights: some 90 requests


@implementer(IFileDescriptorReceiver, IHalfCloseableProtocol, IPushProducer)
class LocalClient(LineOnlyReceiver):
    """One client: its requests are carried out one after the other.

    Nothing more is read while one is carried out, or while the client does not take its replies. So a client occupies
    at most the kernel's buffers, one read of the reactor and one reply. A client that may not change things waits for
    its turn before each request is decoded.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST_LINE

    def __init__(self, service: LocalSocket) -> None:
        self._service = service
        self._may_change = False
        self._queue: deque[bytes] = deque()
        self._working: Deferred[None] | None = None
        self._writable: Deferred[None] | None = None  # fires when the client has taken its replies

    def connectionMade(self) -> None:
        """Find out who the caller is; refuse one beyond `CLIENTS_AT_ONCE`, unless he may change things."""
        transport: Any = self.transport
        try:
            self._may_change = caller_may_change(caller_of(transport.socket), self._service.commands.group)
        except OSError:
            transport.loseConnection()
            return
        if not self._may_change:
            self._service.let_in_slowly()
        if len(self._service.clients) >= CLIENTS_AT_ONCE and not self._may_change:  # a crowd does not lock root out
            transport.write(encode_reply(0, Reply(FAILED, f"the daemon has {CLIENTS_AT_ONCE} clients already")))
            transport.loseConnection()
            return
        if not self._may_change:
            transport.bufferSize = PIECE
        self._service.clients.add(self)
        transport.registerProducer(self, True)

    def connectionLost(self, reason: object = None) -> None:
        """Note that the client is gone; the command under way goes on."""
        self._service.clients.discard(self)
        self._queue.clear()
        self.resumeProducing()

    def readConnectionLost(self) -> None:
        """Note that the client asks no more. It has all its replies, as nothing is read before they are sent."""
        self.close()

    def writeConnectionLost(self) -> None:
        """Do nothing: only this side could cause it, and does not."""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close a descriptor that the client has sent; by default Twisted would log each."""
        os.close(descriptor)

    def lineReceived(self, line: bytes) -> None:
        """Carry out a request after all earlier ones; an empty line is no request."""
        if self not in self._service.clients or not line.strip():
            return
        self._queue.append(line)
        if self._working is None:
            self._working = ensureDeferred(self._work())
            self._working.addBoth(self._worked)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer, and hang up: the begin of the next request is unknown."""
        if self in self._service.clients:
            self._write(encode_reply(0, Reply(BAD_USAGE, f"a request has at most {MAX_REQUEST_LINE} octets")))
            self.close()

    def close(self) -> None:
        """Cancel the client's requests, and hang up when it has taken its replies."""
        self._queue.clear()
        if self._working is not None:
            self._working.cancel()
        self._service.clients.discard(self)
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def pauseProducing(self) -> None:
        """Note that the client does not take its replies."""
        self._writable = self._writable or Deferred()

    def resumeProducing(self) -> None:
        """Note that the client takes its replies again, or is gone."""
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.callback(None)

    def stopProducing(self) -> None:
        """Go on: queued requests are answered all the same."""
        self.resumeProducing()

    async def _work(self) -> None:
        """Carry out the queued requests."""
        transport: Any = self.transport
        transport.pauseProducing()
        while self._queue:
            if not self._may_change:
                await self._service.commands.next_turn()
            if not self._queue:
                return  # the client is gone
            request = decode_request(self._queue.popleft())
            reply = await self._answer(request)
            self._write(encode_reply(request.id, reply))
            if self._writable is not None:
                await self._writable

    def _worked(self, outcome: object) -> None:
        self._working = None
        if isinstance(outcome, Failure) and not outcome.check(CancelledError):
            log.failure("a client of the control socket cannot be served", outcome)
        if self in self._service.clients:
            transport: Any = self.transport
            transport.resumeProducing()

    async def _answer(self, request: Request | BadRequest) -> Reply:
        if isinstance(request, BadRequest):
            return Reply(BAD_USAGE, request.text)

        def progress(text: str) -> None:
            self._write(encode_progress(request.id, Progress(text)))

        try:
            if self._may_change:
                return await self._service.commands.change(request.command, progress)
            return await self._service.commands.look(request.command)
        except CancelledError:
            return Reply(FAILED, "the daemon is stopping")
        except Exception:
            log.failure("the command {command} failed", command=" ".join(request.command))
            return Reply(FAILED, "the daemon has a bug here: its log has the details")

    def _write(self, line: bytes) -> None:
        if self in self._service.clients and self.transport is not None:
            self.transport.write(line)


class LocalSocket(Service):
    """The socket at `path`. If that is None, at the first usable one of `default_paths()`; none is only a warning."""

    def __init__(
        self,
        machine: Machine,
        path: str | None,
        commands: LocalCommands,
        default_paths: Callable[[], Sequence[str]] = lambda: control_sockets(os.environ),
    ) -> None:
        self._machine = machine
        self._configured = path
        self._default_paths = default_paths
        self._port: Any = None
        self._is_closed_for_now = False
        self.commands = commands
        self.path: str | None = None
        self.clients: set[LocalClient] = set()

    def startService(self) -> None:
        """Listen at the configured path, or else at the first usable default; raises HostError."""
        super().startService()
        paths = (self._configured,) if self._configured else self._default_paths()
        if not paths:
            log.warn("there is no place for a local socket (is /proc mounted?): commands are taken over UDP")
        for path in paths:
            try:
                self._listen(path)
                return
            except OSError as error:
                reason = f"cannot take local commands at {path}: {error.strerror or error}"
                if self._configured:
                    raise HostError(f"{reason}: name another control_socket in [general] of interface.conf") from error
                log.warn("{reason}; they are taken over UDP", reason=reason)

    def stopService(self) -> Any:
        """Hang up and stop listening; return a Deferred, because the reactor removes the file later."""
        super().stopService()
        self.commands.stop()
        for client in list(self.clients):
            client.close()
        self._is_closed_for_now = False
        port, self._port, self.path = self._port, None, None
        return port.stopListening() if port is not None else None

    def let_in_slowly(self) -> None:
        """Let nobody else in before the next turn of a caller without rights: connecting costs time, too."""
        if not self._is_closed_for_now:
            self._is_closed_for_now = True
            self._port.stopReading()
            self.commands.next_turn().addCallback(lambda _: self._let_one_in())

    def _let_one_in(self) -> None:
        self._is_closed_for_now = False
        if self._port is not None:
            self._port.numberAccepts = 1
            self._port.startReading()

    def _listen(self, path: str) -> None:
        directory = os.path.dirname(path)
        if directory.startswith(RUNTIME_DIRECTORY) or not self._configured:
            os.makedirs(directory, mode=0o755, exist_ok=True)
        if directory == RUNTIME_DIRECTORY and os.geteuid() == ROOT:
            give_directory(directory)  # in a directory of somebody else a name could lead root elsewhere
        _remove_dead(path)
        factory = Factory.forProtocol(lambda: LocalClient(self))
        factory.noisy = False
        try:
            self._port = self._machine.reactor.listenUNIX(path, factory, backlog=BACKLOG, mode=MODE)
        except CannotListenError as error:
            reason = error.socketError
            raise OSError(errno.EADDRINUSE, getattr(reason, "strerror", None) or str(reason)) from error
        if self.commands.group != os.getgid():
            with suppress(OSError):  # it only shows who may change things; SO_PEERCRED decides
                os.chown(path, -1, self.commands.group)
        self.path = path


def _remove_dead(path: str) -> None:
    """Remove a socket at which nobody listens; raises OSError if somebody does, or if it is no socket."""
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

"""Control traffic over UDP (guide 2.6.2): what peers say to the command port, what we ask of them, local commands.

The rounds of a handshake are in `mpt.control.handshake`; here they meet the socket and the clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mpt.control.handshake import Handshakes, Outgoing
from mpt.control.initiator import Endpoint, Outcome, Request
from mpt.control.responder import Policy
from mpt.daemon.machine import Machine
from mpt.daemon.peerport import CommandPort, Peer, Way
from mpt.daemon.timers import DeadlineLoop
from mpt.errors import DecodeError
from mpt.local import protocol
from mpt.local.protocol import Reply

log = Logger()

END_AFTER = 0.005  # s between a text reply and its end, as the C program does
LOCAL_COMMANDS_AT_ONCE = 16  # more are refused: a local user must not fill the memory

AnswerLocal = Callable[[Sequence[str], int | None], Awaitable[Reply]]


class CommandProtocol(DatagramProtocol):
    """Hands on what the command port reads."""

    noisy = False

    def __init__(self, received: Callable[[bytes, Peer, Way], None]) -> None:
        self.command_received = received


class CommandService(Service):
    """The command port of the daemon.

    `policy` answers for the daemon in handshakes that peers begin. `answer_local(words, uid)`, which is set before the
    start, carries out a local command for the user `uid`, None if nobody knows whose it is.
    """

    answer_local: AnswerLocal

    def __init__(self, machine: Machine, port: int, policy: Policy) -> None:
        self._machine = machine
        self._port_number = port
        self._port: CommandPort | None = None
        self._ways: dict[Endpoint, list[Way]] = {}  # of the requests that are under way, the latest last
        self._answering: set[Deferred[None]] = set()
        self.handshakes = Handshakes(policy)
        self._retry = DeadlineLoop(machine, self.handshakes.next_deadline, self._deadline_reached)

    @property
    def counters(self) -> dict[str, int]:
        """Why datagrams were dropped or refused."""
        return dict(self.handshakes.counters)

    def startService(self) -> None:
        """Open the port; raises HostError."""
        super().startService()
        self._port = CommandPort(self._machine, self._port_number)
        self._port.start(CommandProtocol(self._received))

    def stopService(self) -> None:
        super().stopService()
        self._retry.stop()
        for answering in list(self._answering):
            answering.cancel()
        if self._port is not None:
            self._port.stop()
            self._port = None

    def begin(self, request: Request, peer: Peer, way: Way, ended: Callable[[Outcome], None]) -> None:
        """Ask a peer for a change, from the local end `way`; `ended` is called once. Raises PeerError if the same is
        being asked already."""

        def forget_way(outcome: Outcome) -> None:
            self._ways[peer].remove(way)
            if not self._ways[peer]:
                del self._ways[peer]
            ended(outcome)

        sent = self.handshakes.begin(request, peer, forget_way, self._machine.now())
        self._ways.setdefault(peer, []).append(way)
        self._send(sent, way)

    def _received(self, datagram: bytes, peer: Peer, way: Way) -> None:
        if peer.address.is_loopback and protocol.is_local_command(datagram):
            self._local_command(datagram, peer, way)
        else:
            self._send(self.handshakes.receive(datagram, peer, self._machine.now()), way)

    def _deadline_reached(self, now: float) -> None:
        self._send(self.handshakes.deadline_reached(now), Way())

    def _send(self, outgoing: list[Outgoing], reply_way: Way) -> None:
        """Replies go back the way the request came, requests the way that was chosen for them."""
        for datagram, destination, is_reply in outgoing:
            ways = [] if is_reply else self._ways.get(destination, [])
            way = ways[-1] if ways else reply_way
            if self._port is not None:
                self._port.send(datagram, Peer(*destination), way)
        self._retry.follow()

    def _local_command(self, datagram: bytes, peer: Peer, way: Way) -> None:
        """The guide's own channel: one datagram with words, one with the reply, one that ends it."""
        if len(self._answering) >= LOCAL_COMMANDS_AT_ONCE:
            self.handshakes.counters["local_busy"] += 1
            return
        try:
            words = protocol.decode_text_request(datagram)
        except DecodeError as error:
            self.handshakes.counters[error.reason] += 1
            return
        answering = ensureDeferred(self._answer(words, peer, way))
        self._answering.add(answering)
        answering.addErrback(_report)
        answering.addBoth(lambda _: self._answering.discard(answering))

    async def _answer(self, words: Sequence[str], peer: Peer, way: Way) -> None:
        reply = await self.answer_local(words, self._machine.udp_sender_uid(peer.address, peer.port))
        text, end = protocol.encode_text_reply(reply)
        self._reply(text, peer, way)
        await deferLater(self._machine.reactor, END_AFTER)
        self._reply(end, peer, way)

    def _reply(self, datagram: bytes, peer: Peer, way: Way) -> None:
        if self._port is not None:
            self._port.send(datagram, peer, way)


def _report(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("a local command failed", failure)

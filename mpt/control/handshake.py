"""The four rounds in which one host changes something at another (guide 2.6.3.1 and 4.7), without sockets and clock.

    round 1  initiator: I want to change something        round 2  responder: go on, with this random number
    round 3  initiator: this, and here is your number     round 4  responder: done, or why not

The daemon uses the following. An endpoint is a tuple of outer address and UDP port, `now` is monotonic seconds:

    handshakes = Handshakes(host)                       everything between this host's command port and its peers
    handshakes.receive(datagram, source, now)           -> [Outgoing]: any datagram of the command port; never raises
    handshakes.begin(request, destination, ended, now)  -> [Outgoing]: `ended(Outcome)` is called once; PeerError if
                                                        a request of the same kind to the same peer is still under way
    handshakes.deadline_reached(now)                    -> [Outgoing]: call it at the deadline; early is harmless
    handshakes.next_deadline()                          -> float | None
    handshakes.forget(own, peer)                        a connection was deleted here: its answers are forgotten
    handshakes.counters                                 why datagrams were dropped or refused: Counter of reasons
  and of ``mpt.control.initiator``:
    path_status_request(connection, own, peer, up, allow_default_key)
                                                        -> ChangeRequest (A2); PeerError if it may not be sent
    create_request(connection, text, allow_default_key) -> ChangeRequest (A3); `text`: writer.connection_text
    Outcome                                             result, the text that answers a create, ok, explanation()
  and of ``mpt.control.responder``:
    Host                                                connections, keys and execution, as the responder needs them
    PathStatusChange, concerned_path(change, found)     a peer's report, and the index of the path that it means
  and of ``mpt.control.merge``: the other side's connection out of the text of a create, and ours out of its answer.

``mpt.control.agreement`` keeps the reports on paths, in both directions: one object for each connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from mpt.control.admission import Admission
from mpt.control.auth import fresh_random
from mpt.control.initiator import ChangeRequest, Endpoint, Initiator, Outcome
from mpt.control.responder import Host, Responder
from mpt.errors import DecodeError, PeerError
from mpt.model import Address
from mpt.wire import command


class Outgoing(NamedTuple):
    """A datagram to send from the command port. A reply goes back the way its request came."""

    datagram: bytes
    destination: Endpoint
    is_reply: bool


class Handshakes:
    """All handshakes of one daemon, in both roles; `admission` bounds the work."""

    def __init__(
        self, host: Host, random: Callable[[], bytes] = fresh_random, admission: Admission | None = None
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._host = host
        self._admission = admission or Admission(host.is_peer)
        self._responder = Responder(host, self.counters, random)
        self._initiators: dict[Initiator, Callable[[Outcome], None]] = {}

    def begin(
        self, request: ChangeRequest, destination: Endpoint, ended: Callable[[Outcome], None], now: float
    ) -> list[Outgoing]:
        """Ask for a change. Raises PeerError while this host asks that peer for another change of the same kind."""
        initiator = Initiator(request, destination, self.counters)
        if any(other.concerns_same(initiator) for other in self._initiators):
            raise PeerError(f"{destination[0]} is still being asked for such a change: try again when that has ended")
        self._initiators[initiator] = ended
        return self._outgoing(initiator, initiator.start(now))

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> list[Outgoing]:
        """Take in a datagram of the command port. A host whose peers have no business there answers nobody."""
        if self._host.is_silent():
            self.counters["no_plain_connection"] += 1
            return []
        if not self._admission.admits(source[0], now):
            self.counters["too_many"] += 1
            return []
        try:
            message = command.decode(datagram)
        except DecodeError as error:
            self.counters[error.reason] += 1
            return []
        if message.round in (1, 3):
            replies = self._responder.receive(datagram, message, source, now)
            return [Outgoing(reply, source, True) for reply in replies]
        initiator = next((each for each in self._initiators if each.concerns(message, source)), None)
        if initiator is None:  # a keepalive, a late or a second reply of the C program, or a forged one
            self.counters["reply_unexpected" if message.round else "keepalive_on_command_port"] += 1
            return []
        sent = self._outgoing(initiator, initiator.receive(datagram, message, now))
        self._close_ended()
        return sent

    def deadline_reached(self, now: float) -> list[Outgoing]:
        """Send unanswered requests again, or give them up."""
        sent = [out for each in self._initiators for out in self._outgoing(each, each.deadline_reached(now))]
        self._close_ended()
        return sent

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` is due; None while no peer is asked."""
        deadlines = (each.next_deadline() for each in self._initiators)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def forget(self, own: Address, peer: Address) -> None:
        """Note that the connection between these tunnel addresses is gone: a create of the same text is a new one."""
        self._responder.forget(own, peer)

    def _outgoing(self, initiator: Initiator, datagrams: list[bytes]) -> list[Outgoing]:
        return [Outgoing(datagram, initiator.destination, False) for datagram in datagrams]

    def _close_ended(self) -> None:
        for initiator in [each for each in self._initiators if each.outcome is not None]:
            ended = self._initiators.pop(initiator)
            if initiator.outcome is not None:
                ended(initiator.outcome)

"""All handshakes of one host, in both roles: which datagram belongs to which handshake (session 2).

The daemon uses the following; `place`, `Send`, `Terms` and the outcomes are of ``mpt.control.keyexchange``, `now` is
monotonic seconds.

    exchanges = KeyExchanges(public_key, make_engine, accepts, answer)
    exchanges.begin(terms, peer_keys, turn, places, now)    -> [Send]: this host asks a peer for a session
    exchanges.receive(datagram, place, now)                 -> [Send]: any handshake datagram whose mac1 is right
    exchanges.deadline_reached(now)                         -> [Send]: call it at the deadline; early is harmless
    exchanges.next_deadline()                               -> float | None
    exchanges.take_outcomes()                               -> [Outcome]: pull it after each call above
    exchanges.cancel(connection)                            give up what this host has begun for `connection`
    exchanges.expected()                                    -> {our index: mac1 key}: for `DataPath.expect`
    exchanges.token_key                                     for `DataPath.set_identity`
    exchanges.release(index)                                a session has ended; its index may be drawn again
    exchanges.counters                                      why datagrams were dropped: Counter of reasons

Whatever a datagram is, nothing raises, and the memory is bounded.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from heapq import heappop, heappush

from mpt.control.deadlines import Deadlines
from mpt.control.doorkeeper import Doorkeeper, Verdict
from mpt.control.keyexchange import Established, Failure, KeyExchange, Outcome, Place, Send, Terms, TlsEngine
from mpt.errors import DecodeError
from mpt.wire.hello import Hello
from mpt.wire.seal import HandshakeDatagram, Retry, decode_handshake, mac1_key
from mpt.wire.token import token

MakeEngine = Callable[[bool, Callable[[bytes], bool]], TlsEngine]


class KeyExchanges:
    """The handshakes of the host with `public_key`.

    `make_engine(is_initiator, accepts)` returns a new end of TLS that accepts the peers for whose keys `accepts(key)`
    is true; a responder accepts what `accepts` does. `answer(peer's key, peer's hello, began)` gives its terms.
    """

    def __init__(
        self,
        public_key: bytes,
        make_engine: MakeEngine,
        accepts: Callable[[bytes], bool],
        answer: Callable[[bytes, Hello, float], Terms | Failure],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._own_mac1_key = mac1_key(public_key)
        self._make_engine = make_engine
        self._accepts = accepts
        self._answer = answer
        self._random = random
        self._doorkeeper = Doorkeeper(random)
        self._by_index: dict[int, KeyExchange] = {}
        self._by_first: dict[tuple[Place, int], KeyExchange] = {}  # of responders, by place and index of the peer
        self._half_open: dict[KeyExchange, Place] = {}  # and the place that the doorkeeper counts
        self._kept: list[tuple[float, int, Place]] = []  # a heap: until when the doorkeeper goes on counting a place
        self._closed = 0  # doors
        self._open: set[KeyExchange] = set()  # without an outcome yet
        self._begun: dict[Hashable, KeyExchange] = {}  # open ones of this host, by connection
        self._ended: dict[Hashable, KeyExchange] = {}  # the established ones that are not forgotten, by connection
        self._expected: Mapping[int, bytes] | None = {}  # None: to be made anew
        self._deadlines = Deadlines[KeyExchange]()
        self._sessions: set[int] = set()  # indexes in use
        self._outcomes: list[Outcome] = []

    @property
    def token_key(self) -> bytes:
        """Return the key of our tokens, for `DataPath.set_identity`."""
        return self._doorkeeper.token_key

    def __len__(self) -> int:
        """Return how many handshakes there are, those that are over but not forgotten included."""
        return len(self._by_index)

    def begin(
        self,
        terms: Terms,
        peer_keys: Sequence[bytes],
        turn: int,
        places: Sequence[Place],
        now: float,
    ) -> list[Send]:
        """Ask the peer of `terms.connection` for a session. A handshake begun before for this connection is dropped.

        The peer may have any of `peer_keys`; its datagrams are authenticated by one of them, by `turn`.
        """
        self.cancel(terms.connection)
        exchange = KeyExchange(
            is_initiator=True,
            engine=self._make_engine(True, frozenset(peer_keys).__contains__),
            index=self._new_index(),
            mac1_key=mac1_key(peer_keys[turn % len(peer_keys)]),
            places=tuple(places),
            began=now,
            terms=terms,
        )
        self._enter(exchange)
        self._begun[terms.connection] = exchange
        return self._worked(exchange, exchange.begin(now))

    def is_answered(self, connection: Hashable) -> bool:
        """Return whether the peer has answered the handshake that this host has under way for `connection`."""
        exchange = self._begun.get(connection)
        return exchange is not None and exchange.is_answered

    def places(self, connection: Hashable) -> Sequence[Place]:
        """Return the places at which the handshake that this host has under way for `connection` goes on."""
        exchange = self._begun.get(connection)
        return exchange.places if exchange is not None else ()

    def cancel(self, connection: Hashable) -> None:
        """Drop what this host has under way for `connection`; no outcome follows."""
        exchange = self._begun.get(connection)
        if exchange is not None:
            exchange.drop()
            self._forget(exchange)

    def receive(self, datagram: bytes, place: Place, now: float) -> list[Send]:
        """Take in a datagram from `place` whose mac1 is right for its role."""
        try:
            decoded = decode_handshake(datagram)
        except DecodeError as error:
            self.counters[error.reason] += 1
            return []
        exchange = self._exchange_of(decoded, place)
        if exchange is None and isinstance(decoded, HandshakeDatagram) and not decoded.from_responder:
            if decoded.receiver or not decoded.sender:
                self.counters["handshake_unknown"] += 1
                return []
            verdict = self._doorkeeper.verdict(place.address, decoded.token, now)
            if verdict is Verdict.FULL:
                self.counters["handshake_full"] += 1
                return []
            if verdict is Verdict.RETRY:
                self.counters["handshake_retry"] += 1
                shown = token(self._doorkeeper.token_key, place.address, now)
                return [Send(place, Retry(decoded.sender, shown).encode(self._own_mac1_key))]
            exchange = self._open_door(decoded, place, verdict is Verdict.OPEN_VALIDATED, now)
        if exchange is None:
            self.counters["handshake_unknown"] += 1
            return []
        if isinstance(decoded, Retry):
            return self._worked(exchange, exchange.retry(decoded, now))
        return self._worked(exchange, exchange.receive(decoded, len(datagram), place, now))

    def deadline_reached(self, now: float) -> list[Send]:
        """Send again what is not acknowledged; give up, or forget, what is too old."""
        sent = []
        while self._kept and now >= self._kept[0][0]:
            self._doorkeeper.closed(heappop(self._kept)[2].address)
        for exchange in self._deadlines.take(now):
            sent += self._worked(exchange, exchange.deadline_reached(now))
            if now >= exchange.gives_up:
                self._forget(exchange)
        return sent

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` is due; None: there is no handshake."""
        times = [self._deadlines.next(), self._kept[0][0] if self._kept else None]
        return min((each for each in times if each is not None), default=None)

    def take_outcomes(self) -> list[Outcome]:
        """Return the handshakes that have ended since the last call. The index of each Established stays in use."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def expected(self) -> Mapping[int, bytes]:
        """Return the indexes of all handshakes, each with the mac1 key of its responder.

        As long as they are the same it is the same object.
        """
        if self._expected is None:
            self._expected = {index: each.mac1_key for index, each in self._by_index.items()}
        return self._expected

    def confirmed(self, index: int) -> None:
        """Note that a datagram of the session `index` has opened: the peer needs nothing of its handshake any more."""
        exchange = self._by_index.get(index)
        if exchange is not None and isinstance(exchange.outcome, Established) and not exchange.is_initiator:
            self._forget(exchange)

    def release(self, index: int) -> None:
        """Note that the session `index` has ended."""
        self._sessions.discard(index)

    def close(self) -> None:
        """Drop everything."""
        for exchange in list(self._by_index.values()):
            exchange.drop()
            self._forget(exchange)

    def _exchange_of(self, datagram: HandshakeDatagram | Retry, place: Place) -> KeyExchange | None:
        """Return the handshake that a datagram is for; None: there is none yet, or none any more."""
        is_for_initiator = isinstance(datagram, Retry) or datagram.from_responder
        exchange = self._by_index.get(datagram.receiver)
        if isinstance(datagram, HandshakeDatagram) and not datagram.receiver and not is_for_initiator:
            exchange = self._by_first.get((place, datagram.sender))
        return exchange if exchange is not None and exchange.is_initiator is is_for_initiator else None

    def _open_door(self, datagram: HandshakeDatagram, place: Place, is_validated: bool, now: float) -> KeyExchange:
        exchange = KeyExchange(
            is_initiator=False,
            engine=self._make_engine(False, self._accepts),
            index=self._new_index(),
            mac1_key=self._own_mac1_key,
            places=(place,),
            began=now,
            answer=self._answer,
            is_validated=is_validated,
        )
        self._enter(exchange)
        self._by_first[place, datagram.sender] = exchange
        exchange.first = (place, datagram.sender)
        self._doorkeeper.opened(place.address)
        self._half_open[exchange] = place
        return exchange

    def _enter(self, exchange: KeyExchange) -> None:
        self._expected = None
        self._by_index[exchange.index] = exchange
        self._open.add(exchange)

    def _worked(self, exchange: KeyExchange, sent: list[Send]) -> list[Send]:
        """Note that `exchange` has gone on; return what it sends."""
        outcome = exchange.outcome
        if outcome is not None and exchange in self._open:
            self._ends(exchange)
            self._outcomes.append(outcome)
            if isinstance(outcome, Established):
                self._sessions.add(exchange.index)
                self._close_door(exchange)
                self._forget_earlier(exchange, outcome)
        is_stranger = (
            not exchange.is_initiator and not exchange.engine.is_done
        )  # who keeps the place for the whole time
        if exchange.is_over and not isinstance(outcome, Established) and not is_stranger:
            self._forget(exchange)
        elif exchange.index in self._by_index:
            self._deadlines.set(exchange, exchange.next_deadline())
        return sent

    def _ends(self, exchange: KeyExchange) -> None:
        """Note that `exchange` has an outcome, or is forgotten."""
        self._open.discard(exchange)
        connection = exchange.terms.connection if exchange.terms is not None else None
        if self._begun.get(connection) is exchange:
            del self._begun[connection]

    def _forget_earlier(self, exchange: KeyExchange, established: Established) -> None:
        """Forget the handshake of the same connection that is over: an authenticated peer fills no table."""
        earlier = self._ended.get(established.connection)
        if earlier is not None:
            self._forget(earlier)
        self._ended[established.connection] = exchange

    def _close_door(self, exchange: KeyExchange) -> None:
        """Give the place of a handshake free; who begins too often keeps it for as long as a stranger."""
        place = self._half_open.pop(exchange, None)
        if place is None:
            return
        if exchange.terms is not None and exchange.terms.is_often:
            self._closed += 1
            heappush(self._kept, (exchange.gives_up, self._closed, place))
        else:
            self._doorkeeper.closed(place.address)

    def _forget(self, exchange: KeyExchange) -> None:
        self._by_index.pop(exchange.index, None)
        self._ends(exchange)
        self._deadlines.discard(exchange)
        self._close_door(exchange)
        if isinstance(exchange.outcome, Established) and self._ended.get(exchange.outcome.connection) is exchange:
            del self._ended[exchange.outcome.connection]
        self._expected = None
        if exchange.first is not None:
            self._by_first.pop(exchange.first, None)

    def _new_index(self) -> int:
        """Return a random session index that is neither 0 nor in use."""
        while True:
            index = int.from_bytes(self._random(4), "big")
            if index and index not in self._by_index and index not in self._sessions:
                return index

"""One handshake of a sealed connection, in either role, without sockets and clock (session 2).

    initiator                                       responder
    TLS 1.3 client hello                     ->
                                             <-     server hello, certificate, finished
    certificate, finished, hello object      ->
                                             <-     hello object
    all octets acknowledged                  ->

TLS is behind `TlsEngine`; its octets travel as a `TlsStream` of each end. A hello object ends with the end of the TLS
stream. Both ends then know the keys: the initiator has proof that the responder has them, too, and uses them at once;
the responder has that proof when the first datagram has opened.

While the initiator has no answer at all, it tries its places in turn, with the same datagrams; then it stays at the
place of the first answer. The responder answers to the place of the first datagram; until it is spoken to by its random
index from there, it sends no more than three times the octets that it has received. What comes from elsewhere is read,
as the peer may have written it, but is answered to the same place: so whoever is first with copies gets nothing. An
initiator whose own place has changed meanwhile hears nothing more, and soon begins anew.

A handshake that is over answers repeated datagrams until it is forgotten: its acknowledgement may have been lost.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from mpt.control.tlsstream import Part, TlsStream
from mpt.errors import DecodeError
from mpt.wire.hello import Hello, decode_hello
from mpt.wire.seal import IV_LENGTH, KEY_LENGTH, Cipher, HandshakeDatagram, Retry, SessionKeys

GIVE_UP: Final = 10.0  # s that a handshake may take
STALLED: Final = 4.0  # s without a word in the middle of it, four repetitions; then the initiator begins anew
AMPLIFICATION: Final = 3  # times the octets received may be sent to an address that is not validated
MOST_RETRIES: Final = 3  # tokens that an initiator takes in one handshake
LABEL: Final = b"EXPERIMENTAL-mpt-session-1"
_DIRECTION: Final = KEY_LENGTH + IV_LENGTH
_SECRET: Final = 2 * _DIRECTION
GROUPS: Final = ("X25519MLKEM768", "x25519")  # of the key exchange
POST_QUANTUM: Final = GROUPS[0]


class Place(NamedTuple):
    """Where datagrams go to and come from: a `socket`, or whatever stands for it, and the peer's socket `address`."""

    socket: Any
    address: tuple[Any, ...]

    def is_same(self, other: Place) -> bool:
        """Return whether `other` is this place, whatever IPv6 has behind host and port."""
        return self.socket == other.socket and self.address[:2] == other.address[:2]


class Send(NamedTuple):
    """A handshake datagram to send."""

    place: Place
    datagram: bytes


class Failure(enum.Enum):
    """Why a handshake has failed; the value is for the operator."""

    NO_ANSWER = (
        "the peer does not answer: it is down, a firewall drops UDP, peer_key is not its key, or it lacks ours "
        "(there: mpt client add NAME --key KEY)"
    )
    UNFINISHED = "the handshake was not finished in time"
    WRONG_KEY = "the peer has another key than the configured one"
    REFUSED = "the peer refuses the handshake: it does not know our key, or wants another key exchange"
    TLS = "the TLS handshake failed"
    GROUP = "the peer has no key exchange that is taken here (require_pq)"
    HELLO = "the peer's hello object cannot be read"
    NOT_OURS = "the peer has no connection here between these tunnel addresses"
    TUNNEL = "the tunnel addresses are others at the peer"
    CIPHER = "the peer has no cipher that we have"
    DROPPED = "another handshake goes on instead"


class TlsError(Exception):
    """TLS has ended a handshake; `failure` is WRONG_KEY, REFUSED or TLS."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(detail or failure.value)
        self.failure = failure


class TlsEngine(Protocol):
    """One end of a TLS 1.3 connection over octets in memory; nothing of it blocks."""

    @property
    def is_done(self) -> bool:
        """Return whether the peer is authenticated and keys can be exported."""

    @property
    def peer_key(self) -> bytes | None:
        """Return the public key that the peer has shown, 32 octets, even if it was not accepted; None: not yet."""

    @property
    def group(self) -> str:
        """Return the name of the group of the key exchange, one of GROUPS; empty: unknown."""

    def feed(self, octets: bytes) -> None:
        """Take in octets of the peer, perhaps none, and go on. Raises TlsError."""

    def take(self) -> bytes:
        """Return the octets that are now to be sent to the peer."""

    def say(self, octets: bytes) -> None:
        """Put `octets` into the TLS stream, as our only and last ones."""

    def said(self) -> bytes | None:
        """Return all octets that the peer has put into the TLS stream; None until it has ended it. Raises TlsError if
        they are more than a hello object may have."""

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return keying material (RFC 5705)."""

    def close(self) -> None:
        """Free everything."""


class Terms(NamedTuple):
    """What this end says and asks for: for `connection`, our `hello`, and whether the key exchange must be safe from
    quantum computers. `is_often`: the peer begins more often than it needs to."""

    connection: Hashable
    hello: Hello
    require_pq: bool
    is_often: bool = False


@dataclass(frozen=True, slots=True)
class Established:
    """The result of a handshake that began here at `began`: keys, the peer's hello, and where the peer is."""

    connection: Hashable
    keys: SessionKeys
    hello: Hello
    peer_key: bytes
    group: str
    place: Place
    is_initiator: bool
    began: float
    cipher: Cipher


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a handshake without keys; `connection` None: the peer did not come to name one."""

    connection: Hashable | None
    failure: Failure
    peer_key: bytes | None
    place: Place
    is_initiator: bool
    detail: str = ""


Outcome = Established | Failed


def session_keys(secret: bytes, index: int, peer_index: int, cipher: Cipher, is_initiator: bool) -> SessionKeys:
    """Return the keys out of the 88 exported octets: key and iv from initiator to responder, then of the way back."""
    halves = [
        (bytearray(half[:KEY_LENGTH]), bytearray(half[KEY_LENGTH:]))
        for half in (secret[:_DIRECTION], secret[_DIRECTION:])
    ]
    sending, receiving = halves if is_initiator else reversed(halves)
    return SessionKeys(index, peer_index, cipher, *sending, *receiving)


@dataclass(slots=True)
class _Address:
    """How many octets have gone to a place that is not validated, and have come from there."""

    received: int = 0
    sent: int = 0


@dataclass(slots=True, eq=False)
class KeyExchange:
    """A handshake; `index` is ours. `mac1_key` is the responder's.

    The initiator has `terms` and `places`, the best first. The responder has one place, and gets its terms from
    `answer(peer's key, peer's hello, began)`, or the Failure NOT_OURS or DROPPED.
    """

    is_initiator: bool
    engine: TlsEngine
    index: int
    mac1_key: bytes
    places: Sequence[Place]
    began: float
    terms: Terms | None = None
    answer: Callable[[bytes, Hello, float], Terms | Failure] | None = None
    peer_index: int = 0
    outcome: Outcome | None = None
    is_validated: bool = False  # the peer's address is: it has named our index, or shown a token of ours
    first: tuple[Place, int] | None = None  # where the first datagram came from, and its sender index (responder)
    is_over: bool = False  # nothing more is to be sent, unless the peer repeats something
    _stream: TlsStream = field(default_factory=TlsStream)
    _token: bytes = b""
    _retries: int = 0
    _turn: int = 0  # which place is tried
    _heard: float = 0.0  # when the peer was heard last
    _address: _Address = field(default_factory=_Address)
    _has_spoken: bool = False  # our hello is said
    _secret: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def place(self) -> Place:
        """Return where the datagrams go now."""
        return self.places[self._turn]

    @property
    def is_answered(self) -> bool:
        """Return whether a datagram of this handshake came from the peer."""
        return self.peer_index != 0

    @property
    def gives_up(self) -> float:
        """Return when this handshake is given up, or forgotten."""
        ends = self.began + GIVE_UP
        is_half_way = self.is_initiator and self.is_answered and self.outcome is None
        return min(ends, self._heard + STALLED) if is_half_way else ends

    def begin(self, now: float) -> list[Send]:
        """Return the first flight of the initiator."""
        self._advance(b"")
        return self._send(self._stream.new_parts(now))

    def retry(self, datagram: Retry, now: float) -> list[Send]:
        """Send everything again with the token of `datagram`, as the responder wishes."""
        if self.is_answered or self.outcome is not None or self._retries == MOST_RETRIES:
            return []
        self._retries += 1
        self._token = datagram.token
        return self._send(self._stream.from_the_start(now))

    def receive(self, datagram: HandshakeDatagram, size: int, place: Place, now: float) -> list[Send]:
        """Take in a datagram of `size` octets for our index, or the initiator's first ones, which have none."""
        if self.peer_index not in (0, datagram.sender) or not datagram.sender:
            return []  # of a second responder that our first datagrams have reached, or forged
        names_us = datagram.receiver == self.index
        if self.is_initiator:
            if not self.is_answered:
                if not any(each.is_same(place) for each in self.places):
                    return []  # we have sent nothing there: a copy of what another place says
                self.places, self._turn = (place,), 0
        elif place == self.place:
            self.is_validated |= names_us
        elif not names_us:
            return []
        self.peer_index = datagram.sender
        self._heard = now
        self._address.received += size
        self._stream.acknowledged(datagram.acknowledged, now)
        news = self._stream.read(datagram.offset, datagram.data)
        if self.outcome is None and news:
            self._advance(news)
        sent = self._send(self._stream.new_parts(now))
        if datagram.data and not sent:
            sent = self._send([Part(0, b"")])
        self.is_over = self.outcome is not None and self._stream.is_acknowledged
        return sent

    def drop(self, failure: Failure = Failure.DROPPED) -> None:
        """End this handshake, silently."""
        if self.outcome is None:
            self._fail(failure)
            self._forget()
        elif isinstance(self.outcome, Established):
            self.outcome.keys.wipe()
        self.is_over = True

    def deadline_reached(self, now: float) -> list[Send]:
        """Send again, or give up."""
        if now >= self.gives_up:
            if self.outcome is None:
                self._fail(Failure.UNFINISHED if self.is_answered else Failure.NO_ANSWER)
                self._forget()
            self.is_over = True
            return []
        if self.is_over:
            return []
        again = self._stream.parts_again(now)
        if again and self.is_initiator and not self.is_answered:
            self._turn = (self._turn + 1) % len(self.places)
        return self._send(again)

    def next_deadline(self) -> float:
        """Return when to call `deadline_reached`."""
        due = None if self.is_over else self._stream.next_deadline()
        return self.gives_up if due is None else min(due, self.gives_up)

    def _send(self, parts: Sequence[Part]) -> list[Send]:
        """Return the datagrams of `parts`, as far as the peer's address may get them now."""
        sent = []
        for part in parts:
            octets = HandshakeDatagram(
                from_responder=not self.is_initiator,
                sender=self.index,
                receiver=self.peer_index,
                offset=part.offset,
                acknowledged=self._stream.arrived,
                token=self._token if self.is_initiator and not self.is_answered else b"",
                data=part.data,
            ).encode(self.mac1_key)
            if not (self.is_initiator or self.is_validated):
                if self._address.sent + len(octets) > AMPLIFICATION * self._address.received:
                    break
                self._address.sent += len(octets)
            sent.append(Send(self.place, octets))
        return sent

    def _advance(self, news: bytes) -> None:
        """Let TLS, then the hello objects, go on by `news` of the peer."""
        try:
            self.engine.feed(news)
            if self.engine.is_done:
                self._agree(self.engine.peer_key or b"")
        except TlsError as error:
            self._fail(error.failure, str(error))
        except DecodeError as error:
            self._fail(Failure.HELLO, f"{Failure.HELLO.value} ({error})")
        self._stream.write(self.engine.take())  # also the alert that tells the peer why
        if self.outcome is not None:
            self._forget()

    def _agree(self, peer_key: bytes) -> None:
        """Exchange the hello objects: the initiator speaks first. Whoever refuses ends the stream without one."""
        if self.engine.group and self.engine.group not in GROUPS:
            self._refuse(Failure.GROUP)
            return
        if not self._secret:
            indexes = (self.index, self.peer_index) if self.is_initiator else (self.peer_index, self.index)
            context = b"".join(index.to_bytes(4, "big") for index in indexes)
            self._secret = bytearray(self.engine.export(LABEL, context, _SECRET))
        if self.terms is not None and not self._speak(self.terms):
            return
        said = self.engine.said()
        if said is None:
            return
        if not said:
            self._fail(Failure.REFUSED)
            return
        hello = decode_hello(said)
        if self.terms is None:
            terms = self.answer(peer_key, hello, self.began) if self.answer is not None else Failure.NOT_OURS
            if terms is Failure.DROPPED:
                self._fail(terms)
                return
            if isinstance(terms, Failure):
                self._refuse(terms)
                return
            self.terms = terms
            if not self._speak(terms):
                return
        self._conclude(peer_key, self.terms, hello)

    def _speak(self, terms: Terms) -> bool:
        """Say our hello, once; return whether the key exchange is good enough for that."""
        if terms.require_pq and self.engine.group != POST_QUANTUM:
            self._refuse(Failure.GROUP)
            return False
        if not self._has_spoken:
            self._has_spoken = True
            self.engine.say(terms.hello.encode())
        return True

    def _refuse(self, failure: Failure) -> None:
        self.engine.say(b"")
        self._fail(failure)

    def _conclude(self, peer_key: bytes, terms: Terms, hello: Hello) -> None:
        """Compare the two hello objects; the keys are there if they fit."""
        ours = terms.hello
        responders, initiators = (hello, ours) if self.is_initiator else (ours, hello)
        cipher = next((each for each in responders.ciphers if each in initiators.ciphers), None)
        if ours.tunnel != hello.tunnel[::-1]:
            theirs = f"{hello.tunnel[0]} there, {hello.tunnel[1]} here"
            self._fail(Failure.TUNNEL, f"{Failure.TUNNEL.value}: {theirs}")
        elif cipher is None:
            self._fail(Failure.CIPHER)
        else:
            keys = session_keys(bytes(self._secret), self.index, self.peer_index, cipher, self.is_initiator)
            self.outcome = Established(
                terms.connection,
                keys,
                hello,
                peer_key,
                self.engine.group,
                self.place,
                self.is_initiator,
                self.began,
                cipher,
            )

    def _fail(self, failure: Failure, detail: str = "") -> None:
        connection = self.terms.connection if self.terms is not None else None
        key = self.engine.peer_key
        self.outcome = Failed(connection, failure, key, self.place, self.is_initiator, detail or failure.value)

    def _forget(self) -> None:
        """Free TLS and overwrite the exported keys."""
        self.engine.close()
        self._secret[:] = bytes(len(self._secret))
        self._secret.clear()

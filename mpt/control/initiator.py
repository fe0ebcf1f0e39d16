"""The asking side of a handshake: sends rounds 1 and 3, each up to 6 times every 500 ms, and waits for rounds 2 and 4.

A reply counts when it comes from the endpoint that was asked, is of the same command, connection and authentication
type, and bears the right digest and, in round 4, the right random number. Everything else is ignored: the C program and
networks send replies twice, and a forged datagram must not end a handshake. A refusal that cannot be authenticated is
only remembered, to say more than "no answer" in the end; so is ROUND_MISMATCH, which may answer an older datagram.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from mpt.control import auth
from mpt.errors import DecodeError, PeerError
from mpt.model import Address, AuthType, ConnectionConfig, Permission
from mpt.wire import command
from mpt.wire.command import Message, Result

RETRY_TIME: Final = 0.5  # seconds; the C program's
ATTEMPTS: Final = 6  # of each round; the C program's

Endpoint = tuple[Address, int]  # outer address and UDP port


class State(enum.Enum):
    """The reply that an initiator waits for."""

    AWAIT_ROUND_2 = enum.auto()
    AWAIT_ROUND_4 = enum.auto()
    ENDED = enum.auto()


class Input(enum.Enum):
    """The events of an initiator."""

    ROUND_2 = enum.auto()
    ROUND_4 = enum.auto()
    REFUSED_IN_2 = enum.auto()
    REFUSED_IN_4 = enum.auto()
    TIME_OVER = enum.auto()  # no reply yet
    ATTEMPTS_OVER = enum.auto()  # no reply to the last attempt either


class Output(enum.Enum):
    """The answer to an event."""

    IGNORE = enum.auto()
    SEND_ROUND_3 = enum.auto()
    SEND_AGAIN = enum.auto()
    END = enum.auto()


TABLE: Final[dict[tuple[State, Input], tuple[State, Output]]] = {
    (State.AWAIT_ROUND_2, Input.ROUND_2): (State.AWAIT_ROUND_4, Output.SEND_ROUND_3),
    (State.AWAIT_ROUND_2, Input.ROUND_4): (State.AWAIT_ROUND_2, Output.IGNORE),  # of an earlier handshake
    (State.AWAIT_ROUND_2, Input.REFUSED_IN_2): (State.ENDED, Output.END),
    (State.AWAIT_ROUND_2, Input.REFUSED_IN_4): (State.AWAIT_ROUND_2, Output.IGNORE),
    (State.AWAIT_ROUND_2, Input.TIME_OVER): (State.AWAIT_ROUND_2, Output.SEND_AGAIN),
    (State.AWAIT_ROUND_2, Input.ATTEMPTS_OVER): (State.ENDED, Output.END),
    (State.AWAIT_ROUND_4, Input.ROUND_2): (State.AWAIT_ROUND_4, Output.IGNORE),  # sent twice
    (State.AWAIT_ROUND_4, Input.ROUND_4): (State.ENDED, Output.END),
    (State.AWAIT_ROUND_4, Input.REFUSED_IN_2): (State.AWAIT_ROUND_4, Output.IGNORE),
    (State.AWAIT_ROUND_4, Input.REFUSED_IN_4): (State.ENDED, Output.END),
    (State.AWAIT_ROUND_4, Input.TIME_OVER): (State.AWAIT_ROUND_4, Output.SEND_AGAIN),
    (State.AWAIT_ROUND_4, Input.ATTEMPTS_OVER): (State.ENDED, Output.END),
    **{(State.ENDED, event): (State.ENDED, Output.IGNORE) for event in Input},
}


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """The message of round 3, without its random number, and the key that signs it ("" for none)."""

    message: Message
    key: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a handshake ended; `text` is the answer to a create, `repeated` says that round 3 was sent more than once."""

    result: int
    text: str = ""
    repeated: bool = False

    @property
    def ok(self) -> bool:
        """Return whether the peer has made the change."""
        return self.result == Result.DONE

    def explanation(self) -> str:
        """Return the result in words."""
        text = command.meaning(self.result)
        if self.result == Result.ALREADY_EXISTS and self.repeated:  # the C program forgets that it has answered
            return f"{text}, perhaps from this very request: its first answer may have been lost"
        return text


def path_status_request(
    connection: ConnectionConfig, own: Address, peer: Address, up: bool, allow_default_key: bool = False
) -> ChangeRequest:
    """Return the request that reports the path between the public addresses `own` and `peer` as up or down.

    Raises PeerError if `connection` has no permission to SEND, or no key.
    """
    value = command.VALUE_UP if up else command.VALUE_DOWN
    payload = command.encode_path(own, peer)
    return _request(connection, command.PATH_STATUS, value, payload, connection.auth_type, allow_default_key)


def create_request(connection: ConnectionConfig, text: str, allow_default_key: bool = False) -> ChangeRequest:
    """Return the request that asks the peer to create its side of `connection`, which `text` describes.

    Raises PeerError if `connection` has no permission to SEND, no key, or too many octets. It is always authenticated
    (guide 4.7).
    """
    try:
        payload = command.encode_create(text)
    except ValueError as error:
        raise PeerError(f"{connection.name} cannot be created: {error}") from None
    return _request(connection, command.CREATE, 0, payload, AuthType.SHA256, allow_default_key)


def _request(
    connection: ConnectionConfig, kind: int, value: int, payload: bytes, auth_type: AuthType, allow_default_key: bool
) -> ChangeRequest:
    if Permission.SEND not in connection.permission:
        raise PeerError(
            f"permission = {int(connection.permission)} of {connection.name} does not let this host change anything at "
            "the peer: write 1 (SEND) or 3 (SEND and RECEIVE)"
        )
    key = auth.usable_key(connection.auth_key, allow_default_key) if auth_type is AuthType.SHA256 else ""
    message = Message(kind, value, 3, connection.ip_ver, connection.ip_local, connection.ip_remote, payload, auth_type)
    return ChangeRequest(message, key)


class Initiator:
    """One handshake; `outcome` is None until it has ended. Ignored replies are counted in `counters`."""

    def __init__(self, request: ChangeRequest, destination: Endpoint, counters: Counter[str]) -> None:
        self.destination = destination
        self.outcome: Outcome | None = None
        self.state = State.AWAIT_ROUND_2
        self._request = request
        self._counters = counters
        self._random = command.NO_RANDOM
        self._sent = b""
        self._attempts = 0
        self._deadline = 0.0
        self._suspicion: int = Result.NO_ANSWER  # the result if no reply counts
        self._reply: Message | None = None

    def start(self, now: float) -> list[bytes]:
        """Begin; return round 1."""
        size = command.encode_size(len(self._request.message.payload))
        return self._send(replace(self._request.message, round=1, payload=size), now)

    def concerns(self, message: Message, source: Endpoint) -> bool:
        """Return whether `message` claims to be a reply to this handshake."""
        own = self._request.message
        same = (message.command, message.sender, message.receiver) == (own.command, own.sender, own.receiver)
        return same and source == self.destination

    def concerns_same(self, other: Initiator) -> bool:
        """Return whether replies to this handshake could be taken for replies to `other`."""
        return self.concerns(other._request.message, other.destination)

    def receive(self, datagram: bytes, message: Message, now: float) -> list[bytes]:
        """Take in a reply that `concerns` this handshake; return the datagrams to send."""
        event = self._classify(datagram, message)
        if event is None:
            return []
        self._reply = message
        return self._step(event, now)

    def deadline_reached(self, now: float) -> list[bytes]:
        """Return the datagrams to send at `now`: none before the deadline."""
        if self.state is State.ENDED or now < self._deadline:
            return []
        return self._step(Input.TIME_OVER if self._attempts < ATTEMPTS else Input.ATTEMPTS_OVER, now)

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` is due; None when it has ended."""
        return None if self.state is State.ENDED else self._deadline

    def _classify(self, datagram: bytes, reply: Message) -> Input | None:
        """Return the event that a reply means; None if it does not count."""
        request = self._request.message
        signed = request.auth_type is AuthType.SHA256
        if reply.auth_type is not request.auth_type:
            self._counters["reply_auth_type"] += 1
            return None
        if signed and not auth.verify(datagram, self._request.key):
            self._suspicion = reply.value or Result.AUTH_FAILED
            self._counters["reply_digest"] += 1
            return None
        if reply.round == 4 and request.auth_type is not AuthType.NONE and reply.random != self._random:
            self._counters["reply_random"] += 1
            return None
        if reply.value == Result.ROUND_MISMATCH:
            self._suspicion = reply.value
            self._counters["reply_round_mismatch"] += 1
            return None
        if reply.value:
            return Input.REFUSED_IN_2 if reply.round == 2 else Input.REFUSED_IN_4
        return Input.ROUND_2 if reply.round == 2 else Input.ROUND_4

    def _step(self, event: Input, now: float) -> list[bytes]:
        self.state, output = TABLE[self.state, event]
        match output:
            case Output.SEND_ROUND_3:
                assert self._reply is not None
                self._random = self._reply.random
                self._attempts = 0
                return self._send(replace(self._request.message, random=self._random), now)
            case Output.SEND_AGAIN:
                return self._again(now)
            case Output.END:
                self._end(event)
            case Output.IGNORE:
                self._counters["reply_repeated"] += 1
        return []

    def _send(self, message: Message, now: float) -> list[bytes]:
        datagram = command.encode(message)
        self._sent = auth.sign(datagram, self._request.key) if message.auth_type is AuthType.SHA256 else datagram
        return self._again(now)

    def _again(self, now: float) -> list[bytes]:
        self._attempts += 1
        self._deadline = now + RETRY_TIME
        return [self._sent]

    def _end(self, event: Input) -> None:
        repeated = self._attempts > 1
        if event is Input.ATTEMPTS_OVER or self._reply is None:
            self.outcome = Outcome(self._suspicion, repeated=repeated)
            return
        text = ""
        if self._reply.value == Result.DONE and self._reply.command == command.CREATE:
            try:
                text = command.decode_create(self._reply.payload)
            except DecodeError as error:
                self._counters[error.reason] += 1
                self.outcome = Outcome(Result.NO_CONNECTION, repeated=repeated)
                return
        self.outcome = Outcome(self._reply.value, text, repeated)

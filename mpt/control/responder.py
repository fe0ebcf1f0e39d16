"""The answering side of the handshakes: rounds 2 and 4, each request executed once.

Per initiator (its outer endpoint, the connection, the command) there are two memories, each for 10 seconds:

- the *offer*: round 1 as it came, and the random number that went out with round 2. A round 3 is executed only if it
  fits the offer, and uses it up. A recorded round 3 that is replayed, later or from elsewhere, is refused.
- the *answer*: the last round 3 that was executed, and its round 4. The same datagram again, because the answer was
  lost, gets the same answer and is not executed again. Without a random number (type 0) an equal round 3 after a new
  round 1 is a new request: a path can be reported down twice.

The random number of a create is always 0 in the C program, so 0 is accepted there besides the number that was offered.
Such a create is tied to a fresh round 1 and, like every create, to a connection that does not exist yet.

Memory is bounded: beyond `MAX_INITIATORS`, or `MAX_PER_ADDRESS` of one address, the oldest is forgotten. A create and
type 2 get into it only with the key, types 0 and 1 only from the addresses of the connection's own paths. A reply to a
request that was not authenticated is never longer than the request. `mpt.control.admission` bounds the work before.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from mpt.control import auth
from mpt.control.initiator import Endpoint
from mpt.errors import DecodeError, PeerError
from mpt.model import Address, AuthType, ConnectionConfig, Permission
from mpt.wire import command
from mpt.wire.command import Message, Result

MEMORY_TIME: Final = 10.0  # seconds; an initiator is through its retransmissions after 6
MAX_INITIATORS: Final = 4096
MAX_PER_ADDRESS: Final = 256  # a host of many connections reports on all of them when a cable is pulled
EXISTS_PAYLOAD: Final = b"\x01"  # the C program's, in round 4 of a create


class PathStatusChange(NamedTuple):
    """A peer says that a path is up or down: `own` is our public address on it, `peer` the peer's."""

    connection: ConnectionConfig
    own: Address
    peer: Address
    up: bool


class ConnectionCreate(NamedTuple):
    """A peer asks for the other side of the connection that `text` describes; `peer` is its tunnel address.

    The answer should not be longer than `reply_limit` octets: a C client reads no more (see ``mpt.config.writer``).
    """

    text: str
    peer: Address
    source: Endpoint
    reply_limit: int


class Host(Protocol):
    """The host, as the responder needs it."""

    @property
    def accept_remote(self) -> bool:
        """Return whether peers may create connections (guide 2.6.2)."""

    @property
    def allow_default_key(self) -> bool:
        """Return whether the key that is built into every MPT program is good enough."""

    def is_silent(self) -> bool:
        """Return whether nobody may ask: all connections are sealed, and peers may make none."""

    def is_peer(self, address: Address) -> bool:
        """Return whether a path of ours leads to this outer address."""

    def connection(self, own: Address, peer: Address) -> ConnectionConfig | None:
        """Return the connection between these tunnel addresses."""

    def create_key(self) -> str | None:
        """Return auth_key of conf.template (guide 4.7); None: there is no template, so nothing can be created."""

    def path_status(self, change: PathStatusChange) -> int:
        """Carry out `change`; return a ``Result``."""

    def create(self, request: ConnectionCreate) -> tuple[int, str]:
        """Carry out `request`; return a ``Result`` and the text of the created connection."""


class State(enum.Enum):
    """The memory of an initiator."""

    NOTHING = enum.auto()
    OFFERED = enum.auto()
    ANSWERED = enum.auto()
    ANSWERED_AND_OFFERED = enum.auto()


class Input(enum.Enum):
    """The events of an initiator; its requests are authenticated and permitted."""

    ROUND_1 = enum.auto()
    ROUND_1_AGAIN = enum.auto()  # the datagram that the offer was made for
    ROUND_3 = enum.auto()  # fits the offer
    ROUND_3_AGAIN = enum.auto()  # the datagram that the answer was given to
    ROUND_3_STRAY = enum.auto()  # fits nothing: late, replayed, or we have forgotten
    OFFER_EXPIRED = enum.auto()
    ANSWER_EXPIRED = enum.auto()


class Output(enum.Enum):
    """Our answer to an event."""

    OFFER = enum.auto()
    OFFER_AGAIN = enum.auto()
    EXECUTE = enum.auto()
    ANSWER_AGAIN = enum.auto()
    REFUSE = enum.auto()
    FORGET = enum.auto()


_BOTH = State.ANSWERED_AND_OFFERED
TABLE: Final[dict[tuple[State, Input], tuple[State, Output]]] = {
    (State.NOTHING, Input.ROUND_1): (State.OFFERED, Output.OFFER),
    (State.NOTHING, Input.ROUND_1_AGAIN): (State.OFFERED, Output.OFFER),
    (State.NOTHING, Input.ROUND_3): (State.NOTHING, Output.REFUSE),
    (State.NOTHING, Input.ROUND_3_AGAIN): (State.NOTHING, Output.REFUSE),
    (State.NOTHING, Input.ROUND_3_STRAY): (State.NOTHING, Output.REFUSE),
    (State.NOTHING, Input.OFFER_EXPIRED): (State.NOTHING, Output.FORGET),
    (State.NOTHING, Input.ANSWER_EXPIRED): (State.NOTHING, Output.FORGET),
    (State.OFFERED, Input.ROUND_1): (State.OFFERED, Output.OFFER),
    (State.OFFERED, Input.ROUND_1_AGAIN): (State.OFFERED, Output.OFFER_AGAIN),
    (State.OFFERED, Input.ROUND_3): (State.ANSWERED, Output.EXECUTE),
    (State.OFFERED, Input.ROUND_3_AGAIN): (State.OFFERED, Output.REFUSE),
    (State.OFFERED, Input.ROUND_3_STRAY): (State.OFFERED, Output.REFUSE),
    (State.OFFERED, Input.OFFER_EXPIRED): (State.NOTHING, Output.FORGET),
    (State.OFFERED, Input.ANSWER_EXPIRED): (State.OFFERED, Output.FORGET),
    (State.ANSWERED, Input.ROUND_1): (_BOTH, Output.OFFER),
    (State.ANSWERED, Input.ROUND_1_AGAIN): (_BOTH, Output.OFFER),
    (State.ANSWERED, Input.ROUND_3): (State.ANSWERED, Output.REFUSE),
    (State.ANSWERED, Input.ROUND_3_AGAIN): (State.ANSWERED, Output.ANSWER_AGAIN),
    (State.ANSWERED, Input.ROUND_3_STRAY): (State.ANSWERED, Output.REFUSE),
    (State.ANSWERED, Input.OFFER_EXPIRED): (State.ANSWERED, Output.FORGET),
    (State.ANSWERED, Input.ANSWER_EXPIRED): (State.NOTHING, Output.FORGET),
    (_BOTH, Input.ROUND_1): (_BOTH, Output.OFFER),
    (_BOTH, Input.ROUND_1_AGAIN): (_BOTH, Output.OFFER_AGAIN),
    (_BOTH, Input.ROUND_3): (State.ANSWERED, Output.EXECUTE),
    (_BOTH, Input.ROUND_3_AGAIN): (_BOTH, Output.ANSWER_AGAIN),
    (_BOTH, Input.ROUND_3_STRAY): (_BOTH, Output.REFUSE),
    (_BOTH, Input.OFFER_EXPIRED): (State.ANSWERED, Output.FORGET),
    (_BOTH, Input.ANSWER_EXPIRED): (State.OFFERED, Output.FORGET),
}
"""The next state and the output, by state and input."""

Key = tuple[Endpoint, Address, Address, int]  # initiator, its tunnel address, ours, command


@dataclass(slots=True)
class Memory:
    """The memory of one initiator; offer and answer each expire at a time of their own, in monotonic seconds."""

    state: State = State.NOTHING
    request_1: bytes = b""
    value: int = 0
    random: bytes = command.NO_RANDOM
    offer: bytes = b""
    offer_until: float = 0.0
    request_3: bytes = b""  # its SHA-256: a create may be long
    answer: bytes = b""
    answer_until: float = 0.0

    def step(self, event: Input) -> Output:
        """Note `event`; return what to do."""
        self.state, output = TABLE[self.state, event]
        return output

    def expire(self, now: float) -> None:
        """Forget an offer or an answer that is too old."""
        if now >= self.offer_until:
            self.step(Input.OFFER_EXPIRED)
        if now >= self.answer_until:
            self.step(Input.ANSWER_EXPIRED)


class Refusal(Exception):
    """Refuses a request before it is looked up; `key` signs the reply, None leaves it unsigned."""

    def __init__(self, result: Result, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason
        self.key = key


class Responder:
    """All handshakes in which this host is asked. `random()` gives 4 octets; refusals are counted in `counters`."""

    def __init__(self, host: Host, counters: Counter[str], random: Callable[[], bytes] = auth.fresh_random) -> None:
        self._host = host
        self._counters = counters
        self._random = random
        self._memories: OrderedDict[Key, Memory] = OrderedDict()  # the latest at the end
        self._per_address: Counter[Address] = Counter()

    def __len__(self) -> int:
        """Return how many initiators are remembered."""
        return len(self._memories)

    def receive(self, datagram: bytes, message: Message, source: Endpoint, now: float) -> list[bytes]:
        """Take in round 1 or 3; return the replies for `source`. `message` is the decoded `datagram`."""
        key = (source, message.sender, message.receiver, message.command)
        memory = self._memories.get(key)
        if memory is not None:
            memory.expire(now)
            if self._is_answered(memory, datagram, message):
                memory.step(Input.ROUND_3_AGAIN)
                self._counters["request_repeated"] += 1
                return [memory.answer]
        try:
            connection, secret = self._admit(datagram, message, source)
        except Refusal as refusal:
            self._counters[refusal.reason] += 1
            return [_reply(message, refusal.result, b"", refusal.key)]
        if memory is None:
            memory = Memory()
        match memory.step(self._classify(memory, datagram, message)):
            case Output.OFFER:
                self._offer(memory, datagram, message, secret)
                memory.offer_until = now + MEMORY_TIME
                self._remember(key, memory, now)
                return [memory.offer]
            case Output.OFFER_AGAIN:
                return [memory.offer]
            case Output.EXECUTE:
                result, payload = self._execute(message, source, connection)
                memory.request_3 = hashlib.sha256(datagram).digest()
                memory.answer = _reply(message, result, payload, secret)
                memory.answer_until = now + MEMORY_TIME
                self._remember(key, memory, now)
                return [memory.answer]
        self._counters["request_round_mismatch"] += 1
        return [_reply(message, Result.ROUND_MISMATCH, b"", secret)]

    def forget(self, own: Address, peer: Address) -> None:
        """Forget everything about the connection between these tunnel addresses."""
        for key in [key for key in self._memories if key[1:3] == (peer, own)]:
            self._drop(key)

    # ---- who may ask ------------------------------------------------------------------------------------------------

    def _admit(self, datagram: bytes, message: Message, source: Endpoint) -> tuple[ConnectionConfig | None, str]:
        """Return the connection that a request is about, if any, and the key that signed it, "" for types 0 and 1.

        Raises Refusal.
        """
        connection = self._host.connection(message.receiver, message.sender)
        if message.command == command.CREATE:
            return connection, self._admit_create(datagram, message, connection)
        if connection is None:
            raise Refusal(Result.NO_CONNECTION, "request_no_connection")
        if message.auth_type is not connection.auth_type:
            raise Refusal(Result.AUTH_FAILED, "request_auth_type")
        key = ""
        if message.auth_type is AuthType.SHA256:
            key = self._signing_key(datagram, connection.auth_key)
        elif not any(path.remote_ipaddr == source[0] or path.remote_ipaddr.is_unspecified for path in connection.paths):
            raise Refusal(Result.AUTH_FAILED, "request_source")
        if Permission.RECEIVE not in connection.permission:
            raise Refusal(Result.NOT_PERMITTED, "request_permission", key)
        return connection, key

    def _admit_create(self, datagram: bytes, message: Message, connection: ConnectionConfig | None) -> str:
        if not self._host.accept_remote:
            raise Refusal(Result.NOT_PERMITTED, "request_accept_remote")
        configured = connection.auth_key if connection is not None else None
        configured = configured or self._host.create_key()
        if configured is None:
            raise Refusal(Result.NOT_PERMITTED, "request_no_template")
        if message.auth_type is not AuthType.SHA256:
            raise Refusal(Result.AUTH_FAILED, "request_auth_type")
        return self._signing_key(datagram, configured)

    def _signing_key(self, datagram: bytes, configured: str) -> str:
        """Return the key that signed `datagram`: `configured`, or the built-in one if that is allowed. Raises Refusal.

        After a create, a C peer uses the built-in key: the text of a create has none, and it keeps no other.
        """
        allowed = self._host.allow_default_key
        try:
            keys = [auth.usable_key(configured, allowed)] + ([auth.DEFAULT_KEY] if allowed else [])
        except PeerError:
            raise Refusal(Result.AUTH_FAILED, "request_default_key") from None
        for key in keys:
            if auth.verify(datagram, key):
                return key
        raise Refusal(Result.AUTH_FAILED, "request_digest")

    # ---- rounds -----------------------------------------------------------------------------------------------------

    def _is_answered(self, memory: Memory, datagram: bytes, message: Message) -> bool:
        """Return whether this very round 3 was answered already: then it was authenticated, too."""
        if message.round != 3 or memory.state not in (State.ANSWERED, State.ANSWERED_AND_OFFERED):
            return False
        if message.auth_type is AuthType.NONE and self._fits(memory, message):
            return False
        return hashlib.sha256(datagram).digest() == memory.request_3

    def _fits(self, memory: Memory, message: Message) -> bool:
        """Return whether a round 3 fits the offer."""
        if memory.state not in (State.OFFERED, State.ANSWERED_AND_OFFERED) or message.value != memory.value:
            return False
        if message.auth_type is AuthType.NONE or message.random == memory.random:
            return True
        return message.command == command.CREATE and message.random == command.NO_RANDOM

    def _classify(self, memory: Memory, datagram: bytes, message: Message) -> Input:
        if message.round == 1:
            return Input.ROUND_1_AGAIN if datagram == memory.request_1 else Input.ROUND_1
        return Input.ROUND_3 if self._fits(memory, message) else Input.ROUND_3_STRAY

    def _offer(self, memory: Memory, datagram: bytes, message: Message, key: str) -> None:
        memory.request_1 = datagram
        memory.value = message.value
        memory.random = command.NO_RANDOM if message.auth_type is AuthType.NONE else self._random()
        memory.offer = _reply(replace(message, random=memory.random), Result.DONE, message.payload[:4], key)

    def _execute(self, message: Message, source: Endpoint, connection: ConnectionConfig | None) -> tuple[int, bytes]:
        """Carry a request out; return result and payload of round 4."""
        try:
            if message.command == command.CREATE:
                if connection is not None:
                    return Result.ALREADY_EXISTS, EXISTS_PAYLOAD
                text = command.decode_create(message.payload)
                result, answer = self._host.create(ConnectionCreate(text, message.sender, source, len(message.payload)))
                if result == Result.ALREADY_EXISTS:
                    return result, EXISTS_PAYLOAD
                return result, command.encode_create(answer) if result == Result.DONE else b""
            assert connection is not None  # or it would not have been admitted
            peer, own = command.decode_path(message.payload)
        except DecodeError as error:
            self._counters[error.reason] += 1
            return Result.NO_CONNECTION, b""
        up = not message.value & command.VALUE_DOWN
        return self._host.path_status(PathStatusChange(connection, own, peer, up)), b""

    # ---- memory -----------------------------------------------------------------------------------------------------

    def _remember(self, key: Key, memory: Memory, now: float) -> None:
        """Keep `memory` as the latest; drop the oldest that have expired, or are too many."""
        if key not in self._memories:
            self._per_address[key[0][0]] += 1
        self._memories[key] = memory
        self._memories.move_to_end(key)
        while self._memories:
            oldest_key, oldest = next(iter(self._memories.items()))
            if now < max(oldest.offer_until, oldest.answer_until) and len(self._memories) <= MAX_INITIATORS:
                break
            self._drop(oldest_key)
        address = key[0][0]
        if self._per_address[address] > MAX_PER_ADDRESS:
            self._drop(next(each for each in self._memories if each[0][0] == address))

    def _drop(self, key: Key) -> None:
        del self._memories[key]
        address = key[0][0]
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]


def _reply(request: Message, result: int, payload: bytes, key: str | None) -> bytes:
    """Return the reply to `request`: its header, the next round, the result; signed with `key` if there is one."""
    reply = replace(request, round=request.round + 1, value=int(result), payload=payload, digest=command.NO_DIGEST)
    datagram = command.encode(reply)
    return auth.sign(datagram, key) if key and request.auth_type is AuthType.SHA256 else datagram


def concerned_path(change: PathStatusChange, found: Mapping[int, Address]) -> int | None:
    """Return the index of the path that a change means; None if it means none, or could mean several.

    `found` has, by index, the public addresses that the configuration leaves open (a NAT can hide them from us).
    A path is meant if the change names both of its addresses. If it names no path, it means the one path to the peer's
    address that the configuration leaves open; of two such paths either could be meant.
    """
    to_peer = [(index, path) for index, path in enumerate(change.connection.paths) if path.remote_ipaddr == change.peer]
    is_open = [index for index, path in to_peer if path.public_ipaddr.is_unspecified]
    named = [
        index
        for index, path in to_peer
        if change.own == (found.get(index) if path.public_ipaddr.is_unspecified else path.public_ipaddr)
    ]
    meant = named or is_open
    return meant[0] if len(meant) == 1 else None

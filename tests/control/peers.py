"""What the tests of the handshake share: the connection of two hosts, a host that takes notes, a hand to knock."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from mpt.control import auth
from mpt.control.admission import Admission
from mpt.control.handshake import Handshakes
from mpt.control.initiator import ChangeRequest, Endpoint, Outcome
from mpt.control.responder import ConnectionCreate, PathStatusChange
from mpt.model import Address, AuthType, ConnectionConfig, PathConfig, Permission
from mpt.wire import command
from mpt.wire.command import Message, Result

KEY = "00112233445566778899AABBCCDDEEFFA0A1A2A3A4A5A6A7A8A9AAABACADAEAF"
A, B = ip_address("10.0.0.2"), ip_address("10.0.0.3")  # tunnel addresses
A_END: Endpoint = (ip_address("10.1.1.2"), 60456)
B_END: Endpoint = (ip_address("10.1.1.3"), 60456)
TEXT = ";;;;;;;####\n[connection]\nname = x\n"


def path(number: int, own: int, peer: int) -> PathConfig:
    """Return a path of the guide's figure 3."""
    return PathConfig(
        f"eth{number}",
        4,
        ip_address(f"10.{number}.{number}.{own}"),
        ip_address(f"10.{number}.{number}.{peer}"),
        ip_address(f"10.{number}.{number}.{own}"),
        keepalive_time=1,
        dead_time=3,
    )


def connection(own: int = 2, peer: int = 3, auth_type: AuthType = AuthType.NONE, key: str = KEY) -> ConnectionConfig:
    """Return the connection of host A (own = 2) or host B (own = 3), with two paths."""
    return ConnectionConfig(
        f"MPT_connection_10.0.0.{own}",
        4,
        ip_address(f"10.0.0.{own}"),
        23456,
        ip_address(f"10.0.0.{peer}"),
        23456,
        60456,
        (path(1, own, peer), path(2, own, peer)),
        permission=Permission(3),
        auth_type=auth_type,
        auth_key=key,
    )


@dataclass
class NotingHost:
    """A daemon with these connections, that notes what it is told and does nothing."""

    connections: list[ConnectionConfig] = field(default_factory=list)
    accept_remote: bool = True
    allow_default_key: bool = False
    template_key: str | None = KEY
    changes: list[PathStatusChange] = field(default_factory=list)
    creates: list[ConnectionCreate] = field(default_factory=list)
    create_answer: tuple[int, str] = (Result.DONE, TEXT)

    def is_silent(self) -> bool:
        return False

    def is_peer(self, address: Address) -> bool:
        return True

    def connection(self, own: Address, peer: Address) -> ConnectionConfig | None:
        return next((each for each in self.connections if (each.ip_local, each.ip_remote) == (own, peer)), None)

    def create_key(self) -> str | None:
        return self.template_key

    def path_status(self, change: PathStatusChange) -> int:
        self.changes.append(change)
        return Result.DONE

    def create(self, request: ConnectionCreate) -> tuple[int, str]:
        self.creates.append(request)
        return self.create_answer


class Everybody(Admission):
    """Looks at everything, for tests with thousands of datagrams at one moment."""

    def __init__(self) -> None:
        super().__init__(lambda address: True)

    def admits(self, source: Address, now: float) -> bool:
        return True


def numbered_random() -> Callable[[], bytes]:
    """Return a supply of random numbers that the test knows: 1, 2, 3, ..."""
    numbers = itertools.count(1)
    return lambda: next(numbers).to_bytes(4, "little")


class Side:
    """One daemon's handshakes, at host B unless told otherwise, and a hand that asks it as a peer would."""

    def __init__(self, host: NotingHost, admission: Admission | None = None) -> None:
        self.host = host
        self.handshakes = Handshakes(host, numbered_random(), admission)
        self.now = 1000.0

    @property
    def counters(self) -> Counter[str]:
        return self.handshakes.counters

    def ask(self, datagram: bytes, source: Endpoint = A_END) -> list[bytes]:
        return [out.datagram for out in self.handshakes.receive(datagram, source, self.now)]

    def answer(self, datagram: bytes, source: Endpoint = A_END) -> Message:
        """Return the one reply to a datagram."""
        (reply,) = self.ask(datagram, source)
        return command.decode(reply)


def round_1(auth_type: AuthType = AuthType.NONE, value: int = 0x80, kind: int = command.PATH_STATUS) -> Message:
    """Host A asks host B."""
    return Message(kind, value, 1, 4, A, B, command.encode_size(32), auth_type)


def round_3(auth_type: AuthType, random: bytes, value: int = 0x80, number: int = 1) -> Message:
    """Host A says that path 10.n.n.2 to 10.n.n.3 has changed."""
    payload = command.encode_path(ip_address(f"10.{number}.{number}.2"), ip_address(f"10.{number}.{number}.3"))
    return Message(command.PATH_STATUS, value, 3, 4, A, B, payload, auth_type, random)


def create_3(random: bytes, text: str = TEXT) -> Message:
    """Host A asks for a connection."""
    return Message(command.CREATE, 0, 3, 4, A, B, text.encode(), AuthType.SHA256, random)


def octets(message: Message, key: str = KEY) -> bytes:
    """Return the datagram, signed if it is of type 2."""
    datagram = command.encode(message)
    return auth.sign(datagram, key) if message.auth_type is AuthType.SHA256 else datagram


def reply_to(request: Message, result: int = 0, payload: bytes = b"", random: bytes | None = None) -> Message:
    """Return the answer of a responder to `request`."""
    random = request.random if random is None else random
    return replace(request, round=request.round + 1, value=result, payload=payload, random=random)


@dataclass
class Asked:
    """A handshake begun at host A, and how it ended."""

    host: Side
    sent: list[bytes]
    outcomes: list[Outcome]

    @property
    def last(self) -> Message:
        return command.decode(self.sent[-1])

    def reply(self, datagram: bytes, source: Endpoint = B_END) -> None:
        self.sent += self.host.ask(datagram, source)

    def wait(self, seconds: float) -> None:
        """Let time go by, from deadline to deadline."""
        end = self.host.now + seconds
        while (deadline := self.host.handshakes.next_deadline()) is not None and deadline <= end:
            self.host.now = deadline
            self.sent += [out.datagram for out in self.host.handshakes.deadline_reached(deadline)]
        self.host.now = end


def begin(host: Side, request: ChangeRequest) -> Asked:
    """Host A asks host B."""
    outcomes: list[Outcome] = []
    sent = [out.datagram for out in host.handshakes.begin(request, B_END, outcomes.append, host.now)]
    return Asked(host, sent, outcomes)

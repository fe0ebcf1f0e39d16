"""Two hosts in memory that shake hands, and the network between them, for the tests of handshakes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpt.control.keyexchange import Established, Failed, Failure, Outcome, Place, Send, Terms
from mpt.control.keyexchanges import KeyExchanges, MakeEngine
from mpt.daemon.tls import TlsKey
from mpt.testing.tls import FakeTls
from mpt.wire.hello import Hello
from mpt.wire.seal import Cipher

TUNNEL = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
CIPHERS = (Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305)


class Keys:
    """A key pair, and the ends of TLS that show it."""

    def __init__(self, seed: int) -> None:
        self.octets = bytes([seed]) * 32
        self.private = Ed25519PrivateKey.from_private_bytes(self.octets)
        self.public = self.private.public_key().public_bytes_raw()

    def real(self) -> MakeEngine:
        return TlsKey(self.octets).engine

    def fake(self, group: str = "X25519MLKEM768") -> MakeEngine:
        return lambda is_initiator, accepts: FakeTls(self.public, is_initiator, accepts, group)


LOW, HIGH = sorted((Keys(1), Keys(2)), key=lambda keys: keys.public)
OTHER = Keys(3)


@dataclass
class Host:
    """A host at `address` that knows one peer, with `terms` for it."""

    keys: Keys
    address: tuple[str, int]
    make_engine: MakeEngine
    peers: frozenset[bytes]
    hello: Hello
    require_pq: bool = False
    refuses: Failure | None = None
    is_often: bool = False
    seed: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exchanges = KeyExchanges(
            self.keys.public,
            self.make_engine,
            self.peers.__contains__,
            lambda key, hello, began: self.refuses or self.terms,
            random.Random(f"{self.address}{self.seed}").randbytes,
        )

    @property
    def terms(self) -> Terms:
        return Terms("con", self.hello, self.require_pq, self.is_often)

    def begin(self, peer: Host, now: float, places: int = 1) -> list[Send]:
        turns = [Place(number, peer.address) for number in range(places)]
        return self.exchanges.begin(self.terms, [peer.keys.public], 0, turns, now)

    def established(self) -> Established:
        (outcome,) = self.outcomes
        assert isinstance(outcome, Established), outcome
        return outcome

    def failure(self) -> Failure:
        (outcome,) = self.outcomes
        assert isinstance(outcome, Failed), outcome
        return outcome.failure


def hosts(engines: Callable[[Keys], MakeEngine] = Keys.fake) -> tuple[Host, Host]:
    """Return two hosts that know each other; the first has the lower public key."""
    one = Host(LOW, ("192.0.2.1", 1000), engines(LOW), frozenset([HIGH.public]), Hello(TUNNEL, CIPHERS))
    two = Host(HIGH, ("192.0.2.2", 2000), engines(HIGH), frozenset([LOW.public]), Hello(TUNNEL[::-1], CIPHERS))
    return one, two


Fate = Callable[[bytes], list[tuple[float, bytes]]]
"""What becomes of a datagram: copies, each with how many seconds it takes."""


def straight(datagram: bytes) -> list[tuple[float, bytes]]:
    return [(0.01, datagram)]


class Network:
    """Carries handshake datagrams between hosts; time passes as far as it must."""

    def __init__(self, *hosts: Host, fate: Fate = straight) -> None:
        self.hosts = {host.address: host for host in hosts}
        self.fate = fate
        self.now = 100.0
        self.sent: list[tuple[float, Host, Send]] = []
        self.log: list[tuple[float, tuple[str, int], bytes]] = []  # what arrived, and where
        self._flying: list[tuple[float, int, Host, Host, object, bytes]] = []

    def send(self, source: Host, sent: list[Send]) -> None:
        for each in sent:
            self.sent.append((self.now, source, each))
            target = self.hosts.get(each.place.address)
            for delay, octets in self.fate(each.datagram) if target is not None else ():
                assert target is not None
                entry = (self.now + delay, len(self.sent), source, target, each.place.socket, octets)
                self._flying.append(entry)

    def run(self, until: float = 130.0) -> None:
        """Let everything happen that happens until then."""
        while True:
            deadlines = [
                (deadline, host)
                for host in self.hosts.values()
                if (deadline := host.exchanges.next_deadline()) is not None
            ]
            due = min((deadline for deadline, _ in deadlines), default=until)
            arrival = min((entry[0] for entry in self._flying), default=until)
            if min(due, arrival) >= until:
                self.now = until
                return
            self.now = max(self.now, min(due, arrival))
            if arrival <= due:
                entry = min(self._flying, key=lambda entry: entry[:2])
                self._flying.remove(entry)
                _, _, source, target, socket, octets = entry
                self.log.append((self.now, target.address, octets))
                self.send(target, target.exchanges.receive(octets, Place(socket, source.address), self.now))
                target.outcomes += target.exchanges.take_outcomes()
            else:
                for _, host in deadlines:
                    self.send(host, host.exchanges.deadline_reached(self.now))
                    host.outcomes += host.exchanges.take_outcomes()

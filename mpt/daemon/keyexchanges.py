"""The handshakes of this host (`mpt.control.keyexchanges`) between the data paths and the sealed connections.

Handshake datagrams come from the data path of a tunnel as events, and go back through it. The keys go to the connection
that they are for: to its `SealedLink`. Which connection a peer means is decided by its key and its tunnel addresses.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from twisted.application.service import Service
from twisted.logger import Logger

from mpt.control.admission import LOG_LINES, Allowance, Bucket
from mpt.control.doorkeeper import TOKEN_KEY
from mpt.control.keyexchange import Established, Failed, Failure, Outcome, Place, Send, Terms
from mpt.control.keyexchanges import KeyExchanges
from mpt.daemon.keylog import KeyLog
from mpt.daemon.machine import Machine
from mpt.daemon.settings import Settings
from mpt.daemon.timers import DeadlineLoop
from mpt.data.events import Handshake
from mpt.data.pathtable import DataSocket
from mpt.model import Address, Identity, key_text
from mpt.wire.hello import Hello
from mpt.wire.seal import SessionKeys, mac1_key

log = Logger()

BEGUN: Final = Allowance(rate=0.1, burst=10.0)  # handshakes of one peer; it needs one in two minutes, and for a start


class Link(Hashable, Protocol):
    """A sealed connection, as the handshakes of the host know it."""

    @property
    def peer_keys(self) -> tuple[bytes, ...]:
        """Return the public keys that its peer may have."""

    @property
    def tunnel_pair(self) -> tuple[Address, Address]:
        """Return its tunnel addresses, ours first."""

    def terms(self) -> Terms:
        """Return what we say to the peer; `Terms.connection` is the link."""

    def accepts(self, peer_key: bytes, began: float) -> bool:
        """Return whether a handshake of the peer, heard of first at `began`, may go on."""

    def established(self, established: Established) -> None:
        """Note that a handshake has brought keys."""

    def failed(self, failed: Failed) -> None:
        """Note that a handshake of ours has failed, or one of the peer's that has named this connection."""


class Carrier(Protocol):
    """A tunnel, as the handshakes of the host know it."""

    def send_raw(self, socket: DataSocket, remote: tuple[object, ...], datagram: bytes) -> bool:
        """Send a handshake datagram over a socket of this tunnel; return whether it is one, and the datagram went."""

    def expect(self, answers: Mapping[int, bytes]) -> None:
        """Let the datagrams of these handshakes through."""

    def set_identity(self, own_mac1_key: bytes | None, token_key: bytes) -> None:
        """Let the first handshake datagrams through that are for this key; those that are too many get tokens."""


class HostKeyExchanges(Service):
    """The handshakes of this host, whose identity is in the live `settings`. The keys of sessions go to the file
    `key_log`, if there is one."""

    def __init__(self, machine: Machine, settings: Settings, key_log: Path | None) -> None:
        self._machine = machine
        self._settings = settings
        self._identity: Identity | None = None
        self._exchanges: KeyExchanges | None = None
        self._key_log_file = key_log
        self._key_log: KeyLog | None = None
        self._links: dict[bytes, list[Link]] = {}  # by public key of the peer
        self._begun: dict[Link, Bucket] = {}  # handshakes of peers that were accepted
        self._carriers: list[Carrier] = []
        self._expected: Mapping[int, bytes] = {}
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self._timer = DeadlineLoop(machine, self._next_deadline, self._deadline_reached)

    @property
    def public_key(self) -> bytes:
        """Return our public key; empty without an identity."""
        return self._identity.public_key if self._identity is not None else b""

    @property
    def counters(self) -> Mapping[str, int]:
        """Return why handshake datagrams with a right mac1 were dropped."""
        return self._exchanges.counters if self._exchanges is not None else {}

    def _look_for_identity(self) -> None:
        """Become the host of the settings; another identity than before drops all handshakes."""
        identity = self._settings.identity
        if identity is None or identity == self._identity:
            return
        from mpt.daemon.tls import TlsKey  # here: a host without sealed connections needs no OpenSSL

        self._close()
        self._identity = identity
        key = TlsKey(identity.private_key)
        self._exchanges = KeyExchanges(identity.public_key, key.engine, self._links.__contains__, self._answer)
        for carrier in self._carriers:
            carrier.set_identity(self._own_mac1_key(), self._token_key())

    def startService(self) -> None:
        """Open the key log; raises HostError."""
        super().startService()
        self._look_for_identity()
        if self._key_log_file is not None and self._identity is not None:
            self._key_log = KeyLog(self._key_log_file)

    def stopService(self) -> None:
        """Drop all handshakes."""
        super().stopService()
        self._close()
        if self._key_log is not None:
            self._key_log.close()
            self._key_log = None

    def _close(self) -> None:
        self._timer.stop()
        if self._exchanges is not None:
            self._exchanges.close()
            self._exchanges = None

    # --- the tunnels and the connections -----------------------------------------------------------------------------

    def attach(self, carrier: Carrier) -> None:
        """Carry handshake datagrams over this tunnel, whose data path is new."""
        if carrier not in self._carriers:
            self._carriers.append(carrier)
        carrier.set_identity(self._own_mac1_key(), self._token_key())
        carrier.expect(self._expected)

    def detach(self, carrier: Carrier) -> None:
        """Note that the tunnel carries nothing any more."""
        if carrier in self._carriers:
            self._carriers.remove(carrier)

    def add(self, link: Link) -> None:
        """Accept the peer of `link`."""
        self._look_for_identity()
        for key in link.peer_keys:
            self._links.setdefault(key, []).append(link)

    def remove(self, link: Link) -> None:
        """Accept the peer of `link` no more, and drop what was begun for it."""
        for key in link.peer_keys:
            links = self._links.get(key, [])
            if link in links:
                links.remove(link)
            if not links:
                self._links.pop(key, None)
        self._begun.pop(link, None)
        self.cancel(link)

    # --- for the links -----------------------------------------------------------------------------------------------

    def begin(self, link: Link, turn: int, places: Sequence[Place]) -> None:
        """Ask the peer of `link` for a session, the `turn`th time, at these places of it."""
        if self._exchanges is not None:
            self._worked(
                self._exchanges.begin(link.terms(), link.peer_keys, turn, places, self._machine.now()),
            )

    def is_answered(self, link: Link) -> bool:
        """Return whether the peer has answered the handshake that was begun for `link`."""
        return self._exchanges is not None and self._exchanges.is_answered(link)

    def has_lost_socket(self, link: Link) -> bool:
        """Return whether the handshake that was begun for `link` goes over a socket that is closed now."""
        places = self._exchanges.places(link) if self._exchanges is not None else ()
        return any(place.socket.fileno() < 0 for place in places)

    def cancel(self, link: Link) -> None:
        """Drop what was begun for `link`."""
        if self._exchanges is not None:
            self._exchanges.cancel(link)
            self._worked([])

    def confirmed(self, index: int) -> None:
        """Note that a datagram of this session has opened."""
        if self._exchanges is not None:
            self._exchanges.confirmed(index)

    def release(self, index: int) -> None:
        """Note that this session has ended."""
        if self._exchanges is not None:
            self._exchanges.release(index)

    def log_keys(self, keys: SessionKeys) -> None:
        """Write the keys of a session, if there is a key log."""
        if self._key_log is not None:
            self._key_log.session(keys)

    # --- from the data paths -----------------------------------------------------------------------------------------

    def received(self, event: Handshake) -> None:
        """Note a handshake datagram."""
        if self._exchanges is not None:
            self._worked(self._exchanges.receive(event.octets, Place(event.socket, event.source), event.at))

    def _next_deadline(self) -> float | None:
        return self._exchanges.next_deadline() if self._exchanges is not None else None

    def _deadline_reached(self, now: float) -> None:
        if self._exchanges is not None:
            self._worked(self._exchanges.deadline_reached(now))

    def _worked(self, sent: Sequence[Send]) -> None:
        """Note that handshakes have gone on: what they expect, send, and have brought."""
        if self._exchanges is None:
            return
        expected = self._exchanges.expected()
        if expected is not self._expected:
            self._expected = expected
            for carrier in self._carriers:
                carrier.expect(expected)
        for place, datagram in sent:
            any(carrier.send_raw(place.socket, place.address, datagram) for carrier in self._carriers)
        self._timer.follow()
        for outcome in self._exchanges.take_outcomes():
            try:
                self._ended(outcome)
            except Exception:  # one connection's bug must not hold the others' keys back
                if self._log_lines.take(LOG_LINES, self._machine.now()):
                    log.failure("a bug at the end of a handshake")

    def _ended(self, outcome: Outcome) -> None:
        if isinstance(outcome, Established):
            _link(outcome.connection).established(outcome)
        else:
            self._failed(outcome)

    def _answer(self, peer_key: bytes, hello: Hello, began: float) -> Terms | Failure:
        """Return our terms for a peer: those of the connection with its key that fits its tunnel addresses.

        If none fits, the first one's, so that each end can say what the other one has.
        """
        links = self._links.get(peer_key, [])
        fitting = next((link for link in links if link.tunnel_pair == hello.tunnel[::-1]), None)
        if fitting is None:
            return links[0].terms() if links else Failure.NOT_OURS
        if not fitting.accepts(peer_key, began):
            return Failure.DROPPED
        begun = self._begun.setdefault(fitting, Bucket(BEGUN, began))
        return fitting.terms()._replace(is_often=not begun.take(BEGUN, began))

    def _failed(self, failed: Failed) -> None:
        if failed.connection is not None:
            _link(failed.connection).failed(failed)
        elif failed.failure is not Failure.DROPPED and self._log_lines.take(LOG_LINES, self._machine.now()):
            whose = f" with the key {key_text(failed.peer_key)}" if failed.peer_key else ""
            log.info(
                "a handshake of {host}{whose} has failed: {why}",
                host=failed.place.address[0],
                whose=whose,
                why="no connection has this key" if failed.failure is Failure.WRONG_KEY else failed.detail,
            )

    def _token_key(self) -> bytes:
        return self._exchanges.token_key if self._exchanges is not None else bytes(TOKEN_KEY)

    def _own_mac1_key(self) -> bytes | None:
        return mac1_key(self._identity.public_key) if self._identity is not None else None


def _link(connection: object) -> Link:
    """Return the link that `Terms.connection` has named."""
    return connection  # type: ignore[return-value]

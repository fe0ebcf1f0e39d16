"""The sessions of one sealed connection, between the handshakes of this host, the data path and the paths.

`mpt.control.session` decides when there are new keys and which ones seal, `mpt.control.roaming` where the peer of each
path is. This carries it out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from mpt import __version__
from mpt.control import roaming
from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.keyexchange import Established, Failed, Failure, Place, Terms
from mpt.control.pathmonitor import SENDS_KEEPALIVES
from mpt.control.roaming import Answer, Challenge, Roaming, Use
from mpt.control.session import Action, Add, Begin, Cancel, End, SendWith, Sessions, State
from mpt.daemon.keyexchanges import HostKeyExchanges
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.pathsizes import PathKey
from mpt.daemon.roundtrips import RoundTrips
from mpt.daemon.sealedpath import SealedPath
from mpt.daemon.sealedsizes import SealedSizes
from mpt.daemon.timers import DeadlineLoop
from mpt.data.datapath import DataPath
from mpt.data.events import Copied, Message, Moved
from mpt.data.pathstate import PathMeasures
from mpt.errors import DecodeError
from mpt.host.cpu import has_aes
from mpt.local.status import SealedStatus
from mpt.model import COSTS, Address, ConnectionConfig, key_text
from mpt.wire import message
from mpt.wire.hello import ADAPTIVE, Hello, HelloPath
from mpt.wire.seal import PATH_IDS, Cipher

log = Logger()

VERSIONS: Final = 4  # tries of one handshake, by turns
OTHER_VERSION: Final = 0.25  # s without an answer until the other IP version (RFC 8305 section 5); then doubled
LATE: Final = 3.0  # s without an answer until people are told
LOOK_AT_NUMBERS: Final = 15.0  # s; 2^28 numbers take longer, at any rate that a host reaches
NEW_PORT_TURNS: Final = frozenset(4**n for n in range(10))  # handshakes without an answer: then from another port


def ciphers(configured: Sequence[str]) -> tuple[Cipher, ...]:
    """Return our ciphers: the configured ones, else all, the best for this CPU first (session 2)."""
    if configured:
        return tuple(map(Cipher, configured))
    if has_aes():
        return Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305, Cipher.AES_256_GCM
    return Cipher.CHACHA20_POLY1305, Cipher.AES_128_GCM, Cipher.AES_256_GCM


class SealedLink:
    """The sessions of the connection `config` over `paths`, a list that may grow.

    `host` has the handshakes. `datapath()` returns the data path with its newest table; None while there is none.
    `want_paths(count)` makes and opens the paths that the peer has beyond ours. `reported(message)` takes what the peer
    says about its paths. `measured(path)` returns the measures of a path. `mtu_changed()` is called when `tunnel_mtu`
    may have changed, `agreed(hello)` with what the peer has said when new keys begin to seal.
    """

    def __init__(
        self,
        machine: Machine,
        config: ConnectionConfig,
        mtu: int,
        host: HostKeyExchanges,
        datapath: Callable[[], DataPath | None],
        paths: Sequence[SealedPath],
        want_paths: Callable[[int], None],
        reported: Callable[[message.PathStatus | message.PathStatusSeen], None],
        measured: Callable[[PathKey], PathMeasures],
        mtu_changed: Callable[[], None],
        agreed: Callable[[Hello], None],
    ) -> None:
        self.peer_keys = config.peer_keys
        self._machine = machine
        self._config = config
        self._mtu = mtu
        self._host = host
        self._datapath = datapath
        self._paths = paths
        self._want_paths = want_paths
        self._reported = reported
        self._agreed = agreed
        self._sessions = Sessions(host.public_key, machine.now())
        self._roaming = Roaming(secrets.token_bytes(32))
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self._said = ""  # the last line of the log about failures
        self._looked_at_numbers = 0.0
        self._unanswered = 0  # handshakes, one after the other
        self._turn = 0  # of our handshake
        self._begun: list[float] = []  # when it was begun, for each IP version
        self._sizes = SealedSizes(machine, config, paths, measured, datapath, mtu_changed)
        self._round_trips = RoundTrips(machine, paths, self._ask)
        self._timer = DeadlineLoop(machine, self._next_deadline, self._deadline_reached)

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for a session as soon as a place of the peer is known, and accept the peer's handshakes."""
        self._host.add(self)
        self._sessions = Sessions(self._host.public_key, self._machine.now())
        for path in self._paths:
            self._roaming.set(path.key, path.peer_place)
        self._do(self._sessions.start(self._machine.now()))
        if not self._config.is_adaptive:
            self._round_trips.start()

    def stop(self) -> None:
        """Tell the peer that this is the end, and forget all keys."""
        if self._sessions.current is not None:
            for path in self._paths:
                path.protocol.send(message.Close().encode())
        self._do(self._sessions.stop(self._machine.now()))
        self._host.remove(self)
        self._timer.stop()
        self._sizes.stop()
        self._round_trips.stop()

    def lost(self) -> None:
        """Note that the data path is a new one, without keys."""
        self._do(self._sessions.lost(self._machine.now()))

    def paths_changed(self) -> None:
        """Note that paths, or their sockets, have changed: the peer may be where it was, seen from there."""
        for path in self._paths:
            self._roaming.set(path.key, path.peer_place)
            self._sizes.follow(path)
        if self._host.has_lost_socket(self):
            self._begin_again()
        self._timer.follow()

    def way_changed(self) -> None:
        """Note that links or routes of this host have changed: large datagrams may be lost where they passed before."""
        for path in self._paths:
            self._sizes.follow(path)  # its link may have another MTU
        self._sizes.doubt()

    def forget(self, path: SealedPath) -> None:
        """Note that a path is gone."""
        self._roaming.forget(path.key)
        self._sizes.forget(path)

    def slept(self, seconds: float) -> None:
        """Note that the machine has slept: keys may be too old, places and NAT entries may be gone."""
        self._sessions.slept(seconds)
        for path in self._paths:
            path.ask()
            path.look_for_peer()
        self._timer.follow()

    @property
    def tunnel_mtu(self) -> int | None:
        """Return the octets of the largest packet that all paths carry; None: nobody knows."""
        return self._sizes.tunnel_mtu

    @property
    def has_keys(self) -> bool:
        """Return whether packets can be sealed now."""
        return self._sessions.current is not None

    @property
    def why_not(self) -> str:
        """Return why there are no keys, for people."""
        sessions = self._sessions
        if sessions.failure is not None:
            prefix = "the keys could not be renewed in time: " if sessions.has_expired else ""
            return prefix + sessions.failure.detail
        if not self._has_place:
            return "the peer must begin: no address of it is known here"
        is_late = sessions.state is State.BEGINNING and self._machine.now() >= self._begun[0] + LATE
        if is_late and not self._host.is_answered(self):
            return Failure.NO_ANSWER.value
        return "the handshake is under way"

    def status(self, now: float) -> SealedStatus:
        """Return the state of the keys, without secrets."""
        current = self._sessions.current
        established = current.established if current is not None else None
        return SealedStatus(
            state=self._sessions.state.value,
            peer_key=key_text(established.peer_key if established is not None else self.peer_keys[0]),
            cipher=established.cipher.value if established is not None else None,
            key_exchange=established.group if established is not None else None,
            keys_age=now - current.made if current is not None else None,
            reason=None if current is not None else self.why_not,
            renewal_failure=self._sessions.failure.detail if current and self._sessions.failure else None,
        )

    # --- as the handshakes of this host know it ----------------------------------------------------------------------

    @property
    def tunnel_pair(self) -> tuple[Address, Address]:
        """Return the tunnel addresses, ours first."""
        return self._config.tunnel_pair

    def terms(self) -> Terms:
        """Return what we say to the peer."""
        paths = tuple(
            HelloPath(index, each.config.interface_name, each.config.weight_in, COSTS.index(each.config.cost))
            for index, each in enumerate(self._paths[: len(self._config.paths)])
        )
        features = (ADAPTIVE,) if self._config.is_adaptive else ()
        hello = Hello(self.tunnel_pair, ciphers(self._config.ciphers), paths, self._mtu, features, __version__)
        return Terms(self, hello, self._config.require_pq)

    def accepts(self, peer_key: bytes, began: float) -> bool:
        """Return whether a handshake of the peer, heard of first at `began`, may go on."""
        return self._sessions.accepts(peer_key, began, self._host.is_answered(self))

    def established(self, established: Established) -> None:
        """Note that a handshake has brought keys: for the paths that its initiator has named."""
        now = self._machine.now()
        first = self._sessions.current is None
        self._unanswered = 0
        place = established.place
        self._roaming.shown(place, now)
        if established.is_initiator:
            self._use_place(place)
        else:
            ids = [path.id for path in established.hello.paths]
            self._want_paths(max((each for each in ids if each < PATH_IDS), default=0) + 1)
        self._do(self._sessions.established(established, now))
        if first or self._said:
            self._said = ""
            log.info(
                "{name}: sealed with {key} ({cipher}, {group}), {way} {host}",
                name=self._config.name,
                key=key_text(established.peer_key),
                cipher=established.cipher.value,
                group=established.group or "unknown key exchange",
                way="begun here, to" if established.is_initiator else "begun by the peer at",
                host=place.address[0],
            )

    def failed(self, failed: Failed) -> None:
        """Note that a handshake of ours has failed, or one of the peer's that has named this connection."""
        if failed.failure is Failure.DROPPED:
            return
        if failed.is_initiator:
            self._look_elsewhere(failed)
            self._do(self._sessions.failed(failed, self._machine.now()))
        if failed.detail != self._said and self._log_lines.take(LOG_LINES, self._machine.now()):
            self._said = failed.detail
            log.warn("{name}: no new keys: {why}; it is tried again", name=self._config.name, why=failed.detail)

    def _look_elsewhere(self, failed: Failed) -> None:
        """Note that no handshake is answered: names may have other addresses, and NATs may have stuck entries.

        Most of the time we are at the configured port: if the peer did the same at another one, neither would be found.
        """
        if failed.failure is not Failure.NO_ANSWER:
            return
        self._unanswered += 1
        for path in self._paths:
            path.look_for_peer()
            if self._unanswered in NEW_PORT_TURNS:
                path.take_new_source_port()
            else:
                path.take_configured_port()

    # --- events of the data path -------------------------------------------------------------------------------------

    def confirmed(self, index: int) -> None:
        """Note that the first datagram of a session has opened."""
        self._host.confirmed(index)
        self._do(self._sessions.opened(index, self._machine.now()))

    def moved(self, event: Moved) -> None:
        """Note that the newest datagram of a path came from elsewhere."""
        if not any(path.key == event.path for path in self._paths):
            return  # it has gone meanwhile
        self._roam(self._roaming.moved(event.path, Place(event.socket, event.source), event.size, event.at))

    def copied(self, event: Copied) -> None:
        """Note that a datagram of a path came again, from elsewhere."""
        self._roam(self._roaming.copied(event.path, Place(event.socket, event.source), event.size, event.at))

    def received(self, index: int, event: Message) -> None:
        """Note a message over path `index`; one that cannot be read is ignored, as one that is unknown."""
        try:
            decoded = message.decode_message(event.octets)
        except DecodeError:
            return
        path = self._paths[index]
        place = Place(event.socket, event.source or ())
        match decoded:
            case message.Keepalive(asks):
                if asks:
                    self._roaming.asked(path.key, event.at)
                    path.protocol.send(message.Keepalive().encode())
            case message.Challenge(nonce):
                places = {place: None, path.peer_place: None}  # a copy from elsewhere may have come first
                answers = [self._roaming.challenged(path.key, each, nonce, event.size) for each in places if each]
                self._roam(answers)
                return
            case message.Response(nonce) if self._round_trips.answered(path, nonce):
                pass
            case message.Response(nonce):
                self._roam(self._roaming.responded(path.key, place, nonce, event.at))
                if self._roaming.answered(path.key) == event.at:  # wherever the answer comes from
                    path.heard()
            case message.PathStatus() | message.PathStatusSeen():
                self._reported(decoded)
            case message.Close():
                if event.session is not None:
                    self._do(self._sessions.closed(event.session, event.at))
                return
            case message.SizeProbe(size):
                path.protocol.send(message.SizeSeen(size).encode())
                self._sizes.probed(path.key, size)
            case message.SizeSeen(size):
                self._sizes.seen(path.key, size)
        if place == path.peer_place:
            path.heard()

    def _ask(self, path: Path) -> bytes:
        nonce = secrets.token_bytes(message.NONCE_LENGTH)
        path.protocol.send(message.Challenge(nonce).encode())
        return nonce

    def path_silent(self, path: SealedPath) -> None:
        """Note that a path has fallen silent: the others are asked; if none answers, the peer may have no keys."""
        for other in self._paths:
            if other is not path and other.is_proven and not other.is_asked:
                other.ask()
        if not any(each.is_proven for each in self._paths) and any(each.configured_places for each in self._paths):
            self._do(self._sessions.silent(self._machine.now()))

    # --- doing -------------------------------------------------------------------------------------------------------

    def _do(self, actions: Sequence[Action]) -> None:
        """Carry out what the sessions decide. The data path gets its newest table only if it is to do something."""
        is_asked = any(isinstance(action, Add | SendWith | End) for action in actions)
        datapath = self._datapath() if is_asked else None
        name, now = self._config.name, self._machine.now()
        for action in actions:
            match action:
                case Begin(turn):
                    self._turn, self._begun = turn, [now]
                    self._host.begin(self, turn, self._places(turn))
                case Cancel():
                    self._host.cancel(self)
                case Add(keys):
                    self._host.log_keys(keys)
                    if datapath is not None:
                        datapath.add_session(name, keys, now)
                case SendWith(session):
                    if datapath is not None:
                        datapath.send_with(name, session, now)
                    if session is not None and self._sessions.current is not None:
                        self._agreed(self._sessions.current.established.hello)
                    for path in self._paths:
                        if session is None:
                            path.end_session()
                        else:
                            path.begin_session()
                case End(session):
                    if datapath is not None:
                        datapath.end_session(name, session)
                    self._host.release(session)
        self._timer.follow()

    def _roam(self, actions: Sequence[roaming.Action], is_proven: bool = True) -> None:
        """Carry out what roaming decides; a place that is used `is_proven`, unless nobody has asked the peer there."""
        datapath, now = self._datapath() if actions else None, self._machine.now()
        for action in actions:
            assert isinstance(action.place, Place)
            match action:
                case Challenge() | Answer():
                    if datapath is not None:
                        datapath.send(action.path, action.message, now, to=(action.place.socket, action.place.address))
                case Use():
                    path = next(each for each in self._paths if each.key == action.path)
                    if datapath is not None:
                        datapath.set_remote(path.key, action.place.socket, action.place.address, now)
                    path.use(action.place)
                    path.say(f"the peer is now at {action.place.address[0]}")
                    if is_proven:
                        path.heard()
        self._timer.follow()

    def _use_place(self, place: Place) -> None:
        """Use the place at which a handshake of ours was answered: an address of several, or another port."""
        path = next((each for each in self._paths if each.port is not None and each.port.socket is place.socket), None)
        if path is None:
            return
        if path.peer_place != place:
            self._roaming.set(path.key, place)
            self._roam([Use(path.key, place)], is_proven=False)

    @property
    def _other_version_at(self) -> float | None:
        """Return when to try the other IP version of a path, if our handshake has no answer by then."""
        is_begun = self._sessions.state in (State.BEGINNING, State.RENEWING) and 0 < len(self._begun) < VERSIONS
        if not is_begun or self._host.is_answered(self):
            return None
        has_other = any(path.has_other_version and not path.is_proven for path in self._paths)
        return self._begun[-1] + OTHER_VERSION * 2 ** (len(self._begun) - 1) if has_other else None

    def _try_other_version(self, now: float) -> None:
        """Begin our handshake again at the other addresses of paths that have any."""
        self._begun.append(now)
        for path in self._paths:
            path.try_other_version()
        self._begin_again()

    def _begin_again(self) -> None:
        """Begin our handshake again: where it was tried is no longer where the peer can be reached."""
        places = self._places(self._turn)
        if places:
            self._host.begin(self, self._turn, places)

    def _places(self, turn: int = 0) -> list[Place]:
        """Return where a handshake may be tried: the paths that work first, another one with each turn."""
        usable = [path for path in self._paths if path.status in SENDS_KEEPALIVES]
        ordered = sorted(usable, key=lambda path: not path.is_proven)
        places = [place for path in ordered for place in path.places(self._sessions.current is not None)]
        return places[turn % len(places) :] + places[: turn % len(places)] if places else []

    @property
    def _has_place(self) -> bool:
        """Return whether a handshake may be tried anywhere."""
        return any(path.places(self._sessions.current is not None) for path in self._paths)

    def _next_deadline(self) -> float | None:
        if self._sessions.state is State.STOPPED:
            return None
        times = [
            self._sessions.next_deadline(self._has_place),
            self._roaming.next_deadline(),
            self._other_version_at,
        ]
        if self._sessions.current is not None:
            times.append(self._looked_at_numbers + LOOK_AT_NUMBERS)
        return min((each for each in times if each is not None), default=None)

    def _deadline_reached(self, now: float) -> None:
        if now >= self._looked_at_numbers + LOOK_AT_NUMBERS:
            self._looked_at_numbers = now
            datapath = self._datapath()
            if datapath is not None and self._sessions.current is not None:
                self._do(self._sessions.numbers_used(datapath.sent_numbers(self._config.name), now))
        other_at = self._other_version_at
        if other_at is not None and now >= other_at:
            self._try_other_version(now)
        self._roam(self._roaming.deadline_reached(now))
        expired = self._sessions.has_expired
        self._do(self._sessions.deadline_reached(now, self._has_place))
        if self._sessions.has_expired and not expired:
            log.error("{name}: the keys are too old and could not be renewed: nothing is sent", name=self._config.name)

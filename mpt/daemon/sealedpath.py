"""One path of a sealed connection: where its peer is, and whether it answers (session 5).

The peer's place is configured, or shown by a handshake, or found by roaming (`mpt.control.roaming`). A path is used
when something has come over it since its place, its interface or the session began; what asks for that, and what finds
its silence, is `mpt.control.liveness`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from twisted.logger import Logger

from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.keyexchange import Place
from mpt.control.liveness import Liveness, Step
from mpt.control.names import in_order
from mpt.control.pathmonitor import SENDS_KEEPALIVES, Event, PathMonitor
from mpt.control.quota import QuotaMeter
from mpt.daemon.machine import Machine
from mpt.daemon.names import PeerAddresses
from mpt.daemon.path import Path
from mpt.daemon.pathport import LocalEndpoint, SocketPool
from mpt.daemon.timers import DeadlineLoop
from mpt.data.pathstate import PathMeasures
from mpt.data.pathtable import DataSocket, PathRow
from mpt.errors import HostError
from mpt.model import COSTS, Address, ConnectionConfig, Interface, Status, unspecified
from mpt.wire.message import Keepalive

log = Logger()

SOURCE_PORTS: Final = range(49152, 65536)  # ours, that are taken by chance (RFC 6335 section 6)
PORT_TRIES: Final = 4

_GONE = {Event.INTERFACE_LOST, Event.INTERFACE_FOUND, Event.ADDRESS_LOST, Event.ADDRESS_FOUND, Event.OPERATOR_DOWN}


class SealedPath(Path):
    """Path `index` of a sealed `connection`; its path id on the wire is the index, too.

    Beyond the sections of the file, a path has the settings of the last one, without its addresses of the peer.
    `measured(key)` returns the measures of the data path. `silent(path)` is called when the path has fallen silent.
    `log_lines` are for all paths of the connection.
    """

    def __init__(
        self,
        machine: Machine,
        pool: SocketPool,
        connection: ConnectionConfig,
        index: int,
        send: Callable[[tuple[str, int], bytes], None],
        table_changed: Callable[[], None],
        changed: Callable[[], None],
        measured: Callable[[tuple[str, int]], PathMeasures],
        silent: Callable[[SealedPath], None],
        log_lines: Bucket,
    ) -> None:
        if index >= len(connection.paths):
            last = connection.paths[-1]
            beyond = replace(
                last, remote_ipaddr=unspecified(last.ip_ver), remote_addresses=(), remote_names=(), status=Status.OK
            )
            more = (beyond,) * (index + 1 - len(connection.paths))
            connection = replace(connection, paths=connection.paths + more)
        self.peer_place: Place | None = None  # where the peer is
        self.is_proven = False  # something came over it since it began, or began anew
        self._has_session = False
        self._measured = measured
        self._silent = silent
        self._packets_sent = 0
        self._last_sent = 0.0
        self._interface_index = 0
        self._liveness: Liveness | None = None
        self._source_port: int | None = None
        self._log_lines = log_lines
        self._peer_addresses: PeerAddresses | None = None
        self._interfaces: Mapping[str, Interface] = {}
        self.measured_loss: float | None = None  # of what was sent, 0 .. 1, as an adaptive connection knows it
        self.peer_cost = 0  # what it costs the peer, an index of model.COSTS
        self.peer_took_it_down = False  # the peer's operator, when the peer last said that it is down
        self.peer_interface = ""  # the peer's name of its interface
        self.quota: QuotaMeter | None = None
        self.rests = ""  # why it carries nothing though it works, for people; "": it may carry packets
        self.link_mtu = 0  # octets
        self.mtu = 0  # octets of the largest packet that it carries; 0: nobody knows
        super().__init__(machine, pool, connection, index, send, table_changed, changed, began=lambda: None)
        self._timer = DeadlineLoop(machine, self._next_look, self._due, reads_first=True)

    def __str__(self) -> str:
        return f"path_{self.key[1]} of {self.key[0]} ({self.config.interface_name} to {self.peer_text})"

    @property
    def peer_text(self) -> str:
        """Return the peer's address and port as people write them; "-" while it is not known."""
        if self.peer_place is None:
            return "-"
        host, port = self.peer_place.address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    @property
    def peer(self) -> Address:
        """Return the address of the peer, where it is now; unspecified while it is not known."""
        if self.peer_place is None:
            return self.config.remote_ipaddr
        return ip_address(str(self.peer_place.address[0]))

    @property
    def status(self) -> Status:
        """Return the status by the monitor's facts; a path that rests is down."""
        status = self.monitor.status
        return Status.DOWN if self.rests and status is Status.OK else status

    @property
    def reason(self) -> str:
        """Return the reason of the status, in the operator's words."""
        return self.rests if self.rests and self.monitor.status is Status.OK else super().reason

    def loss(self) -> float | None:
        """Return the loss as an adaptive connection has measured it; keepalives, which go now and then, show none."""
        return self.measured_loss

    @property
    def line(self) -> tuple[str, str]:
        """Return what is equal for paths that most probably share a line: the interfaces at both ends."""
        return self.config.interface_name, self.peer_interface

    def rest(self, why: str) -> None:
        """Carry nothing from now on, which the peer is told, too; with an empty `why` carry packets again."""
        before, self.rests = self.status, why
        if self.status is not before:
            self._status_changed()

    @property
    def cost(self) -> str:
        """Return what the path costs, one of model.COSTS: the higher cost of both ends."""
        return COSTS[max(COSTS.index(self.config.cost), self.peer_cost)]

    def set_cost(self, cost: str) -> None:
        """Note another cost, one of model.COSTS."""
        self.config = replace(self.config, cost=cost)
        self._changed()

    @property
    def configured_places(self) -> list[Place]:
        """Return the places of the peer that the file names; none without a socket."""
        if self.port is None:
            return []
        version = self.port.endpoint.address.version
        fitting = [each for each in self._addresses if each.version == version and not each.is_unspecified]
        return [Place(self.port.socket, self._socket_address_of(each)) for each in fitting]

    @property
    def _addresses(self) -> tuple[Address, ...]:
        """Return the peer's addresses by the file, the answers for its names included."""
        if self._peer_addresses is not None:
            return self._peer_addresses.addresses
        return in_order(self.config.remote_addresses) or (self.config.remote_ipaddr,)

    def places(self, is_learned_good: bool) -> list[Place]:
        """Return where a handshake may be tried over this path, the best place first.

        `is_learned_good`: also where the peer was found, which holds as long as there is a session.
        """
        if self.port is None or self.status not in SENDS_KEEPALIVES:
            return []
        configured = self.configured_places
        if self.peer_place is None or not (is_learned_good or self.peer_place in configured):
            return configured
        return list(dict.fromkeys([self.peer_place, *configured]))

    def use(self, place: Place | None) -> None:
        """Note where the peer is: what came from elsewhere proves nothing now."""
        if place == self.peer_place:
            return
        self.peer_place = place
        self.is_proven = False
        self._changed()
        self._ask()

    def begin_session(self) -> None:
        """Note that new keys seal: the peer must show that it is there; so it learns of them, too."""
        self._has_session = True
        self._ask()

    def end_session(self) -> None:
        """Note that no keys seal any more."""
        self._has_session = self.is_proven = False
        self._timer.stop()

    def _ends(self) -> tuple[DataSocket | None, tuple[Any, ...]]:
        own, place = self.port.socket if self.port is not None else None, self.peer_place
        if own is None or place is None:
            return own, ()
        if place.socket.fileno() < 0:  # of another path, closed
            place = self.peer_place = Place(own, place.address)
        return place.socket, place.address

    def _new_row(self, own: DataSocket | None, remote: tuple[Any, ...], usable: bool, mtu: int) -> PathRow:
        host = str(remote[0]) if remote else ""
        return PathRow(
            key=self.key,
            socket=own,
            remote=remote,
            peer=host,
            peer_address=ip_address(host) if host else self.config.remote_ipaddr,
            weight=self.config.weight_out,
            usable=usable,
            ports=self.config.ports,
            id=self.key[1],
            mtu=mtu,
        )

    def share(self, peer_down: bool) -> int:
        """Return the weight of this path now; 0: not used."""
        usable = self.status is Status.OK and self.is_proven and self.peer_place is not None and not peer_down
        return self.config.weight_out if usable else 0

    @property
    def local_port(self) -> int:
        """Return the UDP port of our end: the configured one, or the last one that was taken by chance."""
        return self._source_port or super().local_port

    def open(self, interfaces: Mapping[str, Interface], strict: bool = True) -> None:
        """Begin, also to ask for the names of the peer."""
        super().open(interfaces, strict)
        config, machine = self.config, self._machine
        if config.remote_names and self._peer_addresses is None:
            line = config.interface_name if config.bind_to_device else None
            self._peer_addresses = PeerAddresses(
                machine, str(self), config.remote_addresses, config.remote_names, line, self._peer_found
            )

    @property
    def _versions(self) -> list[int]:
        """Return the IP versions for which there are addresses at both ends, in the order of their trial."""
        config, interface = self.config, self._interfaces.get(self.config.interface_name)
        is_free = config.any_version and config.public_ipaddr.is_unspecified and config.gateway_ipaddr.is_unspecified
        if not is_free or config.private_ipaddr is not None or interface is None:
            return [config.ip_ver]
        here = {each.version for each in interface.addresses if not each.is_link_local}
        known = dict.fromkeys(each.version for each in self._addresses if not each.is_unspecified)
        return [version for version in known if version in here] or [config.ip_ver]

    @property
    def has_other_version(self) -> bool:
        """Return whether the peer may be reached by another IP version, too."""
        return len(self._versions) > 1

    def try_other_version(self) -> None:
        """Open another socket, of the other IP version, if there is one: the peer does not answer."""
        others = [version for version in self._versions if version != self.config.ip_ver]
        if others and not self.is_proven:
            self._take_version(others[0])
            self.interfaces_changed(self._interfaces)

    def _take_version(self, version: int) -> None:
        nowhere = unspecified(version)
        self.config = replace(
            self.config, ip_ver=version, public_ipaddr=nowhere, gateway_ipaddr=nowhere, remote_ipaddr=nowhere
        )
        self.peer_place = None

    def _peer_found(self) -> None:
        """Note that a name was answered: a path that does not work tries what is new."""
        if self.config.ip_ver not in self._versions and not self.is_proven:
            self.interfaces_changed(self._interfaces)
        places = self.configured_places
        if places and not self.is_proven and self.peer_place not in places:
            self._try(places[0])
            self._ask()
        self._changed()

    def _try(self, place: Place) -> None:
        self.peer_place = place
        self._table_changed()
        self._changed()

    def _try_next(self) -> None:
        """Try the next address of a peer that has several, as long as none answers."""
        places = self.configured_places
        if len(places) > 1:
            turn = places.index(self.peer_place) + 1 if self.peer_place in places else 0
            self._try(places[turn % len(places)])

    def interfaces_changed(self, interfaces: Mapping[str, Interface], strict: bool = False) -> None:
        """Look for the interface and the local address; ask the peer for a sign of life if the socket is new."""
        before = self.port
        self._interfaces = interfaces
        first = self._versions[0]
        is_new = self.port is None and not self._has_session
        if self.config.ip_ver != first and not self.is_proven and (is_new or self.config.ip_ver not in self._versions):
            self._take_version(first)
        interface = interfaces.get(self.config.interface_name)
        self.link_mtu = interface.mtu if interface is not None else 0
        super().interfaces_changed(interfaces, strict)
        if self.port is not before:
            self._ask()

    def take_new_source_port(self) -> None:
        """Send from another port from now on: an entry of a NAT on the way, for the present one, may be stuck."""
        if self.port is None or not self._begins:
            return
        endpoint = self.port.endpoint
        ports = [secrets.choice(SOURCE_PORTS) for _ in range(PORT_TRIES)]
        for port in (*ports, endpoint.port):
            with suppress(HostError):
                self._open_socket(endpoint._replace(port=port), self._interface_index)
                self._source_port = port
                break
        log.info("{path}: the peer does not answer; port {port} is tried here", path=self, port=self.local_port)
        self._changed()
        self._ask()

    def take_configured_port(self) -> None:
        """Send from the configured port again: there the peer can reach us, if it knows our address."""
        if self.port is None or self._source_port is None:
            return
        self._source_port = None
        with suppress(HostError):  # somebody else has it: it is tried again
            self._open_socket(self.port.endpoint._replace(port=self.local_port), self._interface_index)
        self._changed()
        self._ask()

    def heard(self) -> None:
        """Note that something of the peer has come, as a message or by a handshake."""
        self.heard_at = self._machine.now()
        if not self.is_proven:
            self.is_proven = True
            self.say("the peer is heard")
            self._changed()
        if self._peer_addresses is not None:
            self._peer_addresses.works()
        self._event(Event.KEEPALIVE_HEARD)
        self.look()

    def say(self, text: str) -> None:
        """Write a line about the peer to the log, unless there were many: a peer may move as often as it likes."""
        if self._log_lines.take(LOG_LINES, self._machine.now()):
            log.info("{path}: {text}", path=self, text=text)

    def ask(self) -> None:
        """Ask the peer for a sign of life: there is a reason to doubt."""
        self._ask()

    @property
    def is_asked(self) -> bool:
        """Return whether the peer owes a sign of life."""
        return self._liveness is not None and self._liveness.is_asked

    def look(self) -> None:
        """Look at what went and came, and do what is due."""
        self._due(self._machine.now())

    def check(self, now: float, last_received: float) -> None:
        """Do nothing: liveness has its own timer."""

    def believe_peer(self) -> None:
        """Do nothing: a sealed path comes up by what is heard."""

    def look_for_peer(self) -> None:
        """Ask for the names of the peer again: it does not answer."""
        if self._peer_addresses is not None:
            self._peer_addresses.silent()

    def stop(self) -> None:
        """Stop everything and close the socket."""
        self._timer.stop()
        if self._peer_addresses is not None:
            self._peer_addresses.stop()
            self._peer_addresses = None
        super().stop()

    def _ask(self) -> None:
        if self._liveness is not None:
            self._liveness.ask(self._machine.now())
            self._due(self._machine.now())

    def _is_watched(self) -> bool:
        return (
            self._has_session
            and self.port is not None
            and self.peer_place is not None
            and self.status in SENDS_KEEPALIVES
            and self._liveness is not None
        )

    def _next_look(self) -> float | None:
        return self._liveness.next_deadline() if self._liveness is not None and self._is_watched() else None

    def _due(self, now: float) -> None:
        if self._liveness is None or not self._is_watched():
            return
        measures = self._measured(self.key)
        if measures.packets_sent != self._packets_sent:
            self._packets_sent = measures.packets_sent
            self._last_sent = now
        last_heard = max(measures.last_received, self.heard_at or 0.0)
        for step in self._liveness.check(now, self._last_sent, last_heard):
            match step:
                case Step.KEEPALIVE | Step.ASK:
                    if step is Step.ASK and self._liveness.is_silent:
                        self._try_next()
                    self.protocol.send(Keepalive(asks=step is Step.ASK).encode())
                case Step.SILENT:
                    self.is_proven = False
                    self._event(Event.DEAD_TIME_OVER)
                    self.look_for_peer()
                    self._silent(self)
                case Step.NEW_SOURCE_PORT if self._source_port is None:
                    self.take_new_source_port()
                case Step.NEW_SOURCE_PORT:
                    self.take_configured_port()
        self._timer.follow()

    def _event(self, event: Event) -> bool:
        if event in _GONE:
            before = self.status
            changed = super()._event(event)
            if self.status is not before:
                self.is_proven = False
            return changed
        return super()._event(event)

    def _new_monitor(self) -> PathMonitor:
        """Return a monitor that knows no time, which is left to liveness."""
        initial = Status.MANUAL_DOWN if self._connection.is_down else self.config.status
        now = self._machine.now()
        self._liveness = Liveness(self.config.keepalive_time, self.config.dead_time, self._begins, now)
        return PathMonitor(initial, 0.0, 0.0, now)

    @property
    def _begins(self) -> bool:
        """Return whether this end may begin: it knows where to."""
        config = self.config
        return bool(config.remote_addresses or config.remote_names) or not config.remote_ipaddr.is_unspecified

    def _keep_alive(self) -> None:
        """Follow the state: liveness is looked after only on a path that can send."""
        if self._is_watched():
            self._timer.follow()

    def _open_socket(self, endpoint: LocalEndpoint, interface_index: int) -> None:
        before = self.port
        self._interface_index = interface_index
        super()._open_socket(endpoint, interface_index)
        if self.port is before or self.port is None:
            return
        if self.peer_place is not None:  # the peer is where it was; our end is new
            self.peer_place = Place(self.port.socket, self.peer_place.address)
        else:
            self.peer_place = next(iter(self.configured_places), None)
        self.is_proven = False

    def _socket_address_of(self, address: Address) -> tuple[Any, ...]:
        host, port = str(address).partition("%")[0], self._connection.remote_port
        if address.version == 4:
            return host, port
        return host, port, 0, self._interface_index if address.is_link_local else 0

    def _begin_looking(self) -> None:
        """Do nothing: there is no plain keepalive to look for on the line."""

    def _look(self) -> None:
        """Do nothing, as above."""

"""One connection: the only place where data and control meet.

Control decides which paths may be used; this service gives the data path a new table then. The data path hears
keepalives and counts; this service passes them on. It also keeps the routes that the paths and networks need.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mpt.config.writer import connection_text
from mpt.control import routing
from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.agreement import effective_status
from mpt.control.routing import NO_ROUTE, PeerRoute
from mpt.daemon.losses import Losses
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.pathport import SocketPool
from mpt.daemon.peerreports import Ask, Reporter
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.settings import Settings
from mpt.daemon.timers import DeadlineLoop
from mpt.data.framing import Plain
from mpt.data.pathtable import ConnectionRow
from mpt.errors import HostError
from mpt.model import Address, ConnectionConfig, Interface, Status, TunnelConfig

log = Logger()


@dataclass(frozen=True, slots=True)
class AskPeer:
    """What a connection needs to talk to the command port of its peer."""

    begin: Ask
    forget: Callable[[Address, Address], None]  # the handshakes of the connection between two tunnel addresses
    settings: Settings
    public_addresses: PublicAddresses


Place = tuple[str, int]
"""What an operator knows a path by, whatever else its file says: its interface, and which of the paths over it."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What one run of a connection tells the next.

    `by_hand`: whether the operator has taken each path down, by its place. `thought_down`: the outer addresses of the
    paths that the peer may believe to be down.
    """

    by_hand: Mapping[Place, bool]
    thought_down: frozenset[tuple[Address, Address]]


class Connection(Service):
    """A connection on `tunnel`.

    `ask_peer` is how it talks to the peer's command port. A connection that is `strict` does not start when a socket is
    refused.
    `interfaces()` is how the machine's interfaces stand now. `table_changed()` asks for a new table for the data path,
    `shares_changed(name)` for no more than new weights and usable paths;
    `last_received(path key)` is when data last came over a path; `send(path key, message)` sends a message over it.
    """

    def __init__(
        self,
        machine: Machine,
        config: ConnectionConfig,
        tunnel: TunnelConfig,
        pool: SocketPool,
        routes: RouteKeeper,
        interfaces: Callable[[], Mapping[str, Interface]],
        table_changed: Callable[[], None],
        shares_changed: Callable[[str], None],
        last_received: Callable[[tuple[str, int]], float],
        send: Callable[[tuple[str, int], bytes], None],
        ask_peer: AskPeer,
        strict: bool = True,
    ) -> None:
        self.config = config
        self.strict = strict
        self.setName(config.name)
        self._machine = machine
        self._tunnel = tunnel
        self._routes = routes
        self._interfaces = interfaces
        self._shares_changed = shares_changed
        self._last_received = last_received
        self._had_path = True
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self._ask_peer = ask_peer
        self._public_addresses = ask_peer.public_addresses
        self.paths = [
            Path(machine, pool, config, index, send, table_changed, self._path_changed, self._keepalives_began)
            for index in range(len(config.paths))
        ]
        self.reporter = Reporter(
            machine, config, self.paths, self.public_address, ask_peer.begin, ask_peer.settings, self._peer_changed
        )
        self._peer_routes = [NO_ROUTE] * len(self.paths)
        self._seen: tuple[object, ...] = ()  # what the paths depend on, as it was last
        self._route_news: dict[int, str] = {}  # what the log has said last
        self._losses = Losses(config.max_loss, self.paths, self._works, last_received, machine.now)
        self._dead_check = DeadlineLoop(machine, self._next_dead_check, self._check)

    def startService(self) -> None:
        """Open the sockets, install the routes, begin to send keepalives; raises HostError if it is strict."""
        super().startService()
        if self.config.is_down:
            log.warn("{why}", why=self.why_down)
            return
        interfaces = self._interfaces()
        for path in self.paths:
            path.open(interfaces, self.strict)
            if path.status in (Status.INTERFACE_DOWN, Status.ADDRESS_DOWN):
                log.warn("{path} starts as {status}; it joins when that changes", path=path, status=path.status.name)
        self.reporter.start()
        self._routes.keep(self.config.name, routing.tunnel_routes(self.config, self._tunnel.name))
        self._route_to_peers(interfaces)
        self._path_changed()

    def stopService(self) -> None:
        """Stop the checks, the reports and the paths, and give their routes back."""
        super().stopService()
        self._dead_check.stop()
        self.reporter.stop()
        for path in self.paths:
            path.stop()
            self._public_addresses.forget(path)
            self._routes.keep(str(path), ())
        self._routes.keep(self.config.name, ())
        self._ask_peer.forget(self.config.ip_local, self.config.ip_remote)

    @property
    def why_down(self) -> str:
        """What the operator is told of a connection that its file keeps down."""
        status = int(self.config.status)
        return f"{self.config.name} is down, as its file says: [connection] status = {status}; write 0 and reload it"

    @property
    def has_refused(self) -> bool:
        """Whether the host refuses a socket of this connection."""
        return any(path.refusal for path in self.paths)

    def row(self) -> ConnectionRow:
        """This connection as the data path knows it."""
        config = self.config
        return ConnectionRow(
            key=config.name,
            local=config.ip_local,
            remote=config.ip_remote,
            networks=config.networks,
            reorder_window=config.reorder_window,
            max_delay=config.max_buffdelay_msec / 1000,
            paths=tuple(path.row(self.reporter.peer_down(index)) for index, path in enumerate(self.paths)),
            framing=Plain(sequenced=config.reorder_window > 0),
            dscp=config.dscp,
            ecn=config.ecn,
            broadcast=self._tunnel.broadcast,
        )

    def shares(self) -> dict[Hashable, int]:
        """Return the weights with which the paths are to be used now, by their keys; 0: not at all."""
        return {path.key: path.share(self.reporter.peer_down(index)) for index, path in enumerate(self.paths)}

    def interfaces_changed(self, interfaces: Mapping[str, Interface]) -> None:
        """Note that links, addresses or routes changed; only what concerns this connection costs more than a look."""
        seen = self._depends_on(interfaces)
        if self.config.is_down or (seen == self._seen and not self.has_refused):
            return
        self._seen = seen
        for path in self.paths:
            path.interfaces_changed(interfaces)
        self._route_to_peers(interfaces)

    def message_received(self, index: int, message: bytes) -> None:
        """Note a message that came over path `index`. It makes dead times end later, so that the check may come early;
        only a changed status makes them end sooner."""
        path = self.paths[index]
        path.protocol.datagramReceived(message, path.remote)
        self._losses.heard(index)

    def gateway(self, index: int) -> Address | None:
        """Return the gateway of path `index`; None if it is not known or not needed."""
        route = self._peer_routes[index].route
        return route.gateway if route is not None else None

    def no_route(self, index: int) -> str | None:
        """Return why path `index` has no route to its peer; None if it has one, or needs none."""
        found = self._peer_routes[index]
        return found.missing if found.route is None else self._routes.refusal(found.route)

    def public_address(self, path: Path) -> Address:
        """The address by which the peer knows this end of `path`; unspecified while nobody knows."""
        if not path.config.public_ipaddr.is_unspecified:
            return path.config.public_ipaddr
        found = self._public_addresses.found(path)
        return found or (path.port.endpoint.address if path.port is not None else path.config.public_ipaddr)

    def found_addresses(self) -> dict[int, Address]:
        """Return the public addresses, by path index, that were found out."""
        found = ((index, self._public_addresses.found(path)) for index, path in enumerate(self.paths))
        return {index: address for index, address in found if address is not None}

    def learn_address(self, index: int, address: Address) -> None:
        """Note that the peer has named our end of path `index`, and of no other, by `address`."""
        self._public_addresses.learn(self.paths[index], address)

    def statuses(self) -> list[Status]:
        """The status of every path as the peer and we see it."""
        return [effective_status(path.status, self.reporter.peer_down(i)) for i, path in enumerate(self.paths)]

    def peer_says(self, index: int, up: bool) -> None:
        """The peer reports path `index`. Where no keepalive can revive a path, its word does."""
        if up:
            self.paths[index].believe_peer()
        self.reporter.peer_says(index, up)

    def text_for_peer(self, command_port: int, limit: int | None = None) -> str:
        """Return this connection as its peer needs it, with the public addresses that we know of."""
        paths = tuple(replace(path.config, public_ipaddr=self.public_address(path)) for path in self.paths)
        statuses = [path.status for path in self.paths]
        return connection_text(replace(self.config, paths=paths), statuses, command_port, limit)

    def hand_over(self) -> Handover:
        """Return what the next run of this connection has to know: nothing, if its file has kept this one down."""
        if self.config.is_down:
            return Handover({}, frozenset())
        taken_down = [path.status is Status.MANUAL_DOWN for path in self.paths]
        by_hand = dict(zip(_places(self.config), taken_down, strict=True))
        return Handover(by_hand, frozenset(_ends(self.paths[index]) for index in self.reporter.peer_may_think_down()))

    def take_over(self, earlier: Handover, file_before: ConnectionConfig) -> None:
        """Go on from an `earlier` run. Paths stay as the operator has left them, unless their status in the file is
        another one than in `file_before`. The peer is told of the paths that it may think down."""
        if self.config.is_down:
            return
        before = {place: path.status for place, path in zip(_places(file_before), file_before.paths, strict=True)}
        for place, path in zip(_places(self.config), self.paths, strict=True):
            is_down = earlier.by_hand.get(place)
            if is_down is None or before.get(place) is not path.config.status:
                continue
            if is_down is not (path.status is Status.MANUAL_DOWN):
                path.switch(not is_down)
        for index, path in enumerate(self.paths):
            if _ends(path) in earlier.thought_down:
                self.reporter.report(index)

    def switch(self, index: int, up: bool) -> Deferred[Any] | None:
        """The operator takes path `index` up or down; the outcome of telling the peer, None if it need not be told."""
        self.paths[index].switch(up)
        return self.reporter.when_peer_knows(index)

    def _path_changed(self) -> None:
        self._losses.look()
        for path in self.paths:
            self._public_addresses.follow(path)
        self._shares_changed(self.config.name)
        self.reporter.paths_changed()
        self._dead_check.follow()
        self._log_reachability()

    def _peer_changed(self) -> None:
        """What the peer says of the paths has changed."""
        self._losses.look()
        self._shares_changed(self.config.name)
        self._log_reachability()

    def _works(self, index: int) -> bool:
        """Return whether path `index` is good here and at the peer, and not only because nobody knows."""
        path = self.paths[index]
        is_waiting = path.monitor.is_waiting(self._last_received(path.key))
        return path.status is Status.OK and not is_waiting and not self.reporter.peer_down(index)

    def _log_reachability(self) -> None:
        """Say so when the last path goes, and when the first one is back."""
        statuses = self.statuses()
        has_path = Status.OK in statuses
        if has_path is self._had_path or not self._log_lines.take(LOG_LINES, self._machine.now()):
            return
        self._had_path = has_path
        if has_path:
            log.info("{name}: there is a working path again", name=self.config.name)
        else:
            log.error(
                "{name}: no path works; packets are dropped until one comes back by itself ({why})",
                name=self.config.name,
                why=", ".join(f"path_{index} {status.name}" for index, status in enumerate(statuses)),
            )

    def _keepalives_began(self) -> None:
        for path in self.paths:
            path.keep_step()

    def _next_dead_check(self) -> float | None:
        deadlines = (path.monitor.next_deadline() for path in self.paths)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _check(self, now: float) -> None:
        for path in self.paths:
            path.check(now, self._last_received(path.key))

    def _depends_on(self, interfaces: Mapping[str, Interface]) -> tuple[object, ...]:
        """What of the machine the paths depend on: equal for as long as nothing of it has changed."""
        if not all(path.config.bind_to_device for path in self.paths):
            return (self._routes.doubts, *interfaces.values())
        return (self._routes.doubts, *(interfaces.get(path.config.interface_name) for path in self.paths))

    def _route_to_peers(self, interfaces: Mapping[str, Interface]) -> None:
        """Have the routes to the peer that the paths now need, and say which gateways were found, or are missing."""
        for index, path in enumerate(self.paths):
            found = self._peer_route(path, interfaces)
            self._routes.keep(str(path), (found.route,) if found.route is not None else ())
            text = _news(found)
            if text is not None and text != self._route_news.get(index):
                report = log.info if found.missing is None else log.warn
                report("{path}: {text}", path=path, text=text)
                self._route_news[index] = text
            self._peer_routes[index] = found

    def _peer_route(self, path: Path, interfaces: Mapping[str, Interface]) -> PeerRoute:
        """The route to the peer; none without an interface that is up and an address on it, as it would have none."""
        interface = interfaces.get(path.config.interface_name)
        if path.port is None or interface is None or not interface.up:
            return NO_ROUTE
        try:
            return routing.peer_route(path.config, interface, self._routes.default_route)
        except HostError as error:
            return PeerRoute(None, str(error))


def _news(found: PeerRoute) -> str | None:
    """What the log says of a route that was looked for; None if it was not."""
    if found.missing is not None:
        return f"there is no route to the peer: {found.missing}"
    if not found.is_found or found.route is None:
        return None
    return f"the gateway is now {found.route.gateway}" if found.route.gateway else "no gateway is needed now"


def _places(config: ConnectionConfig) -> list[Place]:
    names = [path.interface_name for path in config.paths]
    return [(name, names[:index].count(name)) for index, name in enumerate(names)]


def _ends(path: Path) -> tuple[Address, Address]:
    """What both daemons know a path by."""
    return path.config.public_ipaddr, path.config.remote_ipaddr

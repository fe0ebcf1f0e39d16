"""One connection, plain or sealed: the only place where data and control meet.

Control decides which paths may be used; this service passes the decision to the data path, as shares or a new table.
The data path gives keepalives and counters; this service passes them to control.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mpt.config.writer import connection_text
from mpt.control.adaptive import AdaptiveControl
from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.agreement import effective_status
from mpt.daemon.adaptive import Adaptation, Adaptations
from mpt.daemon.connectionroutes import ConnectionRoutes
from mpt.daemon.connectionrow import new_row
from mpt.daemon.handover import Handover, hand_over, take_over
from mpt.daemon.keyexchanges import HostKeyExchanges
from mpt.daemon.losses import Losses
from mpt.daemon.machine import Machine
from mpt.daemon.path import Path
from mpt.daemon.pathport import SocketPool
from mpt.daemon.peerreports import Ask, Reporter
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.sealedlink import SealedLink
from mpt.daemon.sealedpath import SealedPath
from mpt.daemon.sealedreports import SealedReporter
from mpt.daemon.settings import Settings
from mpt.daemon.sizeprobes import SizeProbes
from mpt.daemon.timers import DeadlineLoop
from mpt.data.datapath import DataPath
from mpt.data.events import Message
from mpt.data.pathstate import PathMeasures
from mpt.data.pathtable import ConnectionRow
from mpt.local.status import DOWN_AT_PEER, WAITING, WORDS, state_word
from mpt.model import Address, ConnectionConfig, Interface, Status, TunnelConfig

log = Logger()


@dataclass(frozen=True, slots=True)
class AskPeer:
    """The means by which a connection talks to its peer: to its command port, or, sealed, by handshakes."""

    begin: Ask
    forget: Callable[[Address, Address], None]  # the handshakes of the connection between two tunnel addresses
    settings: Settings
    public_addresses: PublicAddresses
    key_exchanges: HostKeyExchanges


class Connection(Service):
    """A connection on `tunnel`.

    A `strict` connection does not start when a socket is refused. `interfaces()` returns the machine's interfaces now.
    `table_changed()` asks for a new table for the data path, `table_grows()` for one that only has more paths, and
    `shares_changed(name)` for new shares alone.
    `measured(path key)` returns the measures of a path. `send(path key, message)` sends a message over it. `datapath()`
    returns the data path with its newest table. `mtu_changed()` asks for another MTU of the tunnel.
    `after_events(call)` makes a call once after the events that are being told. `ask_peer` talks to the peer's command
    port. `adaptations` are those of the tunnel. `link` has the sessions of a sealed connection,
    `routes` the routes of any.
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
        table_grows: Callable[[], None],
        shares_changed: Callable[[str], None],
        measured: Callable[[tuple[str, int]], PathMeasures],
        send: Callable[[tuple[str, int], bytes], None],
        datapath: Callable[[], DataPath | None],
        mtu_changed: Callable[[], None],
        after_events: Callable[[Callable[[], None]], None],
        ask_peer: AskPeer,
        adaptations: Adaptations,
        strict: bool = True,
    ) -> None:
        self.config = config
        self.strict = strict
        self.setName(config.name)
        self._machine = machine
        self._tunnel = tunnel
        self._interfaces = interfaces
        self._shares_changed = shares_changed
        self._mtu_changed = mtu_changed
        self._after_events = after_events
        self._measured = measured
        self._pool = pool
        self._send = send
        self._table_changed = table_changed
        self._table_grows = table_grows
        self._is_growing = False
        self._row: ConnectionRow | None = None  # made last, of the facts
        self._row_facts: tuple[object, ...] = ()
        self._had_path = True
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self._peer_lines = Bucket(LOG_LINES, machine.now())  # about what the peer does, over all paths
        self._ask_peer = ask_peer
        self._public_addresses = ask_peer.public_addresses
        self._sealed_paths: list[SealedPath] = []
        self.link: SealedLink | None = None
        self.adaptation: Adaptation | None = None  # of an adaptive connection
        self._adaptations = adaptations
        self.paths: list[Path] = []
        self.reporter: Reporter
        self._size_probes: SizeProbes | None = None  # of a plain connection
        if config.is_sealed:
            self._make_sealed(tunnel.mtu, datapath)
        else:
            self.paths += [
                Path(machine, pool, config, index, send, table_changed, self._path_changed, self._keepalives_began)
                for index in range(len(config.paths))
            ]
            self.reporter = Reporter(
                machine, config, self.paths, self.public_address, ask_peer.begin, ask_peer.settings, self._peer_changed
            )
            self._size_probes = SizeProbes(machine, config, tunnel.mtu, self.paths, send, measured, datapath)
        self.routes = ConnectionRoutes(routes, config, tunnel.name, self.paths)
        self._seen: tuple[object, ...] = ()  # the facts that the paths depend on, as seen last
        self._losses = Losses(config.max_loss, self.paths, self._works, self._last_received, machine.now)
        self._dead_check = DeadlineLoop(machine, self._next_dead_check, self._check, reads_first=True)

    def _make_sealed(self, mtu: int, datapath: Callable[[], DataPath | None]) -> None:
        self.link = link = SealedLink(
            self._machine,
            self.config,
            mtu,
            self._ask_peer.key_exchanges,
            datapath,
            self._sealed_paths,
            self._want_paths,
            lambda said: reporter.peer_said(said),
            self._measured,
            self._mtu_changed,
            lambda hello: adaptation.agreed(hello) if (adaptation := self.adaptation) else None,
        )
        for index in range(len(self.config.paths)):
            self._add_sealed_path(index)
        self.reporter = reporter = SealedReporter(
            self._machine,
            self.config,
            self.paths,
            self._ask_peer.settings,
            self._peer_changed,
            lambda: link.has_keys,
            lambda message: adaptation.reason_said(message) if (adaptation := self.adaptation) else None,
        )
        if self.config.is_adaptive:
            control = AdaptiveControl(self.config.delay_budget / 1000)
            self.adaptation = Adaptation(
                self._machine,
                self.config,
                self._sealed_paths,
                reporter.peer_down,
                self._table_grows,
                self._adaptations,
                control,
            )

    def _add_sealed_path(self, index: int) -> SealedPath:
        assert self.link is not None
        path = SealedPath(
            self._machine,
            self._pool,
            self.config,
            index,
            self._send,
            self._path_needs_table,
            self._path_changed,
            self._measured,
            self.link.path_silent,
            self._peer_lines,
        )
        self._sealed_paths.append(path)
        self.paths.append(path)
        return path

    def _want_paths(self, count: int) -> None:
        """Make and open the paths that the peer has beyond ours, with the settings of our last section; close those
        that it has no longer."""
        before = len(self.paths)
        wanted = max(count, len(self.config.paths))
        if wanted == before or not self.running or self.link is None:
            return
        gone = self._sealed_paths[wanted:]
        del self.paths[wanted:], self._sealed_paths[wanted:]
        more = [self._add_sealed_path(index) for index in range(before, wanted)]
        self.routes.resize(gone)
        if isinstance(self.reporter, SealedReporter):
            self.reporter.begin_anew()
        for path in gone:
            path.stop()
            self.link.forget(path)
        self._is_growing = True
        for path in more:
            path.open(self._interfaces(), strict=False)
        self._is_growing = False
        self._table_grows()

    def _path_needs_table(self) -> None:
        if not self._is_growing:
            self._table_changed()

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
                log.warn("{path} starts as {state}; it joins when that changes", path=path, state=WORDS[path.status])
        self.reporter.start()
        self.routes.start()
        self.routes.look(interfaces)
        self._path_changed()
        if self.link is not None:
            self.link.start()
        if self._size_probes is not None:
            self._size_probes.start()

    def stopService(self) -> None:
        """Stop the sessions, the checks, the reports and the paths, and give their routes back."""
        super().stopService()
        if self.link is not None:
            self.link.stop()
        if self.adaptation is not None:
            self.adaptation.stop()
        if self._size_probes is not None:
            self._size_probes.stop()
        self._dead_check.stop()
        self.reporter.stop()
        for path in self.paths:
            path.stop()
            self._public_addresses.forget(path)
        self.routes.stop()
        self._ask_peer.forget(self.config.ip_local, self.config.ip_remote)

    @property
    def why_down(self) -> str:
        """Return the text for the operator about a connection that its file keeps down."""
        status = int(self.config.status)
        return f"{self.config.name} is down, as its file says: [connection] status = {status}; write 0 and reload it"

    @property
    def has_refused(self) -> bool:
        """Return whether the host refuses a socket of this connection."""
        return any(path.refusal for path in self.paths)

    def row(self, mtu: int) -> ConnectionRow:
        """Return this connection's row of the data path's table, the very same as long as nothing in it changes; `mtu`
        is that of the tunnel's interface, in octets."""
        facts = (
            tuple(path.row(self.reporter.peer_down(index)) for index, path in enumerate(self.paths)),
            self.adaptation.row() if self.adaptation is not None else None,
            mtu if self.config.mss_clamp == "auto" else 0,
            self.config,
        )
        if self._row is None or facts != self._row_facts:
            self._row_facts, self._row = facts, new_row(self.config, self._tunnel.broadcast, *facts[:-1])
        return self._row

    def shares(self) -> dict[Hashable, int]:
        """Return the weights of the paths now, by their keys; 0: not used."""
        return {path.key: path.share(self.reporter.peer_down(index)) for index, path in enumerate(self.paths)}

    def interfaces_changed(self, interfaces: Mapping[str, Interface]) -> None:
        """Note that links, addresses or routes changed. Nothing is done unless the change concerns this connection."""
        seen = self._depends_on(interfaces)
        if self.config.is_down or (seen == self._seen and not self.has_refused):
            return
        self._seen = seen
        for path in self.paths:
            path.interfaces_changed(interfaces)
        self.routes.look(interfaces)
        if self.link is not None:
            self.link.way_changed()
        elif self._size_probes is not None:
            self._size_probes.doubt()

    def message_received(self, index: int, message: Message) -> None:
        """Note a message over path `index`. The timer of the dead time stays as it is: its check may come early."""
        if self.link is not None:
            self.link.received(index, message)
            return
        path = self.paths[index]
        path.protocol.datagramReceived(message.octets, path.remote)
        self._losses.heard(index)
        if self._size_probes is not None:
            self._size_probes.received(path.key, message.octets)

    def public_address(self, path: Path) -> Address:
        """Return the address by which the peer knows this end of `path`; unspecified while it is unknown."""
        if not path.config.public_ipaddr.is_unspecified:
            return path.config.public_ipaddr
        found = self._public_addresses.found(path)
        return found or (path.port.endpoint.address if path.port is not None else path.config.public_ipaddr)

    def found_addresses(self) -> dict[int, Address]:
        """Return the public addresses that were found out, by path index."""
        found = ((index, self._public_addresses.found(path)) for index, path in enumerate(self.paths))
        return {index: address for index, address in found if address is not None}

    def learn_address(self, index: int, address: Address) -> None:
        """Note that the peer has named our end of path `index`, and of no other, by `address`."""
        self._public_addresses.learn(self.paths[index], address)

    def state(self, index: int, last_received: float) -> tuple[str, str]:
        """Return the word for the state of path `index` as people see it (`mpt.local.status`), and its reason.

        `last_received` is when the last data came over it.
        """
        path, peer_down = self.paths[index], self.reporter.peer_down(index)
        word, reason = path.state_here(last_received)
        if path.status is Status.OK and peer_down:
            return DOWN_AT_PEER, "the peer says that it does not work"
        if path.status is Status.OK and self.link is not None and not self.link.has_keys:
            return WAITING, f"there are no keys: {self.link.why_not}"
        return state_word(word, peer_down), reason

    def note_state(self, index: int, last_received: float) -> None:
        """Note whether another state of a path has begun; call it now and then, too: nobody is told that data came."""
        path = self.paths[index]
        word, _ = self.state(index, last_received)
        if word != path.state:
            path.state, path.since = word, self._machine.now()

    def statuses(self) -> list[Status]:
        """Return the status of each path from its state here and the peer's report."""
        return [effective_status(path.status, self.reporter.peer_down(i)) for i, path in enumerate(self.paths)]

    def peer_says(self, index: int, up: bool) -> None:
        """Note that the peer reports path `index`. The report also revives a path without keepalives."""
        if up:
            self.paths[index].believe_peer()
        self.reporter.peer_says(index, up)

    def text_for_peer(self, command_port: int, limit: int | None = None) -> str:
        """Return the text of this connection for a create, at most `limit` octets, with all known public addresses."""
        paths = tuple(
            replace(path.config, public_ipaddr=self.public_address(path))
            for path in self.paths[: len(self.config.paths)]
        )
        statuses = [path.status for path in self.paths[: len(paths)]]
        return connection_text(replace(self.config, paths=paths), statuses, command_port, limit)

    def hand_over(self) -> Handover:
        """Return the facts for the next run of this connection."""
        return hand_over(self.config, self.paths, self.reporter)

    def take_over(self, earlier: Handover, file_before: ConnectionConfig) -> None:
        """Go on from an `earlier` run, which began with `file_before`."""
        take_over(earlier, file_before, self.config, self.paths, self.reporter)

    def switch(self, index: int, up: bool) -> Deferred[Any] | None:
        """Take path `index` up or down for the operator.

        Return a Deferred that fires with the `Outcome` of telling the peer; None if there is nothing to tell.
        """
        self.paths[index].switch(up)
        return self.reporter.when_peer_knows(index)

    def cost_of(self, index: int) -> str:
        """Return what path `index` of a sealed connection costs, one of model.COSTS: the higher cost of both ends."""
        return self._sealed_paths[index].cost

    def set_cost(self, index: int, cost: str) -> Deferred[Any] | None:
        """Give path `index` another cost for the operator; the value is as for `switch`."""
        paths = self.config.paths
        if index < len(paths):
            changed = replace(paths[index], cost=cost)
            self.config = replace(self.config, paths=(*paths[:index], changed, *paths[index + 1 :]))
        self._sealed_paths[index].set_cost(cost)
        self.reporter.report(index)
        return self.reporter.when_peer_knows(index)

    def _path_changed(self) -> None:
        self._after_events(self._paths_changed)

    def _paths_changed(self) -> None:
        """Note that paths have changed, of which there may be 64, all at once."""
        if not self.running:
            return
        if self.link is not None:
            self.link.paths_changed()
        else:
            self._losses.look()
            for path in self.paths:
                self._public_addresses.follow(path)
        if self._size_probes is not None:
            self._size_probes.follow()
        self._shares_changed(self.config.name)
        self.reporter.paths_changed()
        if self.adaptation is not None:
            self.adaptation.paths_changed()
        self._dead_check.follow()
        self._note_states()
        self._log_reachability()

    def _peer_changed(self) -> None:
        """Note that the peer's reports have changed."""
        if self.link is None:
            self._losses.look()
        if self.adaptation is not None:
            self.adaptation.paths_changed()
        self._shares_changed(self.config.name)
        self._note_states()
        self._log_reachability()

    def measured(self, path: tuple[str, int]) -> PathMeasures:
        """Return the measures of a path, by its key."""
        return self._measured(path)

    def _last_received(self, path: tuple[str, int]) -> float:
        return self._measured(path).last_received

    def _works(self, index: int) -> bool:
        """Return whether path `index` is known to be good, here and at the peer."""
        path = self.paths[index]
        is_waiting = path.monitor.is_waiting(self._last_received(path.key))
        return path.status is Status.OK and not is_waiting and not self.reporter.peer_down(index)

    def _note_states(self) -> None:
        for index, path in enumerate(self.paths):
            self.note_state(index, self._last_received(path.key))

    def _log_reachability(self) -> None:
        """Log that the last path is gone, or that the first is back."""
        statuses = self.statuses()
        has_path = Status.OK in statuses
        if has_path is self._had_path or not self._log_lines.take(LOG_LINES, self._machine.now()):
            return
        self._had_path = has_path
        if has_path:
            log.info("{name}: there is a working path again", name=self.config.name)
        else:
            by_hand = all(path.status.is_by_hand for path in self.paths)
            log.error(
                "{name}: no path works; packets are dropped until one {is_back} ({why})",
                name=self.config.name,
                is_back="is taken up by hand" if by_hand else "comes back by itself",
                why=", ".join(f"path_{index} {path.state}" for index, path in enumerate(self.paths)),
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
        """Return the facts about the machine that the paths depend on; equal facts mean that nothing has changed."""
        if not all(path.config.bind_to_device for path in self.paths):
            return (self.routes.doubts, *interfaces.values())
        return (self.routes.doubts, *(interfaces.get(path.config.interface_name) for path in self.paths))

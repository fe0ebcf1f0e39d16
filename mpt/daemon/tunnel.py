"""One tunnel: its TUN device, its data path, and the connections on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final, cast

from twisted.application.service import MultiService
from twisted.logger import Logger

from mpt.accel.choice import DataPathChoice
from mpt.daemon.adaptive import Adaptations
from mpt.daemon.connection import AskPeer, Connection
from mpt.daemon.descriptors import Readable
from mpt.daemon.gathering import Gathering
from mpt.daemon.machine import Machine
from mpt.daemon.offloadlog import OffloadLog
from mpt.daemon.pathport import SocketPool
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.sealedlink import SealedLink
from mpt.daemon.sendqueues import SendQueues
from mpt.daemon.tables import Tables
from mpt.daemon.timers import DeadlineLoop
from mpt.data.counters import Counters
from mpt.data.datapath import DataPath
from mpt.data.events import Confirmed, Copied, Event, Handshake, Message, Moved
from mpt.data.pathstate import PathMeasures
from mpt.data.pathtable import DataSocket
from mpt.errors import HostError
from mpt.host.tun import Tun
from mpt.limits import FlightMeasures, Report
from mpt.model import ConnectionConfig, Interface, InterfaceAddress, TunnelConfig

log = Logger()

RETRY_REFUSED: Final = 5.0  # s; another program that holds a port may end


class Tunnel(MultiService):
    """The tunnel `config` with `connections` on it.

    An interface that somebody removes is made again; `lost` is called with its name if that is refused.
    """

    def __init__(
        self,
        machine: Machine,
        config: TunnelConfig,
        connections: tuple[ConnectionConfig, ...],
        routes: RouteKeeper,
        ask_peer: AskPeer,
        datapath_choice: DataPathChoice,
        lost: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.config = config
        self.datapath_choice = datapath_choice.for_tunnel(any(each.is_sealed for each in connections))
        self.tun: Tun | None = None
        self.datapath: DataPath | None = None
        self._machine = machine
        self._lost = lost
        self._readable: Readable | None = None
        self._offload_log: OffloadLog | None = None
        self._retry: Any = None  # the timer of the next try after a refusal
        self._was_up = True
        self._taken_by_hand: set[InterfaceAddress] = set()
        self._told_taken: set[InterfaceAddress] = set()  # by another program, or refused: that was logged
        self.mtu = config.mtu  # of the interface
        self._has_identity = False  # the data path takes handshakes
        self._pool = SocketPool(machine, self._socket_readable)
        self._queues = SendQueues(machine.system, self._pool.ports, self._measured)
        self._flush = DeadlineLoop(machine, self._next_deadline, self._deadline_reached)
        self._gathering = Gathering()
        self._routes = routes
        self._ask_peer = ask_peer
        self._interfaces: Mapping[str, Interface] = {}
        self.connections: dict[str, Connection] = {}
        self._tables = Tables(
            machine,
            config.name,
            self.connections,
            lambda: self.mtu,
            lambda: self.datapath,
            self._worked,
            self._watch_refused,
        )
        self.adaptations = Adaptations(machine, self._tables.newest_datapath, self._flush.follow)
        for each in connections:
            self.add(each)

    def add(self, config: ConnectionConfig, strict: bool = True) -> Connection:
        """Put a connection on this tunnel; it starts if the tunnel runs. Raises HostError, and then it is not there.

        A refused socket is an error if `strict`.
        """
        if config.is_sealed and self.datapath_choice.instead is not None:
            raise HostError(
                f"{config.name}: {self.config.name} began with a data path that cannot seal: start mptsrv anew"
            )
        connection = Connection(
            self._machine,
            config,
            self.config,
            self._pool,
            self._routes,
            lambda: self._interfaces,
            self._tables.changed,
            self._tables.grows,
            self._tables.shares_changed,
            self._measured,
            self._tables.send,
            self._tables.newest_datapath,
            self._mtu_changed,
            self._gathering.ask,
            self._ask_peer,
            self.adaptations,
            strict,
        )
        self.connections[config.name] = connection
        try:
            connection.setServiceParent(self)
        except Exception:
            self.remove(config.name)
            raise
        return connection

    def slept(self, seconds: float) -> None:
        """Note that the machine has slept for so long."""
        for connection in self.connections.values():
            if connection.link is not None:
                connection.link.slept(seconds)

    def remove(self, name: str) -> None:
        """Stop a connection and forget it; its held packets are delivered."""
        self.connections.pop(name).disownServiceParent()
        self._tables.changed()

    def counters(self) -> Counters:
        """Return the counters of the data path; zeros if there is none."""
        return self.datapath.counters() if self.datapath is not None else Counters()

    def offloads(self) -> frozenset[str]:
        """Return the offloads of kernel and links that the data path uses now."""
        return self.datapath.offloads() if self.datapath is not None else frozenset()

    def startService(self) -> None:
        """Create the interface, then its connections' sockets and routes, then let packets flow. Raises HostError."""
        self._open_tun()
        self._interfaces = self._machine.netlink.snapshot()
        super().startService()
        self._let_flow()

    def stopService(self) -> None:
        """Deliver held packets, then take everything down; safe after a start that failed half-way."""
        super().stopService()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._close_tun()

    def _open_tun(self) -> None:
        self.tun = self._machine.open_tun(
            self.config, self._machine.system, self._machine.netlink, self.datapath_choice.tun_flags
        )
        self._taken_by_hand.clear()
        self.datapath = self.datapath_choice.make(self.tun.fd)
        self.mtu = self.config.mtu
        self._tables.begin()
        self._ask_peer.key_exchanges.attach(self)

    def _let_flow(self) -> None:
        assert self.tun is not None and self.datapath is not None
        self._tables.give()
        self.adaptations.begin()
        self._offload_log = OffloadLog(self._machine, self.config.name, self.datapath, self._ask_peer.settings)
        self._offload_log.start()
        fd = self.tun.fd
        self._readable = Readable(self._machine.reactor, "tun", lambda: fd, self._tun_readable, self._tun_lost)
        self._readable.startReading()

    def _close_tun(self) -> None:
        self.adaptations.stop()
        self._flush.stop()
        self._tables.stop()
        if self._readable is not None:
            self._readable.stop()
            self._readable = None
        if self._offload_log is not None:
            self._offload_log.stop()
            self._offload_log = None
        self._ask_peer.key_exchanges.detach(self)
        if self.datapath is not None:
            self.datapath.close()
            self.datapath = None
        if self.tun is not None:
            self.tun.close()
            self.tun = None

    def interfaces_changed(self, interfaces: Mapping[str, Interface]) -> None:
        """Note that links, addresses or routes changed.

        The tunnel interface gets lost addresses back: the kernel takes those of IPv6 when it is switched off, another
        program any.
        """
        self._interfaces = interfaces
        own = interfaces.get(self.config.name)
        is_up = own is not None and own.up
        if own is not None and is_up:
            there = self._taken_by_hand.union(own.addresses)
            missing = [address for address in self.config.addresses if address not in there]
            self._restore_addresses(missing, taken=self._was_up)
        self._was_up = is_up
        for connection in list(self.connections.values()):
            self._show_interfaces(connection)
        self._watch_refused()

    def _show_interfaces(self, connection: Connection) -> None:
        try:
            connection.interfaces_changed(self._interfaces)
        except Exception:  # one connection's bug must not hide the change from the others
            log.failure("{name}: a bug while interfaces change", name=connection.config.name)

    def _mtu_changed(self) -> None:
        """Give the interface the MTU that all sealed paths carry, if it is to have that."""
        if not self.config.mtu_auto or self.tun is None:
            return
        links = (each.link for each in self.connections.values() if each.link is not None)
        mtu = min((link.tunnel_mtu for link in links if link.tunnel_mtu is not None), default=self.mtu)
        if mtu == self.mtu:
            return
        try:
            self._machine.netlink.configure_tunnel(self.tun.name, mtu, self.config.queue_length)
        except HostError as error:
            log.error("{error}", error=error)
            return
        self.mtu = mtu
        self._tables.changed()
        log.info("the MTU of {name} is {mtu}, as its paths allow", name=self.config.name, mtu=mtu)

    def address_changed_by_hand(self, address: InterfaceAddress, add: bool) -> None:
        """Note that the operator gives an address to the interface, or takes it away, which is not undone."""
        (self._taken_by_hand.discard if add else self._taken_by_hand.add)(address)

    def _restore_addresses(self, missing: Iterable[InterfaceAddress], taken: bool) -> None:
        """Put addresses back; `taken`: by another program. The log tells it once an address."""
        for address in missing:
            told = address in self._told_taken
            try:
                self._machine.netlink.add_address(self.config.name, address, check_duplicates=False)
            except HostError as error:
                self._told_taken.add(address)
                if not told:
                    log.error("{error}", error=error)
                continue
            if taken:
                self._told_taken.add(address)
                if not told:
                    text = "another program has taken {address} from {name}: it is put back, now and every time"
                    log.warn(text, address=address, name=self.config.name)

    # --- from the reactor to the data path ---------------------------------------------------------------------------

    def _tun_readable(self) -> None:
        self._tables.catch_up()
        if self.datapath is not None:
            now = self._machine.now()
            self.datapath.tun_readable(now)
            self._worked(self.datapath)
            self._queues.sent(now)

    def _socket_readable(self, socket: Any) -> None:
        self._tables.catch_up()
        if self.datapath is not None:
            now = self._machine.now()
            self.datapath.socket_readable(socket, now)
            self._worked(self.datapath)
            self._queues.sent(now)  # the native data path has served the TUN, too, if it was ready

    def _next_deadline(self) -> float | None:
        return self.datapath.next_deadline() if self.datapath is not None else None

    def _deadline_reached(self, now: float) -> None:
        self._tables.catch_up()
        if self.datapath is not None:
            self.datapath.deadline_reached(now)
            self._worked(self.datapath)

    def _worked(self, datapath: DataPath) -> None:
        """Note that the data path has worked: its timer follows, its messages go to control."""
        self._flush.follow()
        events = datapath.take_events()
        if events:
            self._gathering.tell(events, self._happened)

    def _happened(self, event: Event) -> None:
        """Tell control of an event; what is gone meanwhile is passed over: its new table is still to come."""
        match event:
            case Message():
                name, index = cast("tuple[str, int]", event.path)
                connection = self.connections.get(name)
                if connection is not None and index < len(connection.paths):
                    connection.message_received(index, event)
            case Handshake():
                self._ask_peer.key_exchanges.received(event)
            case Moved():
                link = self._link(cast("tuple[str, int]", event.path)[0])
                if link is not None:
                    link.moved(event)
            case Copied():
                link = self._link(cast("tuple[str, int]", event.path)[0])
                if link is not None:
                    link.copied(event)
            case Report():
                self.adaptations.reported(event)
            case Confirmed():
                link = self._link(event.connection)
                if link is not None:
                    link.confirmed(event.session)

    def _link(self, name: Hashable) -> SealedLink | None:
        connection = self.connections.get(cast("str", name))
        return connection.link if connection is not None else None

    def _tun_lost(self) -> None:
        """Make the interface again, with a new data path. The peers follow it as they follow a restarted daemon."""
        log.error("the tunnel interface {name} was removed: it is made again", name=self.config.name)
        try:
            self._close_tun()
            self._open_tun()
            self._let_flow()
            for connection in self.connections.values():
                if connection.link is not None:
                    connection.link.lost()
        except Exception as error:
            if isinstance(error, HostError):
                log.critical("{name} cannot be made again: {error}", name=self.config.name, error=error)
            else:
                log.failure("{name} cannot be made again, because of a bug", name=self.config.name)
            self._lost(self.config.name)

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _watch_refused(self) -> None:
        """Try refused sockets, or a refused table, again in `RETRY_REFUSED`."""
        refused = self._tables.is_refused or any(connection.has_refused for connection in self.connections.values())
        if self._retry is None and refused:
            self._retry = self._machine.reactor.callLater(RETRY_REFUSED, self._retry_refused)

    def _retry_refused(self) -> None:
        self._retry = None
        for connection in list(self.connections.values()):
            if connection.has_refused:
                self._show_interfaces(connection)
        if self._tables.is_refused:
            self._tables.changed()
        self._watch_refused()

    # --- sealed connections ------------------------------------------------------------------------------------------

    def send_raw(self, socket: DataSocket, remote: tuple[Any, ...], datagram: bytes) -> bool:
        """Send a handshake datagram over a socket of this tunnel; return whether it is one, and the datagram went."""
        if self.datapath is None or not any(port.socket is socket for port in self._pool.ports()):
            return False
        return self.datapath.send_raw(socket, remote, datagram)

    def expect(self, answers: Mapping[int, bytes]) -> None:
        """Let the datagrams of these handshakes through."""
        if self.datapath is not None and (answers or self._has_identity):
            self.datapath.expect(answers)

    def set_identity(self, own_mac1_key: bytes | None, token_key: bytes) -> None:
        """Let the first handshake datagrams through that are for this key; those that are too many get tokens."""
        if self.datapath is not None and (own_mac1_key is not None or self._has_identity):
            self.datapath.set_identity(own_mac1_key, token_key)
        self._has_identity = own_mac1_key is not None

    # --- measures ----------------------------------------------------------------------------------------------------

    def line_octets(self, path: Hashable) -> int:
        """Return the octets of all datagrams of an adaptive path, both ways, since the interface was made."""
        flight = self.datapath.flight(path) if self.datapath is not None else FlightMeasures()
        return flight.sent + flight.received

    def _measured(self, path: Hashable) -> PathMeasures:
        return self.datapath.measured(path) if self.datapath is not None else PathMeasures()

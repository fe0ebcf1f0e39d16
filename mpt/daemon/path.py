"""One path of a connection: its socket, its keepalives, its status."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mpt.control import routing
from mpt.control.causes import Situation, cause
from mpt.control.lossmeter import LossMeter
from mpt.control.pathmonitor import SENDS_KEEPALIVES, Event, PathMonitor
from mpt.daemon.looks import LookPlace, View
from mpt.daemon.machine import Machine
from mpt.daemon.pathport import LocalEndpoint, PathPort, PathProtocol, PathTransport, SocketPool
from mpt.data.pathtable import DataSocket, PathRow
from mpt.errors import HostError
from mpt.local.status import WAITING, WORDS
from mpt.model import Address, ConnectionConfig, Interface, PathConfig, Status
from mpt.wire.command import keepalive

log = Logger()

SAME_MOMENT = 0.001  # s
HEED = 5.0  # s that the peer has to stop sending over a path that we have left
LOG_AGAIN = 3600.0  # s after which the log repeats the cause of a failure

REASONS = {
    Status.OK: "it works",
    Status.DOWN: "no keepalive from the peer",
    Status.INTERFACE_DOWN: "the interface is down or gone",
    Status.ADDRESS_DOWN: "the local address is not there",
    Status.MANUAL_DOWN: "taken down by hand",
}
UNKNOWN_PEER = "the peer is not known yet: its remote_ipaddr or remote_port is open"
NOT_HEARD = "the peer was not heard yet"
BEGINNINGS = {Event.INTERFACE_FOUND, Event.ADDRESS_FOUND, Event.OPERATOR_UP}


class Path:
    """Path `index` of `connection`.

    `send(key, message)` sends its messages. `table_changed()` is called as soon as its socket has changed, `changed()`
    after a change of status or socket, `began()` when it begins to send keepalives.
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
        began: Callable[[], None],
    ) -> None:
        self.config: PathConfig = connection.paths[index]
        self.key = (connection.name, index)
        self.port: PathPort | None = None
        self.refusal = ""  # why the socket could not be opened
        self._machine = machine
        self._pool = pool
        self._connection = connection
        self.protocol = PathProtocol(self.heard)
        self.protocol.makeConnection(PathTransport(partial(send, self.key)))  # type: ignore[arg-type]  # write() alone
        self._table_changed = table_changed
        self._changed = changed
        self._began = began
        self._sent_at = 0.0
        self.heard_at: float | None = None
        self.since = machine.now()  # when the state began that people see, as its connection has noted it
        self.state = ""
        self.round_trip: float | None = None  # s; None: nobody knows
        self.meter = LossMeter()
        self._why_back = ""
        self._left_at = 0.0
        self._is_mute = False
        self.mtu = 0  # octets of the largest packet that it carries; 0: nobody knows
        self.cause: str | None = None  # the fault that a look has found
        self._cause_logged: tuple[str, float] | None = None
        self.remote = _socket_address(self.config, connection.remote_port, 0)
        self._row: PathRow | None = None  # made last, of the facts
        self._row_facts: tuple[Any, ...] = ()
        self._keepalive = keepalive(connection.ip_ver, connection.ip_local, connection.ip_remote)
        self._loop = LoopingCall(self._send_keepalive)
        self._loop.clock = machine.reactor
        self.monitor = self._new_monitor()

    def __str__(self) -> str:
        return f"path_{self.key[1]} of {self.key[0]} ({self.config.interface_name} to {self.config.remote_ipaddr})"

    @property
    def status(self) -> Status:
        """Return the status by the monitor's facts."""
        return self.monitor.status

    @property
    def local_port(self) -> int:
        """Return the UDP port of our end."""
        return self._connection.local_port

    @property
    def reason(self) -> str:
        """Return the reason of the status, in the operator's words."""
        if self.status is Status.OK and self._why_back:
            return self._why_back
        if self.monitor.is_lossy:
            loss = self.meter.loss()
            share = "too many" if loss is None else f"{loss:.0%}"
            return f"{share} of the peer's keepalives are lost on the way (max_loss = {self._connection.max_loss})"
        if self._connection.is_down:
            return "the connection is down, as its file says"
        if self.status is Status.ADDRESS_DOWN and self.refusal:
            return self.refusal
        if self.status is Status.DOWN and self.is_peer_unknown:
            return UNKNOWN_PEER
        return REASONS[self.status]

    def state_here(self, last_received: float) -> tuple[str, str]:
        """Return the word for the state as this end alone sees it (`mpt.local.status`), and its reason for people.

        `last_received` is when the last data came over it, 0.0 for never.
        """
        if self.status is Status.OK and self.monitor.is_waiting(last_received):
            return WAITING, UNKNOWN_PEER if self.is_peer_unknown else NOT_HEARD
        return WORDS[self.status], self.reason

    def loss(self) -> float | None:
        """Return the share of what was sent over it that is lost, 0 .. 1; None: nobody knows."""
        return self.meter.loss()

    @property
    def is_peer_unknown(self) -> bool:
        """Return whether the peer's address or port is not known yet: nothing can be sent, and nobody is expected."""
        return not self._connection.is_sealed and (
            self.config.remote_ipaddr.is_unspecified or self._connection.remote_port == 0
        )

    def row(self, peer_down: bool) -> PathRow:
        """Return this path's row of the data path's table, the very same as long as nothing in it changes;
        `peer_down`: the peer says that the path is down."""
        facts = (*self._ends(), self.share(peer_down) > 0, self.mtu, self.config)
        if self._row is None or facts != self._row_facts:
            self._row_facts, self._row = facts, self._new_row(*facts[:-1])
        return self._row

    def _ends(self) -> tuple[DataSocket | None, tuple[Any, ...]]:
        """Return the socket, None while there is none, and where it sends to."""
        return self.port.socket if self.port is not None else None, self.remote

    def _new_row(self, own: DataSocket | None, remote: tuple[Any, ...], usable: bool, mtu: int) -> PathRow:
        config = self.config
        family = socket.AF_INET if config.ip_ver == 4 else socket.AF_INET6
        return PathRow(
            key=self.key,
            socket=own,
            remote=remote,
            peer=socket.inet_ntop(family, config.remote_ipaddr.packed),
            peer_address=config.remote_ipaddr,
            weight=config.weight_out,
            usable=usable,
            ports=config.ports,
            mtu=mtu,
        )

    def share(self, peer_down: bool) -> int:
        """Return the weight of this path now; 0: not used."""
        usable = self.status is Status.OK and not peer_down and self._connection.remote_port > 0
        return self.config.weight_out if usable else 0

    def open(self, interfaces: Mapping[str, Interface], strict: bool = True) -> None:
        """Begin, also to count the dead time. If `strict`, raises HostError when the socket is refused."""
        self.monitor = self._new_monitor()
        self._begin_looking()
        self.interfaces_changed(interfaces, strict)
        if self.is_silent:
            self._look()

    def interfaces_changed(self, interfaces: Mapping[str, Interface], strict: bool = False) -> None:
        """Look for the interface and the local address; open, close or renew the socket as they come and go.

        A refused socket counts as a missing address, and `refusal` says why; `strict` raises HostError instead.
        """
        interface = interfaces.get(self.config.interface_name)
        working = interface is not None and interface.up and interface.carrier
        address = routing.local_address(self.config, interfaces)
        before, refused = self.port, self.refusal
        self.refusal = ""
        if interface is None or address is None:
            self._close_socket()
        else:
            bound = interface.name if self.config.bind_to_device else None
            index = interface.index if bound is not None or address.is_link_local else 0
            endpoint = LocalEndpoint(address, self.local_port, bound, index)
            try:
                self._open_socket(endpoint, interface.index)
            except HostError as error:
                if strict:
                    raise
                self.refusal = str(error)
                if self.refusal != refused:
                    log.error("{path}: {error}; it is tried again", path=self, error=error)
        self._event(Event.ADDRESS_FOUND if self.port is not None or interface is None else Event.ADDRESS_LOST)
        self._event(Event.INTERFACE_FOUND if working else Event.INTERFACE_LOST)
        if self.port is not before:
            self._changed()

    def heard(self) -> None:
        """Note a keepalive. If it revives the path, answer at once: both ends are up within a round trip."""
        now = self.heard_at = self._machine.now()
        if self.monitor.is_waiting(0.0):
            log.info("{path}: the peer is heard", path=self)
            self._look()  # the peer is heard, but may not hear us
        self.meter.heard(now)
        if self._event(Event.KEEPALIVE_HEARD) and self.status is Status.OK and self._loop.running:
            self._send_keepalive()

    def check(self, now: float, last_received: float) -> None:
        """Look whether the dead time is over."""
        if self.monitor.check(now, last_received):
            self._status_changed()

    def switch(self, up: bool) -> None:
        """Take this path up or down for the operator. A path down by hand stays so until the operator takes it up."""
        self._event(Event.OPERATOR_UP if up else Event.OPERATOR_DOWN)

    def leave(self) -> None:
        """Leave this path, which loses too much while another is better."""
        self._left_at = self._machine.now()
        self._is_mute = False
        self._event(Event.LOSS_FOUND)

    def mute_if_peer_sends(self, last_received: float) -> None:
        """Send no more keepalives over a path that we have left if the peer still sends data over it.

        Such a peer was not told, or is the C program, which takes a path up again with our next keepalive. Without our
        keepalives it leaves the path. Its keepalives go on, and tell when the loss is gone.
        """
        if self.monitor.is_lossy and not self._is_mute and last_received > self._left_at + HEED:
            self._is_mute = True
            log.info("{path}: the peer still sends over it; it gets no keepalives until the loss is gone", path=self)

    def take_back(self, why: str) -> None:
        """Use this path again after its loss; `why` is for the log."""
        self._why_back = why
        self._event(Event.LOSS_GONE)
        self._why_back = ""

    def believe_peer(self) -> None:
        """Note that the peer says that this path is up. Only a path without keepalives comes up by that."""
        if self.status is Status.DOWN and not self.monitor.is_monitored:
            self._event(Event.OPERATOR_UP)

    def stop(self) -> None:
        """Stop the keepalives and close the socket."""
        if self._loop.running:
            self._loop.stop()
        self._pool.looks.remove(self)
        self._close_socket()

    # --- as looks at the line know it --------------------------------------------------------------------------------

    @property
    def place(self) -> LookPlace:
        """Return where its datagrams arrive: interface, port and IP version."""
        return LookPlace(self.config.interface_name, self._connection.local_port, self.config.ip_ver)

    @property
    def keepalive_time(self) -> float:
        """Return the seconds between keepalives."""
        return self.config.keepalive_time

    @property
    def peer(self) -> Address:
        """Return the configured address of the peer."""
        return self.config.remote_ipaddr

    @property
    def tunnels(self) -> tuple[Address, Address]:
        """Return the pair of tunnel addresses, ours first."""
        return self._connection.ip_local, self._connection.ip_remote

    @property
    def is_silent(self) -> bool:
        """Return whether only the peer's keepalives are missing."""
        return self.status is Status.DOWN and not self.monitor.is_lossy

    @property
    def has_cause(self) -> bool:
        """Return whether the last look has shown something wrong."""
        return self.cause is not None

    def looked(self, view: View) -> None:
        """Note the result of a look; log the fault when it is new, and then once an hour."""
        if self.port is None or not (self.is_silent or self.status is Status.OK):
            return
        tunnel, peer_tunnel = self.tunnels
        situation = Situation(
            interface=self.config.interface_name,
            local=self.port.endpoint.address,
            local_port=self._connection.local_port,
            peer=self.peer,
            peer_port=self._connection.remote_port,
            tunnel=tunnel,
            peer_tunnel=peer_tunnel,
            peers=view.peers,
            tunnels=view.tunnels,
            is_heard=not self.is_silent,
            is_filtered=view.is_filtered,
        )
        self.cause = cause(situation, view.seen)
        now = self._machine.now()
        logged = self._cause_logged
        if self.cause is not None and (logged is None or logged[0] != self.cause or now >= logged[1] + LOG_AGAIN):
            self._cause_logged = (self.cause, now)
            log.warn("{path}: {cause}", path=self, cause=self.cause)

    def _begin_looking(self) -> None:
        self._pool.looks.add(self)

    def _look(self) -> None:
        """Look at the line for the cause of a silence."""
        self._pool.looks.ask(self)

    def _new_monitor(self) -> PathMonitor:
        config = self.config
        initial = Status.MANUAL_DOWN if self._connection.is_down else config.status
        return PathMonitor(initial, config.keepalive_time, config.dead_time, self._machine.now())

    def _event(self, event: Event) -> bool:
        changed = self.monitor.event(event, self._machine.now())
        if changed and event in BEGINNINGS:
            self.meter.restart()
        if changed:
            self._status_changed()
        self._keep_alive()
        return changed

    def _status_changed(self) -> None:
        self.cause = None
        if self.is_silent:
            self._look()
        report = log.info if self.status is Status.OK else log.warn
        state, why = self.state_here(0.0)  # data that came before this moment proves nothing
        report("{path} is {state}: {why}", path=self, state=state, why=why)
        self._changed()

    def _keep_alive(self) -> None:
        """Send keepalives while there is a socket and the status is OK or DOWN."""
        wanted = self.config.keepalive_time > 0 and self.port is not None and self.status in SENDS_KEEPALIVES
        if wanted and not self._loop.running:
            self._loop.start(self.config.keepalive_time)
            self._began()
        elif self._loop.running and not wanted:
            self._loop.stop()

    def keep_step(self) -> None:
        """Send keepalives in the same moment as another path of the connection that has just begun to.

        By the times of their arrival the peer sees how much the delays of the paths differ.
        """
        if self._loop.running and self._machine.now() - self._sent_at > SAME_MOMENT:
            self._loop.stop()
            self._loop.start(self.config.keepalive_time)

    def _send_keepalive(self) -> None:
        self._sent_at = self._machine.now()
        if self._is_mute and self.monitor.is_lossy:
            return
        if self.port is not None and self._connection.remote_port:
            self.protocol.send(self._keepalive)

    def _open_socket(self, endpoint: LocalEndpoint, interface_index: int) -> None:
        if self.port is not None and self.port.endpoint == endpoint:
            return
        self._close_socket()
        self.remote = _socket_address(self.config, self._connection.remote_port, interface_index)
        self.port = self._pool.acquire(endpoint, self.key, fragments=not self._connection.is_sealed)
        self._table_changed()

    def _close_socket(self) -> None:
        if self.port is not None:
            port, self.port = self.port, None
            self._pool.release(port, self.key)
            self._table_changed()


def _socket_address(path: PathConfig, port: int, interface_index: int) -> tuple[Any, ...]:
    """Return the peer's address for ``sendto``; a link-local address needs the number of the interface."""
    address = str(path.remote_ipaddr).partition("%")[0]
    if path.ip_ver == 4:
        return address, port
    return address, port, 0, interface_index if path.remote_ipaddr.is_link_local else 0

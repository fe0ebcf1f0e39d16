"""The whole daemon as one service: the tunnels, the watch over links and addresses, and what takes commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from twisted.application.service import MultiService
from twisted.logger import Logger

from mpt.accel import DataPlane
from mpt.daemon.connection import Connection, PeerControl
from mpt.daemon.localsocket import LocalSocket
from mpt.daemon.machine import Machine
from mpt.daemon.netwatch import NetWatch
from mpt.daemon.operations import DaemonOperations
from mpt.daemon.peercontrol import CommandService
from mpt.daemon.peerrequests import PeerRequests
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.tunnel import Tunnel
from mpt.errors import HostError, MptError
from mpt.model import Config, ConnectionConfig, Interface

log = Logger()


class Root(MultiService):
    """A daemon that runs `config`.

    `started` is called with this service once packets flow. `refuse` ends a start that failed: it is given the reason
    and does not return. `lost` is called with the name of a tunnel interface that somebody removed.
    """

    def __init__(
        self,
        machine: Machine,
        config: Config,
        plane: DataPlane,
        started: Callable[[Root], None],
        refuse: Callable[[MptError], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.config = config
        self.machine = machine
        self._started = started
        self._refuse = refuse
        self.operations = DaemonOperations(self)
        self.watch = NetWatch(machine, self.interfaces_changed)
        self.public_addresses = PublicAddresses(machine, config)
        self.control = LocalSocket(machine, config.general.control_socket, self.operations)
        self.commands = CommandService(
            machine, config.general.cmdport_local, PeerRequests(self), self.control.answer_for_user
        )
        control = PeerControl(
            self.commands.begin, lambda: self.config.general.allow_default_key, self.public_addresses.found.get
        )
        routes = RouteKeeper(machine.netlink)
        self.tunnels: list[Tunnel] = []
        for tunnel in config.tunnels:
            connections = tuple(each for each in config.connections if config.tunnel_of(each) == tunnel)
            self.tunnels.append(
                Tunnel(machine, tunnel, connections, routes, control, plane, lost, lambda: self.config.general.log_ecn)
            )
        for service in (self.watch, self.commands, *self.tunnels, self.public_addresses, self.control):
            service.setServiceParent(self)

    def startService(self) -> None:
        """Start everything, or nothing: what was begun is taken down again before `refuse` is called."""
        try:
            super().startService()
        except MptError as error:
            self.stopService()
            self._refuse(error)
            return
        self.operations.started()
        self._started(self)

    def connections(self) -> list[Connection]:
        """All connections, those of all tunnels."""
        return [connection for tunnel in self.tunnels for connection in tunnel.connections.values()]

    def add_connection(self, config: ConnectionConfig) -> Connection:
        """Start a connection on the tunnel that has its ip_local. Raises HostError, and then nothing has changed."""
        for running in self.connections():
            if running.config.name == config.name or running.config.ends == config.ends:
                raise HostError(
                    f"the connection {running.config.name} runs already and has the name or the tunnel addresses of "
                    f"{config.name}: delete one of them, or give it others"
                )
        self.config = replace(self.config, connections=(*self.config.connections, config))
        wanted = self.config.tunnel_of(config)
        tunnel = next(each for each in self.tunnels if each.config == wanted)
        try:
            return tunnel.add(config)
        except MptError:
            self._forget(config)
            raise

    def remove_connection(self, connection: Connection) -> None:
        """Stop a connection and forget it."""
        for tunnel in self.tunnels:
            if tunnel.connections.get(connection.config.name) is connection:
                tunnel.remove(connection.config.name)
        self._forget(connection.config)
        self.commands.handshakes.forget(connection.config.ip_local, connection.config.ip_remote)

    def information(self) -> str:
        """The guide's "Tunnel information" blocks (guide 3), one a tunnel."""
        return "\n".join(
            "Tunnel information:\n"
            f"Tunnel interface : {tunnel.config.name}\n"
            f"Tunnel device    : {tunnel.tun.device if tunnel.tun else '-'}\n"
            f"Tunnel file desc.: {tunnel.tun.fd if tunnel.tun else '-'}\n"
            f"Tunnel ipv4 addr.: {tunnel.config.ipv4_addr or '-'}\n"
            f"Tunnel ipv6 addr.: {tunnel.config.ipv6_addr or '-'}\n"
            f"CMD server port number : {self.config.general.cmdport_local}\n"
            f"CMD client port number : {self.config.general.cmdport_local}\n"
            f"Global server      : {int(self.config.general.accept_remote)}\n"
            for tunnel in self.tunnels
        )

    def interfaces_changed(self, interfaces: Mapping[str, Interface]) -> None:
        """Links or addresses are now like this."""
        for tunnel in self.tunnels:
            tunnel.interfaces_changed(interfaces)

    def _forget(self, config: ConnectionConfig) -> None:
        self.config = replace(
            self.config, connections=tuple(each for each in self.config.connections if each is not config)
        )

"""The whole daemon as one service: what it is made of, and how its parts know each other."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import MultiService

from mpt.accel.choice import DataPlane
from mpt.daemon.connection import PeerControl
from mpt.daemon.localsocket import LocalSocket
from mpt.daemon.machine import Machine
from mpt.daemon.netwatch import NetWatch
from mpt.daemon.operations import DaemonOperations
from mpt.daemon.peercontrol import CommandService
from mpt.daemon.peerrequests import PeerRequests
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.running import Running
from mpt.daemon.settings import Settings
from mpt.daemon.tunnel import Tunnel
from mpt.model import Config


class Root(MultiService):
    """A daemon that runs `config`.

    `started` is called once packets flow, `refuse` with the exception after a start that failed, `lost` with the name
    of a tunnel interface that somebody removed and that cannot be made again.
    """

    def __init__(
        self,
        machine: Machine,
        config: Config,
        plane: DataPlane,
        started: Callable[[], None],
        refuse: Callable[[Exception], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._started = started
        self._refuse = refuse
        settings = Settings(config.general)
        self.runs = Running(config.directory, settings)
        self.public_addresses = PublicAddresses(machine, config)
        self.commands = CommandService(
            machine, config.general.cmdport_local, PeerRequests(self.runs, self.public_addresses)
        )
        self.operations = DaemonOperations(machine, self.runs, self.commands)
        self.local_socket = LocalSocket(machine, config.general.control_socket, self.operations)
        self.commands.answer_local = self.local_socket.answer_for_user
        routes = RouteKeeper(machine.netlink)
        self.watch = NetWatch(machine, routes, self.runs.interfaces_changed)
        control = PeerControl(
            self.commands.begin, self.commands.handshakes.forget, settings, self.public_addresses.found.get
        )
        for tunnel in config.tunnels:
            connections = tuple(each for each in config.connections if config.tunnel_of(each) == tunnel)
            self.runs.tunnels.append(Tunnel(machine, tunnel, connections, routes, control, plane, lost))
        services = (routes, self.watch, self.commands, *self.runs.tunnels, self.public_addresses, self.local_socket)
        for service in services:
            service.setServiceParent(self)

    def startService(self) -> None:
        """Start everything, or nothing: what was begun is taken down again before `refuse` is called."""
        try:
            super().startService()
        except Exception as error:
            self.stopService()
            self._refuse(error)
            return
        self.operations.started()
        self._started()

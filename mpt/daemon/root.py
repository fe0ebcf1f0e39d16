"""The whole daemon as one service: the tunnels, and the watch over links and addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.application.service import MultiService
from twisted.logger import Logger

from mpt.daemon.machine import Machine
from mpt.daemon.netwatch import NetWatch
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.tunnel import MakeDataPath, Tunnel
from mpt.errors import MptError
from mpt.host.netlink import Interface
from mpt.model import Config

log = Logger()


class Root(MultiService):
    """A daemon that runs `config`.

    `started` is called with this service once packets flow. `refuse` ends a start that failed: it is given the reason and
    does not return. `lost` is called with the name of a tunnel interface that somebody removed.
    """

    def __init__(
        self,
        machine: Machine,
        config: Config,
        make_datapath: MakeDataPath,
        started: Callable[[Root], None],
        refuse: Callable[[MptError], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.config = config
        self._machine = machine
        self._started = started
        self._refuse = refuse
        self.watch = NetWatch(machine, self._interfaces_changed)
        self.watch.setServiceParent(self)
        self.tunnels: list[Tunnel] = []
        routes = RouteKeeper(machine.netlink)
        for tunnel in config.tunnels:
            connections = tuple(each for each in config.connections if config.tunnel_of(each) == tunnel)
            self.tunnels.append(Tunnel(machine, tunnel, connections, routes, make_datapath, lost))
            self.tunnels[-1].setServiceParent(self)
        self.public_addresses = PublicAddresses(machine, config)
        self.public_addresses.setServiceParent(self)

    def startService(self) -> None:
        """Start everything, or nothing: what was begun is taken down again before `refuse` is called."""
        try:
            super().startService()
        except MptError as error:
            self.stopService()
            self._refuse(error)
            return
        self._started(self)

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

    def _interfaces_changed(self, interfaces: Mapping[str, Interface]) -> None:
        for tunnel in self.tunnels:
            tunnel.interfaces_changed(interfaces)

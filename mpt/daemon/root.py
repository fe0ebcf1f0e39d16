"""The whole daemon as one service: makes its parts and joins them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.application.service import MultiService

from mpt.accel.choice import DataPathChoice
from mpt.config.steps import Steps
from mpt.daemon.connection import AskPeer
from mpt.daemon.histories import Histories
from mpt.daemon.keyexchanges import HostKeyExchanges
from mpt.daemon.localcommands import LocalCommands
from mpt.daemon.localsocket import LocalSocket
from mpt.daemon.machine import Machine
from mpt.daemon.netwatch import NetWatch
from mpt.daemon.operations import DaemonOperations
from mpt.daemon.peerport import PeerControl
from mpt.daemon.peerrequests import PeerRequests
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.quotas import Quotas
from mpt.daemon.recentevents import RecentEvents
from mpt.daemon.routes import RouteKeeper
from mpt.daemon.running import Running
from mpt.daemon.settings import Settings
from mpt.daemon.sleepwatch import SleepWatch
from mpt.daemon.slices import collector_at_rest, in_slices
from mpt.daemon.tunnel import Tunnel
from mpt.daemon.udpcommands import UdpCommands
from mpt.model import Config


class Root(MultiService):
    """A daemon that runs `config`.

    `started()` is called once packets flow, `refuse(exception)` after a failed start, `lost(name)` when a removed
    tunnel interface cannot be made again.
    """

    def __init__(
        self,
        machine: Machine,
        config: Config,
        datapath_choice: DataPathChoice,
        started: Callable[[], None],
        refuse: Callable[[Exception], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._started = started
        self._refuse = refuse
        settings = Settings(config.general, config.identity)
        self._machine = machine
        settings.protect(machine.system)
        self.runs = Running(config.directory, settings)
        self.public_addresses = PublicAddresses(machine, settings)
        self.peer_control = PeerControl(machine, config.general.cmdport_local, PeerRequests(machine, self.runs))
        self.key_exchanges = HostKeyExchanges(machine, settings, config.key_log_path)
        self.recent_events = RecentEvents()
        self.histories = Histories(machine, self.runs)
        self.operations = DaemonOperations(
            machine,
            self.runs,
            self.peer_control,
            lambda: self.key_exchanges.counters,
            self.histories,
            self.recent_events,
        )
        local_commands = LocalCommands(machine, self.operations)
        self.local_socket = LocalSocket(machine, config.general.control_socket, local_commands)
        self.peer_control.local_commands = UdpCommands(machine, settings, local_commands)
        routes = RouteKeeper(machine.netlink)
        self.watch = NetWatch(machine, routes, self.runs.interfaces_changed)
        ask_peer = AskPeer(
            self.peer_control.begin,
            self.peer_control.handshakes.forget,
            settings,
            self.public_addresses,
            self.key_exchanges,
        )
        for tunnel in config.tunnels:
            connections = tuple(each for each in config.connections if config.tunnel_of(each) == tunnel)
            self.runs.tunnels.append(Tunnel(machine, tunnel, connections, routes, ask_peer, datapath_choice, lost))
        self.quotas = Quotas(machine, self.runs)
        self.sleep_watch = SleepWatch(machine, self.runs.slept)
        place = config.general.status_listen
        if place is not None:
            from mpt.daemon.statusport import StatusPort  # twisted.web is for those who want it

            operations = self.operations
            port = StatusPort(
                machine.reactor, place, operations.status, operations.history, operations.events, self._metrics
            )
            port.setServiceParent(self)
        for service in (
            self.recent_events,
            routes,
            self.watch,
            self.peer_control,
            self.public_addresses,
            self.key_exchanges,
            *self.runs.tunnels,
            self.quotas,
            self.local_socket,
            self.sleep_watch,
            self.histories,
        ):
            service.setServiceParent(self)

    async def _metrics(self) -> bytes:
        """Return the state as metrics, in slices: of a thousand connections it takes a tenth of a second."""
        from mpt.local.metrics import exposition_pieces  # prometheus_client is for those who have it

        with collector_at_rest():
            document = await in_slices(self._machine, self.operations.status_steps())
            return await in_slices(self._machine, _joined(exposition_pieces(document)))

    def startService(self) -> None:
        """Start everything, or take it down again and call `refuse`."""
        try:
            super().startService()
        except Exception as error:
            self.stopService()
            self._refuse(error)
            return
        self.operations.started()
        self._started()


def _joined(pieces: Iterable[bytes]) -> Steps[bytes]:
    found = []
    for piece in pieces:
        found.append(piece)
        yield
    return b"".join(found)

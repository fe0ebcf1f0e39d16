"""A whole daemon on fakes: memory for the machine, a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred

from mpt.accel.choice import DataPathChoice, choose_datapath
from mpt.daemon.machine import Machine
from mpt.daemon.root import Root
from mpt.data.datapath import DataPath
from mpt.host.credentials import UdpSender
from mpt.local.commands import answer
from mpt.local.operations import Operations
from mpt.local.protocol import Reply
from mpt.model import Address, Config, ConnectionConfig, GeneralConfig, PathConfig, TunnelConfig
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSocket, FakeSystem
from mpt.testing.taps import FakeTaps
from mpt.testing.tun import FakeTun
from mpt.wire.command import encode_keepalive

TUNNEL = TunnelConfig("tun0", 1440, IPv4Interface("10.0.0.2/24"), IPv6Interface("fec0::2/64"))
GENERAL = GeneralConfig(control_socket="/nowhere/mpt.sock")
LOCAL, REMOTE = ip_address("10.0.0.2"), ip_address("10.0.0.3")
KEEPALIVE_OUT = encode_keepalive(4, LOCAL, REMOTE)
KEEPALIVE_IN = encode_keepalive(4, REMOTE, LOCAL)
PACKET = bytes.fromhex("4500001c0000000040010000") + LOCAL.packed + REMOTE.packed + bytes(8)  # to the peer
REPLY = PACKET[:12] + REMOTE.packed + LOCAL.packed + bytes(8)


def path(number: int, **changes: Any) -> PathConfig:
    """Path `number` (1, 2, ...) of the guide's figure 3."""
    config = PathConfig(
        interface_name=f"eth{number}",
        ip_ver=4,
        public_ipaddr=ip_address(f"10.{number}.{number}.2"),
        gateway_ipaddr=ip_address(f"10.{number}.{number}.2"),
        remote_ipaddr=ip_address(f"10.{number}.{number}.3"),
        keepalive_time=1.0,
        dead_time=3.0,
    )
    return replace(config, **changes)


def connection(*paths: PathConfig, **changes: Any) -> ConnectionConfig:
    """Return the guide's connection with `paths` (default: two)."""
    config = ConnectionConfig(
        name="c",
        ip_ver=4,
        ip_local=LOCAL,
        local_port=23456,
        ip_remote=REMOTE,
        remote_port=23456,
        remote_cmd_port=60456,
        paths=paths or (path(1), path(2)),
    )
    return replace(config, **changes)


Run = Callable[..., "Stage"]


class Asked:
    """A command that was given: `progress` so far, and the `reply` as soon as there is one."""

    def __init__(self, operations: Operations, command: str) -> None:
        self.progress: list[str] = []
        self.reply: Reply | None = None
        ensureDeferred(answer(command.split(), operations, True, self.progress.append)).addCallback(self._ended)

    def _ended(self, reply: Reply) -> None:
        self.reply = reply

    @property
    def text(self) -> str:
        """Return the text of the reply, "" before it; it begins with the code if that is not 0."""
        if self.reply is None:
            return ""
        return self.reply.text if self.reply.ok else f"{self.reply.code}: {self.reply.text}"


class Stage:
    """Host A of the guide (or host B, with `host` 3), running `connections`, with interfaces eth1 ... for `lines`.

    `config` stands for all of them at once, `plane` for the Python data path. `uids` are the owners of the local UDP
    ports, which are connected to the command port unless they are `unconnected`; `look_ups` counts who asked. `state`
    is the directory for what outlives the daemon.
    """

    def __init__(
        self,
        *connections: ConnectionConfig,
        tunnels: tuple[TunnelConfig, ...] = (TUNNEL,),
        general: GeneralConfig = GENERAL,
        config: Config | None = None,
        host: int = 2,
        reactor: FakeReactor | None = None,
        plane: DataPathChoice | None = None,
        netlink: FakeNetlink | None = None,
        lines: int = 2,
        state: Path | None = None,
    ) -> None:
        self.netlink = netlink or FakeNetlink()
        for number in range(1, lines + 1):
            self.netlink.add_interface(f"eth{number}", f"10.{number}.{number}.{host}/24", f"fd0{number}::{host}/64")
        self.system = FakeSystem(self.netlink)
        self.reactor = reactor or FakeReactor()
        self.refused: list[Exception] = []
        self.lost: list[str] = []
        self.ready = 0
        self.uids: dict[int, int] = {}
        self.taps = FakeTaps()
        self.filtered: set[str] = set()  # interfaces with rp_filter = 1
        self.unconnected: set[int] = set()
        self.look_ups = 0
        self.name_servers: tuple[Address, ...] = ()
        self.wall_began = 1_795_000_000.0  # the clock of people when the machine began: 18 November 2026
        self.slept = 0.0  # seconds that the machine has slept in all
        self.machine = Machine(
            self.reactor,
            self.reactor.seconds,
            self.system,
            self.netlink,
            udp_sender=self._udp_sender,
            open_tap=self.taps.open,
            is_filtered=lambda interface: interface in self.filtered,
            name_servers=lambda: self.name_servers,
            sleep_clocks=lambda: (self.reactor.seconds(), self.reactor.seconds() + self.slept),
            wall=lambda: self.wall_began + self.reactor.seconds(),
            state_directory=state,
        )
        config = config or Config(Path("conf"), general, tunnels, connections or (connection(),))
        plane = plane or choose_datapath("python")
        self.root = Root(self.machine, config, plane, self._started, self.refused.append, self.lost.append)

    def _udp_sender(self, address: Address, port: int, receiver_port: int) -> UdpSender | None:
        self.look_ups += 1
        return UdpSender(self.uids[port], port not in self.unconnected) if port in self.uids else None

    def _started(self) -> None:
        self.ready += 1

    def start(self) -> Stage:
        self.routes_before = list(self.netlink.routes)
        self.root.startService()
        self.network_changed()
        return self

    def stop(self) -> None:
        self.root.stopService()
        self.reactor.advance(0)

    @property
    def datapath(self) -> DataPath:
        """Return the data path of the first tunnel."""
        found = self.root.runs.tunnels[0].datapath
        assert found is not None, "the daemon does not run"
        return found

    @property
    def tun(self) -> FakeTun:
        return self.system.tuns["tun0"]

    @property
    def data_sockets(self) -> list[FakeSocket]:
        """Return all sockets but the command port."""
        return [each for each in self.system.sockets if each is not self.command_socket]

    @property
    def command_socket(self) -> FakeSocket:
        """Return the command port, which is the only socket without an address of its own."""
        return next(each for each in self.system.sockets if each.bound[0] == "::")

    def socket(self, interface: str) -> FakeSocket:
        """Return the data socket that is bound to `interface`."""
        return next(each for each in self.system.sockets if each.interface == interface)

    def sent(self, interface: str) -> list[bytes]:
        """Return the datagrams that have left over `interface` since the last call."""
        return [datagram for datagram, _, _ in self.socket(interface).take_sent()]

    def clear(self) -> None:
        """Forget what has left so far."""
        for each in self.system.sockets:
            each.take_sent()

    def ask(self, command: str) -> Asked:
        """Give a command as root does; it may still be under way then."""
        return Asked(self.root.operations, command)

    def receive(self, number: int, datagram: bytes, source: str | None = None) -> None:
        """Let `datagram` come from the peer over path `number`, or from another `source` at its interface."""
        self.socket(f"eth{number}").deliver(datagram, (source or f"10.{number}.{number}.3", 23456))
        self.reactor.read_all()
        self.reactor.advance(0)

    def statuses(self, name: str = "c") -> list[str]:
        """Return the status of every path of a connection."""
        return [each.status.name for each in self.root.runs.tunnels[0].connections[name].paths]

    def network_changed(self) -> None:
        """Let the daemon notice what the test did to the interfaces."""
        self.reactor.read_all()
        self.reactor.pass_time(0.03)

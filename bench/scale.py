"""A server of many connections on one port: the time until it is ready, the cost of idleness, the time of commands.

    a  tun0 10.0.0.1/8, a connection to each client      b  one program that speaks for all clients
       10.1.1.2 eth1 ──────────────────────────────── eth1 10.1.1.3, a router to 10.101.0.0/16
       10.2.2.2 eth2 ──────────────────────────────── eth2 10.2.2.3, a router to 10.102.0.0/16

The clients send and take keepalives, as idle ones do. They are one small program, so that the machine is the server's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from bench.asking import ask
from mpt.config.writer import file_text, interface_text
from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from mpt.lab.process import Process, python
from mpt.lab.tunnel import COMMAND_PORT, DATA_PORT, Daemon, write_directory
from mpt.model import ConnectionConfig, GeneralConfig, PathConfig, TunnelConfig

LINKS = (1, 2)
KEEPALIVE, DEAD = 1.0, 3.5  # s
SERVER = IPv4Address("10.0.0.1")
CLIENTS = IPv4Address("10.8.0.1")  # the first
MTU = 1440
SETTLE = 5.0  # s until every path is heard
REPEATS = 10  # of a command
MIN_SCALE, MAX_SCALE = 10, 10_000  # connections
NAMES = (
    "ready_s",
    "ready_cpu_s",
    "status_s",
    "status_cpu_s",
    "reload_one_s",
    "reload_one_cpu_s",
    "idle_cpu_percent",
    "kb_per_connection",
)


def outer(link: int, number: int) -> IPv4Address:
    """Return the address of client `number` on a link."""
    return IPv4Address(f"10.{100 + link}.0.1") + number


class Server:
    """A server of `connections` in `lab`, and its clients; once made, it is ready."""

    def __init__(self, lab: Lab, data_plane: str, connections: int, name: str = "scale") -> None:
        self.connections = connections
        self.host, b = lab.host(f"{name}-a"), lab.host(f"{name}-b")
        lab.cables(self.host, b, [PLAIN] * len(LINKS))
        b.ip(*(f"route add local 10.{100 + link}.0.0/16 dev lo" for link in LINKS))
        self.directory = lab.directory / name
        self.clients = _start_clients(b, connections) if connections else None
        write_directory(self.directory, *_files(self.directory, data_plane, connections))
        started = time.monotonic()
        self.daemon = Daemon(self.host, self.directory)
        self.daemon.wait_until_ready()
        self.ready = time.monotonic() - started
        self.ready_cpu = self.process.cpu_seconds()

    @property
    def process(self) -> Process:
        """Return the daemon as a program."""
        return self.daemon.process

    def ask(self, *words: str) -> str:
        """Give a command; return its text."""
        return ask(self.directory / "control", *words).text

    def idle_cpu(self, seconds: float) -> float:
        """Return the share of a core that keepalives alone take, once it has heard every path."""
        time.sleep(SETTLE)
        heard = self.ask("show", "status").count("s ago")
        if heard < self.connections * len(LINKS):
            raise HostError(f"only {heard} paths were heard")
        before = self.process.cpu_seconds()
        time.sleep(seconds)
        return (self.process.cpu_seconds() - before) / seconds

    def timed(self, idle: float, command: Callable[[], object]) -> tuple[float, float]:
        """Do `command` several times; return its shortest time and its CPU time, less the CPU time of idleness."""
        took = []
        cpu, started = self.process.cpu_seconds(), time.monotonic()
        for _ in range(REPEATS):
            begun = time.monotonic()
            command()
            took.append(time.monotonic() - begun)
            time.sleep(0.1)
        idle_cpu = idle * (time.monotonic() - started)
        return min(took), max(self.process.cpu_seconds() - cpu - idle_cpu, 0) / REPEATS

    def reload_one(self) -> None:
        """Change one file, and reload it."""
        file = self.directory / "connections" / "client7.conf"
        lines = file.read_text().splitlines()
        weights = [int(line.split("=")[1]) for line in lines if line.startswith("weight_out")]
        changed = [f"weight_out = {weights[0] % 9 + 1}" if line.startswith("weight_out") else line for line in lines]
        file.write_text("\n".join(changed) + "\n")
        said = self.ask("reload", file.name)
        if not said.startswith("changed: client7"):
            raise HostError(said)


def measure(data_plane: str, connections: int, seconds: float = 10.0) -> dict[str, float]:
    """Return the figures of a server of so many connections, idle for `seconds`, by name.

    The times of commands are given as seconds of the clock and of CPU; CPU times hold on a busy machine, too.
    """
    with Lab() as lab:
        without = Server(lab, data_plane, 0, "empty").process.memory().resident
        server = Server(lab, data_plane, connections)
        idle = server.idle_cpu(seconds)
        memory = server.process.memory().resident
        status, status_cpu = server.timed(idle, lambda: server.ask("show", "status"))
        reload, reload_cpu = server.timed(idle, server.reload_one)
        times = (server.ready, server.ready_cpu, status, status_cpu, reload, reload_cpu)
        return dict(zip(NAMES, (*times, 100 * idle, (memory - without) / connections / 1000), strict=True))


def _files(directory: Path, data_plane: str, connections: int) -> tuple[str, dict[str, str]]:
    general = GeneralConfig(
        cmdport_local=COMMAND_PORT, control_socket=str(directory / "control"), data_plane=data_plane
    )
    tunnel = TunnelConfig("tun0", MTU, IPv4Interface(f"{SERVER}/8"))
    configs = [_connection(number) for number in range(connections)]
    texts = {each.name: file_text(each, [path.status for path in each.paths], COMMAND_PORT) for each in configs}
    return interface_text(general, [tunnel]), texts


def _connection(number: int) -> ConnectionConfig:
    return ConnectionConfig(
        name=f"client{number}",
        ip_ver=4,
        ip_local=SERVER,
        local_port=DATA_PORT,
        ip_remote=CLIENTS + number,
        remote_port=DATA_PORT,
        remote_cmd_port=COMMAND_PORT,
        paths=tuple(_paths(number)),
        reorder_window=100,
    )


def _paths(number: int) -> Iterator[PathConfig]:
    for link in LINKS:
        yield PathConfig(
            interface_name=f"eth{link}",
            ip_ver=4,
            public_ipaddr=IPv4Address(f"10.{link}.{link}.2"),
            remote_ipaddr=outer(link, number),
            gateway_ipaddr=IPv4Address(f"10.{link}.{link}.3"),
            keepalive_time=KEEPALIVE,
            dead_time=DEAD,
        )


def _start_clients(host: Host, connections: int) -> Process:
    return host.start(python("bench.idleclients", str(connections)))

"""Many connections on one port and one tunnel: host a is the server, the clients live on host b.

    a  tun0 10.0.0.1, a connection to each client      b  tun0 10.0.1.1, tun1 10.0.1.2, …: a connection each
       10.1.1.2 eth1 ─────────────────────────────── eth1 10.1.1.101, 10.1.1.102, …
       10.2.2.2 eth2 ─────────────────────────────── eth2 10.2.2.101, 10.2.2.102, …

The traffic goes to the first few clients, which one daemon serves, so that the number of working processes does not
depend on the number of connections. The other clients are alive, and idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from bench.variants import AS_CONFIGURED, DEAD, MTU, Stage, Variant, name_of
from mpt.config.writer import file_text, interface_text
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from mpt.lab.tunnel import COMMAND_PORT, DATA_PORT, Daemon, wait_for_answer, write_directory
from mpt.model import ConnectionConfig, GeneralConfig, PathConfig, TunnelConfig

SPREAD = 8  # connections that carry traffic, at most
TUNNELS = 20  # of one daemon, at most: guide 2.6.2, tunnel_num

SERVER = IPv4Address("10.0.0.1")
CLIENTS = IPv4Address("10.0.1.1")  # the first
FIRST_HOST = 101  # the last octet of the first client's outer address


@dataclass(frozen=True)
class ManyConnections(Variant):
    """A server among others that differ from it in their number of connections."""

    connections: int = 1

    @property
    def title(self) -> str:
        """Return its name in the table and in the JSON."""
        return f"{self.data_plane}, {self.connections}"

    @property
    def baselines(self) -> Mapping[str, Variant]:
        """Return the same with one connection, and on the Python data path."""
        one = replace(self, connections=1)
        return self._others({"1 connection": one, "python": replace(self, data_plane="python")})


def build_clients(lab: Lab, variant: ManyConnections) -> Stage:
    """Set up hosts, links and all daemons; the stage's daemons are the server and the daemon of the working clients."""
    name = name_of(variant)
    a, b = lab.host(f"{name}-a"), lab.host(f"{name}-b")
    paths = range(1, variant.paths + 1)
    lab.cables(a, b, [PLAIN] * variant.paths)
    numbers = range(variant.connections)
    b.ip(*(f"address add {_outer(n, i)}/24 dev eth{n}" for n in paths for i in numbers))
    daemons = [Daemon(a, _server(variant, lab.directory / name / "server"), AS_CONFIGURED)]
    for first in numbers[::TUNNELS]:
        directory = lab.directory / name / f"clients{first}"
        daemons.append(Daemon(b, _clients(variant, numbers[first : first + TUNNELS], directory), AS_CONFIGURED))
    for daemon in daemons:
        daemon.wait_until_ready()
    working = numbers[:SPREAD]
    for i in working:  # an answer must leave by the tunnel of its source address
        b.ip(f"rule add from {CLIENTS + i} table {i + 1}", f"route add {SERVER} dev tun{i} table {i + 1}")
    addresses = [str(CLIENTS + i) for i in working]
    processes = [daemon.process for daemon in daemons[:2]]
    wait_for_answer(a, addresses[-1], processes)
    return Stage(variant, a, b, addresses[-1], processes, addresses)


def _server(variant: ManyConnections, directory: Path) -> Path:
    """Write the configuration of a; return its directory."""
    connections = [
        _connection(variant, i, (SERVER, CLIENTS + i), _paths(variant, i, is_server=True))
        for i in range(variant.connections)
    ]
    tunnels = [TunnelConfig("tun0", MTU, IPv4Interface(f"{SERVER}/16"))]
    return _write(directory, variant, COMMAND_PORT, tunnels, connections)


def _clients(variant: ManyConnections, numbers: Sequence[int], directory: Path) -> Path:
    """Write the configuration of the daemon on b that serves the clients `numbers`; return its directory."""
    connections = [_connection(variant, i, (CLIENTS + i, SERVER), _paths(variant, i, is_server=False)) for i in numbers]
    tunnels = [TunnelConfig(f"tun{i}", MTU, IPv4Interface(f"{CLIENTS + i}/32")) for i in numbers]
    return _write(directory, variant, COMMAND_PORT + 1 + numbers[0], tunnels, connections)


def _connection(
    variant: ManyConnections, number: int, ends: tuple[IPv4Address, IPv4Address], paths: Iterator[PathConfig]
) -> ConnectionConfig:
    return ConnectionConfig(
        name=f"client{number}",
        ip_ver=4,
        ip_local=ends[0],
        local_port=DATA_PORT,
        ip_remote=ends[1],
        remote_port=DATA_PORT,
        remote_cmd_port=COMMAND_PORT,
        paths=tuple(paths),
        reorder_window=variant.reorder_window,
    )


def _paths(variant: ManyConnections, number: int, *, is_server: bool) -> Iterator[PathConfig]:
    """Return the paths between the server and client `number`, as that side sees them."""
    for n in range(1, variant.paths + 1):
        ends = IPv4Address(f"10.{n}.{n}.2"), _outer(n, number)
        local, peer = ends if is_server else reversed(ends)
        yield PathConfig(
            interface_name=f"eth{n}",
            ip_ver=4,
            public_ipaddr=local,
            remote_ipaddr=peer,
            gateway_ipaddr=local,  # the peer is on the link itself, as in the guide's sample
            keepalive_time=variant.keepalive,
            dead_time=DEAD,
        )


def _write(
    directory: Path,
    variant: ManyConnections,
    command_port: int,
    tunnels: Sequence[TunnelConfig],
    connections: Sequence[ConnectionConfig],
) -> Path:
    """Write a configuration directory with these tunnels and connections, and return it."""
    general = GeneralConfig(
        cmdport_local=command_port, control_socket=str(directory / "control"), data_plane=variant.data_plane or "auto"
    )
    texts = {each.name: file_text(each, [path.status for path in each.paths], command_port) for each in connections}
    write_directory(directory, interface_text(general, tunnels), texts)
    return directory


def _outer(link: int, number: int) -> IPv4Address:
    """Return the address of client `number` on a link."""
    return IPv4Address(f"10.{link}.{link}.{FIRST_HOST + number}")

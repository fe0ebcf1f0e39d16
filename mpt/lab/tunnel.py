"""Two daemons and their tunnel: the configuration of both ends from one description, and the programs that run it.

The files are written as a person would write them after the guide (2.6), so that ``mpt demo --keep`` leaves an example.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from math import ceil, gcd
from pathlib import Path
from typing import Literal, NamedTuple

from mpt.config.identity import make_identity
from mpt.config.writer import file_text, interface_text
from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.links import End, Link, Shape
from mpt.lab.ping import ping
from mpt.lab.process import Process, python
from mpt.model import (
    MAX_REORDER_WINDOW,
    MAX_WEIGHT,
    Address,
    ConnectionConfig,
    GeneralConfig,
    NetworkConfig,
    PathConfig,
    Permission,
    TunnelConfig,
    key_text,
)

Side = Literal["a", "b"]

DATA_PORT = 4754  # RFC 8086 section 9
COMMAND_PORT = 60456  # guide 2.6.2, the sample
START_TIME = 20.0  # seconds that a daemon has to become ready
ANSWER_TIME = 5.0  # seconds until the first ping passes
SLACK_MS = 20.0  # by which two lines may differ beyond their delays, as their queues fill unevenly
PACKET = 1440  # bytes; the tunnel's MTU, guide 2.6.2


@dataclass(frozen=True)
class Description:
    """The content of both configuration directories: one tunnel whose paths are `links`, from their a to their b.

    `tunnel_ipv4` and `tunnel_ipv6` are the tunnel addresses of a and b, one connection for each given pair. `outer` is
    the IP version of the paths. `networks` are pairs: a network behind a, a network behind b. `sealed`: each end has a
    key and names the other's. `extra` gives lines for a section by its name, at both ends:
    ``{"path_0": ["tcp_dst = 80"]}``. Times are seconds.
    """

    links: Sequence[Link]
    tunnel_ipv4: tuple[str, str] | None = ("10.0.0.1/24", "10.0.0.2/24")
    tunnel_ipv6: tuple[str, str] | None = None
    outer: int = 4
    weights: Sequence[int] = ()
    keepalive: float = 0.1
    dead: float = 2.0  # a machine under load keeps a process waiting for tenths of a second
    reorder_window: int = 0
    max_buffdelay_msec: int = 100
    mtu: int = PACKET
    networks: Sequence[tuple[str, str]] = ()
    sealed: bool = False
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def tunnels(self) -> dict[int, tuple[str, str]]:
        """Return the tunnel addresses of a and b with their prefixes, by their IP version."""
        pairs = {4: self.tunnel_ipv4, 6: self.tunnel_ipv6}
        return {version: pair for version, pair in pairs.items() if pair is not None}

    def address_of(self, side: Side, version: int = 4) -> str:
        """Return the tunnel address of one side, without its prefix."""
        return str(ip_interface(self.tunnels[version]["ab".index(side)]).ip)


def write_configuration(description: Description, side: Side, directory: Path) -> None:
    """Write ``interface.conf`` and ``connections/*.conf`` for one side into `directory`, which must be new or empty."""
    own = {version: pair["ab".index(side)] for version, pair in description.tunnels.items()}
    tunnel = TunnelConfig(
        name="tun0",
        mtu=description.mtu,
        ipv4_addr=IPv4Interface(own[4]) if 4 in own else None,
        ipv6_addr=IPv6Interface(own[6]) if 6 in own else None,
    )
    general = GeneralConfig(accept_remote=True, cmdport_local=COMMAND_PORT)
    texts = {f"ipv{version}": connection_text(description, side, version) for version in own}
    write_directory(directory, with_lines(interface_text(general, [tunnel]), description.extra), texts)


def write_directory(directory: Path, interfaces: str, connections: Mapping[str, str]) -> None:
    """Write a configuration directory: the text of ``interface.conf``, and of each file of ``connections`` by name."""
    (directory / "connections").mkdir(parents=True)
    (directory / "interface.conf").write_text(interfaces)
    for name, text in connections.items():
        (directory / "connections" / f"{name}.conf").write_text(text)


def connection_text(description: Description, side: Side, version: int) -> str:
    """Return the text of a connection file (guide 2.6.3) for tunnel addresses of IP `version`."""
    port = DATA_PORT if version == 4 else DATA_PORT + 2  # a port for each connection; 4755 is for DTLS
    networks = (pair if side == "a" else pair[::-1] for pair in description.networks)
    connection = ConnectionConfig(
        name=f"lab_ipv{version}",
        permission=Permission.SEND | Permission.RECEIVE,
        ip_ver=version,
        ip_local=ip_address(description.address_of(side, version)),
        local_port=port,
        ip_remote=ip_address(description.address_of(_other(side), version)),
        remote_port=port,
        remote_cmd_port=COMMAND_PORT,
        paths=tuple(_path(description, side, index) for index in range(len(description.links))),
        networks=tuple(
            NetworkConfig(version, ip_network(here), ip_network(there))
            for here, there in networks
            if ip_network(here).version == version
        ),
        reorder_window=description.reorder_window,
        max_buffdelay_msec=description.max_buffdelay_msec,
    )
    text = file_text(connection, [path.status for path in connection.paths], COMMAND_PORT)
    return with_lines(text, description.extra)


def _path(description: Description, side: Side, index: int) -> PathConfig:
    """Return the path over link `index`, as `side` sees it."""
    link = description.links[index]
    here, there = (link.a, link.b) if side == "a" else (link.b, link.a)
    own = _address(here, description.outer)
    return PathConfig(
        interface_name=here.interface,
        ip_ver=description.outer,
        public_ipaddr=own,
        remote_ipaddr=_address(there, description.outer),
        gateway_ipaddr=own,  # the peer is on the link itself, as in the guide's sample
        keepalive_time=description.keepalive,
        dead_time=description.dead,
        weight_out=description.weights[index] if description.weights else 1,
    )


def with_lines(text: str, extra: Mapping[str, Sequence[str]]) -> str:
    """Return `text` with the lines `extra`, given by section; they replace lines with the same keys."""
    lines: list[str] = []
    taken: set[str] = set()
    for line in text.splitlines():
        if line.startswith("["):
            added = extra.get(line.strip("[]"), ())
            taken = {_key(each) for each in added}
            lines += [line, *added]
        elif _key(line) not in taken:
            lines.append(line)
    return "\n".join([*lines, ""])


def rates_of(shapes: Sequence[Shape]) -> list[float]:
    """Return the rate of each line in Mbit/s, of a trace its mean; without a limit, gigabit Ethernet's."""
    return [shape.trace.mean_mbit if shape.trace else shape.rate_mbit or 1000.0 for shape in shapes]


def delay_difference(shapes: Sequence[Shape]) -> float:
    """Return how much later, in ms, a packet of the slowest line may come than one of the fastest."""
    slowest = max(shape.delay_ms + shape.jitter_ms for shape in shapes)
    return slowest - min(max(shape.delay_ms - shape.jitter_ms, 0.0) for shape in shapes)


def weights_of(rates: Sequence[float]) -> list[int]:
    """Return the smallest whole weights in proportion to `rates`, to a hundredth: 100 and 20 give 5 and 1."""
    hundredths = [max(round(rate * 100), 1) for rate in rates]
    divisor = reduce(gcd, hundredths)
    weights = [rate // divisor for rate in hundredths]
    excess = max(weights) / MAX_WEIGHT
    return [max(round(weight / excess), 1) for weight in weights] if excess > 1 else weights


def reorder_window_of(rates_mbit: Sequence[float], difference_ms: float) -> int:
    """Return one and a half times the packets that all paths bring in `difference_ms` (draft section 6)."""
    packets = sum(rates_mbit) * 1e6 / 8 / PACKET * difference_ms / 1000
    return min(max(ceil(packets * 1.5), 50), MAX_REORDER_WINDOW)


class Fit(NamedTuple):
    """What fits lines; `keepalive` and `dead` in seconds, `reorder_window` in packets."""

    weights: list[int]
    keepalive: float
    dead: float
    reorder_window: int
    max_buffdelay_msec: int


def fit_of(shapes: Sequence[Shape]) -> Fit:
    """Return what fits lines of these shapes: weights by their rates, a window and times by the difference of their
    delays. By keepalives at intervals of less than twice the difference a daemon does not see which line is the later
    one."""
    rates, difference = rates_of(shapes), delay_difference(shapes) + SLACK_MS
    keepalive = max(0.1, round(3 * difference / 1000, 3))
    window = reorder_window_of(rates, difference)
    return Fit(weights_of(rates), keepalive, round(3 * keepalive, 3), window, round(difference))


class Daemon:
    """``mptsrv`` on a host with the configuration in `directory`: started at once, ready after ``wait_until_ready``.

    `variables` take precedence over the environment. `program` is a module that runs instead and takes its arguments.
    """

    def __init__(
        self,
        host: Host,
        directory: Path,
        variables: Mapping[str, str] | None = None,
        program: str = "mpt.daemon.main",
    ) -> None:
        self.host, self.directory = host, directory
        self._ready, writer = os.pipe()
        try:
            argv = python(program, "--config", str(directory), "--ready-fd", str(writer))
            self.process: Process = host.start(argv, pass_fds=(writer,), variables=variables)
        finally:
            os.close(writer)

    def wait_until_ready(self) -> None:
        """Wait until packets can flow; HostError with the daemon's words if it ends instead, or takes too long."""
        readable = select.select([self._ready], [], [], START_TIME)[0]
        ready = bool(readable) and os.read(self._ready, 100).startswith(b"ready")
        os.close(self._ready)
        if not ready:
            self.process.stop()
            raise HostError(f"mptsrv on {self.host.name} did not start:\n{self.process.complaint()}")

    def stop(self) -> int:
        """End it by SIGTERM; return the exit code (after a clean end 0, or -15 as twistd ends by its signal)."""
        return self.process.stop()


class Tunnel:
    """Both configuration directories written below `directory`, and both daemons started and ready.

    `variables` take precedence over the daemons' environment.
    """

    def __init__(self, description: Description, directory: Path, variables: Mapping[str, str] | None = None) -> None:
        self.description = description
        self.daemons: list[Daemon] = []
        ends: dict[Side, End] = {"a": description.links[0].a, "b": description.links[0].b}
        configurations: dict[Side, Path] = {side: directory / f"host-{side}" for side in ends}
        for side, configuration in configurations.items():
            write_configuration(description, side, configuration)
        if description.sealed:
            _seal(configurations)
        for side, configuration in configurations.items():
            self.daemons.append(Daemon(ends[side].host, configuration, variables))
        for daemon in self.daemons:
            daemon.wait_until_ready()

    @property
    def processes(self) -> list[Process]:
        """Return the daemons of a and b as programs."""
        return [daemon.process for daemon in self.daemons]

    def wait_for_answer(self, timeout: float = ANSWER_TIME) -> None:
        """Wait until b answers a ping at each of its tunnel addresses; HostError with the daemons' words if not."""
        for version in self.description.tunnels:
            address = self.description.address_of("b", version)
            wait_for_answer(self.daemons[0].host, address, self.processes, timeout)

    def stop(self) -> list[int]:
        """Stop both; return their exit codes."""
        return [daemon.stop() for daemon in self.daemons]


def wait_for_answer(host: Host, address: str, daemons: Sequence[Process] = (), timeout: float = ANSWER_TIME) -> None:
    """Wait until `address` answers a ping from `host`; HostError with the words of `daemons` if it does not."""
    end = time.monotonic() + timeout
    while ping(host, address, count=1, timeout=0.5) == [None]:
        if time.monotonic() > end:
            said = "\n".join(daemon.complaint() for daemon in daemons)
            raise HostError(f"no answer from {address} within {timeout:g} s; the daemons said:\n{said}")
        time.sleep(0.05)  # a ping that could not be sent takes no time


def _seal(configurations: Mapping[Side, Path]) -> None:
    """Make a key for each of the two configurations, and name it to the other one."""
    general = GeneralConfig()
    for side, directory in configurations.items():
        key = key_text(make_identity(directory / general.private_key_file).public_key)
        for file in (configurations[_other(side)] / "connections").iterdir():
            file.write_text(with_lines(file.read_text(), {"connection": [f"peer_key = {key}"]}))


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"


def _address(end: End, version: int) -> Address:
    """Return the first address of the link's end that is of IP `version`."""
    for address in map(ip_interface, end.addresses):
        if address.version == version:
            return address.ip
    raise HostError(f"{end.interface} of {end.host.name} has no IPv{version} address")


def _key(line: str) -> str:
    """Return the key of a line of a configuration file."""
    return line.partition("=")[0].strip()

"""Two daemons and their tunnel: the configuration of both ends from one description, and the programs that run it.

The files are what a person would write after the guide (2.6), so that ``mpt demo --keep`` leaves an example to read.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from ipaddress import ip_interface, ip_network
from math import ceil, gcd
from pathlib import Path
from typing import Literal

from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.links import End, Link
from mpt.lab.process import Process, python
from mpt.model import MAX_REORDER_WINDOW, MAX_WEIGHT

Side = Literal["a", "b"]

DATA_PORT = 4754  # RFC 8086 section 9
COMMAND_PORT = 60456  # guide 2.6.2, the sample
START_TIME = 20.0  # seconds that a daemon has to become ready
PACKET = 1440  # bytes; the tunnel's MTU, guide 2.6.2


@dataclass(frozen=True)
class Description:
    """What both configuration directories say: one tunnel whose paths are `links`, from their a to their b.

    `tunnel_ipv4` and `tunnel_ipv6` are the tunnel addresses of a and b, one connection for each pair given; `outer` is
    the IP version of the paths; `networks` are pairs of a network behind a and one behind b. `extra` adds lines to a
    section by its name, at both ends: ``{"path_0": ["tcp_dst = 80"]}``. Times are seconds.
    """

    links: Sequence[Link]
    tunnel_ipv4: tuple[str, str] | None = ("10.0.0.1/24", "10.0.0.2/24")
    tunnel_ipv6: tuple[str, str] | None = None
    outer: int = 4
    weights: Sequence[int] = ()
    keepalive: float = 0.1
    dead: float = 0.3
    reorder_window: int = 0
    max_buffdelay_msec: int = 100
    mtu: int = PACKET
    networks: Sequence[tuple[str, str]] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def address_of(self, side: Side, version: int = 4) -> str:
        """The tunnel address of one side, without its prefix."""
        pair = self.tunnel_ipv4 if version == 4 else self.tunnel_ipv6
        assert pair is not None
        return str(ip_interface(pair["ab".index(side)]).ip)


def write_configuration(description: Description, side: Side, directory: Path) -> None:
    """Write ``interface.conf`` and ``connections/*.conf`` for one side into `directory`, which must be new or empty."""
    (directory / "connections").mkdir(parents=True)
    (directory / "interface.conf").write_text(interface_text(description, side))
    for version, pair in ((4, description.tunnel_ipv4), (6, description.tunnel_ipv6)):
        if pair is not None:
            text = connection_text(description, side, version)
            (directory / "connections" / f"ipv{version}.conf").write_text(text)


def interface_text(description: Description, side: Side) -> str:
    """The text of ``interface.conf`` (guide 2.6.2)."""
    general: dict[str, object] = {"tunnel_num": 1, "accept_remote": 1, "cmdport_local": COMMAND_PORT, "cmd_timeout": 25}
    tunnel: dict[str, object] = {"name": "tun0", "mtu": description.mtu}
    for version, pair in ((4, description.tunnel_ipv4), (6, description.tunnel_ipv6)):
        if pair is not None:
            tunnel[f"ipv{version}_addr"] = pair["ab".index(side)]
    sections = {"general": general, "tun_0": tunnel}
    return _text(sections, description.extra)


def connection_text(description: Description, side: Side, version: int) -> str:
    """The text of a connection file (guide 2.6.3) for tunnel addresses of IP `version`."""
    port = DATA_PORT if version == 4 else DATA_PORT + 2  # a port for each connection; 4755 is for DTLS
    networks = [pair for pair in description.networks if ip_network(pair[0]).version == version]
    sections: dict[str, dict[str, object]] = {
        "connection": {
            "name": f"lab_ipv{version}",
            "permission": 3,
            "ip_ver": version,
            "ip_local": description.address_of(side, version),
            "local_port": port,
            "ip_remote": description.address_of(_other(side), version),
            "remote_port": port,
            "remote_cmd_port": COMMAND_PORT,
            "path_count": len(description.links),
            "network_count": len(networks),
            "status": 0,
            "reorder_window": description.reorder_window,
            "max_buffdelay_msec": description.max_buffdelay_msec,
            "auth_type": 0,
        }
    }
    for index, link in enumerate(description.links):
        here, there = (link.a, link.b) if side == "a" else (link.b, link.a)
        own = _address(here, description.outer)
        sections[f"path_{index}"] = {
            "interface_name": here.interface,
            "ip_ver": description.outer,
            "public_ipaddr": own,
            "gw_ipaddr": own,  # the peer is on the link itself, as in the guide's sample
            "remote_ipaddr": _address(there, description.outer),
            "keepalive_time": f"{description.keepalive:g}",
            "dead_time": f"{description.dead:g}",
            "weight_out": description.weights[index] if description.weights else 1,
            "status": 0,
        }
    for index, (behind_a, behind_b) in enumerate(networks):
        source, destination = (behind_a, behind_b) if side == "a" else (behind_b, behind_a)
        sections[f"net_{index}"] = {"ip_ver": version, "src_addr": source, "dst_addr": destination}
    return _text(sections, description.extra)


def weights_of(rates: Sequence[float]) -> list[int]:
    """The smallest whole weights in proportion to `rates` (to a hundredth of their unit): 100 and 20 give 5 and 1."""
    hundredths = [max(round(rate * 100), 1) for rate in rates]
    divisor = reduce(gcd, hundredths)
    weights = [rate // divisor for rate in hundredths]
    excess = max(weights) / MAX_WEIGHT
    return [max(round(weight / excess), 1) for weight in weights] if excess > 1 else weights


def reorder_window_of(rates_mbit: Sequence[float], difference_ms: float) -> int:
    """How many packets arrive on all paths while one is `difference_ms` late (draft section 6), and half more."""
    packets = sum(rates_mbit) * 1e6 / 8 / PACKET * difference_ms / 1000
    return min(max(ceil(packets * 1.5), 50), MAX_REORDER_WINDOW)


class Daemon:
    """``mptsrv`` on a host with the configuration in `directory`: started at once, ready after ``wait_until_ready``."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host, self.directory = host, directory
        self._ready, writer = os.pipe()
        try:
            argv = python("mpt.daemon.main", "--config", str(directory), "--ready-fd", str(writer))
            self.process: Process = host.start(argv, pass_fds=(writer,))
        finally:
            os.close(writer)

    def wait_until_ready(self) -> None:
        """Wait until packets can flow; HostError with the daemon's own words if it ends instead, or takes too long."""
        readable = select.select([self._ready], [], [], START_TIME)[0]
        ready = bool(readable) and os.read(self._ready, 100).startswith(b"ready")
        os.close(self._ready)
        if not ready:
            self.process.stop()
            raise HostError(f"mptsrv on {self.host.name} did not start:\n{self.process.complaint()}")

    def stop(self) -> int:
        """SIGTERM; the exit code (after a clean end 0, or -15 as twistd ends by the signal that it was sent)."""
        return self.process.stop()


class Tunnel:
    """Both configuration directories written below `directory`, and both daemons started and ready."""

    def __init__(self, description: Description, directory: Path) -> None:
        self.description = description
        self.daemons: list[Daemon] = []
        sides: tuple[tuple[Side, End], ...] = (("a", description.links[0].a), ("b", description.links[0].b))
        for side, end in sides:
            configuration = directory / f"host-{side}"
            write_configuration(description, side, configuration)
            self.daemons.append(Daemon(end.host, configuration))
        for daemon in self.daemons:
            daemon.wait_until_ready()

    def stop(self) -> list[int]:
        """Stop both; their exit codes."""
        return [daemon.stop() for daemon in self.daemons]


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"


def _address(end: End, version: int) -> str:
    """The first address of the link's end that is of IP `version`."""
    for address in map(ip_interface, end.addresses):
        if address.version == version:
            return str(address.ip)
    raise HostError(f"{end.interface} of {end.host.name} has no IPv{version} address")


def _text(sections: Mapping[str, Mapping[str, object]], extra: Mapping[str, Sequence[str]]) -> str:
    blocks = []
    for name, values in sections.items():
        lines = [f"[{name}]", *(f"{key:<18} = {value}" for key, value in values.items()), *extra.get(name, ())]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)

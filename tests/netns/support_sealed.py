"""Sealed hosts for the namespace tests: keys, and configuration files as a person would write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mpt.config.identity import make_identity
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from mpt.lab.ping import ping
from mpt.lab.tunnel import Daemon
from mpt.model import Identity, key_text
from tests.netns.support import wait_until
from tests.netns.support_control import Site

A, B = "10.9.0.1", "10.9.0.2"  # inside the tunnel
A6, B6 = "fd09::1", "fd09::2"
PORT = 4754
HASTY = "tests.netns.hasty"  # the daemon with short times


def write_host(directory: Path, own: str, private_key: Path, lines: Iterable[str] = (), more: str = "") -> None:
    """Write interface.conf for a host with the tunnel address `own`; `lines` are of [general], `more` is behind it."""
    (directory / "connections").mkdir(parents=True)
    general = "\n".join(["[general]", f"private_key_file = {private_key}", *lines])
    (directory / "interface.conf").write_text(
        f"{general}\n[tun_0]\nname = tun0\nmtu = 1400\nipv4_addr = {own}/24\n{more}"
    )


def write_connection(
    directory: Path, name: str, own: str, peer: str, peer_key: str, paths: Iterable[str], lines: Iterable[str] = ()
) -> None:
    """Write a connection file; each of `paths` is an interface, and behind it perhaps lines of its section."""
    text = "\n".join(["[connection]", f"name = {name}", f"ip_local = {own}", f"ip_remote = {peer}", *lines])
    text += f"\npeer_key = {peer_key}\n" if peer_key else "\n"
    for index, path in enumerate(paths):
        interface, *rest = path.split("\n")
        text += "\n".join([f"[path_{index}]", f"interface_name = {interface}", *rest]) + "\n"
    (directory / "connections" / f"{name}.conf").write_text(text)


def write_plain(directory: Path, own: str, peer: str, remotes: Iterable[str]) -> None:
    """Write a plain connection over eth1, eth2 ... on the port of the sealed one, as the guide has it."""
    text = f"""[connection]
name = plain
permission = 3
ip_ver = {ip_address(own).version}
ip_local = {own}
local_port = {PORT}
ip_remote = {peer}
remote_port = {PORT}
remote_cmd_port = 65050
path_count = 2
network_count = 0
reorder_window = 0
max_buffdelay_msec = 100
status = 0
auth_type = 0
"""
    for index, remote in enumerate(remotes):
        text += f"""[path_{index}]
interface_name = eth{index + 1}
ip_ver = 4
public_ipaddr = 0.0.0.0
gw_ipaddr = 0.0.0.0
remote_ipaddr = {remote}
keepalive_time = 0.2
dead_time = 2
weight_out = 1
weight_in = 1
cmd_default = {int(index == 0)}
status = 0
"""
    (directory / "connections" / "z-plain.conf").write_text(text)


class SealedHosts:
    """Hosts a and b with `count` cables, 10.N.N.2 and 10.N.N.3, and a key each; nothing is written or started yet."""

    def __init__(self, lab: Lab, count: int = 2) -> None:
        self.lab = lab
        self.a, self.b = lab.host("a"), lab.host("b")
        self.links = lab.cables(self.a, self.b, [PLAIN] * count)
        self.count = count
        self.directories = {name: lab.directory / f"conf-{name}" for name in "ab"}
        self.identities = {name: self._identity(name) for name in "ab"}

    def _identity(self, name: str) -> Identity:
        self.directories[name].mkdir()
        return make_identity(self.directories[name] / "private.key")

    def write(
        self, a_knows_b: bool = True, b_knows_a: bool = True, lines: Iterable[str] = (), sections: int = 0
    ) -> None:
        """Write both sides; b has `sections` path sections, by default as many as there are cables."""
        lines = list(lines)
        for name, own, peer, host, knows in (("a", A, B, 3, a_knows_b), ("b", B, A, 2, b_knows_a)):
            directory = self.directories[name]
            write_host(directory, own, directory / "private.key")
            other = "b" if name == "a" else "a"
            count = sections if name == "b" and sections else self.count
            paths = [f"eth{n}\nremote_ipaddr = 10.{n}.{n}.{host}" if knows else f"eth{n}" for n in range(1, count + 1)]
            key = key_text(self.identities[other].public_key)
            write_connection(directory, "sealed", own, peer, key, paths, lines)

    def start(self, program: str = "mpt.daemon.main") -> tuple[Site, Site]:
        """Start both daemons; `program`: see `Daemon`."""
        a, b = (Daemon(each, self.directories[each.name], program=program) for each in (self.a, self.b))
        for daemon in (a, b):
            daemon.wait_until_ready()
        return Site(a.host, a.directory, a), Site(b.host, b.directory, b)


def keys_of(site: Site, name: str = "sealed") -> Mapping[str, Any]:
    """Return the status of the keys of a connection."""
    (connection,) = (each for each in site.status()["connections"] if each["name"] == name)
    found: Mapping[str, Any] = connection["sealed"]
    return found


def wait_for_answer(host: Host, address: str, timeout: float) -> float:
    """Wait until a ping is answered; return how long it took."""
    return wait_until(lambda: ping(host, address, count=1, timeout=0.2) != [None], f"an answer of {address}", timeout)

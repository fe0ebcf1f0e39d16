"""What two connections of a host must not share: names, tunnel addresses, destinations, sockets of different tunnels.

Each error names the other file. A connection that is down by its file has neither destinations nor sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mpt.model import Address, ConnectionConfig, Network, TunnelConfig


class Report(Protocol):
    """Takes the errors and warnings about the keys of a section."""

    def problem(self, key: str, message: str) -> None:
        """Report an error about `key`."""

    def warn(self, key: str, message: str) -> None:
        """Report a warning about `key`."""


SectionOf = Callable[[str], Report]
"""Gives the report for a section of a connection by its name, such as "path_0"."""


class Socket(NamedTuple):
    """What a data socket is bound to: `interface` is the path's; `bound` says whether the socket is tied to it."""

    interface: str
    bound: bool
    tunnel: str


class Place(NamedTuple):
    """Where a path stands."""

    file: Path | None
    path: int

    def seen_from(self, connection: ConnectionConfig) -> str:
        """Return the name of the path, with its file if it is another connection's."""
        return f"[path_{self.path}]" + (f" of {self.file}" if self.file != connection.file else "")


@dataclass
class Taken:
    """What the connections read so far have taken, and in which file each thing stands."""

    tunnels: Sequence[TunnelConfig]
    _names: dict[str, Path | None] = field(default_factory=dict)
    _pairs: dict[tuple[Address, Address], Path | None] = field(default_factory=dict)
    _destinations: dict[tuple[str, Network], list[tuple[Network, Path | None]]] = field(default_factory=dict)
    _sockets: dict[tuple[Address, int], dict[Socket, Place]] = field(default_factory=dict)
    _tunnel_names: dict[Address, str] = field(default_factory=dict)  # by the local address of a connection

    def add(self, connection: ConnectionConfig) -> None:
        """Note what `connection` takes."""
        self._names.setdefault(connection.name, connection.file)
        self._pairs.setdefault(connection.tunnel_pair, connection.file)
        if connection.is_down:
            return
        for network in connection.networks:
            key = self._tunnel(connection), network.destination
            self._destinations.setdefault(key, []).append((network.source, connection.file))
        for number, (address, socket) in enumerate(self._sockets_of(connection)):
            at_address = self._sockets.setdefault((address, connection.local_port), {})
            at_address.setdefault(socket, Place(connection.file, number))

    def check(self, connection: ConnectionConfig, section_of: SectionOf) -> None:
        """Report everything in `connection` that is taken."""
        head = section_of("connection")
        if connection.name in self._names:
            head.problem("name", f"is used in {self._names[connection.name]} too: each connection needs its own")
        if connection.tunnel_pair in self._pairs:
            file = self._pairs[connection.tunnel_pair]
            head.problem("ip_remote", f"and ip_local stand in {file} too: one connection per pair")
        elif not connection.is_down:
            self._check_destinations(connection, section_of)
            self._check_sockets(connection, section_of)

    def _check_destinations(self, connection: ConnectionConfig, section_of: SectionOf) -> None:
        """Check that no network is behind two peers; multicast goes to all peers and is not compared."""
        tunnel = self._tunnel(connection)
        for number, network in enumerate(connection.networks):
            for source, file in self._destinations.get((tunnel, network.destination), ()):
                if network.destination.is_multicast:
                    continue
                section = section_of(f"net_{number}")
                if network.source.overlaps(source):
                    section.problem(
                        "dst_addr",
                        f"is behind the peer of {file} too, and neither is the more specific one: write it in one "
                        "file only, or a longer prefix in one of them",
                    )
                    break
                section.warn(
                    "dst_addr",
                    f"is behind the peer of {file} too: only src_addr tells them apart, so what this host itself sends "
                    "there goes to the first of them",
                )

    def _check_sockets(self, connection: ConnectionConfig, section_of: SectionOf) -> None:
        """Check that each socket belongs to one tunnel, and that no unbound socket is beside a bound one."""
        ours: dict[tuple[Address, int], dict[Socket, Place]] = {}
        for number, (address, socket) in enumerate(self._sockets_of(connection)):
            section = section_of(f"path_{number}")
            key = address, connection.local_port
            others = {**self._sockets.get(key, {}), **ours.get(key, {})}
            for other, place in others.items():
                if not _clash(socket, other, address):
                    continue
                if other.tunnel != socket.tunnel:
                    section.problem(
                        "interface_name",
                        f"with its local address and local_port = {connection.local_port} serves "
                        f"{other.tunnel} in {place.file}: a connection of another tunnel needs another local_port",
                    )
                    break
                if other.bound is not socket.bound:
                    section.problem(
                        "bind_to_device",
                        f"must be the same as in {place.seen_from(connection)}, which has the same local address and "
                        "local_port: one socket is either bound to an interface or not",
                    )
                    break
            ours.setdefault(key, {}).setdefault(socket, Place(connection.file, number))

    def _tunnel(self, connection: ConnectionConfig) -> str:
        """Return the name of the tunnel of `connection`, "" while interface.conf has errors."""
        own = connection.ip_local
        if own not in self._tunnel_names:
            self._tunnel_names[own] = next((tunnel.name for tunnel in self.tunnels if tunnel.holds(own)), "")
        return self._tunnel_names[own]

    def _sockets_of(self, connection: ConnectionConfig) -> list[tuple[Address, Socket]]:
        """Return the local address and the data socket of each path."""
        tunnel = self._tunnel(connection)
        return [
            (
                path.private_ipaddr or path.public_ipaddr,
                Socket(path.interface_name, path.bind_to_device, tunnel),
            )
            for path in connection.paths
        ]


def _clash(one: Socket, other: Socket, address: Address) -> bool:
    """Return whether both cannot be at `address`, or would be one socket there. An address that is not known yet is
    taken to be the interface's."""
    if one.interface == other.interface:
        return True
    return not address.is_unspecified and not (one.bound and other.bound)

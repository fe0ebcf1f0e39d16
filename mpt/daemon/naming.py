"""The connections and paths that an operator means: by name, file, interface or addresses."""

from __future__ import annotations

from mpt.daemon.connection import Connection
from mpt.daemon.path import Path
from mpt.daemon.running import Running
from mpt.errors import HostError
from mpt.local.grammar import did_you_mean
from mpt.model import Address


def connection_named(running: Running, name: str) -> Connection:
    """Return the connection with this name or file; raises HostError."""
    connections = running.connections()
    found = [each for each in connections if each.config.name == name] or running.of_file(name)
    if len(found) == 1:
        return found[0]
    names = [each.config.name for each in found or connections]
    if found:
        raise HostError(f"several connections run from {name}: {', '.join(names)}; say one of them")
    raise HostError(f"there is no connection {name}{did_you_mean(name, names)}" if names else "no connection runs")


def paths_meant(running: Running, path: Address | str, destination: Address | None) -> list[tuple[Connection, int]]:
    """Return the paths, at least one: from our address `path` to the peer's `destination`; without that, all over the
    interface `path`, or the one of this name, "path_1" or "home/path_1". Raises HostError."""
    everything = [(each, index) for each in running.connections() for index in range(len(each.paths))]
    if destination is not None:
        found = [at for at in everything if _path(at).peer == destination and path in _own_addresses(*at)]
        known = sorted({f"{at[0].public_address(_path(at))} {_path(at).peer}" for at in everything})
        missing = f"there is no path from {path} to {destination}"
    else:
        over = [at for at in everything if path == _path(at).config.interface_name]
        found = over or [at for at in everything if path in (_short(at), _full(at))]
        if not over and len(found) > 1:
            raise HostError(f"several connections have a {path}; say {' or '.join(map(_full, found))}")
        known = [f"{_full(at)} over {_path(at).config.interface_name}" for at in everything]
        missing = f"there is no path {path}"
    if not found:
        raise HostError(f"{missing}; there are: {', '.join(known) or 'none'}")
    return found


def _path(at: tuple[Connection, int]) -> Path:
    return at[0].paths[at[1]]


def _short(at: tuple[Connection, int]) -> str:
    return f"path_{at[1]}"


def _full(at: tuple[Connection, int]) -> str:
    """Return the name that no other path has."""
    return f"{at[0].config.name}/path_{at[1]}"


def _own_addresses(connection: Connection, index: int) -> set[Address]:
    """Return the addresses by which an operator may name this end of a path."""
    path = connection.paths[index]
    bound = {path.port.endpoint.address} if path.port is not None else set()
    return bound | {connection.public_address(path), path.config.public_ipaddr}

"""Turn a configuration directory into a ``Config``: interface.conf, connections/*.conf, and whether they agree.

Everything is read before anything is said: one ``ConfigurationErrors`` lists the errors of all files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpt.config import schema
from mpt.config.clients import client_steps, is_clients_file
from mpt.config.connection import build_connection, check_peer_keys
from mpt.config.identity import load_identity
from mpt.config.location import CONNECTIONS, INTERFACE_FILE
from mpt.config.parser import ConfigurationErrors, IniFile, Problem, Section, file_steps, read_file
from mpt.config.sizes import ETHERNET, largest_packet, versions_of
from mpt.config.steps import Steps, at_once
from mpt.config.taken import Taken
from mpt.errors import ConfigError
from mpt.model import (
    AUTO_MTU,
    Config,
    ConnectionConfig,
    GeneralConfig,
    Identity,
    Interface,
    StatusPlace,
    TunnelConfig,
)
from mpt.values import AUTO

IPV6_MINIMUM_MTU = 1280  # RFC 8200 section 5


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and the warnings about it."""

    config: Config
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a directory as they were read, with the problems and warnings of each, and what is good in them.

    `template` is of the clients; no sections, if there are no clients.
    """

    interface: IniFile
    connections: tuple[IniFile, ...]
    template: IniFile
    config: Config

    def problems(self) -> list[Problem]:
        """Return the errors, file by file."""
        return [problem for file in (self.interface, *self.connections) for problem in file.sorted_problems()]

    def warnings(self) -> list[Problem]:
        """Return the warnings, file by file."""
        return [warning for file in (self.interface, *self.connections) for warning in file.sorted_warnings()]


def load_directory(directory: Path, interfaces: Mapping[str, Interface] | None = None) -> Loaded:
    """Read and check a whole directory; raises ConfigurationErrors with everything that is wrong in it.

    With the `interfaces` of this machine, warnings name each missing interface of a path.
    """
    return at_once(directory_steps(directory, interfaces))


def directory_steps(directory: Path, interfaces: Mapping[str, Interface] | None = None) -> Steps[Loaded]:
    """Return what `load_directory` does, connection by connection."""
    files = yield from _read_directory(directory, interfaces)
    warnings = tuple(map(str, files.warnings()))
    if problems := files.problems():
        raise ConfigurationErrors(problems, warnings)
    _forget([files.interface, *files.connections, files.template])
    return Loaded(files.config, warnings)


def read_directory(directory: Path, interfaces: Mapping[str, Interface] | None = None) -> Files:
    """Read and check a whole directory as `load_directory` does, and raise nothing."""
    return at_once(_read_directory(directory, interfaces))


def _read_directory(directory: Path, interfaces: Mapping[str, Interface] | None) -> Steps[Files]:
    interface = read_file(directory / INTERFACE_FILE)
    general, tunnels = _read_interface(interface)
    usable = not interface.problems
    if interfaces is not None:  # without those of the tunnels, which are there while a daemon runs
        names = {tunnel.name for tunnel in tunnels}
        interfaces = {name: each for name, each in interfaces.items() if name not in names}
    folder = IniFile(directory / CONNECTIONS)
    files = [folder]
    taken = Taken(tunnels if usable else ())
    connections: list[ConnectionConfig] = []
    clients: IniFile | None = None
    template = IniFile(directory / CONNECTIONS)
    for path in _connection_files(folder):
        ini = yield from file_steps(path)
        files.append(ini)
        yield
        if is_clients_file(ini):
            clients = ini
            continue
        connection = _read_connection(ini, general if usable else None, tunnels if usable else None, taken, interfaces)
        if connection is not None:
            connections.append(connection)
    if clients is not None:  # after the others, so that what two of them share is told of the client
        template, found = yield from client_steps(
            clients, general if usable else None, tunnels if usable else None, taken, interfaces
        )
        files.append(template)
        connections += found
    identity = (yield from _read_identity(interface, directory, general, files)) if usable else None
    if usable:
        _check_mtu(interface, tunnels, connections)
    if len(files) == 1 and not folder.problems:
        peers = "until a peer creates one" if general.accept_remote else "and accept_remote = 0 lets no peer create one"
        folder.warn(Problem(folder.path, 0, "", "", "", f"has no *.conf file: there is no connection, {peers}"))
    return Files(interface, tuple(files), template, Config(directory, general, tunnels, tuple(connections), identity))


def load_file(
    file: Path | IniFile,
    general: GeneralConfig,
    tunnels: Sequence[TunnelConfig],
    others: Collection[ConnectionConfig] = (),
    identity: Identity | None = None,
) -> tuple[tuple[ConnectionConfig, ...], tuple[str, ...]]:
    """Read and check one file, of a connection or of clients, or its text in sections, also against the `others` that
    run and the `identity` of this host; return the connections and the warnings.

    Raises ConfigurationErrors with everything that is wrong in it.
    """
    return at_once(connection_steps(file, general, tunnels, others, identity))


def connection_steps(
    file: Path | IniFile,
    general: GeneralConfig,
    tunnels: Sequence[TunnelConfig],
    others: Collection[ConnectionConfig] = (),
    identity: Identity | None = None,
) -> Steps[tuple[tuple[ConnectionConfig, ...], tuple[str, ...]]]:
    """Return what `load_file` does, connection by connection."""
    ini = (yield from file_steps(file)) if isinstance(file, Path) else file
    files = [ini]
    taken = Taken(tunnels)
    for other in others:
        yield
        taken.add(other)
    connections: list[ConnectionConfig] = []
    if is_clients_file(ini):
        template, connections = yield from client_steps(ini, general, tunnels, taken)
        files.append(template)
    elif connection := _read_connection(ini, general, tunnels, taken):
        connections.append(connection)
    for section in _sealed_sections([ini]):
        yield
        check_peer_keys(section, identity)
    if problems := [problem for file in files for problem in file.sorted_problems()]:
        raise ConfigurationErrors(problems)
    warnings = tuple(text for file in files for text in file.warning_texts())
    if isinstance(file, Path):
        _forget(files)
    return tuple(connections), warnings


def _forget(files: Iterable[IniFile]) -> None:
    """Part files from their sections, which name them: so nothing of them is left for the garbage collector."""
    for file in files:
        file.sections.clear()


def load_connection(
    path: Path, general: GeneralConfig, tunnels: Sequence[TunnelConfig], others: Collection[ConnectionConfig] = ()
) -> tuple[ConnectionConfig, tuple[str, ...]]:
    """Read and check the file of one connection as `load_file` does; return the connection and the warnings."""
    (connection,), warnings = load_file(path, general, tunnels, others)
    return connection, warnings


def _connection_files(folder: IniFile) -> list[Path]:
    """Return the *.conf files of the directory, which may be missing, by name; hidden files are an editor's."""
    try:
        return sorted(path for path in folder.path.iterdir() if path.suffix == ".conf" and path.name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        folder.problem(0, f"cannot be read: {error.strerror}")
        return []


# ---- interface.conf ---------------------------------------------------------------------------------------------


def _read_interface(ini: IniFile) -> tuple[GeneralConfig, tuple[TunnelConfig, ...]]:
    """Return the settings and tunnels of interface.conf; with errors, the good part of it."""
    if ini.problems and not ini.sections:  # it could not be read at all
        return GeneralConfig(), ()
    head = ini.read("general")
    sections = ini.numbered("tun", head, "tunnel_num")
    if not sections:
        ini.problem(0, "[tun_0] is missing: write '[tun_0]', and below it 'name = tun0' and 'ipv4_addr = 10.0.0.2/24'")
    tunnels: list[TunnelConfig] = []
    for section in sections:
        values = section.read("tun_n").values
        if values.get("mtu", AUTO) != AUTO and values["mtu"] < IPV6_MINIMUM_MTU and values.get("ipv6_addr"):
            section.problem("mtu", f"must be at least {IPV6_MINIMUM_MTU}, for ipv6_addr is set")
        if section.clean and values["ipv4_addr"] is None and values["ipv6_addr"] is None:
            section.problem("ipv4_addr", "is missing: write for example 'ipv4_addr = 10.0.0.2/24', or an ipv6_addr")
        for other in tunnels:
            if other.name == values.get("name"):
                section.problem("name", "is the name of another tunnel too: each needs its own")
            for key in ("ipv4_addr", "ipv6_addr"):
                if values.get(key) and other.holds(values[key].ip):
                    section.problem(key, f"is an address of {other.name} too: each tunnel needs its own")
        if section.clean:
            tunnels.append(_tunnel(values))
    ini.warn_of_unknown_sections(schema.INTERFACE_SECTIONS)
    place: StatusPlace | None = head.values.get("status_listen")
    if place is not None and place.path is None and not place.address.is_loopback:
        head.warn(
            "status_listen",
            f"shows the status to everybody who reaches {place}: 127.0.0.1:{place.port} shows it to this host alone",
        )
    if not head.clean:
        return GeneralConfig(), tuple(tunnels)
    return GeneralConfig(**{**head.values, "tunnel_num": len(sections)}), tuple(tunnels)


def _read_identity(
    interface: IniFile, directory: Path, general: GeneralConfig, files: Sequence[IniFile]
) -> Steps[Identity | None]:
    """Return the key pair of this host if one of `files` is of a sealed connection, None without one or with errors."""
    heads = _sealed_sections(files)
    if not heads:
        return None
    try:
        identity = load_identity(directory / general.private_key_file)
    except ConfigError as error:
        interface.sections["general"].problem("private_key_file", f"is needed by {heads[0].file.path}: {error}")
        return None
    for head in heads:
        yield
        check_peer_keys(head, identity)
    return identity


def _sealed_sections(files: Iterable[IniFile]) -> list[Section]:
    """Return the sections that have a public key of a peer."""
    return [each for file in files for each in file.sections.values() if each.values.get("peer_key")]


def _tunnel(values: dict[str, Any]) -> TunnelConfig:
    auto = values["mtu"] == AUTO
    return TunnelConfig(**{**values, "mtu": AUTO_MTU if auto else values["mtu"]}, mtu_auto=auto)


def _check_mtu(interface: IniFile, tunnels: Sequence[TunnelConfig], connections: Sequence[ConnectionConfig]) -> None:
    """Warn of an MTU whose datagrams do not fit a 1500 octet link (guide 2.6.2 says 1420 to 1464)."""
    for number, tunnel in enumerate(tunnels):
        own = [connection for connection in connections if tunnel.holds(connection.ip_local)]
        versions = {version for connection in own for path in connection.paths for version in versions_of(path)}
        sealed = any(connection.is_sealed for connection in own)
        largest = largest_packet(ETHERNET, versions, sealed)
        if tunnel.mtu_auto and own and not sealed:
            message = f"is {tunnel.mtu}: only the paths of sealed connections say more, and this tunnel has none"
            interface.sections[f"tun_{number}"].warn("mtu", message)
        if tunnel.mtu > largest:
            paths = ("an IPv6 path" if 6 in versions else "IPv4 paths") + (" of a sealed connection" if sealed else "")
            interface.sections[f"tun_{number}"].warn(
                "mtu", f"should be at most {largest} with {paths} over Ethernet, or datagrams get fragmented"
            )


# ---- one connection among others --------------------------------------------------------------------------------


def _read_connection(
    ini: IniFile,
    general: GeneralConfig | None,
    tunnels: Sequence[TunnelConfig] | None,
    taken: Taken,
    interfaces: Mapping[str, Interface] | None = None,
) -> ConnectionConfig | None:
    """Return the connection in `ini`, or None if it has problems; `taken` bounds it and is extended by it."""
    if ini.problems and not ini.sections:  # it could not be read at all
        return None
    connection = build_connection(ini, general, tunnels, interfaces)
    ini.warn_of_unknown_sections(schema.CONNECTION_SECTIONS)
    if connection is None:
        return None
    taken.check(connection, ini.sections.__getitem__)
    taken.add(connection)
    return connection

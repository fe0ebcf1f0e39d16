"""clients.conf: a server's clients, one section each; everything else of their connections is in conf.template.

    [client laptop]
    peer_key  = Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=
    ip_remote = 10.0.0.2
    networks  = 192.168.7.0/24

A client sends from its tunnel address and its networks, and from no other address (session 7). It may send to every
address that this host has or reaches; that is a matter of the host's firewall. A client without a key is not there yet:
its address is kept for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from mpt import values
from mpt.config.connection import build_connection
from mpt.config.parser import IniFile, Problem, Section, file_steps, section_name
from mpt.config.schema import CONNECTION_SECTIONS
from mpt.config.steps import Steps
from mpt.config.taken import Taken
from mpt.model import (
    EVERYTHING,
    Address,
    ConnectionConfig,
    GeneralConfig,
    Interface,
    Network,
    NetworkConfig,
    TunnelConfig,
)

CLIENTS_FILE: Final = "clients.conf"  # session 7
TEMPLATE: Final = "conf.template"  # guide 4.7


def is_clients_file(ini: IniFile) -> bool:
    """Return whether a file has clients; a connection that somebody has in a file of that name is one as before."""
    return ini.path.name == CLIENTS_FILE and "connection" not in ini.sections


def client_name(title: str) -> str:
    """Return the name in the header of a [client NAME] section as it is written, "" for any other section."""
    return section_name(title, "client")


def client_section(ini: IniFile, name: str) -> Section | None:
    """Return the section of a client, None if there is none; upper and lower case mean the same."""
    return next((each for each in ini.sections.values() if client_name(each.title).lower() == name.lower()), None)


def client_steps(
    ini: IniFile,
    general: GeneralConfig | None,
    tunnels: Sequence[TunnelConfig] | None,
    taken: Taken,
    interfaces: Mapping[str, Interface] | None = None,
) -> Steps[tuple[IniFile, list[ConnectionConfig]]]:
    """Return, client by client, the template and the connections of those in `ini`; errors are added to both files.

    `taken` bounds the connections and is extended by them. The other arguments are as for `build_connection`.
    """
    template = IniFile(ini.path.with_name(TEMPLATE))
    base: ConnectionConfig | None = None
    if any(client_name(each.title) for each in ini.sections.values()):
        template = yield from file_steps(template.path)
    if template.sections:
        base = build_connection(template, general, tunnels, interfaces, for_clients=True)
        template.warn_of_unknown_sections(CONNECTION_SECTIONS)
    elif template.problems:
        template.problems.clear()
        ini.problem(0, f"needs {template.path}, which cannot be read: it says what all clients have in common")
    connections: list[ConnectionConfig] = []
    owners: dict[bytes, str] = {}
    for section in ini.sections.values():
        yield
        name = client_name(section.title)
        if not name:
            message = "is unknown and ignored: the sections here are [client NAME]"
            ini.warn(Problem(ini.path, section.line, section.name[:60], "", "", message))
            continue
        section.read("client")
        connection = _client(section, name, base, tunnels or (), template.path)
        if connection is None:
            continue
        taken.check(connection, _Report(section).of)
        taken.add(connection)
        _check_owner(section, name, owners)
        if connection.peer_keys:
            connections.append(connection)
        else:
            section.warn("", f"has no peer_key yet: `mpt client add {name} --key KEY` brings it")
    return template, connections


def networks_of(tunnel_address: Address, networks: Collection[Network]) -> tuple[NetworkConfig, ...]:
    """Return the networks from which a client may send, its tunnel address too, to everything behind this host."""
    own = ip_network(tunnel_address)
    return tuple(NetworkConfig(each.version, EVERYTHING[each.version], each) for each in (own, *networks))


def _client(
    section: Section, name: str, base: ConnectionConfig | None, tunnels: Sequence[TunnelConfig], template: Path
) -> ConnectionConfig | None:
    """Return the connection of a client, which has no peer_keys yet if its section has none; None with errors."""
    try:
        values.word(name)
    except ValueError as error:
        section.problem("", f"has a name that must be {error}")
    address = section.values.get("ip_remote")
    if address is not None and base is not None and address.version != base.ip_ver:
        section.problem("ip_remote", f"must be an IPv{base.ip_ver} address, as ip_local of {TEMPLATE} is")
    elif address is not None and any(tunnel.holds(address) for tunnel in tunnels):
        section.problem("ip_remote", "must be the client's tunnel address, not that of a tunnel of this host")
    if base is None or not section.clean:
        return None
    return replace(
        base,
        name=name,
        ip_remote=section.values["ip_remote"],
        peer_keys=section.values["peer_key"],
        networks=networks_of(section.values["ip_remote"], section.values["networks"]),
        file=section.file.path,
        template=template,
    )


def _check_owner(section: Section, name: str, owners: dict[bytes, str]) -> None:
    """Warn of a key that stands in two sections: most probably it was copied into the wrong one."""
    for key in section.values["peer_key"]:
        owner = owners.setdefault(key, name)
        if owner != name:
            section.warn("peer_key", f"is the key of [client {owner}] too")


class _Report:
    """Says what a connection must not share in the words of its [client NAME] section."""

    def __init__(self, section: Section) -> None:
        self._section = section

    def of(self, _name: str) -> _Report:
        """Return where to report on a section that the client has from its template."""
        return self

    def problem(self, key: str, message: str) -> None:
        """Report an error."""
        self._section.problem(self._own(key), message)

    def warn(self, key: str, message: str) -> None:
        """Report a warning."""
        self._section.warn(self._own(key), message)

    def _own(self, key: str) -> str:
        return {"ip_remote": "ip_remote", "dst_addr": "networks"}.get(key, "")

"""``mpt client``: the clients of this server, which stand in clients.conf.

The first `mpt client add` also makes what a server needs: interface.conf, conf.template and the private key.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final

from mpt import values
from mpt.cli.arguments import argument, networks
from mpt.cli.interfaces import Line, chosen, lines
from mpt.cli.places import NewFiles, configuration_directory, locked, private_key_path, reloaded
from mpt.config.clients import CLIENTS_FILE, TEMPLATE, client_name, client_section
from mpt.config.connection import build_connection
from mpt.config.directory import load_directory, load_file
from mpt.config.disk import replace_file
from mpt.config.freetunnel import free_tunnel
from mpt.config.identity import load_identity, make_identity
from mpt.config.jointext import JoinText
from mpt.config.jointext import client_name as read_name
from mpt.config.location import CONNECTIONS, INTERFACE_FILE
from mpt.config.parser import ConfigurationErrors, IniFile, Section, read_file, read_text
from mpt.config.writer import new_interface_text, with_client, without_client
from mpt.errors import ConfigError
from mpt.local.protocol import DONE
from mpt.model import (
    MAX_REMOTES,
    Address,
    Config,
    ConnectionConfig,
    InterfaceAddress,
    key_text,
)

TEMPLATE_HEAD: Final = "; What all clients have in common. Each has its section in clients.conf: mpt client add.\n"


def client(arguments: Sequence[str], here: Callable[[], Sequence[Line]] = lines) -> int:
    """Add, remove or list clients; return the exit status. Raises ConfigError. `here` gives the lines of this host."""
    options = _parser().parse_args(arguments)
    options.here = here
    directory = configuration_directory(options.config, os.environ, Path.cwd())
    try:
        with locked(directory):
            said = options.run(directory, options)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    print("\n".join(said))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mpt client", description="The clients of this server.")
    parser.add_argument("--config", metavar="DIR", help="the configuration directory (default: as mptsrv finds it)")
    commands = parser.add_subparsers(required=True, metavar="{add | rekey | remove | list}")
    add = commands.add_parser("add", help="add a client, or bring the key of one", description=_add.__doc__)
    add.add_argument("name", type=argument(read_name), metavar="NAME", help="the client")
    add.add_argument("--key", type=argument(values.public_keys), help="its public key, which `mpt join` prints there")
    add.add_argument(
        "--networks", type=argument(networks), metavar="NETWORK,…", help="networks behind it, such as 192.168.7.0/24"
    )
    add.add_argument(
        "--server",
        type=argument(_servers),
        metavar="ADDRESS,…",
        help="how the client finds this host: addresses or DNS names (default: those of the interfaces)",
    )
    add.add_argument("--paths", metavar="NAME,…", help="interfaces of the server (default: those with a default route)")
    add.add_argument(
        "--tunnel", type=argument(_tunnel), metavar="ADDRESS/LENGTH", help="tunnel address of a new server"
    )
    add.set_defaults(run=_add)
    rekey = commands.add_parser("rekey", help="give a client that has lost its key another one")
    rekey.add_argument("name", metavar="NAME")
    rekey.add_argument("key", type=argument(values.public_keys), metavar="KEY", help="its new public key")
    rekey.set_defaults(run=_rekey)
    remove = commands.add_parser("remove", help="remove a client")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=_remove)
    listing = commands.add_parser("list", help="list the clients")
    listing.set_defaults(run=_list)
    return parser


def _servers(text: str) -> Any:
    found = values.remotes(text.replace(",", " "))
    if not found:
        raise ValueError("an address or a DNS name by which the client finds this host")
    return found


def _tunnel(text: str) -> InterfaceAddress:
    found = values.interface_address(text)
    if found.network.num_addresses < 4:
        raise ValueError("our tunnel address and a prefix that has room for clients, such as 10.77.0.1/24")
    return found


# ---- the four commands ----------------------------------------------------------------------------------------------


def _add(directory: Path, options: argparse.Namespace) -> list[str]:
    """Add a client to clients.conf, with the next free tunnel address, and print what it needs to join. Without a key
    the client is not there yet: `mpt join` prints the command that brings it."""
    with NewFiles() as new:
        server = _server(directory, options, new)
        clients = _Clients(server)
        old = client_section(clients.ini, options.name)
        known: dict[str, Any] = old.read("client").values if old is not None else {"networks": ()}
        changes = _changes(known, options)
        if old is None:
            known["ip_remote"] = changes["ip_remote"] = _free_address(server, clients.addresses())
        text = None if old is not None and options.key else _join_text(server, options, {**known, **changes})
        if changes:
            clients.write(with_client(clients.text, clients.ini, options.name, changes), new)
    said = [f"made {path}" for path in new.made]
    said.append(f"{options.name} is {known['ip_remote']}" + ("" if changes else ": nothing is new"))
    said += _told(directory) if changes else []
    if text is not None:
        said += ["", f"On {options.name}:", "", f"    mpt join {text.encode()}", ""]
        if not any(isinstance(each, str) or each.is_global for each in text.servers):
            said.append("This host has private addresses only: name others by --server for clients from elsewhere")
    return said


def _rekey(directory: Path, options: argparse.Namespace) -> list[str]:
    """Give a client another key; its address and networks stay."""
    clients = _Clients(_existing(directory))
    known = clients.section(options.name).read("client").values
    if known.get("peer_key") == options.key:
        return [f"{options.name} has this key: nothing is new"]
    clients.write(with_client(clients.text, clients.ini, options.name, {"peer_key": options.key}))
    return [f"{options.name} has another key", *_told(directory)]


def _remove(directory: Path, options: argparse.Namespace) -> list[str]:
    clients = _Clients(_existing(directory))
    clients.section(options.name)
    clients.write(without_client(clients.text, options.name))
    return [f"{options.name} is removed", *_told(directory)]


def _list(directory: Path, _options: argparse.Namespace) -> list[str]:
    clients = _Clients(_existing(directory))
    rows = []
    for section in clients.sections():
        found = section.values
        keys = " ".join(map(key_text, found.get("peer_key", ()))) or "(no key yet)"
        rows.append((client_name(section.title), str(found.get("ip_remote", "?")), keys, *map(str, found["networks"])))
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else []
    return ["  ".join([*(map(str.ljust, row, widths)), *row[3:]]).rstrip() for row in rows]


# ---- the server -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Server:
    """The configuration of this server: everything that runs beside the clients, and the template."""

    config: Config
    template: ConnectionConfig


def _server(directory: Path, options: argparse.Namespace, new: NewFiles) -> _Server:
    """Return the configuration of this server; make what is missing of it."""
    found: Sequence[Line] = options.here()
    if not (directory / INTERFACE_FILE).exists():
        tunnel = options.tunnel or _tunnel_here(found)
        new.add(directory / INTERFACE_FILE, new_interface_text(tunnel))
    elif options.tunnel is not None:
        raise ConfigError(f"--tunnel is for a new server: {directory / INTERFACE_FILE} exists and has the addresses")
    template = directory / CONNECTIONS / TEMPLATE
    if not template.exists():
        new.add(template, _template_text(directory, [line.name for line in chosen(options.paths, False, found)]))
    elif options.paths is not None:
        raise ConfigError(f"--paths is for a new server: {template} exists and has the interfaces")
    key = private_key_path(directory)
    if not key.exists():
        make_identity(key)
        new.note(key)
    return _existing(directory)


def _existing(directory: Path) -> _Server:
    """Return the configuration of this server. Raises ConfigError if there is none, or it has errors."""
    config = load_directory(directory).config
    ini = read_file(directory / CONNECTIONS / TEMPLATE)
    template = None if ini.problems else build_connection(ini, config.general, config.tunnels, for_clients=True)
    if template is None:
        raise ConfigurationErrors(ini.sorted_problems())
    return _Server(config, template)


def _template_text(directory: Path, names: Iterable[str]) -> str:
    section = read_file(directory / INTERFACE_FILE).sections["tun_0"].read("tun_n")
    own = section.values.get("ipv4_addr") or section.values.get("ipv6_addr")
    if own is None:
        raise ConfigError(f"{directory / INTERFACE_FILE}: [tun_0] has no address")
    paths = [f"\n[path_{number}]\ninterface_name   = {name}\n" for number, name in enumerate(names)]
    return "".join([TEMPLATE_HEAD, "[connection]\n", f"ip_local         = {own.ip}\n", *paths])


def _tunnel_here(found: Sequence[Line]) -> InterfaceAddress:
    """Return the address of a new tunnel, whose network no line of this host has. Raises ConfigError."""
    free = free_tunnel(address for line in found for address in line.addresses)
    if free is None:
        raise ConfigError("no tunnel address is free: name one with --tunnel, such as 172.20.77.1/24")
    return ip_interface(f"{free[1]}/{free.prefixlen}")


def _free_address(server: _Server, taken: Iterable[Address]) -> Address:
    """Return the lowest address of the tunnel's prefix that nobody has. Raises ConfigError."""
    tunnel = server.config.tunnel_of(server.template)
    own = tunnel.ipv4_addr if server.template.ip_ver == 4 else tunnel.ipv6_addr
    if own is None:
        raise ConfigError("the template's ip_local is no address of a tunnel")
    used = {*taken, *(each.ip_remote for each in server.config.connections)}
    for address in own.network.hosts():
        if address not in used and not any(each.holds(address) for each in server.config.tunnels):
            return address
    raise ConfigError(f"no address of {own.network} is free: remove a client, or give the tunnel a shorter prefix")


# ---- clients.conf ---------------------------------------------------------------------------------------------------


class _Clients:
    """clients.conf of a server, as it is now; a missing file is one without clients."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.path = server.config.directory / CONNECTIONS / CLIENTS_FILE
        self.text = ""
        if self.path.exists():
            self.text = self.path.read_bytes().decode()
        self.ini = read_text(self.text, self.path)

    def section(self, name: str) -> Section:
        """Return the section of the client `name`. Raises ConfigError if there is none."""
        found = client_section(self.ini, name)
        if found is None:
            raise ConfigError(f"there is no client {name} in {self.path}")
        return found

    def sections(self) -> list[Any]:
        """Return the sections of the clients, read."""
        return [each.read("client") for each in self.ini.sections.values() if client_name(each.title)]

    def addresses(self) -> list[Address]:
        """Return the tunnel addresses that clients have, also those whose key is not there yet."""
        return [each.values["ip_remote"] for each in self.sections() if "ip_remote" in each.values]

    def write(self, text: str, new: NewFiles | None = None) -> None:
        """Write `text` in the place of the file. Raises ConfigError, and then nothing has changed."""
        check_clients(read_text(text, self.path), self._server.config)
        if self.path.exists():
            replace_file(self.path, text)
        elif new is not None:
            new.add(self.path, text)


def check_clients(ini: IniFile, config: Config) -> None:
    """Raise ConfigurationErrors with what would be wrong with this clients.conf beside the other connections."""
    others = [each for each in config.connections if each.template is None]
    load_file(ini, config.general, config.tunnels, others, config.identity)


def _changes(known: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line changes of a client. Raises ConfigError for another key than the known one."""
    given = {"peer_key": options.key, "networks": options.networks}
    changes = {key: value for key, value in given.items() if value is not None and value != known.get(key)}
    if "peer_key" in changes and known.get("peer_key"):
        keys = " ".join(map(key_text, known["peer_key"]))
        raise ConfigError(
            f"{options.name} has the key {keys}: choose another name; or, if it has lost that key, "
            f"mpt client rekey {options.name} {' '.join(map(key_text, changes['peer_key']))}"
        )
    return changes


def _join_text(server: _Server, options: argparse.Namespace, client: dict[str, Any]) -> JoinText:
    """Return the join text of a client with these values. Raises ConfigError."""
    address: Address = client["ip_remote"]
    tunnel = server.config.tunnel_of(server.template)
    own = tunnel.ipv4_addr if address.version == 4 else tunnel.ipv6_addr
    return JoinText(
        client=options.name,
        servers=options.server or _addresses_here(server.template, options.here()),
        port=server.template.local_port,
        server_key=load_identity(server.config.private_key_path).public_key,
        own=ip_interface(f"{address}/{own.network.prefixlen if own is not None else address.max_prefixlen}"),
        peer=server.template.ip_local,
        networks=client["networks"],
    )


def _addresses_here(template: ConnectionConfig, here: Iterable[Line]) -> tuple[Address, ...]:
    """Return the addresses by which a client may find this host, those of the template's paths. Raises ConfigError."""
    by_name = {line.name: line.addresses for line in here}
    found: list[Address] = []
    for path in template.paths:
        known = [path.public_ipaddr] if not path.public_ipaddr.is_unspecified else []
        found += known or [each.ip for each in by_name.get(path.interface_name, ())]
    usable = [each for each in dict.fromkeys(found) if not each.is_link_local]
    usable = [each for each in usable if each.is_global] or usable
    if not usable:
        raise ConfigError("this host has no address that a client could reach: name one, or a DNS name, with --server")
    return tuple(usable[:MAX_REMOTES])


def _told(directory: Path) -> list[str]:
    """Let the daemon take in clients.conf, if it runs; return what to say."""
    return [reloaded(directory, CLIENTS_FILE) or "mptsrv does not run: the next start takes it"]

"""``mpt join``: makes this host the client that `mpt client add` has named on the server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from mpt.cli.interfaces import Line, chosen, lines
from mpt.cli.places import NewFiles, configuration_directory, locked, private_key_path, reloaded
from mpt.config.directory import load_directory
from mpt.config.identity import load_identity, make_identity
from mpt.config.jointext import JoinText, decode
from mpt.config.location import CONNECTIONS, INTERFACE_FILE
from mpt.config.parser import ConfigurationErrors
from mpt.config.schema import SPELLINGS
from mpt.config.writer import new_interface_text
from mpt.errors import ConfigError
from mpt.local.protocol import DONE
from mpt.values import text_of

DEFAULT_PORT: Final[int] = SPELLINGS["connection"]["remote_port"].default_value(sealed=True)


def join(arguments: Sequence[str], here: Callable[[], Sequence[Line]] = lines) -> int:
    """Join a server; return the exit status. Raises ConfigError. `here` gives the lines of this host."""
    options = _parser().parse_args(arguments)
    text = decode(options.text.strip())
    directory = configuration_directory(options.config, os.environ, Path.cwd())
    found = here()
    _check_prefix(text, found)
    try:
        paths = chosen(options.paths, options.all, found)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with locked(directory), NewFiles() as new:
        said = _join(directory, text, paths, new)
    print("\n".join(said))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mpt join", description="Make this host the client of a server.")
    parser.add_argument("text", metavar="TEXT", help="the join text that `mpt client add` has printed on the server")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--paths", metavar="NAME,…", help="interfaces to use (default: those with a default route)")
    which.add_argument("--all", action="store_true", help="use every interface that is up")
    parser.add_argument("--config", metavar="DIR", help="the configuration directory (default: as mptsrv finds it)")
    return parser


def _join(directory: Path, text: JoinText, paths: Sequence[Line], new: NewFiles) -> list[str]:
    """Make the files that this host needs, and return what to say. Raises ConfigError, and then `new` is undone."""
    server = str(text.servers[0])
    file = directory / CONNECTIONS / f"{server.replace(':', '-')}.conf"
    key = private_key_path(directory)
    identity = load_identity(key) if key.exists() else None
    if not (directory / INTERFACE_FILE).exists():
        new.add(directory / INTERFACE_FILE, new_interface_text(text.own))
    new.add(file, _connection_text(text, server, [line.name for line in paths]))
    if identity is None:
        identity = make_identity(key)
        new.note(key)
    try:
        load_directory(directory)
    except ConfigurationErrors as error:
        raise ConfigError(f"nothing is written, because of what would be wrong: {error}") from None
    said = [f"made {path}" for path in new.made]
    said.append(f"{server} over {', '.join(line.name for line in paths)}")
    said.append(f"the public key of this host: {identity.public_text}")
    said += [
        f"{each} has no [net_n] yet: nobody here knows which IPv{each.version} networks it is to reach; write one"
        for each in text.networks
        if each.version != text.own.version
    ]
    said += ["", "On the server:", "", f"    mpt client add {text.client} --key {identity.public_text}", ""]
    return [*said, reloaded(directory, file.name) or "Then start mptsrv here."]


def _check_prefix(text: JoinText, here: Sequence[Line]) -> None:
    """Raise ConfigError if an interface of this host is in the tunnel's prefix: its packets would go to the server."""
    for line in here:
        for address in line.addresses:
            if address.version == text.own.version and address.network.overlaps(text.own.network):
                raise ConfigError(
                    f"the tunnel's prefix {text.own.network} is that of {line.name} ({address}): the server must have "
                    "another one"
                )


def _connection_text(text: JoinText, server: str, names: Sequence[str]) -> str:
    """Return the file of the connection to the server; the server's other clients are behind it."""
    head: list[tuple[str, object]] = [("name", server), ("peer_key", text.server_key)]
    head += [("ip_local", text.own.ip), ("ip_remote", text.peer)]
    head += [("remote_port", text.port)] if text.port != DEFAULT_PORT else []
    blocks = [("connection", head)]
    blocks += [
        (f"path_{number}", [("interface_name", name), ("remote_ipaddr", text.servers)])
        for number, name in enumerate(names)
    ]
    sources = (ip_network(text.own.ip), *(each for each in text.networks if each.version == text.own.version))
    blocks += [
        (f"net_{number}", [("src_addr", source), ("dst_addr", text.own.network)])
        for number, source in enumerate(sources)
    ]
    written = [f"; Made by mpt join: this host is {text.client} for the server."]
    for title, rows in blocks:
        written += ["", f"[{title}]", *(f"{key:<16} = {text_of(value)}" for key, value in rows)]
    return "\n".join(written) + "\n"

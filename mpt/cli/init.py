"""``mpt init``: a matching pair of configurations, from options or from questions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from mpt import values
from mpt.cli.arguments import argument, networks
from mpt.cli.interfaces import Line, lines
from mpt.cli.places import NewFiles
from mpt.config.directory import load_directory
from mpt.config.freetunnel import free_tunnel
from mpt.config.identity import make_identity
from mpt.config.jointext import client_name
from mpt.config.location import CONNECTIONS, INTERFACE_FILE
from mpt.config.pair import SEALED_PORT, SIDES, Plan, read_path
from mpt.config.parser import ConfigurationErrors
from mpt.errors import ConfigError
from mpt.local.protocol import BAD_USAGE, DONE
from mpt.model import GeneralConfig, Network

PRIVATE_KEY: Final = GeneralConfig().private_key_file

EXAMPLES: Final = """\
A laptop or router with two lines, and a server:
    mpt init tunnel --names home,vps \\
        --path eth1,eth0=192.0.2.10 --path wwan0,eth0=192.0.2.10
Two hosts with two cables between them, without keys, as MPT-GRE:
    mpt init tunnel --plain --path eth1=10.1.1.2/24,eth1=10.1.1.3/24 \\
        --path eth2=10.2.2.2/24,eth2=10.2.2.3/24
All traffic of a home over DSL (10 up, 50 down) and LTE (20 up, 30 down):
    mpt init tunnel --path eth1,eth0=192.0.2.10,10/50 \\
        --path eth2,eth0=192.0.2.10,20/30 \\
        --networks 192.168.1.0/24 --peer-networks 0.0.0.0/0"""


def init(
    arguments: Sequence[str], ask: Callable[[str], str] | None = None, here: Callable[[], Sequence[Line]] = lines
) -> int:
    """Run ``mpt init``. Return the exit status. Raises ConfigError. `ask` asks a question and returns the answer; by
    default on the terminal if there is one. `here` gives the lines of this host."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if ask is None and sys.stdin.isatty():
        ask = input
    if not options.path and ask is None:
        parser.print_usage(sys.stderr)
        print("mpt init: name at least one --path, or answer its questions on a terminal", file=sys.stderr)
        return BAD_USAGE
    try:
        plan = _planned(options, here()) if options.path else _asked(options, ask or input, here())
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with NewFiles() as new:
        said = _made(Path(options.directory), plan, new)
    print("\n".join(said))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mpt init",
        description="Make a matching pair of configurations, DIR/HERE and DIR/THERE, one for each\n"
        "host: with keys of their own (sealed), unless --plain is given. Without --path\nit asks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR", help="a directory for both; no file is overwritten")
    parser.add_argument(
        "--path",
        action="append",
        type=argument(read_path),
        metavar="HERE,THERE[,UP/DOWN]",
        help="a path: INTERFACE or INTERFACE=ADDRESS[+ADDRESS…] at each end, and what each end sends, in Mbit/s",
    )
    parser.add_argument("--names", type=argument(_names), metavar="HERE,THERE", help="names of the hosts [here,there]")
    parser.add_argument("--tunnel", type=argument(_network), metavar="NETWORK", help="of the tunnel [10.77.0.0/24]")
    parser.add_argument("--networks", type=argument(networks), metavar="NETWORK,…", help="networks behind HERE")
    parser.add_argument(
        "--peer-networks", type=argument(networks), metavar="NETWORK,…", help="behind THERE; 0.0.0.0/0: the Internet"
    )
    parser.add_argument(
        "--port", type=argument(values.integer(1, 65534)), metavar="N", help=f"UDP port [{SEALED_PORT}]"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--plain", action="store_true", help="without keys, as the C program's: neither encrypted nor authenticated"
    )
    kind.add_argument("--adaptive", action="store_true", help="go by measured rates and delays, also if UP/DOWN differ")
    return parser


def _names(text: str) -> tuple[str, str]:
    found = text.split(",")
    if len(found) != 2:
        raise ValueError("two names with a comma between, such as home,vps")
    return client_name(found[0]), client_name(found[1])


def _network(text: str) -> Network:
    (found,) = values.networks(text)
    return found


def _planned(options: argparse.Namespace, here: Sequence[Line], **answers: Any) -> Plan:
    """Return the plan of the options, and of the `answers` to what they leave open. Raises ValueError."""
    given = {
        "names": options.names or ("here", "there"),
        "tunnel": options.tunnel or _free_network(here),
        "paths": options.path,
        "networks": (options.networks or (), options.peer_networks or ()),
        "port": options.port or SEALED_PORT,
        "is_sealed": not options.plain,
        "is_adaptive": options.adaptive,
    }
    return Plan(**{**given, **answers})


def _free_network(here: Sequence[Line]) -> Network:
    """Return a network for the tunnel that no line of this host has. Raises ValueError."""
    found = free_tunnel(address for line in here for address in line.addresses)
    if found is None:
        raise ValueError("no network is free for the tunnel: name one with --tunnel, such as 172.20.77.0/24")
    return found


# ---- questions ------------------------------------------------------------------------------------------------------


def _asked(options: argparse.Namespace, ask: Callable[[str], str], here: Sequence[Line]) -> Plan:
    """Return the plan of the options and of the answers to questions. Raises ValueError."""
    own_name, peer_name = options.names or ("", "")
    own_name = own_name or _answer(ask, "Name of this host", "here", client_name)
    peer_name = peer_name or _answer(ask, "Name of the other host", "there", client_name)
    usual = [line.name for line in here if line.is_default] or [line.name for line in here]
    chosen = _answer(ask, f"Lines of {own_name}, with commas between", ",".join(usual), _interfaces)
    address = _answer(ask, f"Address, or DNS name, at which {peer_name} is found", "", _found_at)
    interface = _answer(ask, f"Interface of {peer_name} with that address", "eth0", values.interface_name)
    found = []
    for name in chosen:
        own = ""
        if options.plain:  # needs the addresses of both ends
            known = [str(each.ip) for line in here if line.name == name for each in line.addresses]
            question = f"Address of {own_name} over {name}, as {peer_name} sees it"
            own = f"={_answer(ask, question, known[0] if known else '', values.address)}"
        found.append(read_path(f"{name}{own},{interface}={address}"))
    return _planned(options, here, names=(own_name, peer_name), paths=found)


def _answer(ask: Callable[[str], str], question: str, default: str, read: Callable[[str], Any]) -> Any:
    """Ask until the answer is one; return it as `read` has read it. Raises ConfigError at the end of the input."""
    while True:
        try:
            answer = ask(f"{question} [{default}]: " if default else f"{question}: ").strip() or default
        except EOFError:
            raise ConfigError("the answers ended: nothing is written") from None
        try:
            return read(answer)
        except ValueError as error:
            print(f"It must be {error}.", file=sys.stderr)


def _interfaces(text: str) -> list[str]:
    return [values.interface_name(each.strip()) for each in text.split(",")]


def _found_at(text: str) -> str:
    if len(values.remotes(text)) != 1:
        raise ValueError("one address or DNS name, such as 192.0.2.10 or vpn.example")
    return text


# ---- the files ------------------------------------------------------------------------------------------------------


def _made(directory: Path, plan: Plan, new: NewFiles) -> list[str]:
    """Make the files of both hosts; return what to say. Raises ConfigError, and then `new` is undone."""
    folders = [directory / name for name in plan.names]
    keys = ["", ""]
    for side in SIDES:
        try:
            (folders[side] / CONNECTIONS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folders[side]} cannot be made: {error.strerror}") from error
        if plan.is_sealed:
            keys[side] = make_identity(folders[side] / PRIVATE_KEY).public_text
            new.note(folders[side] / PRIVATE_KEY)
    for side in SIDES:
        new.add(folders[side] / INTERFACE_FILE, plan.interface_text(side))
        file = folders[side] / CONNECTIONS / f"{plan.names[1 - side]}.conf"
        new.add(file, plan.connection_text(side, keys[1 - side]))
    for folder in folders:
        try:
            load_directory(folder)
        except ConfigurationErrors as error:
            raise ConfigError(f"nothing is written, because of what would be wrong: {error}") from None
    return _next_steps(folders, plan, new)


def _next_steps(folders: Sequence[Path], plan: Plan, new: NewFiles) -> list[str]:
    here, there = plan.names
    said = [*(f"made {path}" for path in new.made), ""]
    said += [f"{name} is {plan.address(side).ip} in the tunnel" for side, name in enumerate(plan.names)]
    ports = str(plan.port) if plan.is_sealed else f"{plan.port} and {GeneralConfig().cmdport_local}"
    reached = [name for side, name in enumerate(plan.names) if any(path.ends[side].found_at for path in plan.paths)]
    said += ["", f"Let UDP {ports} through the firewall of {' and of '.join(reached)}."]
    said += [f"Bring {folders[0]} to /etc/mpt of {here}, and {folders[1]} to that of {there}:"]
    said += [f"    scp -r {folder}/. root@{name}:/etc/mpt" for folder, name in zip(folders, plan.names, strict=True)]
    said += ["then on both: mpt check; mptsrv"]
    if plan.is_sealed:
        said += ["", "Each has the private key of its host: delete what you do not need here any more."]
    return said

"""``mpt check``: whether a configuration can be used, and does what is meant on this host."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mpt.cli.look import status_here
from mpt.config.findings import ERROR, NOTE, SCHEMA, WARNING, Finding, counts
from mpt.config.location import find_directory
from mpt.config.semantics import check_directory
from mpt.facts import HostFacts, Target
from mpt.local.protocol import DONE, FAILED
from mpt.model import Address, Config, PathConfig

EPILOG: Final = (
    f"Exit status: {DONE} if mptsrv would start with it, {FAILED} if there are errors (with --strict: or warnings). "
    "mptsrv --check looks at the files alone, as a start of the daemon does."
)


def check(arguments: Sequence[str], here: Callable[[Config], HostFacts | None] | None = None) -> int:
    """Run ``mpt check``. Return the exit status. Raises ConfigError. `here` gives the facts about this host that matter
    for a configuration."""
    options = _parser().parse_args(arguments)
    directory = find_directory(options.directory, os.environ, Path.cwd())
    config, findings = check_directory(directory)
    facts = None if options.offline else (here or facts_here)(config)
    if facts is not None:
        config, findings = check_directory(directory, facts)
    numbers = counts(findings)
    if options.json:
        listed = [each.as_json() for each in findings]
        print(json.dumps({"schema": SCHEMA, "directory": str(directory), "findings": listed}))
    else:
        print(_text(directory, config, findings, facts is not None))
    return FAILED if numbers[ERROR] or (options.strict and numbers[WARNING]) else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mpt check",
        description="Look for what is wrong in a configuration: errors, and what would not work on this host.",
        epilog=EPILOG,
    )
    parser.add_argument("directory", nargs="?", metavar="DIR", help="the configuration (default: as mptsrv finds it)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--offline", action="store_true", help="judge the files alone, not this host and its peers")
    parser.add_argument("--strict", action="store_true", help="end with status 1 for warnings, too")
    return parser


def facts_here(config: Config) -> HostFacts | None:
    """Return what is known about this host and the command ports of its peers, None if the kernel hides it."""
    from mpt.host.probe import try_ports
    from mpt.host.survey import survey

    status = status_here()
    facts = survey(status.pid if status is not None else 0, native_is_built())
    return None if facts is None else replace(facts, probed=try_ports(command_ports(config, facts)))


def native_is_built() -> bool:
    """Return whether the native data path was built."""
    return find_spec("mpt.accel._native") is not None


def command_ports(config: Config, facts: HostFacts) -> Iterator[Target]:
    """Return the command ports of the peers that need one: of plain connections."""
    for connection in config.connections:
        if not connection.is_sealed and not connection.is_down and connection.remote_cmd_port:
            for path in connection.paths:
                if not path.remote_ipaddr.is_unspecified and path.interface_name in facts.interfaces:
                    yield target(path, path.remote_ipaddr, connection.remote_cmd_port, facts)


def target(path: PathConfig, peer: Address, port: int, facts: HostFacts) -> Target:
    """Return a port of the peer as this path reaches it."""
    own = path.private_ipaddr or path.public_ipaddr
    addresses = facts.interfaces[path.interface_name].addresses
    local = own if any(each.ip == own for each in addresses) else None
    interface = path.interface_name if path.bind_to_device else ""
    return Target(interface, local if local is not None and local.version == peer.version else None, peer, port)


def _text(directory: Path, config: Config, findings: Sequence[Finding], is_whole: bool) -> str:
    lines = [each.text() for each in findings]
    numbers = counts(findings)
    said = _numbers(numbers) or "nothing is wrong"
    if numbers[ERROR]:
        lines.append(f"{directory}: {said}; mptsrv does not start with it")
        return "\n".join(lines)
    connections = len(config.connections)
    lines.append(f"{directory}: {len(config.tunnels)} tunnel(s), {connections} connection(s): {said}")
    if not is_whole:
        lines.append("This host and its peers were not looked at.")
    return "\n".join(lines)


def _numbers(numbers: Mapping[str, int]) -> str:
    """Return "2 warnings, 1 note", "" for none."""
    return ", ".join(
        f"{numbers[each]} {each}{'s' if numbers[each] > 1 else ''}" for each in (ERROR, WARNING, NOTE) if numbers[each]
    )

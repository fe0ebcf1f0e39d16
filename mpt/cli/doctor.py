"""``mpt doctor``: what may be wrong around the daemon, and the commands that mend it."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mpt import __version__
from mpt.cli.channel import ChannelError
from mpt.cli.check import command_ports, native_is_built, target
from mpt.cli.look import SHORT, data_of, question, status_here, wants_colour
from mpt.cli.options import Options
from mpt.config.directory import read_directory
from mpt.config.location import find_directory
from mpt.config.semantics import check_directory
from mpt.doctor.bundle import configuration_text, secrets_in, without_secrets
from mpt.doctor.findings import FAULT, SCHEMA, Finding
from mpt.doctor.findings import text as text_of
from mpt.doctor.judgements import Case, judge
from mpt.errors import ConfigError
from mpt.facts import HostFacts, Target
from mpt.host.probe import path_mtu, try_ports
from mpt.host.survey import survey
from mpt.local.protocol import DONE, FAILED
from mpt.local.status import StatusDocument
from mpt.local.statustext import Paint
from mpt.model import Config

MOST_WAYS: Final = 8  # to peers, whose MTU is measured; each may take some seconds

EPILOG: Final = (
    f"Exit status: {DONE} if nothing is at fault, else {FAILED}. A sysctl is gone after the next boot: keep it in "
    "/etc/sysctl.d/."
)


def doctor(arguments: Sequence[str]) -> int:
    """Run ``mpt doctor``. Return the exit status. Raises ConfigError and ChannelError."""
    options = _parser().parse_args(arguments)
    directory = _directory(options.directory)
    status = status_here()
    host = survey(status.pid if status is not None else 0, native_is_built())
    if host is None:
        raise ChannelError(FAILED, "the kernel does not show its interfaces here, as in some sandboxes")
    case = _case(directory, host, status, options.offline)
    findings = judge(case)
    if options.json:
        print(json.dumps({"schema": SCHEMA, "findings": [each.as_json() for each in findings]}))
    else:
        print(text_of(findings, Paint(wants_colour())))
    if options.bundle is not None:
        write_bundle(options.bundle, texts(directory, case, findings))
        print(f"{options.bundle} has this and the configuration, without keys and secrets", file=sys.stderr)
    return FAILED if any(each.severity == FAULT for each in findings) else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mpt doctor",
        description="Look for what is wrong around mptsrv: the kernel, the lines, the way to the peers. Each finding "
        "comes with the command that mends it. It works with and without a running daemon, and changes nothing.",
        epilog=EPILOG,
    )
    parser.add_argument("directory", nargs="?", metavar="DIR", help="the configuration (default: as mptsrv finds it)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--offline", action="store_true", help="do not try to reach the peers")
    parser.add_argument("--bundle", metavar="FILE", help="write all of it to a new FILE.tar.gz, without secrets")
    return parser


def _directory(explicit: str | None) -> Path | None:
    """Return the configuration directory, None if there is none. Raises ConfigError if a named one is none."""
    try:
        return find_directory(explicit, os.environ, Path.cwd())
    except ConfigError:
        if explicit is not None:
            raise
        return None


def _case(directory: Path | None, host: HostFacts, status: StatusDocument | None, offline: bool) -> Case:
    """Return everything that is judged; unless `offline`, the peers are tried."""
    config, checked = check_directory(directory, host) if directory is not None else (None, None)
    ways = list(_ways(config, host)) if config is not None and not offline else []
    targets = [*ways, *(command_ports(config, host) if config is not None and ways else ())]
    measured = {
        (way.interface, way.peer): path_mtu(way, host.interfaces[way.interface].mtu)
        for way in ways[:MOST_WAYS]
        if way.interface in host.interfaces
    }
    return Case(host, config, status, try_ports(targets), measured, checked)


def _ways(config: Config, host: HostFacts) -> Iterator[Target]:
    """Return the data ports of the peers whose address is known, over each path."""
    for connection in config.connections:
        for path in connection.paths if not connection.is_down else ():
            for peer in path.remote_addresses or (path.remote_ipaddr,):
                if not peer.is_unspecified and connection.remote_port and path.interface_name in host.interfaces:
                    yield target(path, peer, connection.remote_port, host)


# ---- the bundle -----------------------------------------------------------------------------------------------------


def texts(directory: Path | None, case: Case, findings: Sequence[Finding]) -> dict[str, str]:
    """Return the texts of a bundle by the names of their files, without secrets."""
    found = {
        "versions.txt": f"mpt {__version__}\nPython {sys.version}\n{' '.join(os.uname())}\n",
        "doctor.txt": text_of(findings, Paint(False)) + "\n",
        "doctor.json": _json([each.as_json() for each in findings]),
        "host.json": _json(_by_text(asdict(case.host))),
        "status.json": _json(case.status.as_json() if case.status is not None else None),
        "events.json": _json(_events()),
    }
    secrets: set[str] = set()
    if directory is not None:
        files = read_directory(directory)
        inis = [each for each in (files.interface, *files.connections) if each.sections]
        for ini in inis:
            found[f"configuration/{ini.path.relative_to(directory)}"] = configuration_text(ini)
        found["check.json"] = _json([each.as_json() for each in case.checked or ()])
        secrets = secrets_in(inis, _private_key(files.config.private_key_path))
    return without_secrets(found, secrets)


def _events() -> Mapping[str, Any] | None:
    """Return what the daemon has logged, None without one."""
    try:
        return data_of(question(Options(timeout=SHORT), "events"))
    except ChannelError:
        return None


def _private_key(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _by_text(value: Any) -> Any:
    """Return nested dicts with text for keys."""
    if not isinstance(value, dict):
        return value
    return {
        " ".join(map(str, key)) if isinstance(key, tuple) else str(key): _by_text(each) for key, each in value.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"


def write_bundle(file: str, found: Mapping[str, str]) -> None:
    """Write a new compressed archive, for its owner alone. Raises ConfigError."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, text in found.items():
                member = tarfile.TarInfo(f"mpt-doctor/{name}")
                octets = text.encode()
                member.size, member.mtime, member.mode = len(octets), int(time.time()), 0o600
                archive.addfile(member, io.BytesIO(octets))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror or error}") from error

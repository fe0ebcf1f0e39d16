"""Where the daemon of this host may be found, from options, environment and interface.conf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mpt.config.location import INTERFACE_FILE, find_directory
from mpt.config.parser import read_file
from mpt.errors import MptError
from mpt.local.sockets import control_sockets
from mpt.model import GeneralConfig

SOCKET_VARIABLE: Final = "MPT_CONTROL_SOCKET"
DEFAULTS: Final = GeneralConfig()


@dataclass(frozen=True, slots=True)
class Settings:
    """The unix sockets to try in order, whether one of them must answer, the UDP port, and the patience in seconds."""

    sockets: tuple[str, ...]
    named: bool
    port: int
    timeout: float


def find_settings(
    socket: str | None, port: int | None, timeout: float | None, environ: Mapping[str, str], cwd: Path
) -> Settings:
    """Return the settings: by the options `socket`, `port` and `timeout`, else by interface.conf, else its defaults.

    If an option or the environment names a socket, no other is tried.
    """
    general = _general(environ, cwd)
    named = socket or environ.get(SOCKET_VARIABLE)
    usual = [general.get("control_socket"), *control_sockets(environ)]
    return Settings(
        (named,) if named else tuple(dict.fromkeys(str(each) for each in usual if each)),
        bool(named),
        port or general.get("cmdport_local") or DEFAULTS.cmdport_local,
        timeout or general.get("cmd_timeout") or DEFAULTS.cmd_timeout,
    )


def _general(environ: Mapping[str, str], cwd: Path) -> Mapping[str, Any]:
    """Return the good keys of [general] in the daemon's interface.conf; none if we cannot read it."""
    try:
        file = read_file(find_directory(None, environ, cwd) / INTERFACE_FILE)
    except MptError:
        return {}
    section = file.sections.get("general")
    return section.read("general").values if section else {}

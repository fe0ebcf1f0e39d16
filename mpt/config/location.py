"""Where the configuration directory is; apart from what reads it, for a client that must start fast."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mpt.errors import ConfigError

INTERFACE_FILE: Final = "interface.conf"  # guide 2.6.2
CONNECTIONS: Final = "connections"  # the directory of the connection files, guide 2.6.3
SYSTEM_DIRECTORY: Final = Path("/etc/mpt")


def find_directory(
    explicit: str | None, environ: Mapping[str, str], cwd: Path, system: Path = SYSTEM_DIRECTORY
) -> Path:
    """Return `explicit`, else $MPT_CONFIG_DIR, else ./conf or /etc/mpt, whichever has an interface.conf.

    If a named directory has no interface.conf, no other is tried. Raises ConfigError with the directories tried.
    """
    named = explicit or environ.get("MPT_CONFIG_DIR")
    candidates = [cwd / named] if named else [cwd / "conf", system]
    for candidate in candidates:
        if os.path.isfile(candidate / INTERFACE_FILE):
            return candidate
    origin = "--config" if explicit else "$MPT_CONFIG_DIR" if named else ""
    tried = f"{origin} {named}" if named else " and ".join(map(str, candidates))
    raise ConfigError(
        f"there is no {INTERFACE_FILE} in {tried}: name the right directory with --config DIR or in $MPT_CONFIG_DIR"
    )

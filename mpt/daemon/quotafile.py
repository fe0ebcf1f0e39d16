"""The file in the state directory that has what the paths with a quota have used, so that it outlives the daemon.

    {"schema": "mpt.quota/1", "paths": [
        {"connection": "home", "interface": "wwan0", "number": 0, "begun": "2026-11-01", "octets": 1234567}]}

It is replaced as a whole. There is no fsync: it blocks, and only a power failure loses what was written since the last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from mpt.control.quota import Used

SCHEMA: Final = "mpt.quota/1"
DEFAULT_DIRECTORY: Final = Path("/var/lib/mpt")
_LONGEST: Final = 200  # characters of the directory's name in that of the file


class PathPlace(NamedTuple):
    """A path as the operator knows it: its connection, its interface, and its number among the paths there."""

    connection: str
    interface: str
    number: int


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory for what outlives the daemon: that of systemd, if there is one."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else DEFAULT_DIRECTORY


def quota_file(state: Path, configuration: Path) -> Path:
    """Return the file for the daemon of a configuration directory: namespaces share one file system, and each may have
    a daemon."""
    name = "-".join(part for part in configuration.absolute().parts if part != "/")
    return state / f"quota-{name[-_LONGEST:]}.json"


def read_used(file: Path) -> dict[PathPlace, Used]:
    """Return what a file has; nothing if there is none. Raises OSError, and ValueError if it is damaged."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        return dict(_entry(each) for each in document["paths"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is not whole: {error!r}") from error


def _entry(plain: Mapping[str, object]) -> tuple[PathPlace, Used]:
    connection, interface, number = plain["connection"], plain["interface"], plain["number"]
    begun, octets = plain["begun"], plain["octets"]
    if not (isinstance(connection, str) and isinstance(interface, str) and isinstance(begun, str)):
        raise TypeError("a text is none")
    if not (isinstance(number, int) and isinstance(octets, int) and octets >= 0):
        raise TypeError("a number is none")
    return PathPlace(connection, interface, number), Used(date.fromisoformat(begun), octets)


def write_used(file: Path, used: Mapping[PathPlace, Used]) -> None:
    """Put `used` in the place of the file, which may be new, in a directory that may be. Raises OSError."""
    paths = [{**place._asdict(), "begun": str(each.begun), "octets": each.octets} for place, each in used.items()]
    text = json.dumps({"schema": SCHEMA, "paths": paths}, indent=1) + "\n"
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)

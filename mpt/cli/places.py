"""Where the configuration of this host is, or will be, and how its files are made and changed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mpt.cli.channel import ChannelError, ask
from mpt.cli.settings import find_settings
from mpt.config.disk import create_file
from mpt.config.location import INTERFACE_FILE, SYSTEM_DIRECTORY, find_directory
from mpt.config.parser import read_file
from mpt.errors import ConfigError
from mpt.local.protocol import NO_DAEMON
from mpt.model import GeneralConfig


def configuration_directory(explicit: str | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the directory as mptsrv finds it; without an interface.conf anywhere, where there will be one."""
    try:
        return find_directory(explicit, environ, cwd)
    except ConfigError:
        named = explicit or environ.get("MPT_CONFIG_DIR")
        return cwd / named if named else SYSTEM_DIRECTORY


def private_key_path(directory: Path) -> Path:
    """Return the private_key_file of interface.conf, or its default if there is no such file."""
    path: Path = GeneralConfig().private_key_file
    if (directory / INTERFACE_FILE).exists():
        section = read_file(directory / INTERFACE_FILE).sections.get("general")
        path = section.read("general").values.get("private_key_file", path) if section is not None else path
    return directory / path


def reloaded(directory: Path, file: str) -> str:
    """Let the daemon of this directory take in a connection file; return what it says, "" if none runs."""
    settings = find_settings(None, None, None, {**os.environ, "MPT_CONFIG_DIR": str(directory)}, directory)
    try:
        return "mptsrv: " + ask(("reload", file), settings, lambda text: None).text.rstrip()
    except ChannelError as error:
        return "" if error.code == NO_DAEMON else f"{file} is written, but mptsrv was not told: {error}"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the directory if it is missing, and keep other `mpt` commands out that change it. Raises ConfigError."""
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class NewFiles:
    """The files that a command makes: all of them, or none if the block that uses this raises. None is overwritten."""

    def __init__(self) -> None:
        self.made: list[Path] = []

    def __enter__(self) -> NewFiles:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            for path in reversed(self.made):
                path.unlink(missing_ok=True)

    def add(self, path: Path, text: str) -> None:
        """Make a file. Raises ConfigError."""
        create_file(path, text)
        self.made.append(path)

    def note(self, path: Path) -> None:
        """Note a file that another function has made."""
        self.made.append(path)

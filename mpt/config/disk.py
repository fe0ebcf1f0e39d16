"""Configuration files are written as a whole or not at all: a crash leaves the old file or the new one."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mpt.errors import ConfigError

SECRET: Final = 0o600  # mode of a new file that may hold a key
PUBLIC: Final = 0o644  # of one that holds none


def create_file(path: Path, text: str) -> None:
    """Write a new file without secrets. Raises ConfigError if it exists or cannot be written."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir()
            give_to_owner_of_folder(path.parent)
        _write(path, text.encode(), PUBLIC, None, os.link)
    except FileExistsError:
        raise ConfigError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def replace_file(path: Path, text: str) -> None:
    """Write `text` in the place of the file at `path`, whose owner and mode stay. Raises ConfigError."""
    target = Path(os.path.realpath(path))
    try:
        write_file(target, text.encode(), target.stat())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def write_file(path: Path, data: bytes, like: os.stat_result | None) -> None:
    """Write `data` to the file at `path`; owner and mode are as of `like`, of a new file for its owner only. Raises
    OSError, and ConfigError if only root could keep the owner."""
    _write(path, data, SECRET, like, os.replace)


def _write(path: Path, data: bytes, mode: int, like: os.stat_result | None, put: Callable[[str, Path], None]) -> None:
    """Write `data` to a file beside `path` and `put` that at `path`."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            if like is not None and (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                _give(descriptor, like, path)
            if like is None:
                give_to_owner_of_folder(path, descriptor)
            os.fchmod(descriptor, mode if like is None else stat.S_IMODE(like.st_mode))
            stream.flush()
            os.fsync(descriptor)
        put(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def give_to_owner_of_folder(path: Path, descriptor: int | None = None) -> None:
    """Give a new file or folder, which may be open already, to the owner and group of its folder, if we are root. So a
    daemon that is not root can read the files that root's `mpt` makes in the daemon's folder. Raises OSError."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path if descriptor is None else descriptor, folder.st_uid, folder.st_gid)


def _give(descriptor: int, like: os.stat_result, path: Path) -> None:
    """Give a file the owner and group `like`; raises ConfigError if only root could."""
    try:
        os.fchown(descriptor, like.st_uid, like.st_gid)
    except PermissionError as error:
        ours = pwd.getpwuid(os.geteuid()).pw_name
        text = f"it has another owner or group than the daemon's user: chown {ours}:{ours} {path}"
        raise ConfigError(f"{path}: cannot be saved: {text}") from error

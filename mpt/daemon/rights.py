"""The user of the daemon (``--user``), and the files that it must be able to write.

Root's rights go before the first file is read. So a reload can read and open whatever the start could, and log, pidfile
and local socket belong to the user. Only two directories are made before, `RUNTIME_DIRECTORY` and `LOG_DIRECTORY`.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from mpt.errors import HostError
from mpt.host import rights
from mpt.local.sockets import RUNTIME_DIRECTORY
from mpt.model import Config

LOG_DIRECTORY: Final = "/var/log/mpt"  # of a daemon with a user
NEEDED: Final = frozenset({rights.CAP_NET_ADMIN, rights.CAP_NET_RAW})
FIRST_FREE_PORT: Final = 1024  # ports below need CAP_NET_BIND_SERVICE


def become(name: str, logfile: str | None) -> None:
    """Be the user `name` from now on, with the capabilities that some configuration may need. Raises HostError."""
    user = rights.find_user(name)
    if os.geteuid() == rights.ROOT:
        ours = [RUNTIME_DIRECTORY]
        if logfile is not None and os.path.dirname(os.path.abspath(logfile)) == LOG_DIRECTORY:
            ours.append(LOG_DIRECTORY)
        for directory in ours:
            with suppress(OSError):  # whoever wants to write there says that it cannot
                rights.give_directory(directory, user)
    rights.become(user, NEEDED | {rights.CAP_NET_BIND_SERVICE})
    for file in (os.__file__, __file__):  # more modules are imported later
        if not os.access(file, os.R_OK):
            raise HostError(f"the user {name} may not read the program: {file}")


def keep_what_is_needed(config: Config) -> None:
    """Give up CAP_NET_BIND_SERVICE unless `config` has a port that needs it. Raises OSError."""
    ports = [config.general.cmdport_local, *(each.local_port for each in config.connections)]
    low = any(0 < port < FIRST_FREE_PORT for port in ports)
    rights.keep_only(NEEDED | ({rights.CAP_NET_BIND_SERVICE} if low else set()))


def check_files(logfile: str | None, pidfile: str | None, user: str | None) -> None:
    """Raise HostError, with a text that says what to do, if a file cannot be written, or the pidfile not removed.

    "-" as `logfile` is the standard output.
    """
    who = f" as the user {user}" if user else ""
    files = ((logfile, "log", "--logfile", False), (pidfile, "pidfile", "--pidfile", True))
    for path, what, option, is_removed in files:
        if path and path != "-" and (reason := _why_not_written(path, is_removed)):
            raise HostError(f"cannot write the {what} {path}{who}: {reason}: name another with {option}")


def _why_not_written(path: str, is_removed: bool) -> str:
    """Return why the file at `path` cannot be written, or removed, "" if it can. No file is left that was not there."""
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        return f"there is no directory {directory}"
    existed = os.path.lexists(path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600))
        if not existed:
            os.unlink(path)
    except OSError as error:
        return os.strerror(error.errno or errno.EIO)
    return f"it could not be removed from {directory}" if is_removed and not os.access(directory, os.W_OK) else ""

"""The program ``mptsrv`` (guide 3): the daemon in the foreground, the same as ``twistd -n mpt``."""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpt import __version__
from mpt.accel.choice import configured_datapath
from mpt.config.directory import load_directory
from mpt.config.location import find_directory
from mpt.config.parser import ConfigurationErrors
from mpt.daemon.machine import interfaces_here
from mpt.daemon.rights import LOG_DIRECTORY, become, check_files
from mpt.errors import HostError, MptError

LOGFILE = "/var/log/mpt.log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with `arguments` (default: the command line); return the exit status: 0, or 1 for a refused start."""
    options = _parser().parse_args(arguments)
    if options.check:
        return check(options.config, options.user)
    logfile = options.logfile or (_default_log(options.user) if options.daemon else None)
    try:
        if options.user is None:  # else it is seen by the user's eyes, later
            check_files(logfile, options.pidfile, None)
    except HostError as error:
        print(f"mptsrv: {error}", file=sys.stderr)
        return 1
    if options.daemon:
        return _in_background(options, logfile or "")
    sys.argv = ["mptsrv", "--nodaemon", "--pidfile", _absolute(options.pidfile)]
    sys.argv += ["--logger", "mpt.daemon.logoutput.observer"]
    sys.argv += ["mpt"]
    sys.argv += ["--config", options.config] if options.config else []
    sys.argv += ["--user", options.user] if options.user else []
    sys.argv += ["--ready-fd", str(options.ready_fd)] if options.ready_fd is not None else []
    gc.disable()  # until GarbageCollection begins: what is imported stays, and to look it through is a tenth of a start
    with _hidden("OpenSSL"):  # Twisted looks for it for TLS streams, which we have none of: a fifth of a start
        import twisted.internet.posixbase  # noqa: F401
    from twisted.scripts.twistd import run

    from mpt.daemon.logoutput import output

    output.file = _absolute(options.logfile) if options.logfile not in (None, "", "-") else None
    run()
    return 0


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let `module` seem not to be installed while the block runs, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # how the import system notes it
    try:
        yield
    finally:
        del sys.modules[module]


def _default_log(user: str | None) -> str:
    """Return where a daemon in the background logs: a user other than root needs a directory for it."""
    return LOGFILE if user is None else f"{LOG_DIRECTORY}/mpt.log"


def _in_background(options: argparse.Namespace, logfile: str) -> int:
    """Start the daemon in its own session; return the exit status when packets flow or the daemon has ended."""
    ready, tell_ready = os.pipe()
    command = [sys.executable, "-P", "-m", "mpt.daemon.main", "--ready-fd", str(tell_ready), "--logfile", logfile]
    command += ["--config", options.config] if options.config else []
    command += ["--pidfile", _absolute(options.pidfile)] if options.pidfile else []
    command += ["--user", options.user] if options.user else []
    with tempfile.TemporaryFile("w+") as said:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[tell_ready],
            start_new_session=True,
        )
        os.close(tell_ready)
        if os.read(ready, 16):
            print(f"mptsrv runs in the background, pid {daemon.pid}; it logs to {logfile}")
            return 0
        status = daemon.wait()
        said.seek(0)
        sys.stderr.write(said.read())
    return status or 1


def _absolute(path: str | None) -> str:
    return os.path.abspath(path) if path else ""


def check(config: str | None, user: str | None = None) -> int:
    """Validate a configuration directory; return the exit status: 1 if it printed errors, 0 if it printed two lines.

    A configured data path that was not built is an error, as it is for the daemon. Missing interfaces and addresses are
    warnings, as they may come. With `user` the process becomes this user, and looks with his rights.
    """
    try:
        if user is not None:
            become(user, None)
        directory = find_directory(config, os.environ, Path.cwd())
        loaded = load_directory(directory, interfaces_here())
        datapath_choice = configured_datapath(loaded.config.general, os.environ)
    except MptError as error:
        print(f"mptsrv: {error}", file=sys.stderr)
        _warn(error.warnings if isinstance(error, ConfigurationErrors) else ())
        return 1
    _warn(loaded.warnings)
    tunnels, connections = len(loaded.config.tunnels), len(loaded.config.connections)
    print(f"{directory}: {tunnels} tunnel(s), {connections} connection(s), no error")
    print(datapath_choice.told(any(each.is_sealed for each in loaded.config.connections)))
    return 0


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mptsrv",
        description="A multipath tunnel: one TUN interface over many UDP paths (GRE-in-UDP, RFC 8086).",
        epilog="Without --config: $MPT_CONFIG_DIR, else ./conf, else /etc/mpt. Same as: twistd -n mpt --config DIR",
    )
    parser.add_argument("-c", "--config", metavar="DIR", help="the configuration directory")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument("-d", "--daemon", action="store_true", help="go to the background")
    place = f"standard output; with -d {LOGFILE}, or with --user {LOG_DIRECTORY}/mpt.log"
    parser.add_argument("--logfile", metavar="FILE", help=f"log there [default: {place}]")
    parser.add_argument("--pidfile", metavar="FILE", help="write the process id there")
    parser.add_argument("--user", metavar="NAME", help="run as this user, with few rights, instead of root")
    parser.add_argument("--ready-fd", metavar="N", type=int, help="write a line to this descriptor when packets flow")
    parser.add_argument("--version", action="version", version=f"mpt {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""``mpt logs``, ``mpt stop`` and ``mpt version``: the daemon as a process."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mpt import __version__
from mpt.cli.channel import ChannelError
from mpt.cli.look import document_of, question
from mpt.cli.options import parse_options, separated, wants_help
from mpt.local.grammar import GrammarError, did_you_mean
from mpt.local.protocol import DONE, FAILED, NOT_PERMITTED, TIMED_OUT

UNIT: Final = "mpt.service"
LOG_FILES: Final = ("/var/log/mpt/mpt.log", "/var/log/mpt.log")
STOP_TIME: Final = 10.0  # s that the daemon has to stop

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

LOGS_HELP: Final = f"""\
mpt logs [-f] [-n LINES]

The log of the daemon: of {UNIT} by journalctl if systemd runs it, else
the first of {" and ".join(LOG_FILES)} that is there.
-f: Go on with what is new, until ^C
-n: Only so many of the last lines"""


def logs(arguments: Sequence[str]) -> int:
    """Run ``mpt logs``, by the program that reads such a log. Return the exit status."""
    if wants_help(arguments):
        print(LOGS_HELP)
        return DONE
    follow, lines = _log_options(separated(arguments))
    amount = ["-n", lines] if lines else []
    if Path("/run/systemd/system").is_dir() and shutil.which("journalctl"):
        return _become(["journalctl", "-u", UNIT, *amount, *(["-f"] if follow else [])])
    for file in LOG_FILES:
        if Path(file).exists():
            if not os.access(file, os.R_OK):
                print(f"mpt: not permitted to read {file}: run as root", file=sys.stderr)
                return NOT_PERMITTED
            return _become(["tail", *(amount or ["-n", "+1"]), *(["-F"] if follow else []), file])
    print(
        f"mpt: there is no log: systemd does not run here, and there is no {' or '.join(LOG_FILES)}; "
        "a daemon in the foreground logs to its terminal, or to the file of --logfile",
        file=sys.stderr,
    )
    return FAILED


def _log_options(words: list[str]) -> tuple[bool, str]:
    follow, lines = False, ""
    while words:
        word = words.pop(0)
        if word in ("-f", "--follow"):
            follow = True
        elif word in ("-n", "--lines"):
            lines = words.pop(0) if words else ""
            if not _NUMBER.fullmatch(lines):
                raise GrammarError(f"logs: {word} needs a number from 1 to 999999999 after it, as in mpt logs -n 50")
        else:
            raise GrammarError(f"logs: there is no {word!r}{did_you_mean(word, ('-f', '--follow', '-n', '--lines'))}")
    return follow, lines


def _become(argv: list[str]) -> int:
    """Become another program."""
    sys.stdout.flush()
    os.execvp(argv[0], argv)


def stop(arguments: Sequence[str]) -> int:
    """Run ``mpt stop``: ask the daemon to stop, and wait until it has. Return the exit status."""
    if wants_help(arguments):
        print("mpt stop\n\nStop the daemon of this host, as SIGTERM does, and wait until it has stopped.")
        return DONE
    options = parse_options(arguments, json=False)
    if options.words:
        raise GrammarError(f"stop: {options.words[0]!r} is too much: mpt down NAME takes one connection down")
    pid = document_of(question(options, "status")).pid
    try:
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        return DONE
    except PermissionError:
        raise ChannelError(NOT_PERMITTED, f"not permitted to stop process {pid}: run as root") from None
    ended = select.poll()
    ended.register(process, select.POLLIN)  # its end makes it readable
    if ended.poll(1000 * STOP_TIME):
        print(f"mptsrv (process {pid}) has stopped")
        return DONE
    raise ChannelError(TIMED_OUT, f"process {pid} has not stopped in {STOP_TIME:g} s; mpt logs may tell why")


def version(arguments: Sequence[str]) -> int:
    """Run ``mpt version``. Return the exit status."""
    if wants_help(arguments):
        print("mpt version\n\nThe version of this program, and of the daemon if one runs.")
        return DONE
    options = parse_options(arguments, json=False)
    if options.words:
        raise GrammarError(f"version: {options.words[0]!r} is too much: it takes no words")
    print(f"mpt {__version__}")
    try:
        document = document_of(question(options, "status"))
    except ChannelError as error:
        print(f"mptsrv: {error}")
        return DONE
    planes = ", ".join(
        f"{tunnel.name} {tunnel.data_plane}" + (f", seals with {tunnel.sealing}" if tunnel.sealing else "")
        for tunnel in document.tunnels
    )
    print(f"mptsrv {document.version}, pid {document.pid}; data paths: {planes or 'none'}")
    return DONE

"""Commands that the benchmark gives to a daemon itself, without the start of a client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpt.cli.channel import ask_unix
from mpt.errors import HostError
from mpt.lab.process import Process
from mpt.local.protocol import Reply
from mpt.local.sockets import control_sockets

TIMEOUT = 60.0  # s for a command


def control_socket(daemon: Process) -> str:
    """Return the default unix socket of a daemon."""
    return control_sockets({}, Path(f"/proc/{daemon.pid}/ns/net"))[0]


def status(daemon: Process) -> Mapping[str, Any]:
    """Return the document of ``show status`` of a daemon."""
    return ask(control_socket(daemon), "show", "status").data or {}


def ask(path: str | Path, *words: str) -> Reply:
    """Give a command to the daemon at the unix socket `path`; return its reply, HostError if it is refused."""
    reply = ask_unix(str(path), words, TIMEOUT, lambda text: None)
    if not reply.ok:
        raise HostError(reply.text)
    return reply

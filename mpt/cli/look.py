"""``mpt status``: the state of the daemon in 80 columns, once or again and again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mpt.cli.answers import tell
from mpt.cli.channel import ChannelError, ask
from mpt.cli.options import Options, parse_options, wants_help
from mpt.cli.settings import find_settings
from mpt.local.grammar import GrammarError
from mpt.local.protocol import DONE, FAILED, Reply
from mpt.local.status import StatusDocument
from mpt.local.statustext import Paint, brief_text, status_text

CLEAR: Final = "\x1b[H\x1b[2J"
EVERY: Final = 2.0  # s between two looks of --watch

HELP: Final = """\
mpt status [NAME] [--brief] [--watch [SECONDS]] [--json]

NAME:    Only this connection, by its name or its file
--brief: One line for each connection
--watch: Again every so many seconds (default: 2), until ^C
--json:  The document, as docs/commands.md describes it
First comes what is wrong, and what to do. Rates are bits a second of the packets inside, over the last second."""


def status(arguments: Sequence[str]) -> int:
    """Run ``mpt status``. Return the exit status."""
    if wants_help(arguments):
        print(HELP)
        return DONE
    brief, every, rest = _own_options(arguments)
    options = parse_options(rest)
    if len(options.words) > 1:
        raise GrammarError(f"status: {options.words[1]!r} is too much: it takes one NAME")
    if options.json and every is not None:
        raise GrammarError("--json and --watch: choose one; mpt monitor --json goes on")
    while True:
        reply = question(options, "status", *options.words)
        if not reply.ok or options.json or reply.data is None:  # over UDP there is text alone
            return tell(reply, options.json)
        paint = Paint(wants_colour())
        document = document_of(reply)
        text = brief_text(document, paint) if brief else status_text(document, paint)
        if every is None:
            print(text, end="", flush=True)
            return DONE
        print(CLEAR + text, end="", flush=True)
        time.sleep(every)


def question(options: Options, *words: str) -> Reply:
    """Ask the daemon to show something; return the reply. Raises ChannelError."""
    settings = find_settings(options.socket, options.port, options.timeout, os.environ, Path())
    over_udp = options.ipv6 or options.port is not None
    return ask(("show", *words), settings, lambda text: None, over_udp, options.ipv6)


def document_of(reply: Reply) -> StatusDocument:
    """Return the status document in a reply. Raises ChannelError."""
    try:
        return StatusDocument.from_json(data_of(reply))
    except ValueError as error:
        raise ChannelError(FAILED, f"the daemon's status cannot be read: {error}") from error


def data_of(reply: Reply) -> Mapping[str, Any]:
    """Return the data of a good reply. Raises ChannelError."""
    if not reply.ok:
        raise ChannelError(reply.code, reply.text.rstrip())
    if reply.data is None:
        raise ChannelError(FAILED, "over UDP the daemon gives text alone: use its unix socket")
    return reply.data


def wants_colour() -> bool:
    """Return whether the output is a terminal that takes colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _own_options(arguments: Sequence[str]) -> tuple[bool, float | None, list[str]]:
    """Return whether --brief is given, the seconds of --watch (None: it is not), and the other words."""
    brief, every, rest = False, None, []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--brief":
            brief = True
        elif word == "--watch":
            every = EVERY
            if words and words[0].replace(".", "", 1).isdigit():
                every = max(0.1, float(words.pop(0)))
        else:
            rest.append(word)
    return brief, every, rest

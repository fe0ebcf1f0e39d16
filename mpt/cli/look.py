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
from mpt.cli.options import LONGEST, Options, parse_options, seconds, separated, wants_help
from mpt.cli.settings import find_settings
from mpt.local.grammar import GrammarError
from mpt.local.protocol import DONE, FAILED, Reply
from mpt.local.status import StatusDocument
from mpt.local.statustext import Paint, brief_text, painted

CLEAR: Final = "\x1b[H\x1b[2J"
EVERY: Final = 2.0  # s between two looks of --watch
OFTENEST: Final = 0.5  # s: rates are those of a whole second
SHORT: Final = 2.0  # s; how long a program waits that also does without a daemon
OWN_OPTIONS: Final = ("--brief", "--watch")

HELP: Final = f"""\
mpt status [NAME] [--brief] [--watch [SECONDS]] [--json]

NAME:    Only this connection, by its name or its file
--brief: One line for each connection
--watch: Again every so many seconds ({OFTENEST:g} to {LONGEST:g}, default: {EVERY:g}), until ^C
--json:  The document, as docs/commands.md describes it
First comes what is wrong, and what to do. Rates are bits a second of the
packets inside, over the last second."""


def status(arguments: Sequence[str]) -> int:
    """Run ``mpt status``. Return the exit status."""
    if wants_help(arguments):
        print(HELP)
        return DONE
    brief, every, rest = _own_options(arguments)
    options = parse_options(rest, OWN_OPTIONS)
    if len(options.words) > 1:
        raise GrammarError(f"status: {options.words[1]!r} is too much: it takes one NAME")
    if options.json and every is not None:
        raise GrammarError("--json and --watch: choose one; mpt monitor --json goes on")
    if options.json and brief:
        raise GrammarError("--json and --brief: choose one; the document has everything")
    while True:
        reply = question(options, "status", *options.words)
        if options.json or not reply.ok:
            return tell(reply, options.json)
        text = _text(reply, brief)
        if every is None:
            print(text, end="", flush=True)
            return DONE
        print(f"{CLEAR}{text}" if sys.stdout.isatty() else f"{text}\n", end="", flush=True)
        time.sleep(every)


def _text(reply: Reply, brief: bool) -> str:
    if brief:
        return brief_text(document_of(reply), Paint(wants_colour()))
    return painted(reply.text.rstrip("\n") + "\n", Paint(wants_colour()))


def question(options: Options, *words: str) -> Reply:
    """Ask the daemon to show something; return the reply. Raises ChannelError."""
    settings = find_settings(options.socket, options.port, options.timeout, os.environ, Path())
    over_udp = options.ipv6 or options.port is not None
    return ask(("show", *words), settings, lambda text: None, over_udp, options.ipv6)


def status_here() -> StatusDocument | None:
    """Return the status of the daemon of this host, None if none answers."""
    try:
        return document_of(question(Options(timeout=SHORT), "status"))
    except ChannelError:
        return None


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
    """Return whether --brief is given, the seconds of --watch (None: it is not), and the other words.

    The word after --watch is its seconds, never a NAME.
    """
    brief, every, rest = False, None, []
    words = separated(arguments)
    while words:
        word = words.pop(0)
        if word == "--brief":
            brief = True
        elif word == "--watch":
            every = _every(words.pop(0)) if words and not words[0].startswith("-") else EVERY
        else:
            rest.append(word)
    return brief, every, rest


def _every(word: str) -> float:
    try:
        return seconds("--watch", word, OFTENEST)
    except GrammarError as error:
        raise GrammarError(f"{error}; the NAME of a connection stands before: mpt status NAME --watch") from None

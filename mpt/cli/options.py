"""The options of ``mpt`` (guide 4): how to reach the daemon, and how the answer is shown.

A value stands after its option, as in ``--timeout 5`` and ``--timeout=5``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mpt.local.grammar import GrammarError, did_you_mean

_PORT = re.compile(r"-[0-9]+")

HELP: Final = ("-h", "--help", "help")
KNOWN: Final = ("-6", "--json", "--socket", "--timeout")
LONGEST: Final = 86400.0  # s of any time on the command line


def wants_help(words: Sequence[str]) -> bool:
    """Return whether a command line asks for help."""
    return any(word in HELP for word in words)


@dataclass
class Options:
    """The command line: the words of the command, and the options, which say how to reach the daemon."""

    words: list[str] = field(default_factory=list)
    ipv6: bool = False
    port: int | None = None
    socket: str | None = None
    timeout: float | None = None
    json: bool = False


def parse_options(given: Sequence[str], own: Sequence[str] = (), json: bool = True) -> Options:
    """Return the command line `given`. Options stand before or after the words, none of which begins with a dash.

    Raises GrammarError, which names the options that there are: these, and the `own` ones of a program, which has taken
    them away before. Without `json` it has nothing to print as JSON.
    """
    options = Options()
    rest = separated(given)
    known = [name for name in (*KNOWN, "-port_number", *own) if json or name != "--json"]
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            options.words.append(word)
        elif word == "-6":
            options.ipv6 = True
        elif word == "--json" and json:
            options.json = True
        elif word == "--socket":
            options.socket = value_of(word, rest)
        elif word == "--timeout":
            options.timeout = seconds(word, value_of(word, rest), 0.001)
        elif _PORT.fullmatch(word):
            options.port = _port(word)
        else:
            raise GrammarError(f"there is no option {word!r} here{did_you_mean(word, known)}")
    if options.socket and (options.ipv6 or options.port):
        raise GrammarError("--socket is a way to the daemon, -6 and -port_number are another: choose one")
    return options


def separated(words: Sequence[str]) -> list[str]:
    """Return `words` with ``--option=value`` as two words."""
    parts: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        parts += [option, value] if equals and option.startswith("--") else [word]
    return parts


def value_of(option: str, rest: list[str]) -> str:
    """Return the value after `option`, taken from the `rest` of the words. Raises GrammarError if there is none."""
    if not rest or not rest[0] or rest[0].startswith("--"):
        raise GrammarError(f"{option} needs a value after it")
    return rest.pop(0)


def seconds(option: str, word: str, least: float) -> float:
    """Return the seconds that `word` says. Raises GrammarError, which says what is allowed: from `least` to LONGEST."""
    try:
        given = float(word)
    except ValueError:
        given = -1.0
    if not least <= given <= LONGEST:  # also for nan
        raise GrammarError(f"{option} {word!r} must be seconds from {least:g} to {LONGEST:g}")
    return given


def _port(word: str) -> int:
    port = int(word[1:6])
    if len(word) > 6 or not 0 < port < 65536:
        raise GrammarError(f"the port in {word!r} must be from 1 to 65535, as in -65050")
    return port

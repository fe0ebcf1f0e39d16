"""The options of ``mpt`` (guide 4): how to reach the daemon, and how the answer is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from mpt.local.grammar import GrammarError

_PORT = re.compile(r"-[0-9]+")


HELP = ("-h", "--help", "help")


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


def parse_options(given: Sequence[str]) -> Options:
    """Return the command line `given`. Options stand before or after the words, none of which begins with a dash."""
    options = Options()
    rest = iter(given)
    for word in rest:
        if not word.startswith("-"):
            options.words.append(word)
        elif word == "-6":
            options.ipv6 = True
        elif word == "--json":
            options.json = True
        elif word == "--socket":
            options.socket = _value(word, next(rest, ""))
        elif word == "--timeout":
            options.timeout = _seconds(word, _value(word, next(rest, "")))
        elif _PORT.fullmatch(word):
            options.port = _port(word)
        else:
            raise GrammarError(f"there is no option {word!r}")
    if options.socket and (options.ipv6 or options.port):
        raise GrammarError("--socket is a way to the daemon, -6 and -port_number are another: choose one")
    return options


def _value(option: str, word: str) -> str:
    if not word:
        raise GrammarError(f"{option} needs a value after it")
    return word


def _seconds(option: str, word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise GrammarError(f"{option} {word!r} must be seconds from 0.001 to 86400")
    return seconds


def _port(word: str) -> int:
    port = int(word[1:6])
    if len(word) > 6 or not 0 < port < 65536:
        raise GrammarError(f"the port in {word!r} must be from 1 to 65535")
    return port

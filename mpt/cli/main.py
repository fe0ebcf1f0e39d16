"""The program ``mpt`` (guide 4): one command to the daemon of this host, its answer, and an exit status.

It starts often and must start fast: it needs the standard library only, and imports a program such as the demo when it
is called.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpt import __version__
from mpt.cli.channel import ChannelError, ask
from mpt.cli.settings import DEFAULTS, SOCKET_VARIABLE, find_settings
from mpt.errors import ConfigError
from mpt.local.grammar import FORMS, GrammarError, form_named, parse
from mpt.local.protocol import BAD_USAGE, DONE, FAILED, NO_DAEMON, NOT_PERMITTED, TIMED_OUT, Reply
from mpt.local.sockets import RUNTIME_DIRECTORY

INTERRUPTED = 130  # a shell's status for a program that ^C ended

_PORT = re.compile(r"-[0-9]+")
_HELP = ("-h", "--help", "help")


@dataclass(frozen=True)
class Program:
    """A word after ``mpt`` that is a program of its own: `run` takes the words after it and gives the exit status."""

    name: str
    words: str
    help: str
    run: Callable[[Sequence[str]], int]


def demo(arguments: Sequence[str]) -> int:
    """Run ``mpt demo``: everything in namespaces of this machine. Return the exit status."""
    from mpt.lab.demo.main import main as run_demo

    return run_demo(arguments)


def genkey(arguments: Sequence[str]) -> int:
    """Run ``mpt genkey``. Return the exit status."""
    from mpt.cli.keys import genkey as run_genkey

    return run_genkey(arguments)


def pubkey(arguments: Sequence[str]) -> int:
    """Run ``mpt pubkey``. Return the exit status."""
    from mpt.cli.keys import pubkey as run_pubkey

    return run_pubkey(arguments)


def client(arguments: Sequence[str]) -> int:
    """Run ``mpt client``. Return the exit status."""
    from mpt.cli.clients import client as run_client

    return run_client(arguments)


def join(arguments: Sequence[str]) -> int:
    """Run ``mpt join``. Return the exit status."""
    from mpt.cli.join import join as run_join

    return run_join(arguments)


PROGRAMS = (
    Program("genkey", " [FILE]", "make the private key of this host, print its public key", genkey),
    Program("pubkey", " [FILE]", "print the public key of this host", pubkey),
    Program("client", " {add | remove} NAME, client list", "the clients of this server: clients.conf", client),
    Program("join", " TEXT", "make this host the client that the server's `mpt client add` has named", join),
    Program("demo", "", "two hosts and several paths on this machine: what the tunnel makes of them", demo),
)


@dataclass
class Options:
    """The command line: the words of the command, and the options, which say how to reach the daemon."""

    words: list[str] = field(default_factory=list)
    ipv6: bool = False
    port: int | None = None
    socket: str | None = None
    timeout: float | None = None
    json: bool = False


def usage() -> str:
    """Return the text of ``mpt`` without a command (guide 4)."""
    commands = "\n".join(f"    mpt {form.syntax}\n        {form.summary}" for form in FORMS.values())
    programs = "\n".join(f"    mpt {program.name}{program.words}\n        {program.help}" for program in PROGRAMS)
    return f"""\
Usage: mpt [-6] [-port_number] mpt_command mpt_args
    -6 : Use IPv6 to communicate with mptsrv
    -port_number : The port number of the mptsrv (default: cmdport_local of interface.conf, or {DEFAULTS.cmdport_local})
    --socket PATH : The unix socket of the mptsrv (default: ${SOCKET_VARIABLE}, or one below {RUNTIME_DIRECTORY})
    --timeout SECONDS : How long mptsrv may be silent (default: cmd_timeout of interface.conf, or \
{DEFAULTS.cmd_timeout:g})
    --json : Print the answer as one JSON object
    --version : Print the version

Commands:
{commands}
{programs}

mpt COMMAND --help tells more. The daemon is mptsrv: mptsrv --help
Exit status: {DONE} done, {FAILED} the daemon says no, {BAD_USAGE} bad usage, {NO_DAEMON} no daemon, \
{TIMED_OUT} no answer in time, {NOT_PERMITTED} not permitted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with `arguments` (default: the command line); return the exit status, as the end of `usage` lists them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for program in PROGRAMS:
            if given[:1] == [program.name]:
                return program.run(given[1:])
            if given == ["help", program.name]:
                return program.run(["--help"])
        return _command(given)
    except GrammarError as error:
        help = error.form.usage() if error.form else "mpt --help lists the commands"
        print(f"mpt: {error}\n{help}", file=sys.stderr)
        return BAD_USAGE
    except ChannelError as error:
        print(f"mpt: {error}", file=sys.stderr)
        return error.code
    except ConfigError as error:  # of a program
        print(f"mpt: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has gone: write nothing more, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _command(given: Sequence[str]) -> int:
    """Print help, or carry out one command; return the exit status. Raises GrammarError and ChannelError."""
    if "--version" in given:
        print(f"mpt {__version__}")
        return DONE
    named = [word for word in given if not word.startswith("-") and word != "help"]
    if any(word in given for word in _HELP):
        print(form_named(named[0]).usage() if named else usage())
        return DONE
    if not named:
        print(usage())
        return BAD_USAGE
    options = parse_options(given)
    form = form_named(options.words[0])
    if len(options.words) == 1 and form.needs_words:
        print(form.usage())
        return BAD_USAGE
    words = parse(options.words).words
    settings = find_settings(options.socket, options.port, options.timeout, os.environ, Path())
    over_udp = options.ipv6 or options.port is not None
    return _tell(ask(words, settings, _report, over_udp, options.ipv6), options.json)


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


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tell(reply: Reply, as_json: bool) -> int:
    """Print a reply; return the exit status. A bad reply goes to standard error, but JSON always to standard output."""
    if as_json:
        plain = {"ok": reply.ok, "code": reply.code, "text": reply.text}
        print(json.dumps(reply.data if reply.data is not None else plain), flush=True)
    elif reply.ok:
        print(reply.text.rstrip("\n"), flush=True)
    else:
        print(f"mpt: {reply.text.rstrip()}", file=sys.stderr)
    return reply.code if reply.code in range(256) else FAILED


if __name__ == "__main__":
    sys.exit(main())

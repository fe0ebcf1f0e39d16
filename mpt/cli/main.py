"""The program ``mpt`` (guide 4): one command to the daemon of this host, its answer, and an exit status.

It starts often and must start fast: it needs the standard library only, and imports a program such as the demo when it
is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mpt import __version__
from mpt.cli.answers import tell
from mpt.cli.channel import ChannelError, ask
from mpt.cli.options import parse_options, wants_help
from mpt.cli.settings import DEFAULTS, SOCKET_VARIABLE, find_settings
from mpt.errors import ConfigError
from mpt.local.grammar import FORMS, Form, GrammarError, form_named, parse
from mpt.local.protocol import BAD_USAGE, DONE, FAILED, NO_DAEMON, NOT_PERMITTED, TIMED_OUT
from mpt.local.sockets import RUNTIME_DIRECTORY

if TYPE_CHECKING:
    from mpt.cli.completion import Row

INTERRUPTED = 130  # a shell's status for a program that ^C ended


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


def lab(arguments: Sequence[str]) -> int:
    """Run ``mpt lab``: experiments in namespaces of this machine. Return the exit status."""
    from mpt.lab.experiment.main import main as run_lab

    return run_lab(arguments)


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


def init(arguments: Sequence[str]) -> int:
    """Run ``mpt init``. Return the exit status."""
    from mpt.cli.init import init as run_init

    return run_init(arguments)


def check(arguments: Sequence[str]) -> int:
    """Run ``mpt check``. Return the exit status."""
    from mpt.cli.check import check as run_check

    return run_check(arguments)


def doctor(arguments: Sequence[str]) -> int:
    """Run ``mpt doctor``. Return the exit status."""
    from mpt.cli.doctor import doctor as run_doctor

    return run_doctor(arguments)


def completion(arguments: Sequence[str]) -> int:
    """Run ``mpt completion``. Return the exit status."""
    from mpt.cli.completion import completion as run_completion

    return run_completion(arguments, completion_rows())


def completion_rows() -> list[Row]:
    """Return every command, of the daemon and of its own, for the shells."""
    from mpt.cli.completion import Row

    rows = [Row(form.syntax, form.summary, partial(_print_usage, form)) for form in FORMS.values()]
    return rows + [Row(program.name + program.words, program.help, program.run) for program in PROGRAMS]


def examples(arguments: Sequence[str]) -> int:
    """Run ``mpt examples``. Return the exit status."""
    from mpt.cli.examples import examples as run_examples

    return run_examples(arguments)


def status(arguments: Sequence[str]) -> int:
    """Run ``mpt status``. Return the exit status."""
    from mpt.cli.look import status as run_status

    return run_status(arguments)


def top(arguments: Sequence[str]) -> int:
    """Run ``mpt top``. Return the exit status."""
    from mpt.cli.top import top as run_top

    return run_top(arguments)


def monitor(arguments: Sequence[str]) -> int:
    """Run ``mpt monitor``. Return the exit status."""
    from mpt.cli.monitor import monitor as run_monitor

    return run_monitor(arguments)


def logs(arguments: Sequence[str]) -> int:
    """Run ``mpt logs``. Return the exit status."""
    from mpt.cli.service import logs as run_logs

    return run_logs(arguments)


def stop(arguments: Sequence[str]) -> int:
    """Run ``mpt stop``. Return the exit status."""
    from mpt.cli.service import stop as run_stop

    return run_stop(arguments)


def metrics(arguments: Sequence[str]) -> int:
    """Run ``mpt metrics``. Return the exit status."""
    from mpt.cli.metrics import metrics as run_metrics

    return run_metrics(arguments)


def version(arguments: Sequence[str]) -> int:
    """Run ``mpt version``. Return the exit status."""
    from mpt.cli.service import version as run_version

    return run_version(arguments)


PROGRAMS = (
    Program("status", " [NAME] [--brief] [--watch [SECONDS]]", "what is wrong and what works, in 80 columns", status),
    Program("top", " [NAME]", "the same as it changes: rates and shares of the paths, q quits", top),
    Program("monitor", " [--json]", "one line for each thing that happens", monitor),
    Program("metrics", " [FILE]", "the same for Prometheus, on standard output or in a file", metrics),
    Program("logs", " [-f] [-n LINES]", "the log of the daemon", logs),
    Program("stop", "", "stop the daemon, and wait until it has stopped", stop),
    Program("version", "", "the versions of this program and of the daemon", version),
    Program(
        "init", " DIR [--path HERE,THERE] [--plain]", "make a matching pair of configurations, or ask for it", init
    ),
    Program("check", " [DIR] [--strict]", "what is wrong in a configuration, or would not work on this host", check),
    Program("doctor", " [DIR] [--bundle FILE]", "what is wrong around mptsrv, and the commands that mend it", doctor),
    Program("genkey", " [FILE]", "make the private key of this host, print its public key", genkey),
    Program("pubkey", " [FILE]", "print the public key of this host", pubkey),
    Program("client", " {add | rekey | remove} NAME, client list", "the clients of this server: clients.conf", client),
    Program("join", " TEXT", "make this host the client that the server's `mpt client add` has named", join),
    Program("completion", " {bash | zsh | fish}", "print the script that lets a shell complete commands", completion),
    Program("examples", " [WORD]", "the commands that people type, by what they want", examples),
    Program("demo", "", "two hosts and several paths on this machine, joined by a tunnel", demo),
    Program("lab", " {run SCENARIO | list | show SCENARIO}", "experiments: a scenario file, tables and plots", lab),
)


def usage() -> str:
    """Return the text of ``mpt`` without a command (guide 4)."""
    commands = "\n".join(f"    mpt {form.syntax}\n        {form.summary}" for form in FORMS.values())
    programs = "\n".join(f"    mpt {program.name}{program.words}\n        {program.help}" for program in PROGRAMS)
    return f"""\
Usage: mpt [-6] [-port_number] mpt_command mpt_args
    -6 : Use IPv6 to communicate with mptsrv
    -port_number : The port number of the mptsrv
        (default: cmdport_local of interface.conf, or {DEFAULTS.cmdport_local})
    --socket PATH : The unix socket of the mptsrv
        (default: ${SOCKET_VARIABLE}, or one below {RUNTIME_DIRECTORY})
    --timeout SECONDS : How long mptsrv may be silent
        (default: cmd_timeout of interface.conf, or {DEFAULTS.cmd_timeout:g})
    --json : Print the answer as one JSON object
    --version : Print the version

Commands:
{commands}
{programs}

mpt COMMAND --help tells more. The daemon is mptsrv: mptsrv --help
Exit status: {DONE} done, {FAILED} the daemon says no, {BAD_USAGE} bad usage, {NO_DAEMON} no daemon,
{TIMED_OUT} no answer in time, {NOT_PERMITTED} not permitted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with `arguments` (default: the command line); return the exit status, as the end of `usage` lists them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given and _has_daemon():
            return status([])
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


def _has_daemon() -> bool:
    """Return whether this is a terminal, and a daemon's socket is there: then ``mpt`` alone shows the status."""
    settings = find_settings(None, None, None, os.environ, Path())
    return sys.stdout.isatty() and any(map(os.path.exists, settings.sockets))


def _command(given: Sequence[str]) -> int:
    """Print help, or carry out one command; return the exit status. Raises GrammarError and ChannelError."""
    if "--version" in given:
        print(f"mpt {__version__}")
        return DONE
    named = [word for word in given if not word.startswith("-") and word != "help"]
    if wants_help(given):
        print(form_named(named[0]).usage() if named else usage())
        return DONE
    if not named:
        print(usage())
        return BAD_USAGE
    options = parse_options(given)
    for program in PROGRAMS:  # after options, as in `mpt --json status`
        if options.words[0] == program.name:
            place = given.index(program.name)
            return program.run([*given[:place], *given[place + 1 :]])
    form = form_named(options.words[0], [program.name for program in PROGRAMS])
    if len(options.words) == 1 and form.needs_words:
        print(form.usage())
        return BAD_USAGE
    words = parse(options.words).words
    settings = find_settings(options.socket, options.port, options.timeout, os.environ, Path())
    over_udp = options.ipv6 or options.port is not None
    return tell(ask(words, settings, _report, over_udp, options.ipv6), options.json)


def _print_usage(form: Form, _words: Sequence[str]) -> None:
    print(form.usage())


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

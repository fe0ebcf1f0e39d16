"""The program ``mpt``: a table of commands. What a command needs is imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A word after ``mpt``: `run` takes the words after it and gives the exit code."""

    name: str
    help: str
    run: Callable[[Sequence[str]], int]


def demo(arguments: Sequence[str]) -> int:
    """``mpt demo``: everything in namespaces of this machine."""
    from mpt.lab.demo import main as run_demo

    return run_demo(arguments)


COMMANDS = (Command("demo", "two hosts and several paths on this machine: what the tunnel makes of them", demo),)


def usage() -> str:
    """What ``mpt`` says without a command."""
    lines = ["Usage: mpt COMMAND [ARGUMENTS]", "", *(f"    {command.name:<10} {command.help}" for command in COMMANDS)]
    return "\n".join([*lines, "", "mpt COMMAND --help tells more. The daemon is mptsrv: mptsrv --help"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0: done, 1: it did not work, 2: no such command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    for command in COMMANDS:
        if command.name == words[0]:
            return command.run(words[1:])
    print(f"mpt: there is no command {words[0]!r}\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

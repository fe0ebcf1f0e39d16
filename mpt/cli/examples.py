"""``mpt examples``: the commands that people type, by what they want."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from mpt.cli.options import wants_help
from mpt.local.protocol import DONE, FAILED

HELP: Final = """\
mpt examples [WORD]

The commands that people type, by what they want.
WORD: Only those that have it, such as mpt examples key"""


class Example(NamedTuple):
    """What somebody wants, and what he types; several lines if it takes several commands."""

    wish: str
    lines: tuple[str, ...]


def _example(wish: str, *lines: str) -> Example:
    return Example(wish, lines)


EXAMPLES: Final[dict[str, tuple[Example, ...]]] = {
    "A first tunnel": (
        _example(
            "a laptop behind any NAT, and a server (TEXT, KEY: what the one before says)",
            "server# mpt client add laptop",
            "laptop# mpt join TEXT",
            "server# mpt client add laptop --key KEY",
            "server# mptsrv",
            "laptop# mptsrv",
        ),
        _example("see one on this machine alone", "mpt demo"),
        _example(
            "both configurations at one place",
            "mpt init tunnel --path eth1,eth0=192.0.2.10 --path wwan0,eth0=192.0.2.10",
        ),
        _example("look through the files, before and after a change", "mpt check"),
    ),
    "Looking": (
        _example("what works and what does not", "mpt status"),
        _example("again every second", "mpt status --watch 1"),
        _example("rates and shares as they change", "mpt top"),
        _example("one line for each thing that happens", "mpt monitor"),
        _example("the log", "mpt logs -f"),
        _example("what is wrong around the daemon, and what mends it", "mpt doctor"),
        _example("the same for somebody who helps, without secrets", "mpt doctor --bundle help.tar.gz"),
    ),
    "Changing": (
        _example("a line shall rest, and come back", "mpt path down eth1", "mpt path up eth1"),
        _example("a connection shall rest, and come back", "mpt down home", "mpt up home"),
        _example("the SIM is of another country", "mpt path cost wwan0 backup"),
        _example("a file has changed, or is new", "mpt reload home.conf", "mpt reload"),
        _example("keep what was changed by commands", "mpt save"),
        _example("give an interface an address", "mpt address add 10.1.1.2/24 dev eth1"),
    ),
    "Clients of a server": (
        _example("a network behind a client", "mpt client add branch --networks 192.168.7.0/24"),
        _example("who they are", "mpt client list"),
        _example("a key is lost, or a laptop", "mpt client rekey laptop KEY", "mpt client remove laptop"),
        _example("the public key of this host", "mpt pubkey"),
    ),
    "Programs": (
        _example("the state as JSON", "mpt status --json"),
        _example("metrics for node_exporter", "mpt metrics /var/lib/node_exporter/mpt.prom"),
        _example("TAB completes commands, options and names", 'eval "$(mpt completion bash)"'),
    ),
}


def examples(arguments: Sequence[str]) -> int:
    """Run ``mpt examples``. Return the exit status."""
    if wants_help(arguments):
        print(HELP)
        return DONE
    found = list(lines(" ".join(arguments).lower()))
    print("\n".join(found) if found else f"no example has {' '.join(arguments)!r}: mpt examples")
    return DONE if found else FAILED


def lines(word: str = "") -> Iterator[str]:
    """Yield the lines of the examples that have `word`, with a heading for each group."""
    for number, (title, group) in enumerate(EXAMPLES.items()):
        chosen = [each for each in group if word in f"{title} {each.wish} {' '.join(each.lines)}".lower()]
        if chosen:
            yield from ("",) if number and not word else ()
            yield f"{title}:"
        for each in chosen:
            yield f"  {each.wish}"
            yield from (f"      {line}" for line in each.lines)

"""The commands of guide chapter 4: one row a command, with its words, its help and its operation.

    command = parse(["int", "eth1", "down"])      or GrammarError, which names the bad word and the allowed ones
    await command.perform(operations, progress)

The client parses the words before it sends them, and the daemon parses them once more: it trusts nobody.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, Final

from mpt import values
from mpt.errors import MptError
from mpt.model import COSTS, Address

if TYPE_CHECKING:  # `mpt` starts without them
    from mpt.local.operations import Operations, ProgressReport
    from mpt.local.status import StatusDocument

LONGEST_WORD: Final = 255  # characters; no file name, address or interface name is longer

_LENGTH = re.compile(r"[0-9]{1,3}")
_NUMBER = re.compile(r"[0-9]{1,15}")


class GrammarError(MptError):
    """A command is wrong: the text names the bad word and the allowed ones.

    `form` is the command that was meant, None if there is no command of that name.
    """

    def __init__(self, text: str, form: Form | None = None) -> None:
        super().__init__(text)
        self.form = form


# ---- the words after the command ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Argument:
    """A word that a command takes: its `name` in the usage text ("" for `add`, `up` and the like), what is `allowed`,
    and `read`, which returns its value and raises ValueError or KeyError for a bad word.

    `optional` words stand at the end, and are None where they are missing. A `fixed` word has no value.
    """

    name: str
    allowed: str
    read: Callable[[str], Any]
    optional: bool = False
    fixed: bool = False


def _shown(word: str) -> str:
    """Return the operator's `word` for an error message: quoted, and cut if it is long."""
    return repr(word if len(word) <= 60 else word[:60] + "...")


def _one_of(**meanings: object) -> Argument:
    """Return an argument that is one of a few words, each with its value; ``del_`` is the word del."""
    found = {word.rstrip("_"): meaning for word, meaning in meanings.items()}

    def read(word: str) -> object:
        if word not in found:
            raise ValueError
        return found[word]

    return Argument("", " or ".join(found), read)


def _fixed(word: str) -> Argument:
    """Return an argument that can only be `word`."""
    return Argument("", word, {word: word}.__getitem__, fixed=True)


def _read_interface_address(word: str) -> IPv4Interface | IPv6Interface:
    """Return an address with its prefix, whose length is in digits: no netmask such as /255.255.255.0."""
    _plain, slash, length = word.partition("/")
    if slash and not _LENGTH.fullmatch(length):
        raise ValueError
    return values.interface_address(word)


def _read_file_name(word: str) -> str:
    if not word.endswith(".conf") or word.startswith(".") or "/" in word or len(word.encode()) > LONGEST_WORD:
        raise ValueError
    return word


def _read_path(word: str) -> Address | str:
    try:
        return values.address(word)
    except ValueError:
        return word


_ADD_OR_DEL = _one_of(add=True, del_=False)
_UP_OR_DOWN = _one_of(up=True, down=False)
_IP_WITH_LENGTH = Argument(
    "IP_ADDRESS[/PREF_LEN]",
    "an IPv4 or IPv6 address, with or without the length of its prefix, such as 10.1.1.2/24 or 2001:db8::2",
    _read_interface_address,
)
_INTERFACE = Argument(
    "INTERFACE",
    "the name of an interface, such as eth1: at most 15 bytes without '/', ':' and '%'",
    values.interface_name,
)
_FILE = Argument(
    "FILENAME",
    "the name of a connection file, such as connection.conf: no path, and it ends in .conf",
    _read_file_name,
)
_OPTIONAL_FILE = replace(_FILE, optional=True)
_CONNECTION = Argument("NAME", "the name of a connection or of its file, such as home or home.conf", str)
_PATH = Argument(
    "PATH",
    "our address of the path, such as 10.1.1.2, or its interface, such as eth1, or its name, such as home/path_1",
    _read_path,
)
_PATH_WITH_COST = Argument(
    "INTERFACE",
    "the interface of the path, such as wwan0, or its name, such as path_1 or home/path_1",
    _read_path,
)
_DESTINATION = Argument(
    "DESTINATION", "the peer's address, such as 10.1.1.3 or 2001:db8::3", values.address, optional=True
)
_COST = _one_of(**{cost: cost for cost in COSTS})


# ---- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """One command: its name, of one word or two, a shortening, its syntax and help, and the words that it takes.

    `changes`: the command changes something, which not everybody may. ``perform(operations, progress, *values)``
    carries it out. ``check(*values)`` returns what is wrong with the values together, "" if nothing is. `not_found` is
    the C program's text for a file that is not there.
    """

    name: str
    syntax: str
    summary: str
    details: str
    arguments: tuple[Argument, ...]
    perform: Callable[..., Awaitable[str | StatusDocument | Mapping[str, Any]]]
    shortening: str = ""
    changes: bool = True
    check: Callable[..., str] = lambda *values: ""
    not_found: str = ""

    @property
    def needs_words(self) -> bool:
        """Return whether the command needs an argument: without any, the guide's client prints its usage."""
        return not all(argument.optional for argument in self.arguments)

    def usage(self) -> str:
        """Return the text of ``mpt NAME --help`` (guide 4.1 and following)."""
        return f"mpt {self.syntax}\n\n{self.details}"


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command: its row, the value of each argument, and its words, the name in full."""

    form: Form
    values: tuple[Any, ...]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)

    def perform(
        self, operations: Operations, progress: ProgressReport
    ) -> Awaitable[str | StatusDocument | Mapping[str, Any]]:
        """Let `operations` carry it out."""
        return self.form.perform(operations, progress, *self.values)


def _one_path(up: bool, path: Address | str, destination: Address | None) -> str:
    if isinstance(path, str):
        return "" if destination is None else f"{_shown(path)} is no address, so no DESTINATION follows it"
    if destination is None:
        return f"DESTINATION is missing after the address {path}: it must be {_DESTINATION.allowed}"
    same = path.version == destination.version
    return "" if same else f"SOURCE {path} and DESTINATION {destination} must be of one IP version"


def _no_address(path: Address | str, cost: str) -> str:
    return "" if isinstance(path, str) else f"{path} is an address: say the interface of the path, or its name"


def _can_show(what: str, which: str | None) -> str:
    if what == "events" and which is not None and not _NUMBER.fullmatch(which):
        return f"NUMBER {_shown(which)} must be the number of an event"
    return f"NAME is missing: it must be {_CONNECTION.allowed}" if what == "history" and which is None else ""


async def _show(
    operations: Operations, progress: ProgressReport, what: str, which: str | None
) -> StatusDocument | Mapping[str, Any]:
    if what == "events":
        return operations.events(int(which or 0))
    if which is None:
        return operations.status()
    return operations.history(which) if what == "history" else operations.status_of(which)


def _switch(up: bool, operations: Operations, progress: ProgressReport, name: str) -> Awaitable[str]:
    return operations.connection(up, name, progress)


_FILE_HELP = """\
FILENAME:   {what} (Optional)
            Without path; without it: {otherwise}"""
_FORMS = (
    Form(
        "address",
        "addr[ess] {add | del} IP_ADDRESS[/PREF_LEN] dev INTERFACE",
        "add an IP address to an interface, or remove it",
        """\
IP_ADDRESS: The IP address (can be v4 or v6) to manipulate
PREF_LEN:   The prefix length of the manipulated address
            Default prefix length: 24 for IPv4, 64 for IPv6.
INTERFACE:  The name of the interface related to the manipulated address""",
        (_ADD_OR_DEL, _IP_WITH_LENGTH, _fixed("dev"), _INTERFACE),
        lambda does, progress, add, address, interface: does.address(add, address, interface),
        shortening="addr",
    ),
    Form(
        "interface",
        "int[erface] INTERFACE {up | down}",
        "enable or disable an interface and the paths over it",
        "INTERFACE: The name of the interface e.g. eth0",
        (_INTERFACE, _UP_OR_DOWN),
        lambda does, progress, interface, up: does.interface(interface, up),
        shortening="int",
    ),
    Form(
        "path",
        "path {up | down} {SOURCE DESTINATION | INTERFACE | NAME}",
        "take a path down by hand, or up again",
        """\
SOURCE:      Our IP address of the path: its public or its private address
DESTINATION: The peer's IP address of the path
INTERFACE:   The interface of the path, such as eth1: all paths over it
NAME:        The name of the path, such as path_1, or home/path_1 if several
             connections have one
A path that is taken down stays down, keepalives or not, until it is taken up;
the peer is told.""",
        (_UP_OR_DOWN, _PATH, _DESTINATION),
        lambda does, progress, up, path, destination: does.path(up, path, destination, progress),
        check=_one_path,
    ),
    Form(
        "path cost",
        "path cost {INTERFACE | NAME} {free | metered | backup}",
        "say what a path costs: dearer ones wait until the others are full",
        """\
INTERFACE:   The interface of the path, such as wwan0: all paths over it
NAME:        The name of the path, such as path_1, or home/path_1 if several
             connections have one
The higher cost of both ends holds: what is dear for the peer stays so until the
peer's operator changes it.
For adaptive connections; the peer is told. mpt save keeps it.""",
        (_PATH_WITH_COST, _COST),
        lambda does, progress, path, cost: does.cost(path, cost, progress),
        check=_no_address,
    ),
    *(
        Form(
            word,
            f"{word} NAME",
            f"take all paths of a connection {word} by hand" + (" again" if up else ""),
            """\
NAME: The name of the connection, or of its file, as `mpt status` shows them""",
            (_CONNECTION,),
            partial(_switch, up),
        )
        for word, up in (("up", True), ("down", False))
    ),
    Form(
        "reload",
        "reload [FILENAME]",
        "read the connection files again: new ones, changed ones",
        _FILE_HELP.format(what="Reload only this connection file", otherwise="every *.conf file")
        + "\nWhat did not change keeps its traffic. A file with an error changes nothing.",
        (_OPTIONAL_FILE,),
        lambda does, progress, file: does.reload(file),
        not_found="Reload unsuccessful. Config file not found in the connection: ",
    ),
    Form(
        "restart",
        "restart [FILENAME]",
        "stop and start connections without reading files",
        _FILE_HELP.format(what="Restart only the connection of this config file", otherwise="all connections"),
        (_OPTIONAL_FILE,),
        lambda does, progress, file: does.restart(file),
        not_found="Restart unsuccessful. Config file not found in the connection: ",
    ),
    Form(
        "delete",
        "delete FILENAME",
        "remove a connection; its file is kept as *.conf.disabled",
        "FILENAME:   The config file of the connection to be removed, without path",
        (_FILE,),
        lambda does, progress, file: does.delete(file),
        not_found="Delete unsuccessful. Config file not found: ",
    ),
    Form(
        "save",
        "save [FILENAME]",
        "write what changed at run time to the connection files",
        _FILE_HELP.format(what="Save changed connection information to config file", otherwise="all files"),
        (_OPTIONAL_FILE,),
        lambda does, progress, file: does.save(file),
        not_found="Save unsuccessful. Config file not found in connection: ",
    ),
    Form(
        "create",
        "create FILENAME",
        "create the other end of a connection at its peer",
        """\
FILENAME:   The config file of the connection, without path
The peer needs a conf.template and accept_remote = 1. Neither side stores the
result: see mpt save.""",
        (_FILE,),
        lambda does, progress, file: does.create(file, progress),
        not_found="Create unsuccessful. Config file not found: ",  # ours: the C program only says CMD-ERROR
    ),
    Form(
        "show",
        "show {status [NAME] | history NAME | events [NUMBER]}",
        "tunnels, connections and paths: status, packets, drops",
        """\
NAME:   Only this connection, by its name or its file
NUMBER: Only what happened after the event with this number
Anybody may look; with --json: one object, as docs/commands.md describes it.
`mpt status` shows the status for people in more ways, and `mpt monitor` events
as they happen.""",
        (_one_of(status="status", history="history", events="events"), replace(_CONNECTION, optional=True)),
        _show,
        changes=False,
        check=_can_show,
    ),
)
FORMS: Final = {form.name: form for form in _FORMS}
"""Every command by its name, in the order of the usage text."""

_BY_WORD = {word: form for form in _FORMS for word in (form.name, form.shortening) if word}


def form_named(word: str, others: Sequence[str] = ()) -> Form:
    """Return the command of this name or shortening; raises GrammarError, which proposes the `others`, too."""
    try:
        return _BY_WORD[word]
    except KeyError:
        raise GrammarError(f"there is no command {_shown(word)}{did_you_mean(word, [*FORMS, *others])}") from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest of the `known` words, and then all of them."""
    from difflib import get_close_matches  # slow to import, and needed only for errors

    words = list(known)
    near = get_close_matches(word, words, 1)
    return (f"; did you mean {near[0]}? It" if near else ": it") + f" must be one of {', '.join(words)}"


def parse(words: Sequence[str]) -> Command:
    """Return the command that `words` say; raises GrammarError, and nothing else, for bad ones."""
    if not words:
        raise GrammarError(f"there is no command: it must be one of {', '.join(FORMS)}")
    name_of_two = " ".join(words[:2])
    form = _BY_WORD[name_of_two] if name_of_two in _BY_WORD else form_named(words[0])
    for word in words:
        if not word.isprintable() or any(map(str.isspace, word)) or not 0 < len(word) <= LONGEST_WORD:
            raise _error(form, f"{_shown(word)} cannot stand in a command")
    after_name = words[2:] if form.name == name_of_two else words[1:]
    given = list(after_name)
    values = []
    for argument in form.arguments:
        value = _read(form, argument, given.pop(0) if given else None)
        if not argument.fixed:
            values.append(value)
    if given:
        raise _error(form, f"{_shown(' '.join(given))} is too much: the command ends before it")
    if wrong := form.check(*values):
        raise _error(form, wrong)
    return Command(form, tuple(values), (*form.name.split(), *after_name))


def _read(form: Form, argument: Argument, word: str | None) -> Any:
    """Return the value of `word` as an argument of `form`; None stands for a missing word. Raises GrammarError."""
    if word is None:
        if argument.optional:
            return None
        missing = f"{argument.name} is missing: it must be" if argument.name else "the next word must be"
        raise _error(form, f"{missing} {argument.allowed}")
    try:
        return argument.read(word)
    except (ValueError, KeyError):
        raise _error(form, f"{argument.name} {_shown(word)} must be {argument.allowed}".lstrip()) from None


def _error(form: Form, text: str) -> GrammarError:
    return GrammarError(f"{form.name}: {text}", form)

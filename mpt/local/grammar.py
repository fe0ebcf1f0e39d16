"""The commands of guide chapter 4: one table, from words to frozen values and back.

`parse(words)` gives the value or raises `GrammarError`; ``str(command)`` gives the words again, in full and with
defaults filled in, so that ``parse(str(command).split()) == command``. The client checks what it sends, and the daemon
parses the same words once more: it trusts nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Final, Generic, TypeVar

from mpt.errors import MptError
from mpt.model import Address

DEFAULT_PREFIX: Final = {4: 24, 6: 64}  # guide 4.1
LONGEST_WORD: Final = 255  # characters; no file name, address or interface name is longer

T = TypeVar("T")

_LENGTH = re.compile(r"[0-9]{1,3}")


class GrammarError(MptError):
    """A command is not what it should be: the text names the bad word and what is allowed.

    `form` is the command that was meant, None if there is none of that name.
    """

    def __init__(self, text: str, form: Form | None = None) -> None:
        super().__init__(text)
        self.form = form


# ---- the commands -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeAddress:
    """Guide 4.1: give `interface` the address, or take it away."""

    add: bool
    address: IPv4Interface | IPv6Interface
    interface: str

    def __str__(self) -> str:
        return f"address {'add' if self.add else 'del'} {self.address} dev {self.interface}"


@dataclass(frozen=True, slots=True)
class SwitchInterface:
    """Guide 4.2: `interface` up or down, and the paths over it."""

    interface: str
    up: bool

    def __str__(self) -> str:
        return f"interface {self.interface} {'up' if self.up else 'down'}"


@dataclass(frozen=True, slots=True)
class Reload:
    """Guide 4.3: take in what is new or changed in `file`, or in all files."""

    file: str | None = None

    def __str__(self) -> str:
        return _with_file("reload", self.file)


@dataclass(frozen=True, slots=True)
class Restart:
    """Guide 4.4: stop and start the connection of `file`, or all of them, without reading files."""

    file: str | None = None

    def __str__(self) -> str:
        return _with_file("restart", self.file)


@dataclass(frozen=True, slots=True)
class Delete:
    """Guide 4.5: end the connection of `file` and rename it to `*.conf.disabled`."""

    file: str

    def __str__(self) -> str:
        return _with_file("delete", self.file)


@dataclass(frozen=True, slots=True)
class Save:
    """Guide 4.6: write what changed at run time to `file`, or to all files."""

    file: str | None = None

    def __str__(self) -> str:
        return _with_file("save", self.file)


@dataclass(frozen=True, slots=True)
class Create:
    """Guide 4.7: make the connection of `file` at the peer, too."""

    file: str

    def __str__(self) -> str:
        return _with_file("create", self.file)


@dataclass(frozen=True, slots=True)
class SwitchPath:
    """Take the path from our address `source` to the peer's `destination` down by hand, or up again."""

    up: bool
    source: Address
    destination: Address

    def __str__(self) -> str:
        return f"path {'up' if self.up else 'down'} {self.source} {self.destination}"


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """Tell of tunnels, connections and paths."""

    def __str__(self) -> str:
        return "show status"


Command = ChangeAddress | SwitchInterface | Reload | Restart | Delete | Save | Create | SwitchPath | ShowStatus


def _with_file(name: str, file: str | None) -> str:
    return name if file is None else f"{name} {file}"


# ---- the words after the command ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Argument(Generic[T]):
    """A word that a command takes: its name in the usage text ("" if it has none, like `add` and `del`), what is
    allowed, and `read`, which raises ValueError."""

    name: str
    allowed: str
    read: Callable[[str], T]


class _Words:
    """The words after a command, taken one by one."""

    def __init__(self, form: Form, words: Sequence[str]) -> None:
        self._form = form
        self._words = list(words)

    def take(self, argument: _Argument[T]) -> T:
        """The next word, typed."""
        if not self._words:
            missing = f"{argument.name} is missing: it must be" if argument.name else "the next word must be"
            raise self.error(f"{missing} {argument.allowed}")
        word = self._words.pop(0)
        try:
            return argument.read(word)
        except ValueError:
            raise self.error(f"{argument.name} {_shown(word)} must be {argument.allowed}".lstrip()) from None

    def take_if_any(self, argument: _Argument[T]) -> T | None:
        """The next word, typed, or None if there is none."""
        return self.take(argument) if self._words else None

    def end(self) -> None:
        """There must be no more words."""
        if self._words:
            raise self.error(f"{_shown(' '.join(self._words))} is too much: the command ends before it")

    def error(self, text: str) -> GrammarError:
        """What to raise for words that are good one by one."""
        return GrammarError(f"{self._form.name}: {text}", self._form)


def _shown(word: str) -> str:
    """A word of the operator's in an error message, harmless and of bearable length."""
    return repr(word if len(word) <= 60 else word[:60] + "...")


def _one_of(**meanings: T) -> _Argument[T]:
    """An argument that is one of a few words, and what each means; ``del_`` is the word del."""
    words = {word.rstrip("_"): meaning for word, meaning in meanings.items()}

    def read(word: str) -> T:
        if word not in words:
            raise ValueError
        return words[word]

    return _Argument("", " or ".join(words), read)


def _read_address(word: str) -> Address:
    """One host's address: neither zoned, nor 0.0.0.0, nor multicast, nor IPv4 in IPv6 clothes."""
    found = ip_address(word)
    if found.is_unspecified or found.is_multicast:
        raise ValueError
    if isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped):
        raise ValueError
    return found


def _read_interface_address(word: str) -> IPv4Interface | IPv6Interface:
    plain, slash, length = word.partition("/")
    address = _read_address(plain)
    if slash and not (_LENGTH.fullmatch(length) and int(length) > 0):  # no netmask such as /255.255.255.0
        raise ValueError
    return ip_interface(f"{address}/{int(length) if slash else DEFAULT_PREFIX[address.version]}")


def _read_interface_name(word: str) -> str:
    """What Linux takes as the name of an interface, and takes literally (so no %)."""
    if not 1 <= len(word.encode()) <= 15 or word in (".", "..") or re.search(r"[\s/:%\0]", word):
        raise ValueError
    return word


def _read_file_name(word: str) -> str:
    if not word.endswith(".conf") or word.startswith(".") or "/" in word or len(word.encode()) > LONGEST_WORD:
        raise ValueError
    return word


_ADD_OR_DEL = _one_of(add=True, del_=False)
_UP_OR_DOWN = _one_of(up=True, down=False)
_DEV = _one_of(dev=None)
_STATUS = _one_of(status=None)
_IP_WITH_LENGTH = _Argument(
    "IP_ADDRESS[/PREF_LEN]",
    "an IPv4 or IPv6 address, with or without the length of its prefix, such as 10.1.1.2/24 or 2001:db8::2",
    _read_interface_address,
)
_INTERFACE = _Argument(
    "INTERFACE",
    "the name of an interface, such as eth1: at most 15 bytes without '/', ':' and '%'",
    _read_interface_name,
)
_FILE = _Argument(
    "FILENAME",
    "the name of a connection file, such as connection.conf: no path, and it ends in .conf",
    _read_file_name,
)
_SOURCE = _Argument("SOURCE", "our address of the path, such as 10.1.1.2 or 2001:db8::2", _read_address)
_DESTINATION = _Argument("DESTINATION", "the peer's address, such as 10.1.1.3 or 2001:db8::3", _read_address)


# ---- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """One command: its name, the shortening that is taken too, its syntax and help, and how its words are read.

    `changes` says that the command changes something, which not everybody may; the others only look.
    """

    name: str
    shortening: str
    syntax: str
    summary: str
    details: str
    changes: bool
    read: Callable[[_Words], Command]

    @property
    def needs_words(self) -> bool:
        """Whether the command means nothing without arguments: the guide's client prints its usage then."""
        return not self.syntax.endswith(" [FILENAME]")

    def usage(self) -> str:
        """What ``mpt NAME --help`` prints (guide 4.1 and following)."""
        return f"mpt {self.syntax}\n\n{self.details}"


def _address(words: _Words) -> Command:
    add, address = words.take(_ADD_OR_DEL), words.take(_IP_WITH_LENGTH)
    words.take(_DEV)
    return ChangeAddress(add, address, words.take(_INTERFACE))


def _path(words: _Words) -> Command:
    up, source, destination = words.take(_UP_OR_DOWN), words.take(_SOURCE), words.take(_DESTINATION)
    if source.version != destination.version:
        raise words.error(f"SOURCE {source} and DESTINATION {destination} must be of one IP version")
    return SwitchPath(up, source, destination)


def _show(words: _Words) -> Command:
    words.take(_STATUS)
    return ShowStatus()


_OPTIONAL_FILE = """\
FILENAME:   {what} (Optional)
            Without path; without it: {otherwise}"""
_FORMS = (
    Form(
        "address",
        "addr",
        "addr[ess] {add | del} IP_ADDRESS[/PREF_LEN] dev INTERFACE",
        "add an IP address to an interface, or remove it",
        """\
IP_ADDRESS: The IP address (can be v4 or v6) to manipulate
PREF_LEN:   The prefix length of the manipulated address
            Default prefix length: 24 for IPv4, 64 for IPv6.
INTERFACE:  The name of the interface related to the manipulated address""",
        True,
        _address,
    ),
    Form(
        "interface",
        "int",
        "int[erface] INTERFACE {up | down}",
        "enable or disable an interface and the paths over it",
        "INTERFACE: The name of the interface e.g. eth0",
        True,
        lambda words: SwitchInterface(words.take(_INTERFACE), words.take(_UP_OR_DOWN)),
    ),
    Form(
        "path",
        "",
        "path {up | down} SOURCE DESTINATION",
        "take a path down by hand, or up again",
        """\
SOURCE:      Our IP address of the path: its public or its private address
DESTINATION: The peer's IP address of the path
A path that is taken down stays down, keepalives or not, until it is taken up; the peer is told.""",
        True,
        _path,
    ),
    Form(
        "reload",
        "",
        "reload [FILENAME]",
        "read the connection files again: new ones, changed ones",
        _OPTIONAL_FILE.format(what="Reload only this connection file", otherwise="every *.conf file")
        + "\nWhat did not change keeps its traffic. A file with an error changes nothing.",
        True,
        lambda words: Reload(words.take_if_any(_FILE)),
    ),
    Form(
        "restart",
        "",
        "restart [FILENAME]",
        "stop and start connections without reading files",
        _OPTIONAL_FILE.format(what="Restart only the connection of this config file", otherwise="all connections"),
        True,
        lambda words: Restart(words.take_if_any(_FILE)),
    ),
    Form(
        "delete",
        "",
        "delete FILENAME",
        "remove a connection; its file is kept as *.conf.disabled",
        "FILENAME:   The config file of the connection to be removed, without path",
        True,
        lambda words: Delete(words.take(_FILE)),
    ),
    Form(
        "save",
        "",
        "save [FILENAME]",
        "write what changed at run time to the connection files",
        _OPTIONAL_FILE.format(what="Save changed connection information to config file", otherwise="all files"),
        True,
        lambda words: Save(words.take_if_any(_FILE)),
    ),
    Form(
        "create",
        "",
        "create FILENAME",
        "create the other end of a connection at its peer",
        """\
FILENAME:   The config file of the connection, without path
The peer needs a conf.template and accept_remote = 1. Neither side stores the result: see mpt save.""",
        True,
        lambda words: Create(words.take(_FILE)),
    ),
    Form(
        "show",
        "",
        "show status",
        "tunnels, connections and paths: status, packets, drops",
        "Anybody may look; with --json: one object, as docs/commands.md describes it.",
        False,
        _show,
    ),
)
FORMS: Final = {form.name: form for form in _FORMS}
"""Every command by its name, in the order of the usage text."""

_BY_WORD = {word: form for form in _FORMS for word in (form.name, form.shortening) if word}
_FORM_OF: dict[type[Command], Form] = {
    ChangeAddress: FORMS["address"],
    SwitchInterface: FORMS["interface"],
    SwitchPath: FORMS["path"],
    Reload: FORMS["reload"],
    Restart: FORMS["restart"],
    Delete: FORMS["delete"],
    Save: FORMS["save"],
    Create: FORMS["create"],
    ShowStatus: FORMS["show"],
}


def form_named(word: str) -> Form:
    """The command of this name or shortening; raises GrammarError."""
    try:
        return _BY_WORD[word]
    except KeyError:
        raise GrammarError(f"there is no command {_shown(word)}: it must be one of {', '.join(FORMS)}") from None


def form_of(command: Command) -> Form:
    """The row of the table that `command` belongs to."""
    return _FORM_OF[type(command)]


def parse(words: Sequence[str]) -> Command:
    """The command that `words` say; raises GrammarError, whatever they are."""
    if not words:
        raise GrammarError(f"there is no command: it must be one of {', '.join(FORMS)}")
    form = form_named(words[0])
    for word in words:
        if not word.isprintable() or any(map(str.isspace, word)) or not 0 < len(word) <= LONGEST_WORD:
            raise GrammarError(f"{form.name}: {_shown(word)} cannot stand in a command", form)
    rest = _Words(form, words[1:])
    command = form.read(rest)
    rest.end()
    return command

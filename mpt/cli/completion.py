"""``mpt completion``: what a shell proposes for the next word of a command line.

The scripts for the shells are short: at each TAB they ask ``mpt completion --words`` for the words that may follow.
These come from the syntax of each command in the table that also prints the usage, and from the options in its help
text; so a new command, word or option is completed without a line here. Names of interfaces, files and connections are
those of this host.
"""

from __future__ import annotations

import io
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mpt.cli.options import HELP
from mpt.cli.places import configuration_directory
from mpt.config.clients import client_name
from mpt.config.location import CONNECTIONS
from mpt.config.parser import read_file
from mpt.local.protocol import BAD_USAGE, DONE

FILES: Final = "//files"  # instead of words: the shell shall propose files
MOST_FILES: Final = 200  # connection files that are looked at
GLOBAL_OPTIONS: Final = ("--json", "--socket", "--timeout", "--version", "--help", "-6")

_OPTION = re.compile(r"^\s*(?:-\w(?: [A-Z…]+)?, )?(--[a-z-]+)(?:[ =]\{([^}]+)\})?", re.MULTILINE)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]")

BASH: Final = """\
# bash completion for mpt; in ~/.bashrc: eval "$(mpt completion bash)"
_mpt() {
    local IFS=$'\\n' found
    found=$(mpt completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [ "$found" = //files ]; then
        compopt -o default
        COMPREPLY=()
    else
        COMPREPLY=($(printf '%s' "$found" | cut -f 1))
    fi
}
_mptsrv() {
    case ${COMP_WORDS[COMP_CWORD-1]} in
        --config|-c|--logfile|--pidfile) compopt -o default; COMPREPLY=(); return ;;
    esac
    COMPREPLY=($(compgen -W "$(mptsrv --help 2>/dev/null | grep -oE -- '--[a-z-]+')" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _mpt mpt
complete -F _mptsrv mptsrv
"""
ZSH: Final = """\
#compdef mpt mptsrv
# zsh completion for mpt; in ~/.zshrc after compinit: eval "$(mpt completion zsh)"
_mpt() {
    if [[ $service == mptsrv ]]; then
        _gnu_generic
        return
    fi
    local line
    local -a found described
    found=("${(@f)$(mpt completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $found == //files ]]; then
        _files
        return
    fi
    for line in $found; do
        [[ -n $line ]] && described+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    _describe mpt described
}
compdef _mpt mpt mptsrv
"""
FISH: Final = """\
# fish completion for mpt; in ~/.config/fish/config.fish: mpt completion fish | source
function __mpt_words
    set -l words (commandline -opc) (commandline -ct)
    set -l found (mpt completion --words $words[2..-1] 2>/dev/null)
    if test "$found" = //files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c mpt -f -a '(__mpt_words)'
complete -c mptsrv -a "(mptsrv --help 2>/dev/null | string match -ra -- '--[a-z-]+')"
"""
SCRIPTS: Final = {"bash": BASH, "zsh": ZSH, "fish": FISH}

COMPLETION_HELP: Final = """\
mpt completion {bash | zsh | fish}

Print a script that lets the shell complete commands, options and names with
TAB. Once, for this shell:
    bash: eval "$(mpt completion bash)"
    zsh:  eval "$(mpt completion zsh)"
    fish: mpt completion fish | source
For good, put that line into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish."""


@dataclass(frozen=True, slots=True)
class Row:
    """A command as completion needs it: its syntax, what it does, and how to get its help text, by its next word."""

    syntax: str
    summary: str
    help: Callable[[Sequence[str]], object]


def completion(arguments: Sequence[str], rows: Sequence[Row]) -> int:
    """Run ``mpt completion`` for the commands `rows`. Return the exit status."""
    words = list(arguments)
    if words[:1] == ["--words"]:
        print("\n".join(candidates(words[1:], rows, Names(Path.cwd(), os.environ))))
        return DONE
    if len(words) != 1 or words[0] not in SCRIPTS:
        print(COMPLETION_HELP)
        return DONE if any(word in HELP for word in words) else BAD_USAGE
    print(SCRIPTS[words[0]], end="")
    return DONE


def candidates(words: Sequence[str], rows: Sequence[Row], names: Names) -> list[str]:
    """Return what may stand in the place of the last of `words`, which has been begun: each with a tab and its meaning,
    if it has one. `FILES` alone stands for any file."""
    begun = words[-1] if words else ""
    before = _without_options(words[:-1], rows)
    if words[:-1] and (values := _values(words[-2], before, rows)) is not None:
        return [FILES] if values == [FILES] else _starting(begun, values)
    if begun.startswith("-"):
        return _starting(begun, options(before, rows))
    if not before:
        return _starting(begun, [f"{_name(row)}\t{row.summary}" for row in rows if " " not in _name(row)])
    found: list[str] = []
    for row in rows:
        for token in dict.fromkeys(_next(parse(row.syntax), before)):
            found += names.of(token, row.syntax) if _is_placeholder(token) else [_in_full(token)]
    return [FILES] if FILES in found else _starting(begun, dict.fromkeys(found))


def _starting(begun: str, found: Iterable[str]) -> list[str]:
    return [each for each in dict.fromkeys(found) if each.startswith(begun)]


# ---- options --------------------------------------------------------------------------------------------------------


def options(before: Sequence[str], rows: Sequence[Row]) -> dict[str, list[str] | None]:
    """Return the options after the words `before`, each with the values that it may have; None: any, or none."""
    found: dict[str, list[str] | None] = {}
    general: tuple[str, ...] = GLOBAL_OPTIONS
    for row in rows:
        if not before or before[0] not in (_name(row), *_name(row).split(), row.syntax.partition("[")[0]):
            continue
        help_text = _help_of(row, before[1:])
        general = ("--help",) if help_text.startswith("usage:") else general  # argparse's, which takes its own alone
        named = dict(_OPTION.findall(f"{row.syntax}\n{help_text}"))
        named = dict.fromkeys(re.findall(r"--[a-z-]+", row.syntax), "") | named
        found |= {name: values.split(",") if values else None for name, values in named.items()}
    return found | {name: None for name in general if name not in found}


def _help_of(row: Row, words: Sequence[str]) -> str:
    """Return the help text of a command, and of its next word if that has one of its own."""
    said = io.StringIO()
    literals = [word for word in words[:1] if re.search(rf"[{{| ]{re.escape(word)}[}}| ]", f"{row.syntax} ")]
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            row.help([*literals, "--help"])
        except SystemExit:  # argparse's
            pass
    return said.getvalue()


def _without_options(words: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return the words of a command line that are neither options nor their values."""
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            found.append(word)
        elif rest and (rest[0].isdigit() or _takes_value(word, found, rows)):  # a number may be left out
            rest.pop(0)
    return found


def _takes_value(option: str, before: Sequence[str], rows: Sequence[Row]) -> bool:
    """Return whether something stands behind this option: the help texts write it in capitals or in braces."""
    if option in ("--socket", "--timeout"):
        return True
    pattern = re.compile(rf"(?:^|[\s\[]){re.escape(option)}[ =](?:[A-Z{{])", re.MULTILINE)
    mine = [row for row in rows if before and before[0] == _name(row)]
    return any(pattern.search(f"{row.syntax}\n{_help_of(row, before[1:])}") for row in mine)


def _values(option: str, before: Sequence[str], rows: Sequence[Row]) -> list[str] | None:
    """Return what may stand behind `option`; None if nothing may, or it is none."""
    if not option.startswith("-") or not _takes_value(option, before, rows):
        return None
    known = options(before, rows).get(option)
    return known if known is not None else [FILES]


# ---- syntax ---------------------------------------------------------------------------------------------------------

Item = str | tuple[str, tuple["Syntax", ...]]
Syntax = tuple[Item, ...]
"""Words in order. An item ("{", ways) is one of the ways, ("[", (way,)) may be left out."""


def parse(syntax: str) -> Syntax:
    """Return a syntax such as "path {up | down} [NAME]"; options are left out."""
    tokens = list(_without_option_groups(_tokens(syntax)))
    ways = _ways(tokens)
    assert not tokens, f"{syntax!r} has a bracket too many"
    return ways[0] if len(ways) == 1 else (("{", ways),)


def _tokens(syntax: str) -> Iterator[str]:
    for part in syntax.split():
        word = part
        while word[:1] in ("{", "["):
            yield word[0]
            word = word[1:]
        ends = []
        while word and (word[-1] == "," or (word[-1] in "}]" and _is_open(word))):
            ends.append(word[-1])
            word = word[:-1]
        if word:
            yield word
        yield from reversed(ends)


def _without_option_groups(tokens: Iterable[str]) -> Iterator[str]:
    """Yield the tokens without [--option VALUE] and what is in it."""
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if token == "[" and rest and rest[0].startswith("-"):
            depth = 1
            while depth and rest:
                depth += {"[": 1, "]": -1}.get(rest.pop(0), 0)
        else:
            yield token


def _is_open(word: str) -> bool:
    """Return whether a word ends with a bracket that it has not begun, unlike addr[ess]."""
    return word.count("]") > word.count("[") or word.count("}") > word.count("{")


def _ways(tokens: list[str]) -> tuple[Syntax, ...]:
    """Take the tokens up to a closing bracket; return the ways between which | or a comma chooses."""
    ways: list[list[Item]] = [[]]
    while tokens and tokens[0] not in "}]":
        token = tokens.pop(0)
        if token in "|,":
            ways.append([])
        elif token in "{[":
            inner = _ways(tokens)
            if tokens:
                tokens.pop(0)
            ways[-1].append((token, inner))
        elif token != "…":
            ways[-1].append(token)
    return tuple(map(tuple, ways))


def _next(items: Syntax, words: Sequence[str]) -> Iterator[str]:
    """Yield the tokens that may follow `words`."""
    if not items:
        return
    head, rest = items[0], items[1:]
    if isinstance(head, tuple):
        kind, ways = head
        for way in ways:
            yield from _next((*way, *rest), words)
        if kind == "[":
            yield from _next(rest, words)
    elif not words:
        yield head
    elif _is_placeholder(head) or words[0] in (_in_full(head), head.partition("[")[0]):
        yield from _next(rest, words[1:])


def _is_placeholder(token: str) -> bool:
    return _PLACEHOLDER.match(token) is not None


def _in_full(token: str) -> str:
    """Return address for addr[ess]."""
    return token.replace("[", "").replace("]", "")


def _name(row: Row) -> str:
    """Return the name of a command, of one word or two."""
    first, *rest = row.syntax.split()
    second = rest[0] if rest and rest[0].isalpha() and rest[0].islower() else ""
    return f"{_in_full(first)} {second}".strip().removesuffix(",")


# ---- names of this host ---------------------------------------------------------------------------------------------


class Names:
    """The interfaces, files and connections of this host."""

    def __init__(self, cwd: Path, environ: Mapping[str, str]) -> None:
        self._folder = configuration_directory(None, environ, cwd) / CONNECTIONS

    def of(self, placeholder: str, syntax: str) -> list[str]:
        """Return what `placeholder` may be in a command of this syntax, `FILES` for any file; none if nobody knows."""
        is_path = syntax.startswith("path")
        match placeholder:
            case "INTERFACE":
                return sorted(name for _index, name in socket.if_nameindex() if name != "lo")
            case "FILENAME":
                return [file.name for file in self._files()]
            case "NAME" if is_path:
                return self._paths()
            case "NAME":
                return self._connections()
            case "FILE" | "DIR":
                return [FILES]
        return []

    def _files(self) -> list[Path]:
        try:
            found = [
                each for each in self._folder.iterdir() if each.suffix == ".conf" and not each.name.startswith(".")
            ]
        except OSError:
            return []
        return sorted(found)[:MOST_FILES]

    def _connections(self) -> list[str]:
        found: list[str] = []
        for file in self._files():
            sections = read_file(file).sections
            head = sections["connection"].entries if "connection" in sections else {}
            found += [head["name"].value] if "name" in head else []
            found += [name for each in sections.values() if (name := client_name(each.title))]
        return sorted(set(found))

    def _paths(self) -> list[str]:
        sections = (name for file in self._files() for name in read_file(file).sections)
        return sorted({name for name in sections if re.fullmatch(r"path_\d+", name)})

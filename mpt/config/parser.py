"""Turn the text of an INI file into sections with typed values, in the dialect of the C program (guide 2.6).

- A line is `[section]` or `key = value`; case and indentation mean nothing.
- A comment starts at # or ; and ends the line, unless it stands inside a value quoted by "..." or '...'.
- A backslash at the very end of a line joins the next line to it, except in a line that is only a comment.
- If a section or a key is written twice, the last one counts. Keys and complaints keep their line numbers.
- The text is UTF-8, with or without a byte order mark; any line ends will do. A file has a size limit, a line has none.

configparser does not fit: it takes an indented line for a continuation and wants a space before a comment. It stops at
a duplicate or hides it, and it keeps no line numbers.

A wrong file raises nothing here: problems and warnings are collected, and come all at once.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mpt.config import schema
from mpt.config.steps import Steps, at_once
from mpt.errors import ConfigError

MAX_FILE_SIZE = 1 << 20  # octets; 20 paths with every key and a comment each are some 30 kB
MAX_BAD_LINES = 10  # after so many lines without sense the file is no configuration file
MAX_WARNINGS = 50  # listed of one file

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_LINE_END = re.compile(r"\r\n|\n|\r")
_KEY = re.compile(r"[^\s=#;\[\]\"']+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` 0, `section` "" and `key` "" stand for none. Secrets are masked."""

    file: Path
    line: int
    section: str
    key: str
    value: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:" if self.line else f"{self.file}:"
        section = f" [{self.section}]" if self.section else ""
        shown = self.value if len(self.value) <= 60 else self.value[:57] + "..."
        key = f" {self.key}" + (f" = {shown!r}:" if self.value else "") if self.key else ""
        return f"{where}{section}{key} {self.message}"


class ConfigurationErrors(ConfigError):
    """Everything that is wrong in a configuration, one line each; the warnings are not in the text."""

    def __init__(self, problems: Collection[Problem], warnings: Collection[str] = ()) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        lines = [str(problem) for problem in self.problems]
        super().__init__(lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} errors:", *lines]))


class Entry(NamedTuple):
    """A value as it is written, and where."""

    value: str
    line: int


class Section:
    """One section: its entries as written and, after `read`, the typed values of its good keys.

    A key with a bad value is missing from `values`; `clean` is true while none is.
    """

    __slots__ = ("_unknown", "clean", "entries", "file", "kind", "line", "name", "title", "values")

    def __init__(self, file: IniFile, title: str, line: int) -> None:
        self.file = file
        self.title = title  # as it is written
        self.name = title.lower()
        self.line = line
        self.kind = ""
        self.entries: dict[str, Entry] = {}  # by spelling; after `read` by the name of the key
        self.values: dict[str, Any] = {}
        self.clean = True
        self._unknown: dict[str, Entry] = {}

    def read(self, kind: str, optional: Collection[str] = (), sealed: bool = False) -> Section:
        """Read the values by the schema of this `kind` of section; mandatory keys in `optional` may be missing.

        `sealed`: the section is of a sealed connection, which needs fewer keys and has other defaults.
        """
        self.kind = kind
        self.entries = self._known_entries()
        for key in schema.SECTIONS[kind]:
            entry = self.entries.get(key.name)
            if entry is not None and entry.value:
                try:
                    self.values[key.name] = key.reader(sealed)(entry.value)
                except ValueError as error:
                    self.problem(key.name, f"must be {error}")
            elif key.is_needed(sealed) and key.name not in optional:
                self.problem(key.name, self._missing(key, entry is not None))
            else:  # the C program reads an empty value as if the key were absent
                self.values[key.name] = key.default_value(sealed)
        return self

    def _missing(self, key: schema.Key, is_there: bool) -> str:
        """Return the complaint about a mandatory key without a value; it names a key here that may be it, misspelt."""
        example = f"write for example '{key.name} = {key.example}'"
        if is_there:
            return f"is empty: {example}"
        found = (schema.nearest(spelling, self._unknown) for spelling in (key.name, *key.aliases))
        near = next(filter(None, found), "")
        meant = f"is {near!r} in line {self._unknown[near].line} meant? Else " if near else ""
        return f"is missing: {meant}{example}"

    def _known_entries(self) -> dict[str, Entry]:
        keys = schema.SPELLINGS[self.kind]
        found: dict[str, Entry] = {}
        for spelling, entry in self.entries.items():
            key = keys.get(spelling)
            if key is None:
                self._unknown[spelling] = entry
                if not self.file.warned_enough:
                    self._warn_of_spelling(spelling, entry.line, schema.advice(self.kind, spelling))
                continue
            earlier = found.get(key.name)
            if earlier is not None:
                message = f"is the key of line {earlier.line} in another spelling: the last one counts"
                self._warn_of_spelling(spelling, entry.line, message)
            if earlier is None or earlier.line < entry.line:
                found[key.name] = entry
        return found

    def problem(self, key: str, message: str) -> None:
        """Report an error about `key` of this section, or about the section if `key` is ""."""
        self.clean = False
        self.file.problems.append(self.complaint(key, message))

    def warn(self, key: str, message: str) -> None:
        """Report a warning about `key` of this section, or about the section if `key` is ""."""
        self.file.warn(self.complaint(key, message))

    def _warn_of_spelling(self, spelling: str, line: int, message: str) -> None:
        self.file.warn(Problem(self.file.path, line, self.name, spelling[:60], "", message))

    def complaint(self, key: str, message: str) -> Problem:
        """Return a problem with `key` of this section, or with the section if `key` is ""; it is not reported."""
        entry = self.entries.get(key, Entry("", self.line))
        known = schema.SPELLINGS.get(self.kind, {}).get(key)
        value = "(hidden)" if known and known.secret and entry.value else entry.value
        return Problem(self.file.path, entry.line, self.name, key, value, message)


class IniFile:
    """One configuration file: its sections, problems and warnings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections: dict[str, Section] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def problem(self, line: int, message: str) -> None:
        """Report an error about a whole line, or about the file if `line` is 0."""
        self.problems.append(Problem(self.path, line, "", "", "", message))

    def warn(self, warning: Problem) -> None:
        """Report a warning, which does not stop the program."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(warning)
        elif len(self.warnings) == MAX_WARNINGS:
            self.warnings.append(Problem(self.path, warning.line, "", "", "", "has more warnings: they are not listed"))

    @property
    def warned_enough(self) -> bool:
        """Return whether no further warning will be listed; then none needs words."""
        return len(self.warnings) > MAX_WARNINGS

    def read(self, name: str, optional: Collection[str] = (), sealed: bool = False) -> Section:
        """Return the section of this name with its values read, as `Section.read` does; report it if it is missing."""
        section = self.sections.get(name)
        if section is None:
            near = schema.nearest(name, self.sections)
            meant = f"is [{near}] in line {self.sections[near].line} meant? Else " if near else ""
            self.problem(0, f"[{name}] is missing: {meant}write a line '[{name}]' and its keys below it")
            section = Section(self, name, 0)
            section.clean = False
            return section
        return section.read(name, optional, sealed)

    def numbered(self, prefix: str, counter: Section, count_key: str) -> list[Section]:
        """Return the sections `prefix`_0, `prefix`_1, ... in order; report a counting key that disagrees.

        They are not read yet: other keys decide which of their keys may be missing. An absent counting key agrees with
        any number.
        """
        numbered = re.compile(rf"{prefix}_(0|[1-9][0-9]{{0,5}})")
        present = {int(match[1]): name for name in self.sections if (match := numbered.fullmatch(name))}
        if count_key in counter.values:
            count = counter.values[count_key]
            if count is None:
                count = min(len(present), schema.MAX_NUMBERED)
            absent = [f"[{prefix}_{number}]" for number in range(count) if number not in present]
            extra = [f"[{name}]" for number, name in sorted(present.items()) if number >= count]
            if absent:
                unread = [name for name in self.sections if name not in present.values()]
                near = schema.nearest(absent[0].strip("[]"), unread)
                meant = f" (is [{near}] in line {self.sections[near].line} meant?)" if near else ""
                counter.problem(count_key, f"{_few(absent)} missing{meant}: write it, or count only what there is")
            if extra:
                counter.problem(count_key, f"{_few(extra)} not counted: number them from 0 up and count them all")
        return [self.sections[name] for _number, name in sorted(present.items())[: schema.MAX_NUMBERED]]

    def named(self, kind: str) -> list[tuple[str, Section]]:
        """Return NAME and section of each [kind NAME], in their order; they are not read yet."""
        titled = ((section_name(section.title, kind), section) for section in self.sections.values())
        return [(name, section) for name, section in titled if name]

    def warn_of_unknown_sections(self, kinds: Collection[str]) -> None:
        """Warn of every section of no known kind; `_n` in a kind stands for a number."""
        named = [rf"{kind}(\s+\S.*)?" for kind in kinds if kind in schema.NAMED_SECTIONS]
        known = re.compile("|".join(named + [kind.replace("_n", "_(0|[1-9][0-9]{0,5})") for kind in kinds]))
        for name, section in self.sections.items():
            if not known.fullmatch(name) and not self.warned_enough:
                near = schema.nearest(name, [kind.replace("_n", "_0") for kind in kinds])
                hint = f": is [{near}] meant?" if near else ""
                self.warn(Problem(self.path, section.line, name[:60], "", "", f"is unknown and ignored{hint}"))

    def warning_texts(self) -> tuple[str, ...]:
        """Return the texts of the warnings in the order of their lines."""
        return tuple(map(str, self.sorted_warnings()))

    def sorted_warnings(self) -> list[Problem]:
        """Return the warnings in the order of their lines."""
        return sorted(self.warnings, key=lambda warning: warning.line)

    def sorted_problems(self) -> list[Problem]:
        """Return the errors in the order of their lines."""
        return sorted(self.problems, key=lambda problem: problem.line)


def section_name(title: str, kind: str) -> str:
    """Return the NAME in the title of a [kind NAME] section as it is written, "" for any other section."""
    match = re.fullmatch(rf"{kind}\s+(\S.*)", title.strip(), re.IGNORECASE | re.DOTALL)
    return match[1] if match else ""


def _few(names: list[str]) -> str:
    """Return some names as the start of a sentence: "[path_1] is", "[path_1], [path_2] and 9 more are"."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def read_file(path: Path) -> IniFile:
    """Return a file, split into sections; its problems are everything that is wrong with it."""
    return at_once(file_steps(path))


def file_steps(path: Path) -> Steps[IniFile]:
    """Return what `read_file` does, section by section."""
    ini = IniFile(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # asked before open(), which waits for ever at a FIFO
            ini.problem(0, "cannot be read: it is not a regular file")
            return ini
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError) as error:
        ini.problem(0, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return ini
    if len(data) > MAX_FILE_SIZE:
        ini.problem(0, f"is larger than {MAX_FILE_SIZE} octets: that is no configuration file")
        return ini
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        ini.problem(data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text: save the file as plain UTF-8")
        return ini
    yield from _text_steps(text, ini)
    return ini


def read_text(text: str, path: Path) -> IniFile:
    """Return a text as a file, split into sections; its problems call it `path`."""
    ini = IniFile(path)
    at_once(_text_steps(text, ini))
    return ini


def _text_steps(text: str, ini: IniFile) -> Steps[None]:
    if control := _CONTROL.search(text):
        ini.problem(text.count("\n", 0, control.start()) + 1, "has control characters: that is no configuration file")
        return
    yield from _split(text, ini)


def _split(text: str, ini: IniFile) -> Steps[None]:
    """Sort the lines of `text` into the sections of `ini`."""
    section: Section | None = None
    bad_lines = 0
    for number, line in _logical_lines(text):
        if line[:1] in ("", "#", ";"):  # a lone backslash, joined to nothing or to a comment
            continue
        if title := _header(line):
            yield
            name = title.lower()
            section = ini.sections.get(name)
            if section is None:
                section = ini.sections[name] = Section(ini, title, number)
            else:
                message = f"stands in line {section.line} too: both are read as one section"
                ini.warn(Problem(ini.path, number, name[:60], "", "", message))
            continue
        complaint = _add_entry(line, number, section)
        if complaint:
            ini.problem(number, complaint)
            bad_lines += 1
            if section:
                section.clean = False
            if bad_lines == MAX_BAD_LINES:
                ini.problem(number, "after so many such lines the rest of the file is not read")
                return


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of each line that is no comment, stripped and joined with its continuations."""
    parts: list[str] = []
    start = 0
    for number, raw in enumerate(_LINE_END.split(text), 1):
        line = raw.rstrip()
        if not parts:
            if line.lstrip()[:1] in ("", "#", ";"):
                continue
            start = number
        if line.endswith("\\"):
            parts.append(line[:-1])
        else:
            parts.append(line)
            yield start, "".join(parts).strip()
            parts.clear()
    if parts:
        yield start, "".join(parts).strip()


def _header(line: str) -> str:
    """Return the name in a `[section]` line, or ""."""
    name, bracket, rest = line.removeprefix("[").partition("]")
    if line[0] != "[" or not bracket or "[" in name or rest.strip()[:1] not in ("", "#", ";"):
        return ""
    return name.strip()


def _add_entry(line: str, number: int, section: Section | None) -> str:
    """Put a `key = value` line into its section; return the complaint, without the value, if it is no such line."""
    name, equals, rest = line.partition("=")
    key = name.strip().lower()
    if not equals or not _KEY.fullmatch(key):
        return "is neither '[section]' nor 'key = value'; a comment starts with # or ;"
    if section is None:
        return f"{key[:60]!r} stands before the first [section]"
    value = rest.strip()
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        if end < 0 or value[end + 1 :].strip()[:1] not in ("", "#", ";"):
            return f"the value of {key[:60]!r} has a quote that is not closed, or text after its end"
        value = value[1:end]
    else:
        value = re.split("[#;]", value, maxsplit=1)[0].rstrip()
    if key in section.entries:
        message = f"stands in line {section.entries[key].line} too: the last one counts"
        section.file.warn(Problem(section.file.path, number, section.name, key[:60], "", message))
    section.entries[key] = Entry(value, number)
    return ""

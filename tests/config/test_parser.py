"""The dialect of the configuration files, and files that are none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mpt.config.parser import MAX_BAD_LINES, MAX_FILE_SIZE, MAX_WARNINGS, IniFile, Problem, read_file


def parse(tmp_path: Path, text: str | bytes) -> IniFile:
    """Return the parsed file with this text."""
    file = tmp_path / "a.conf"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(file)


def values(ini: IniFile) -> dict[str, dict[str, str]]:
    """The values of each section, as written."""
    return {
        name: {key: entry.value for key, entry in section.entries.items()} for name, section in ini.sections.items()
    }


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("key = value", "value"),
        ("key=value", "value"),
        ("\tKEY \t=\t value  ", "value"),
        ("   key = value", "value"),
        ("key = two words", "two words"),
        ("key = Value", "Value"),
        ("key = a=b", "a=b"),
        ("key =", ""),
        ("key = ; nothing", ""),
        ("key = value ; comment", "value"),
        ("key = value # comment", "value"),
        ("key = value;comment", "value"),
        ('key = "a ; b # c"', "a ; b # c"),
        ("key = 'a ; b' ; comment", "a ; b"),
        ("key = '\"'", '"'),
        ("key = ''", ""),
        ("key = O'Neill", "O'Neill"),
        ("key = val\\\nue", "value"),
        ("key = 80 \\\r\n  443 \\\n8080", "80   443 8080"),
        ("key = value \\", "value"),
        ("key = value ; comment \\\ngoes on = here", "value"),
        ("; comment \\\nkey = value", "value"),
        ("##### PATHS #####\nkey = value", "value"),
        ("\n\n \t \nkey = value\n\n", "value"),
    ],
)
def test_a_line(line: str, value: str, tmp_path: Path) -> None:
    """Comments, quotes, continuations and space are read as the C program reads them."""
    ini = parse(tmp_path, f"[section]\n{line}")
    assert values(ini) == {"section": {"key": value}}
    assert ini.problems == []


@pytest.mark.parametrize(
    "text",
    [
        "[section]\nkey = value",
        "[section]\r\nkey = value\r\n",
        "[section]\rkey = value\r",
        "\ufeff[section]\nkey = value\n",
        "  [ Section ]  ; comment\nkey = value",
        "[section]\n[SECTION]\nkey = value",
        "\\\n[section]\nkey = value",
        "\\\n# comment\n[section]\nkey = value",
    ],
)
def test_a_file(text: str, tmp_path: Path) -> None:
    """Line ends, a byte order mark, indentation and the end of the file are of no account."""
    ini = parse(tmp_path, text)
    assert values(ini) == {"section": {"key": "value"}}
    assert ini.problems == []


def test_a_key_written_twice_warns_and_the_last_counts(tmp_path: Path) -> None:
    """As in the C program, with a warning that gives both lines."""
    ini = parse(tmp_path, "[a]\nkey = 1\nKEY = 2\n")
    assert values(ini) == {"a": {"key": "2"}}
    assert ini.warnings == [Problem(ini.path, 3, "a", "key", "", "stands in line 2 too: the last one counts")]


def test_a_section_written_twice_warns_and_is_joined(tmp_path: Path) -> None:
    """The keys of both are in one section; if a key is in both, the last one counts."""
    ini = parse(tmp_path, "[a]\none = 1\ntwo = 2\n[b]\n[A]\ntwo = 3\n")
    assert values(ini) == {"a": {"one": "1", "two": "3"}, "b": {}}
    assert [(warning.line, warning.section) for warning in ini.warnings] == [(5, "a"), (6, "a")]


@pytest.mark.parametrize(
    "line",
    [
        *("key", "= value", "two words = 1", "a;b = 1", "key : value"),
        *("[section", "[]", "[a] b", "[a[b]", "]"),
        *('key = "open', "key = 'a' b"),
    ],
)
def test_a_bad_line_is_an_error_with_its_number(line: str, tmp_path: Path) -> None:
    """A line that is neither a header nor a pair is an error, and the lines around it are read."""
    ini = parse(tmp_path, f"[section]\none = 1\n{line}\ntwo = 2\n")
    assert [problem.line for problem in ini.problems] == [3]
    assert values(ini) == {"section": {"one": "1", "two": "2"}}


def test_a_key_before_the_first_section_is_an_error(tmp_path: Path) -> None:
    """There is nothing it could belong to."""
    ini = parse(tmp_path, "key = 1\n[a]\n")
    assert str(ini.problems[0]).endswith("a.conf:1: 'key' stands before the first [section]")


def test_bad_lines_are_not_quoted(tmp_path: Path) -> None:
    """A broken line may hold an authentication key."""
    ini = parse(tmp_path, "[connection]\nauth_key \\\nA0A1A2A3\nauth_key : B0B1\nauth_key = 'C0C1\nD0D1\n")
    assert len(ini.problems) == 4
    assert not any(digits in str(problem) for problem in ini.problems for digits in ("A0", "B0", "C0", "D0"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[a]\nk\0 = 1\n", ":2: has control characters"),
        (b"\x7fELF\x02\x01\x01", "control characters"),
        (b"[a]\n\n; \xe1rv\xedz\n", ":3: is not UTF-8"),
        ("[a]\nk = 1\n".encode("utf-16"), "is not UTF-8"),
        (b"#" * (MAX_FILE_SIZE + 1), "is larger than 1048576 octets"),
    ],
)
def test_rubbish_is_one_error(data: bytes, says: str, tmp_path: Path) -> None:
    """What is no text, or too much of it, is one clear error."""
    (problem,) = parse(tmp_path, data).problems
    assert says in str(problem)


def test_text_that_is_no_configuration_stops_early(tmp_path: Path) -> None:
    """After some bad lines the rest is not read."""
    ini = parse(tmp_path, "To be, or not to be\n" * 1000)
    assert len(ini.problems) == MAX_BAD_LINES + 1


def test_a_missing_file_and_things_that_are_none(tmp_path: Path) -> None:
    """No file, a directory, a FIFO and a dangling link are errors, not exceptions and not an endless wait."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    for name, says in {
        "missing": "No such file",
        ".": "not a regular file",
        "fifo": "not a regular file",
        "link": "No such file",
        "a\0b": "null",
        "x" * 300: "too long",
    }.items():
        (problem,) = read_file(tmp_path / name).problems
        assert says in problem.message


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("[a]\n" + "k=1\n" * 250_000, id="one key"),
        pytest.param("[" + " " * 1_000_000, id="open header"),
        pytest.param("a\\\n" * 300_000, id="continuations"),
        pytest.param("[a]\nk = " + "1 " * 500_000, id="long value"),
        pytest.param("[a]\nk = '" + "x" * 1_000_000, id="open quote"),
        pytest.param("".join(f"[s{number}]\n" for number in range(100_000)), id="sections"),
    ],
)
def test_a_large_file_takes_a_bounded_time(pattern: str, tmp_path: Path) -> None:
    """The largest file of the worst kind is read in seconds, and its warnings are few."""
    begun = time.process_time()
    ini = parse(tmp_path, pattern)
    ini.warn_of_unknown_sections(["general", "tun_n"])
    assert time.process_time() - begun < 5
    assert len(ini.warnings) <= MAX_WARNINGS + 1


def test_a_problem_prints_where_it_is_and_shortens_its_value() -> None:
    """file:line: [section] key = 'value': message, leaving out what it has not."""
    file = Path("conf/a.conf")
    assert str(Problem(file, 7, "a", "k", "x\n", "must be y")) == "conf/a.conf:7: [a] k = 'x\\n': must be y"
    assert str(Problem(file, 7, "a", "k", "", "is missing")) == "conf/a.conf:7: [a] k is missing"
    assert str(Problem(file, 7, "a", "", "", "is odd")) == "conf/a.conf:7: [a] is odd"
    assert str(Problem(file, 0, "", "", "", "is empty")) == "conf/a.conf: is empty"
    assert len(str(Problem(file, 7, "a", "k", "x" * 1000, "must be y"))) < 100

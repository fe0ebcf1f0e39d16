"""Each command of README, getting-started and recipes is typed by a test, or it is told why not (`tests.typed`)."""

from __future__ import annotations

import re
import subprocess
import sysconfig

from mpt.cli.main import PROGRAMS
from mpt.local.grammar import FORMS
from tests.typed import DOCUMENTS, ROOT, TYPED, UNTYPED, Piece, Step, commands

TESTS = "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "tests").rglob("test_*.py")))


def test_every_command_of_the_documents_is_typed() -> None:
    """By a test, or it stands in the list with its reason; that list has no command that is typed or gone."""
    printed = {step for document in DOCUMENTS for step in Piece(document).steps}
    typed = {step for pieces in TYPED.values() for piece in pieces for step in piece.steps}
    assert {step for step in printed - typed if step.command not in UNTYPED} == set()
    assert set(UNTYPED) <= {step.command for step in printed - typed}
    assert len(typed) > 80 > 2 * len(UNTYPED)


def test_every_piece_has_its_test() -> None:
    """The test gives the word for it to a typist, who must type all of it."""
    assert [name for name in TYPED if not re.search(rf"(typist|recipe|TYPED)[(\[]\"{re.escape(name)}\"", TESTS)] == []


def test_commands_are_found() -> None:
    """With a prompt of either kind, without one if a program begins the block; what programs print is none."""
    text = (
        "Words:\n\n    a# mpt x      (a remark)\n    $ ls   # too\n    printed\n\n    cp a b\n    chown c d\n\n"
        "    so it says\n\n```\n    cp in a file\n```\n    # one\n"
    )
    found = ["mpt x", "ls", "cp a b", "chown c d", "one"]
    assert commands(text) == [Step("a" if each == "mpt x" else "", each) for each in found]


def test_commands_in_a_sentence_are_commands() -> None:
    """Each word behind `mpt` in README and docs."""
    known = {name.split()[0] for name in FORMS} | {program.name for program in PROGRAMS}
    texts = [file.read_text(encoding="utf-8") for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    named = {word for text in texts for word in re.findall(r"`mpt(?: --json)? ([a-z]+)[ `]", text)}
    assert len(named) > 20 and named - known == set()


def test_what_needs_no_host_is_typed_here() -> None:
    """In the checkout, as the text says."""
    for piece in TYPED["without a host"]:
        for step in piece.steps:
            command = step.command.replace("mptsrv", f"{sysconfig.get_path('scripts')}/mptsrv")
            said = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
            assert said.returncode == 0, said.stderr

"""The manual pages in docs/man are made from the tables that the programs use, and mandoc finds nothing in them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from mpt.cli.main import PROGRAMS
from mpt.config.schema import SECTIONS
from mpt.daemon.main import _parser
from mpt.local.grammar import FORMS
from tests.manpages import FOLDER, PAGES, details, page, prose

pages = pytest.mark.parametrize("name", list(PAGES))


@pages
def test_the_pages_are_current(name: str) -> None:
    """They are what `python -m tests.manpages` writes."""
    assert (FOLDER / name).read_text(encoding="utf-8") == page(name), "write them: python -m tests.manpages"


@pages
def test_the_pages_are_clean(name: str) -> None:
    """`mandoc -T lint` finds nothing, but that our other pages are not installed here."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", str(FOLDER / name)], capture_output=True, text=True, timeout=30)
    ours = {other.replace(".5", " 5").replace(".8", " 8") for other in PAGES}
    missing = re.compile(r"STYLE: referenced manual not found: Xr (.*)$")
    assert [each for each in done.stdout.splitlines() if not (m := missing.search(each)) or m[1] not in ours] == []
    text = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=80", str(FOLDER / name)], capture_output=True, text=True, timeout=30
    ).stdout
    shown = re.sub(".\b", "", text)
    assert len(shown.splitlines()) > 50 and max(map(len, shown.splitlines())) <= 100


def test_every_command_and_every_key_has_its_entry() -> None:
    """In the page where one looks for it."""
    commands = page("mpt.8")
    for name in [*FORMS, *(program.name for program in PROGRAMS)]:
        shown = f"mpt {name}".replace("address", "addr[ess]").replace("interface", "int[erface]")
        assert f'.Ss "{shown}' in commands, name
    for action in _parser()._actions:
        if action.help != "==SUPPRESS==" and action.option_strings:
            assert action.option_strings[-1].replace("-", "\\-") in page("mptsrv.8")
    of_interface, of_connection = page("mpt-interface.conf.5"), page("mpt-connection.conf.5")
    for kind, keys in SECTIONS.items():
        for key in keys:
            where = of_interface if kind in ("general", "tun_n") else of_connection
            assert f'.It Cm "{key.name}' in where, (kind, key.name)


def test_text_becomes_paragraphs_and_lists() -> None:
    """A dot at the beginning of a line is no macro, and a minus stays a minus."""
    assert list(prose("One. ./two --three")) == ["One.", "\\&./two \\-\\-three"]
    assert list(details("NAME: a\n      b\nText.\n    $ as it is\n")) == [
        *(".Bl -tag -width Ds", '.It Cm "NAME"', "a b", ".El", ".Pp", "Text."),
        *(".Bd -literal -offset indent", "$ as it is", ".Ed"),
    ]

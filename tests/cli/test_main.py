"""The program mpt: its table of commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mpt.cli.main import COMMANDS, main
from mpt.lab.process import environment


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_command_it_says_which_there_are(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bare mpt and mpt --help show every command with its line of help, and end with 0."""
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert all(command.name in said and command.help in said for command in COMMANDS)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A word that is no command ends with 2 and names the commands on standard error."""
    assert main(["dance"]) == 2
    assert "no command 'dance'" in capsys.readouterr().err


def test_it_starts_without_what_it_does_not_need() -> None:
    """Usage is printed without importing Twisted, pyroute2, argparse or the lab."""
    heavy = ("twisted", "pyroute2", "argparse", "mpt.lab")
    program = f"import sys, mpt.cli.main as m; m.main([]); print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.check_output([sys.executable, "-c", program], text=True, env=environment())
    assert said.splitlines()[-1] == "[]"

"""The documents say what the schema says, and their steps work as they are printed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mpt.config import schema
from mpt.config.directory import load_directory
from tests.config.tables import DOCS, table


@pytest.mark.parametrize("kind", schema.SECTIONS)
def test_the_documentation_has_the_row_of_every_key(kind: str) -> None:
    """Every key stands in the table of its section with default, range and meaning, as the schema has them."""
    documented = DOCS.read_text(encoding="utf-8")
    assert f"<!-- {kind} -->\n{table(kind)}\n\n" in documented, "run python -m tests.config.tables"


@pytest.mark.parametrize("host", ["A", "B"])
@pytest.mark.parametrize("there", [False, True], ids=["no directory", "an empty directory"])
def test_the_printed_steps_install_a_configuration(host: str, there: bool, tmp_path: Path) -> None:
    """docs/getting-started.md, word for word, but for the two directories; also where /etc/mpt is there already."""
    text = DOCS.with_name("getting-started.md").read_text(encoding="utf-8")
    steps = text.partition(f"n host {host}:\n\n")[2].partition("\n\n")[0]
    target = tmp_path / "mpt"
    if there:
        target.mkdir()
    commands = steps.replace("/opt/mpt/share/mpt", str(DOCS.parents[1] / "conf")).replace("/etc/mpt", str(target))
    subprocess.run(["sh", "-ec", commands], check=True)
    (connection,) = load_directory(target).config.connections
    assert str(connection.ip_local) == {"A": "10.0.0.2", "B": "10.0.0.3"}[host]


def test_the_configuration_comes_before_the_unit() -> None:
    """A unit that is started without one fails, and stays so."""
    text = DOCS.with_name("getting-started.md").read_text(encoding="utf-8")
    assert text.index("On host A:") < text.index("/etc/mpt --check") < text.index("systemctl enable")

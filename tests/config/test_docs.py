"""The documents say what the schema says, and their steps work as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mpt.config import schema
from mpt.config.directory import load_directory
from tests.config.tables import DOCS, table
from tests.typed import TYPED


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_printed_steps_give_a_configuration_to_the_user(tmp_path: Path) -> None:
    """The unit's user reads all of it and writes the connections; of its private key nobody else sees anything."""
    (tmp_path / "mpt" / "connections").mkdir(parents=True)
    for name in ("interface.conf", "private.key", "connections/a.conf"):
        (tmp_path / "mpt" / name).touch()
    places = {"/etc/systemd/system/": f"{tmp_path}/", "/etc/mpt": f"{tmp_path}/mpt", "/opt/mpt/share/mpt": "conf"}
    for piece in TYPED["with the system"]:
        for step in piece.steps:
            command = re.sub(
                r"root:mpt\b", "root:daemon", re.sub(r"chown( -R)? mpt\b", r"chown\1 daemon", step.command)
            )
            for place, here in places.items():
                command = command.replace(place, here)
            subprocess.run(command, shell=True, cwd=DOCS.parents[1], check=True)
    rights = {
        name: (found.owner(), found.group(), oct(found.stat().st_mode & 0o777))
        for name in ("interface.conf", "private.key", "connections/a.conf")
        if (found := tmp_path / "mpt" / name)
    }
    assert rights == {
        "interface.conf": ("root", "daemon", "0o640"),
        "private.key": ("daemon", "daemon", "0o600"),
        "connections/a.conf": ("daemon", "daemon", "0o640"),
    }
    assert (tmp_path / "mpt.service").exists()


def test_the_configuration_comes_before_the_unit() -> None:
    """A unit that is started without one fails, and stays so."""
    text = DOCS.with_name("getting-started.md").read_text(encoding="utf-8")
    assert text.index("On host A:") < text.index("/etc/mpt --check") < text.index("systemctl enable")

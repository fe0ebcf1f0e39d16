"""A server of many connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import scale
from bench.main import main
from mpt.accel.choice import native_is_built
from mpt.config.directory import load_directory
from mpt.lab.tunnel import write_directory


def test_the_configuration_is_a_good_one(tmp_path: Path) -> None:
    """As many connections as asked for, of two paths each, no two alike."""
    write_directory(tmp_path, *scale._files(tmp_path, "python", 1000))
    loaded = load_directory(tmp_path)
    assert loaded.warnings == ()
    assert len(loaded.config.connections) == 1000
    peers = {path.remote_ipaddr for connection in loaded.config.connections for path in connection.paths}
    assert len(peers) == 2000


@pytest.mark.parametrize("number", ["9", "10001"])
def test_a_number_of_connections_that_cannot_be_measured_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is built."""
    assert main(["--scale", number]) == 1
    assert capsys.readouterr().err == "scripts/bench: a server of 10 to 10000 connections\n"


@pytest.mark.netns
def test_a_server_is_measured() -> None:
    """Every figure is there; the clients are heard over every path, or it would fail."""
    measured = scale.measure("native" if native_is_built() else "python", 20, seconds=1.0)
    assert tuple(measured) == scale.NAMES
    assert min(measured[name] for name in ("ready_s", "ready_cpu_s", "status_s", "reload_one_s")) > 0
    assert measured["idle_cpu_percent"] < 100

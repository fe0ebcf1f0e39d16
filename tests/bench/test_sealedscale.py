"""A server of many sealed clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import sealedscale
from bench.main import main
from mpt.accel.choice import native_is_built
from mpt.config.directory import load_directory


def test_the_configuration_is_a_good_one(tmp_path: Path) -> None:
    """As many clients as asked for, and the daemon's, each with a key and a tunnel address of its own."""
    sealedscale.write_server(tmp_path, "python", 1000)
    loaded = load_directory(tmp_path)
    assert loaded.warnings == ()
    connections = loaded.config.connections
    assert len({each.peer_keys for each in connections}) == len({each.ip_remote for each in connections}) == 1001


def test_sealed_clients_need_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is built."""
    assert main(["--sealed"]) == 1
    assert capsys.readouterr().err == "scripts/bench: --sealed is a way of --scale\n"


@pytest.mark.netns
def test_a_server_is_measured() -> None:
    """All clients come up at once over two paths and renew their keys; one that comes or goes disturbs none."""
    effort = sealedscale.Effort(idle=1.0, renew=1.0, settle=1.0, rounds=1, stream=1)
    measured = sealedscale.measure("native" if native_is_built() else "python", 20, effort)
    assert tuple(measured) == sealedscale.NAMES
    assert measured["up_s"] < 10
    assert measured["lost_pings"] == measured["lost_asks"] == 0
    assert measured["tcp1_mbit"] > 0

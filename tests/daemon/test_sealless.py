"""A native data path that was built without OpenSSL: tunnels with sealed connections have the Python one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mpt.accel.choice import DataPathChoice, choose_datapath
from mpt.data.datapath import PythonDataPath
from mpt.errors import HostError
from mpt.model import Config
from tests.daemon.sealedpair import A_KEYS, a_side, general, identity
from tests.daemon.stage import TUNNEL, Run

PYTHON = choose_datapath("python")


class Sealless(PythonDataPath):
    """What stands for it."""


PLANE = DataPathChoice("native", "the test says so", PYTHON.tun_flags, Sealless, PYTHON)


def test_a_sealed_tunnel_has_another_data_path(run: Run) -> None:
    """From its start; a tunnel of plain connections has it, and takes no sealed one then."""
    sealed = a_side()
    stage = run(config=Config(Path("conf"), general("a"), (TUNNEL,), (sealed,), identity(A_KEYS)), plane=PLANE)
    assert type(stage.datapath) is PythonDataPath
    assert stage.root.operations.status().tunnels[0].data_plane == "python"


def test_a_plain_tunnel_takes_no_sealed_connection_later(run: Run) -> None:
    """It says what to do; the tunnel goes on."""
    plain = replace(a_side(), peer_keys=())
    stage = run(plain, plane=PLANE)
    assert type(stage.datapath) is Sealless
    tunnel = stage.root.runs.tunnels[0]
    with pytest.raises(HostError, match="b: tun0 began with a data path that cannot seal: start mptsrv anew"):
        tunnel.add(a_side(name="b"))
    assert list(tunnel.connections) == [plain.name]

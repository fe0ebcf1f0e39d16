"""The demo as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mpt.lab import lab as labs
from mpt.lab.process import environment


def test_the_demo_ends_with_one_object_and_nothing_left(tun_device: Path) -> None:
    """mpt demo --json prints one object: two paths carry nearly their sum, a lost path is hardly felt, all is gone."""
    with subprocess.Popen(
        [sys.executable, "-m", "mpt.cli.main", "demo", "--json", "--seconds", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as demo:
        output, reports = demo.communicate()
    assert demo.returncode == 0, reports
    result = json.loads(output)
    assert result["schema"] == "mpt.demo/1"
    assert all(40 < single < 50 for single in result["single_mbit"])
    assert result["ratio"] >= 0.85
    assert result["failover_gap_s"] <= 1.0
    assert result["recovered"] is True
    assert "path_0 pulled" in reports
    assert not [name for name in labs.leftovers() if name.startswith(f"mpt-{demo.pid}.")]

"""``mpt lab run`` in real namespaces: a stream of each kind, the files, and nothing left behind."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

SCENARIO = """
[scenario]
repetitions = 1
seconds = 1
warmup = 0.5
[paths]
rate = 20
delay = 0, 10
[sweep]
protocol = tcp | udp
"""


def test_a_scenario_of_ones_own(tmp_path: Path) -> None:
    """TCP and UDP get most of both paths, in order; the progress tells the time that is left."""
    (tmp_path / "own.ini").write_text(SCENARIO)
    command = (sys.executable, "-P", "-m", "mpt.cli.main", "lab", "run", "own.ini", "--no-plots")
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("[1/2, ")
    with (tmp_path / "lab-own" / "results.csv").open() as table:
        tcp, udp = csv.DictReader(table)
    assert 0.6 < float(tcp["ratio"]) < 1
    assert 0.6 < float(udp["ratio"]) < 1
    assert (udp["reordered_percent"], udp["twice"]) == ("0", "0")
    assert 10 < float(udp["delay_p50_ms"]) < 100
    assert abs(float(udp["share_0"]) - 0.5) < 0.1
    document = json.loads((tmp_path / "lab-own" / "results.json").read_text())
    assert len(document["runs"]) == 2
    assert all(len(run["series"]) > 8 for run in document["runs"])

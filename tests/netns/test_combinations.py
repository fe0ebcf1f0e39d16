"""Samples of what `mptsrv --check` accepts, on a real machine; tests/daemon/test_combinations.py has them all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mpt.lab.lab import Lab
from mpt.lab.tunnel import Daemon
from tests.config import files
from tests.daemon.test_combinations import file_of
from tests.netns.support import figure_3, interface_state, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback

SAMPLES = [
    {"inner": 4, "outer": 6, "remote": "absent", "remote_port": "0"},  # the peer's address is not known yet
    {"inner": 6, "outer": 6, "remote": "unknown", "remote_port": "0", "gateway": "unknown"},
    {"inner": 4, "outer": 6, "public": "unknown", "private": "unknown", "window": "100"},
    {"inner": 6, "outer": 4, "public": "0.0.0.0", "gateway": "unknown", "window": "100"},
    {"inner": 4, "outer": 4, "private": "known", "gateway": "known"},
    {"inner": 6, "outer": 4, "remote": "unknown", "remote_port": "0", "window": "100"},
]
PLAIN = {
    "public": "known",
    "private": "absent",
    "gateway": "own",
    "remote": "known",
    "remote_port": "23456",
    "window": "0",
}


@on_every_data_plane
def test_samples_of_what_the_check_accepts_run(lab: Lab, data_plane: str, tmp_path: Path) -> None:
    """Start, reload, restart and stop; nothing is left, and no traceback is in the log."""
    a, _, _ = figure_3(lab)
    wait_until(lambda: "NO-CARRIER" not in interface_state(a) and "tentative" not in interface_state(a), "the links")
    before = interface_state(a)
    for number, sample in enumerate(SAMPLES):
        directory = tmp_path / str(number)
        directory.mkdir()
        files.write(directory, files.INTERFACE, {"c.conf": file_of({**PLAIN, **sample})})
        daemon = Daemon(a, directory)
        daemon.wait_until_ready()
        for words in (["reload"], ["restart"], ["show", "status"]):
            a.run([sys.executable, "-m", "mpt.cli.main", *words])
        assert daemon.stop() in (0, -15)
        assert interface_state(a) == before


def test_the_samples_are_accepted(tmp_path: Path) -> None:
    """They are not refused before anything is tried."""
    for number, sample in enumerate(SAMPLES):
        directory = tmp_path / str(number)
        directory.mkdir()
        files.write(directory, files.INTERFACE, {"c.conf": file_of({**PLAIN, **sample})})
        command = [sys.executable, "-m", "mpt.daemon.main", "--check", "--config", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

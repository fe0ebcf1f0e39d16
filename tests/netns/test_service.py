"""The daemon as a service: what systemd says of its unit, and what it is told while the daemon lives."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpt.lab.lab import Lab
from mpt.lab.tunnel import Daemon
from tests.netns.support import CONF, LIVELY, answers, figure_3, samples, start
from tests.netns.support import no_traceback as no_traceback

UNIT = CONF / "mpt.service"
WATCHDOG = 1.0  # s


def test_the_unit_is_good_and_exposes_little(tmp_path: Path) -> None:
    """systemd-analyze has no word about it, and an exposure below 2.0."""
    program = tmp_path / "mptsrv"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/mptsrv", str(program)))
    for words in (["verify"], ["security", "--offline=yes", "--threshold=19", "--no-pager"]):
        done = subprocess.run(
            ["systemd-analyze", *words, str(unit)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr


class Manager:
    """A service manager: what it has been told, and when."""

    def __init__(self, path: Path) -> None:
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(str(path))

    def told(self, seconds: float, until: str | None = None) -> list[str]:
        """Return what comes in `seconds`, or up to a message that has the line `until`."""
        said: list[str] = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self.channel], [], [], left)[0]:
            said += self.channel.recv(4096).decode().splitlines()
            if until in said:
                return said
        assert until is None, f"{until} is not in {said}"
        return said


@pytest.fixture
def manager(lab: Lab) -> Iterator[Manager]:
    """Return a service manager with a socket in the lab."""
    manager = Manager(lab.directory / "notify")
    yield manager
    manager.channel.close()


def test_what_the_service_manager_is_told(lab: Lab, manager: Manager) -> None:
    """READY when the first packet can pass; signs of life while the reactor turns, and none while it does not; a reload
    from its begin to its end; the end."""
    a, b, _ = figure_3(lab)
    start((b, samples(lab, "b", *LIVELY)))
    variables = {"NOTIFY_SOCKET": str(lab.directory / "notify"), "WATCHDOG_USEC": str(int(1e6 * WATCHDOG))}
    daemon = Daemon(a, samples(lab, "a", *LIVELY), variables)
    assert manager.told(20, "READY=1")[0] == "READY=1"
    assert answers(a, "10.0.0.3", timeout=2)
    daemon.wait_until_ready()
    assert "WATCHDOG=1" in manager.told(WATCHDOG)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    manager.told(0.01)  # what was under way
    silence = manager.told(1.5 * WATCHDOG)
    os.kill(daemon.process.pid, signal.SIGCONT)
    assert silence == []
    manager.told(5, "WATCHDOG=1")
    daemon.process.signal(signal.SIGHUP)
    assert manager.told(10, "RELOADING=1")
    assert manager.told(10, "READY=1")
    daemon.stop()
    assert "STOPPING=1" in manager.told(0.5)

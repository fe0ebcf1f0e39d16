"""The stage of the namespace tests: a fresh lab for each, and the proof that nothing is left at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpt.lab.lab import Lab, leftovers, sweep
from mpt.lab.process import Process
from tests.netns.nursery import Nursery


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """At the end of the session no namespace and no directory of this process's labs exists."""
    if os.geteuid() != 0:  # every test of this directory is skipped then, with the reason
        yield
        return
    sweep()
    yield
    mine = [name for name in leftovers() if name.startswith(f"mpt-{os.getpid()}.")]
    assert mine == [], f"left behind: {mine}"


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    """Our own programs in the labs of the tests are forked."""
    with Nursery() as nursery, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Process, "launch", nursery.launch)
        yield


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A clean lab for one test."""
    with Lab() as fresh:
        yield fresh


@pytest.fixture
def tun_device() -> Path:
    """/dev/net/tun, for tests that need real TUN devices; skips where this machine has none."""
    device = Path("/dev/net/tun")
    if not device.exists():
        pytest.skip("there is no /dev/net/tun: modprobe tun")
    return device


@pytest.fixture(autouse=True)
def data_plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    """For tests that run on every data path (support.on_every_data_plane): all daemons have this one, and say so. For
    the others what their environment or configuration says, or else the native one where it is built."""
    wanted = getattr(request, "param", None)
    if wanted is None:
        yield None
        return
    monkeypatch.setenv("MPT_DATA_PLANE", wanted)
    lab = request.getfixturevalue("lab")
    yield wanted
    said = "".join(process.output() for host in lab.hosts for process in host.processes)
    assert set(re.findall(r"the data path is (\w+)", said)) == {wanted}

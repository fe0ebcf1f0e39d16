"""The daemon as a process: signals while it starts and stops, a wall clock that is set, an interface that goes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.tunnel import Daemon
from tests.daemon.test_lifetime import build_shim
from tests.netns.support import (
    LIVELY,
    answers,
    figure_3,
    interface_state,
    no_path_falls,
    samples,
    start_samples,
    wait_until,
)
from tests.netns.support import no_traceback as no_traceback

A, B = "10.0.0.2", "10.0.0.3"


@pytest.mark.parametrize("steps", [("3600", "-3600"), ("-25",)], ids=["an hour", "25 s back"])
def test_a_wall_clock_that_is_set_is_not_noticed(lab: Lab, tmp_path: Path, steps: tuple[str, ...]) -> None:
    """No ping is lost, no path goes down at either end, and keepalives go on."""
    a, b, _ = figure_3(lab)
    clock = tmp_path / "clock"
    variables = {"LD_PRELOAD": str(build_shim(tmp_path)), "WALL_CLOCK": str(clock)}
    daemons = [
        Daemon(a, samples(lab, "a", *LIVELY), variables),
        Daemon(b, samples(lab, "b", *LIVELY)),
    ]
    for daemon in daemons:
        daemon.wait_until_ready()
    with no_path_falls(*daemons):
        for step in steps:
            clock.write_text(step)
            assert None not in ping(a, B, count=30, interval=0.05)
        time.sleep(1.5)  # longer than the dead time, without data: only keepalives speak
        assert answers(a, B)


def test_two_requests_to_stop_are_one(lab: Lab) -> None:
    """Within 20 ms; nothing is left, and nothing is said of it."""
    a, b, _ = figure_3(lab)
    before = _settled(a)
    daemon, _ = start_samples(lab, a, b)
    daemon.process.signal(signal.SIGTERM)
    time.sleep(0.01)
    daemon.process.signal(signal.SIGTERM)
    assert daemon.process.wait(5) in (0, -signal.SIGTERM)
    assert interface_state(a) == before


def test_a_request_to_stop_while_it_starts_leaves_nothing(lab: Lab) -> None:
    """Whenever it comes: from the moment at which the first route is there, and later."""
    a, _, _ = figure_3(lab)
    before = _settled(a)
    configuration = samples(lab, "a")
    for delay in (0.0, 0.0, 0.0, 0.005, 0.01, 0.02):
        daemon = Daemon(a, configuration)
        wait_until(lambda: "10.1.1.3" in a.run(["ip", "route"]), "the first route", timeout=20)
        time.sleep(delay)
        daemon.process.signal(signal.SIGTERM)
        daemon.process.wait(10)
        assert interface_state(a) == before


def test_a_tunnel_interface_that_is_removed_is_made_again(lab: Lab) -> None:
    """`ip link del tun0`: packets flow again at once, over the same daemon."""
    a, b, _ = figure_3(lab)
    daemons = start_samples(lab, a, b, *LIVELY)
    wait_until(lambda: answers(a, B), "the tunnel works")
    before = interface_state(a)
    for _ in range(3):
        a.run(["ip", "link", "del", "tun0"])
        assert wait_until(lambda: answers(a, B), "the tunnel works again") < 3
    assert [line.split(":")[1:] for line in interface_state(a).splitlines() if "tun0" in line]
    assert sorted(_routes(interface_state(a))) == sorted(_routes(before))
    assert all(daemon.process.running for daemon in daemons)


def test_a_tunnel_interface_that_cannot_be_made_again_ends_the_daemon_with_a_failure(lab: Lab) -> None:
    """Something else has its name by now. systemd restarts what exits with 1."""
    a, b, _ = figure_3(lab)
    daemon, _ = start_samples(lab, a, b)
    daemon.process.signal(signal.SIGSTOP)
    a.run(["ip", "link", "del", "tun0"])
    a.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tap"])
    daemon.process.signal(signal.SIGCONT)
    assert daemon.process.wait(5) == 1
    assert "tun0 cannot be made again: there is an interface tun0 already" in daemon.process.output()


def _settled(host: Host) -> str:
    """Return the state of the interfaces when their carriers are there."""
    wait_until(lambda: "NO-CARRIER" not in interface_state(host), "the carriers")
    wait_until(lambda: interface_state(host).count("inet6 fe80:") == 2, "the link-local addresses")
    return interface_state(host)


def _routes(state: str) -> list[str]:
    return [line for line in state.splitlines() if " dev " in line]

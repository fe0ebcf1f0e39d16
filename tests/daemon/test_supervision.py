"""What the service manager is told, over a real datagram socket, and when."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mpt.daemon.supervision import Supervision
from mpt.host.notify import ServiceManager


class Manager:
    """A service manager that reads what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._channel.bind(self.path)

    def told(self) -> list[str]:
        """Return what has come since the last time."""
        said = []
        while True:
            try:
                said.append(self._channel.recv(4096).decode())
            except BlockingIOError:
                return said

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Return a service manager that wants a sign of life every ten seconds."""
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def environment(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid()), **more}


def test_ready_status_and_signs_of_life(manager: Manager) -> None:
    """Nothing before packets flow; then a line of status when it changes, and a sign of life in half of the time."""
    clock, line = Clock(), ["2 of 2 paths work"]
    supervision = Supervision(clock, ServiceManager(environment(manager)), lambda: line[0])
    supervision.startService()
    clock.advance(20.0)
    assert manager.told() == []
    supervision.ready()
    assert manager.told() == ["READY=1\nSTATUS=2 of 2 paths work"]
    clock.pump([5.0, 5.0])
    assert manager.told() == ["WATCHDOG=1"] * 2
    line[0] = "1 of 2 paths work"
    clock.advance(5.0)
    assert sorted(manager.told()) == ["STATUS=1 of 2 paths work", "WATCHDOG=1"]
    supervision.stopService()
    clock.advance(60.0)
    assert manager.told() == ["STOPPING=1"]


def test_a_reactor_that_stands_still_gives_no_sign(manager: Manager) -> None:
    """The signs come from the reactor's own timers: while they do not run, there is none."""
    clock = Clock()
    supervision = Supervision(clock, ServiceManager(environment(manager)), lambda: "")
    supervision.startService()
    supervision.ready()
    manager.told()
    assert manager.told() == []  # however long it takes
    clock.advance(5.0)
    assert manager.told() == ["WATCHDOG=1"]


def test_a_reload_is_told_from_begin_to_end(manager: Manager) -> None:
    """The manager waits for the end of the reload, and knows by the clock which one it is."""
    supervision = Supervision(Clock(), ServiceManager(environment(manager)), lambda: "all well")
    supervision.reloading()
    supervision.reloaded()
    begin, end = manager.told()
    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=") and end == "READY=1\nSTATUS=all well"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    """Nor with one that has gone; no timer runs for nobody."""
    clock = Clock()
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        supervision = Supervision(clock, ServiceManager(environ), lambda: "")
        supervision.startService()
        supervision.ready()
        supervision.reloading()
        supervision.stopService()
    assert clock.getDelayedCalls() == []


def test_children_and_other_processes_do_not_speak_in_our_name(manager: Manager) -> None:
    """The variables are gone after they were read; a watchdog for another process is not ours."""
    environ = environment(manager, WATCHDOG_PID="1")
    assert ServiceManager(environ).watchdog == 0.0
    assert environ == {}
    assert ServiceManager({"WATCHDOG_USEC": "5"}).watchdog == 0.0
    assert ServiceManager({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}).watchdog == 0.0
    assert ServiceManager({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "500000"}).watchdog == 0.5

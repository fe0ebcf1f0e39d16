"""Stages that are taken down again, and are seen to leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from mpt.model import ConnectionConfig
from tests.daemon.stage import Run, Stage


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a daemon on fakes: ``run(connection, ...)`` is a started Stage."""
    stages: list[Stage] = []

    def start(*connections: ConnectionConfig, **named: Any) -> Stage:
        stages.append(Stage(*connections, **named))
        return stages[-1].start()

    yield start
    for stage in stages:
        devices = list(stage.system.tuns.values())
        stage.stop()
        for device in devices:
            device.close()
    for stage in stages:
        assert stage.system.sockets == [], "data sockets are left open"
        assert stage.system.open_devices == 0, "the TUN is left open"
        assert stage.netlink.routes == stage.routes_before, "routes are left, or are gone that were not ours"
        assert stage.reactor.unix_ports == {}, "the control socket is left"
        assert stage.taps.open_now == {}, "a tap is left open"
        assert stage.reactor.readers == [], "readers are left"
        assert stage.reactor.getDelayedCalls() == [], "timers are left"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the daemon has logged since the test began, a text for each entry."""
    texts: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        texts.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)

"""A bug in what reads a descriptor: it is logged, and reading goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mpt.daemon.descriptors import LOG_EVERY, PAUSE, Readable
from mpt.testing.reactor import FakeReactor
from tests.daemon.logged import logged


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: its end to read, and its end to write."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class Reader:
    """Reads `descriptor`, one octet each time, and fails while it is `broken`."""

    def __init__(self, descriptor: int) -> None:
        self.reactor = FakeReactor()
        self.descriptor = descriptor
        self.read = b""
        self.calls = 0
        self.lost = 0
        self.broken = False
        self.readable = Readable(self.reactor, "test", lambda: descriptor, self._read, self._lost)
        self.readable.startReading()

    def _read(self) -> None:
        self.calls += 1
        if self.broken:
            raise ZeroDivisionError
        self.read += os.read(self.descriptor, 1)

    def _lost(self) -> None:
        self.lost += 1


def test_what_waits_is_read(pipe: tuple[int, int]) -> None:
    """The owner reads each time that the reactor says so."""
    reader = Reader(pipe[0])
    os.write(pipe[1], b"ab")
    reader.reactor.read_all()
    assert reader.read == b"ab"


def test_a_bug_does_not_end_the_reading_and_does_not_fill_the_log(pipe: tuple[int, int]) -> None:
    """The descriptor is read again after a pause, for ever, with one log entry a minute."""
    reader = Reader(pipe[0])
    reader.broken = True
    os.write(pipe[1], b"a")
    with logged() as log:
        reader.reactor.pass_time(LOG_EVERY + 1, step=PAUSE)
    assert reader.lost == 0
    assert LOG_EVERY / PAUSE / 2 < reader.calls < LOG_EVERY / PAUSE * 1.1
    assert len(log.of("critical")) == 2
    reader.broken = False
    reader.reactor.pass_time(2 * PAUSE)
    assert reader.read == b"a"


def test_a_stop_in_the_pause_is_a_stop(pipe: tuple[int, int]) -> None:
    """No timer is left."""
    reader = Reader(pipe[0])
    reader.broken = True
    os.write(pipe[1], b"a")
    with logged():
        reader.reactor.read_all()
    assert reader.reactor.readers == []
    reader.readable.stop()
    assert reader.reactor.getDelayedCalls() == [] and reader.reactor.readers == []


def test_an_error_condition_is_told(pipe: tuple[int, int]) -> None:
    """An error condition is no bug."""
    reader = Reader(pipe[0])
    reader.readable.connectionLost(None)
    assert reader.lost == 1

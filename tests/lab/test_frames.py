"""The wire between two sockets, in C and in Python alike."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from mpt.lab.netem.frames import NativeWire, PythonWire, Wire
from mpt.lab.netem.line import Settings

NATIVE = pytest.param(
    NativeWire, marks=pytest.mark.skipif(find_spec("mpt.lab.netem._wire") is None, reason="needs the compiled wire")
)


class Running:
    """A wire that runs in a thread; `near` and `far` are what the hosts at its ends have."""

    def __init__(self, kind: type[NativeWire | PythonWire]) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        (self.near, first), (self.far, second) = pairs
        self._sockets = [self.near, first, self.far, second]
        for device in (first, second):
            device.setblocking(False)
        for host in (self.near, self.far):
            host.settimeout(10)
        self.wire: Wire = kind(first, second, 1500, 7)
        self._commands, self._tell = os.pipe()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.wire.run, args=(self._commands,))
        self._thread.start()

    def pause(self) -> None:
        """Let it return, as it does for a command."""
        os.write(self._tell, b"x")
        assert self._thread is not None
        self._thread.join()
        os.read(self._commands, 1)

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        for descriptor in (self._commands, self._tell):
            os.close(descriptor)


@pytest.fixture(params=[NATIVE, PythonWire])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    made = Running(request.param)
    yield made
    made.close()


def test_frames_pass_both_ways_until_a_command_comes(running: Running) -> None:
    """Every frame arrives whole and in order; after a command, a line that is closed carries nothing more."""
    running.wire.adjust("ab", Settings(delay=0.001, rate=1e9))
    running.start()
    frames = [number.to_bytes(2, "big") * (number + 1) for number in range(200)]
    for start in range(0, len(frames), 5):  # the queue of a socket is short
        for frame in frames[start : start + 5]:
            running.near.send(frame)
        assert [running.far.recv(2000) for _ in range(5)] == frames[start : start + 5]
    running.far.send(b"back")
    assert running.near.recv(2000) == b"back"
    running.pause()
    running.wire.adjust("ab", Settings(open=False))
    running.start()
    running.near.send(b"lost")
    running.far.send(b"second")
    assert running.near.recv(2000) == b"second"
    running.pause()
    running.far.setblocking(False)
    with pytest.raises(BlockingIOError):
        running.far.recv(2000)

"""The send buffers of the data sockets follow their lines."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from mpt.daemon.machine import Machine
from mpt.daemon.pathport import LocalEndpoint, PathPort
from mpt.daemon.sendqueues import LARGEST, MOST_PATHS, SendQueues
from mpt.data.pathstate import PathMeasures
from mpt.host.sockets import SIOCOUTQ
from mpt.host.udp import SO_SNDBUFFORCE
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSystem

RATE = 1_250_000  # octets a second that the line drains


class Host(FakeSystem):
    """A machine that says how much waits in every socket."""

    waiting = 0
    asked = 0

    def ioctl(self, fd: int, request: int, argument: bytes) -> bytes:  # type: ignore[override]
        if request != SIOCOUTQ:
            return super().ioctl(fd, request, argument)
        self.asked += 1
        if self.waiting < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return struct.pack("i", self.waiting)


class Line:
    """One data socket with `paths` paths, and the queues that look at it."""

    def __init__(self, paths: int = 1) -> None:
        netlink = FakeNetlink()
        netlink.add_interface("eth1", "10.1.1.2/24")
        self.host = Host(netlink)
        reactor = FakeReactor()
        machine = Machine(reactor, reactor.seconds, self.host, netlink)
        self.port = PathPort(machine, LocalEndpoint(ip_address("10.1.1.2"), 4754, "eth1", 1), lambda _: None)
        self.port.users |= {("c", index) for index in range(paths)}
        self.sent = 0
        self.queues = SendQueues(self.host, lambda: [self.port], self._measured)

    def _measured(self, path: tuple[str, int]) -> PathMeasures:
        return PathMeasures(bytes_sent=self.sent)

    @property
    def buffer(self) -> Any:
        """Return the last size of the socket's send buffer, as the kernel counts it."""
        return 2 * self.host.sockets[0].options[socket.SOL_SOCKET, SO_SNDBUFFORCE]

    def run(self, waiting: int) -> None:
        """Send for 3 seconds at the rate of the line, while `waiting` octets wait."""
        self.host.waiting = waiting
        for step in range(300):
            self.sent += RATE // 100
            self.queues.sent(10.0 + step / 100)


@pytest.fixture
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(getattr(request, "param", 1))
    yield made
    made.port.socket.close()


def test_a_standing_queue_shrinks_the_buffer(line: Line) -> None:
    """To what the line drains in a moment; the kernel is asked ten times a second, however often packets are sent."""
    assert line.buffer == LARGEST
    line.run(waiting=1_500_000)
    assert 50_000 < line.buffer < 250_000
    assert line.host.asked <= 31


def test_without_a_queue_the_buffer_stays_as_it_is(line: Line) -> None:
    """Bursts have room."""
    line.run(waiting=0)
    assert line.buffer == LARGEST


@pytest.mark.parametrize("line", [MOST_PATHS + 1], indirect=True)
def test_the_socket_of_a_server_is_left_alone(line: Line) -> None:
    """The socket of a server's many paths is not looked at."""
    line.run(waiting=1_500_000)
    assert line.buffer == LARGEST
    assert line.host.asked == 0


def test_a_kernel_that_cannot_tell_is_no_harm(line: Line) -> None:
    """The buffer stays as it is."""
    line.run(waiting=-1)
    assert line.buffer == LARGEST

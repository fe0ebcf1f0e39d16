"""What the fakes can do that no kernel does: fail on command, and be looked into."""

from __future__ import annotations

import errno
import select
from ipaddress import IPv4Interface, ip_address

import pytest

from mpt.host.sockets import open_data_socket
from mpt.host.tun import open_tun
from mpt.model import TunnelConfig
from mpt.testing.system import FakeSystem

CONFIG = TunnelConfig(name="tun0", ipv4_addr=IPv4Interface("10.0.0.2/24"))
PACKET = bytes([0x45]) + bytes(39)


def test_planned_errors_come_in_order_and_once() -> None:
    """A call fails as its script says, call by call, and works again afterwards."""
    system = FakeSystem()
    tun = open_tun(CONFIG, system, system.netlink)
    system.tuns["tun0"].inject(PACKET)
    system.fail("read", errno.EINTR, None, errno.ENOBUFS)
    with pytest.raises(InterruptedError):
        system.read(tun.fd, 2000)
    assert system.read(tun.fd, 2000) == PACKET
    with pytest.raises(OSError, match="No buffer space"):
        system.read(tun.fd, 2000)
    with pytest.raises(BlockingIOError):
        system.read(tun.fd, 2000)
    tun.close()


def test_what_is_written_can_be_looked_at() -> None:
    """Packets written to the tunnel are kept for the test, apart and in order."""
    system = FakeSystem()
    tun = open_tun(CONFIG, system, system.netlink)
    assert [system.write(tun.fd, PACKET), system.write(tun.fd, PACKET + b"x")] == [40, 41]
    assert system.tuns["tun0"].delivered() == [PACKET, PACKET + b"x"]
    assert system.tuns["tun0"].delivered() == []
    tun.close()


def test_a_socket_sends_and_receives() -> None:
    """A datagram that a test delivers makes the socket readable; what it sends is kept with its address."""
    system = FakeSystem()
    with open_data_socket(ip_address("127.0.0.1"), 4754, "lo", system) as data_socket:
        (fake,) = system.sockets
        assert (fake.interface, fake.bound) == ("lo", ("127.0.0.1", 4754))
        fake.deliver(b"", ("192.0.2.1", 4754))
        fake.deliver(b"datagram", ("192.0.2.2", 4754))
        assert select.select([data_socket], [], [], 0)[0] == [data_socket]
        assert data_socket.recvfrom(2000) == (b"", ("192.0.2.1", 4754))
        assert data_socket.recvfrom(2000) == (b"datagram", ("192.0.2.2", 4754))
        with pytest.raises(BlockingIOError):
            data_socket.recvfrom(2000)
        system.fail("sendto", errno.ENETUNREACH)
        with pytest.raises(OSError, match="Network is unreachable"):
            data_socket.sendto(b"lost", ("192.0.2.1", 4754))
        data_socket.sendto(b"sent", ("192.0.2.1", 4754))
        assert fake.sent == [(b"sent", ("192.0.2.1", 4754))]
    assert system.sockets == []

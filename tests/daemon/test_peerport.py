"""The command port: the answer goes back the way the question came."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from mpt.daemon.machine import Machine
from mpt.daemon.peerport import BATCH, PACKET_INFO, CommandPort, Peer, Way
from mpt.errors import HostError
from mpt.host.system import System
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSocket, FakeSystem

PEER = Peer(ip_address("10.1.1.3"), 60456)
WAY = Way(ip_address("10.1.1.2"), 7)


class Notes(DatagramProtocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, Peer, Way]] = []

    def command_received(self, datagram: bytes, peer: Peer, way: Way) -> None:
        self.heard.append((datagram, peer, way))


class Open:
    """An open command port on the system `system`, under a reactor that the test turns."""

    def __init__(self, system: System, port: int) -> None:
        self.reactor = FakeReactor()
        self.notes = Notes()
        machine = Machine(self.reactor, self.reactor.seconds, system, FakeNetlink())
        self.port = CommandPort(machine, port)
        self.port.start(self.notes)


@pytest.fixture
def fake() -> Iterator[Open]:
    """On a fake system."""
    opened = Open(FakeSystem(), 60456)
    yield opened
    opened.port.stop()
    assert opened.reactor.readers == []


@pytest.fixture
def real() -> Iterator[Open]:
    """On this machine, on any free port."""
    opened = Open(System(), 0)
    yield opened
    opened.port.stop()


def fake_socket(opened: Open) -> FakeSocket:
    found = opened.port._socket
    assert isinstance(found, FakeSocket)
    return found


def info(address: str, index: int = 0) -> Any:
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PACKET_INFO.pack(IPv6Address(address).packed, index)


def test_a_datagram_comes_with_its_sender_and_the_way_it_took(fake: Open) -> None:
    """IPv4 addresses in their plain form."""
    fake_socket(fake).deliver(b"x", ("::ffff:10.1.1.3", 60456, 0, 0), [info("::ffff:10.1.1.2", 7)])
    fake_socket(fake).deliver(b"y", ("fe80::3%eth1", 60456, 0, 7), [info("fe80::2", 7)])
    fake_socket(fake).deliver(b"z", ("::ffff:10.1.1.3", 60456, 0, 0))
    fake.reactor.read_all()
    assert fake.notes.heard == [
        (b"x", PEER, WAY),
        (b"y", Peer(ip_address("fe80::3"), 60456), Way(ip_address("fe80::2"), 7)),
        (b"z", PEER, Way()),
    ]


def test_a_datagram_leaves_from_the_address_and_interface_it_is_given(fake: Open) -> None:
    """Without a way the kernel chooses; a link-local peer is reached over the interface of the way."""
    assert fake.port.send(b"x", PEER, WAY)
    assert fake.port.send(b"y", PEER)
    assert fake.port.send(b"z", Peer(ip_address("fe80::3"), 60456), Way(ip_address("fe80::2"), 7))
    assert fake_socket(fake).take_sent() == [
        (b"x", ("::ffff:10.1.1.3", 60456, 0, 0), [info("::ffff:10.1.1.2", 7)]),
        (b"y", ("::ffff:10.1.1.3", 60456, 0, 0), [info("::ffff:0.0.0.0")]),
        (b"z", ("fe80::3", 60456, 0, 7), [info("fe80::2", 7)]),
    ]


def test_what_cannot_be_sent_is_told_not_raised(fake: Open) -> None:
    """No route, no buffer, an address that has just gone."""
    fake_socket(fake)._system.fail("sendmsg", errno.ENETUNREACH, errno.ENOBUFS, errno.EINVAL)
    assert [fake.port.send(b"x", PEER, WAY) for _ in range(4)] == [False, False, False, True]


def test_an_icmp_error_of_an_earlier_datagram_does_not_hide_the_next_one(fake: Open) -> None:
    """It comes out of recvmsg, once; nor does an error condition end the port."""
    fake_socket(fake)._system.fail("recvmsg", errno.ECONNREFUSED)
    fake_socket(fake).deliver(b"x", ("::ffff:10.1.1.3", 60456, 0, 0))
    fake.port.doRead()
    assert [datagram for datagram, _, _ in fake.notes.heard] == [b"x"]
    fake.reactor.removeReader(fake.port)
    fake.port.connectionLost(None)
    assert fake.reactor.readers == [fake.port]


def test_one_wake_up_reads_no_more_than_a_batch(fake: Open) -> None:
    """Data must not wait for a flood of commands."""
    for _ in range(BATCH + 3):
        fake_socket(fake).deliver(b"x", ("::ffff:10.1.1.3", 60456, 0, 0))
    fake.port.doRead()
    assert len(fake.notes.heard) == BATCH
    fake.port.doRead()
    assert len(fake.notes.heard) == BATCH + 3


@pytest.mark.parametrize(("number", "text"), [(errno.EADDRINUSE, "cmdport_local"), (errno.EACCES, "Permission denied")])
def test_a_port_that_is_refused_is_an_error_that_says_what_to_do(number: int, text: str) -> None:
    """And nothing stays open."""
    system = FakeSystem()
    system.fail("bind", number)
    with pytest.raises(HostError, match=f"60456.*{text}"):
        Open(system, 60456)
    assert system.sockets == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_on_a_real_socket_the_answer_comes_from_the_address_that_was_asked(real: Open, address: str) -> None:
    """Whichever of its addresses that is: a client that has connected its socket hears nobody else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5.0)
        client.connect((address, real.port.port))
        client.send(b"question")
        real.reactor.read_all()
        ((datagram, peer, way),) = real.notes.heard
        assert (datagram, peer) == (b"question", Peer(ip_address("127.0.0.1"), client.getsockname()[1]))
        assert way.address == ip_address(address)
        assert real.port.send(b"answer", peer, way)
        assert client.recv(100) == b"answer"

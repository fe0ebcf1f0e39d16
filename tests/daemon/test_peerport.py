"""The command port: the answer goes back the way the question came."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest

from mpt.control.initiator import Outcome, path_status_request
from mpt.daemon.machine import Machine
from mpt.daemon.peerport import WORK, BothVersions, OnlyVersion4, Peer, PeerPort, PeerProtocol, Way
from mpt.errors import HostError, PeerError
from mpt.host.system import System
from mpt.model import Permission
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSocket, FakeSystem
from tests.daemon.stage import LOCAL, REMOTE, Run, connection, path

DOWN = "path down 10.1.1.2 10.1.1.3"
PEER = Peer(ip_address("10.1.1.3"), 60456)
WAY = Way(ip_address("10.1.1.2"), 7)


class Open:
    """An open command port on the system `system`, under a reactor that the test turns; `heard` is what came.

    Whatever is heard takes `cost` seconds to deal with.
    """

    def __init__(self, system: System, port: int) -> None:
        self.reactor = FakeReactor()
        self.heard: list[tuple[bytes, Peer, Way]] = []
        self.cost = 0.0
        machine = Machine(self.reactor, self.reactor.seconds, system, FakeNetlink())
        self.port = PeerPort(machine, port, PeerProtocol(self._received))

    def _received(self, datagram: bytes, peer: Peer, way: Way) -> None:
        self.heard.append((datagram, peer, way))
        self.reactor.rightNow += self.cost


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


class WithoutIPv6(System):
    """This machine as if its kernel had no IPv6 (ipv6.disable=1)."""

    @staticmethod
    def socket(family: int, type: int, proto: int) -> socket.socket:  # type: ignore[override]
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return socket.socket(family, type, proto)


@pytest.fixture
def old() -> Iterator[Open]:
    """On this machine without IPv6."""
    opened = Open(WithoutIPv6(), 0)
    yield opened
    opened.port.stop()


def fake_socket(opened: Open) -> FakeSocket:
    found = opened.port._socket
    assert isinstance(found, FakeSocket)
    return found


def info(address: str, index: int = 0) -> Any:
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, BothVersions.INFO.pack(IPv6Address(address).packed, index)


def test_a_datagram_comes_with_its_sender_and_the_way_it_took(fake: Open) -> None:
    """IPv4 addresses in their plain form."""
    fake_socket(fake).deliver(b"x", ("::ffff:10.1.1.3", 60456, 0, 0), [info("::ffff:10.1.1.2", 7)])
    fake_socket(fake).deliver(b"y", ("fe80::3%eth1", 60456, 0, 7), [info("fe80::2", 7)])
    fake_socket(fake).deliver(b"z", ("::ffff:10.1.1.3", 60456, 0, 0))
    fake.reactor.read_all()
    assert fake.heard == [
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
    """recvmsg raises it once, and an error condition does not end the port."""
    fake_socket(fake)._system.fail("recvmsg", errno.ECONNREFUSED)
    fake_socket(fake).deliver(b"x", ("::ffff:10.1.1.3", 60456, 0, 0))
    fake.reactor.read_all()
    assert [datagram for datagram, _, _ in fake.heard] == [b"x"]
    (reader,) = fake.reactor.readers
    fake.reactor.removeReader(reader)
    reader.connectionLost(None)
    assert fake.reactor.readers == [reader]


def test_one_wake_up_takes_no_longer_than_it_may(fake: Open) -> None:
    """Data must not wait for a flood of commands: the more each costs, the fewer are read at once."""
    for _ in range(100):
        fake_socket(fake).deliver(b"x", ("::ffff:10.1.1.3", 60456, 0, 0))
    (reader,) = fake.reactor.readers
    fake.cost = WORK / 4
    reader.doRead()
    assert len(fake.heard) == 4
    fake.cost = 0.0
    reader.doRead()
    assert len(fake.heard) == 100


def test_a_kernel_without_ipv6_has_a_command_port_for_ipv4() -> None:
    """IP_PKTINFO lets the answer take the way of the request."""
    system = FakeSystem()
    system.fail("socket", errno.EAFNOSUPPORT)
    opened = Open(system, 60456)
    own = fake_socket(opened)
    assert (own.family, own.bound) == (socket.AF_INET, ("0.0.0.0", 60456))
    came = struct.pack("=i4s4s", 7, socket.inet_aton("10.1.1.2"), socket.inet_aton("10.1.1.2"))
    own.deliver(b"x", ("10.1.1.3", 60456), [(socket.IPPROTO_IP, 8, came)])
    opened.reactor.read_all()
    assert opened.heard == [(b"x", PEER, WAY)]
    assert opened.port.send(b"y", PEER, WAY) and opened.port.send(b"z", PEER)
    assert own.take_sent() == [
        (b"y", ("10.1.1.3", 60456), [(socket.IPPROTO_IP, 8, OnlyVersion4.info(PEER, WAY))]),
        (b"z", ("10.1.1.3", 60456), [(socket.IPPROTO_IP, 8, bytes(12))]),
    ]
    assert OnlyVersion4.info(PEER, WAY) == struct.pack("=i4s4s", 7, socket.inet_aton("10.1.1.2"), bytes(4))
    opened.port.stop()


def test_a_kernel_that_refuses_every_socket_is_an_error_in_words() -> None:
    """Too many open files, or no sockets at all."""
    for number in (errno.EMFILE, errno.EAFNOSUPPORT):
        system = FakeSystem()
        system.fail("socket", number, number)
        with pytest.raises(HostError, match="cannot open the command port 60456"):
            Open(system, 60456)


@pytest.mark.parametrize(("number", "text"), [(errno.EADDRINUSE, "cmdport_local"), (errno.EACCES, "Permission denied")])
def test_a_port_that_is_refused_is_an_error_that_says_what_to_do(number: int, text: str) -> None:
    """The error says what to do, and no socket stays open."""
    system = FakeSystem()
    system.fail("bind", number)
    with pytest.raises(HostError, match=f"60456.*{text}"):
        Open(system, 60456)
    assert system.sockets == []


@pytest.mark.parametrize("kernel", ["real", "old"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_on_a_real_socket_the_answer_comes_from_the_address_that_was_asked(
    request: pytest.FixtureRequest, kernel: str, address: str
) -> None:
    """A client whose socket is connected to any loopback address gets its answer from there, with IPv6 or without."""
    real: Open = request.getfixturevalue(kernel)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5.0)
        client.connect((address, real.port.port))
        client.send(b"question")
        real.reactor.read_all()
        ((datagram, peer, way),) = real.heard
        assert (datagram, peer) == (b"question", Peer(ip_address("127.0.0.1"), client.getsockname()[1]))
        assert way.address == ip_address(address)
        assert real.port.send(b"answer", peer, way)
        assert client.recv(100) == b"answer"


# ---- what we ask of peers -------------------------------------------------------------------------------------------


def test_every_attempt_leaves_by_the_way_that_was_chosen_for_it(run: Run) -> None:
    """That holds when another request to the peer has ended meanwhile; when all have ended, no way is kept."""
    first = connection(path(1, keepalive_time=0.0), permission=Permission(3))
    second = connection(path(1), name="d", ip_local=REMOTE, ip_remote=LOCAL, permission=Permission(3))
    stage = run(first)
    commands = stage.root.peer_control
    peer, way = Peer(path(1).remote_ipaddr, 60456), Way(path(1).public_ipaddr, 2)
    outcomes: list[Outcome] = []
    for config in (first, second):
        asked = path_status_request(config, path(1).public_ipaddr, path(1).remote_ipaddr, False)
        commands.begin(asked, peer, way, outcomes.append)
        stage.reactor.pass_time(0.2)
    stage.reactor.pass_time(6.0)
    sent = stage.command_socket.take_sent()
    assert len(sent) == 12 and len({bytes(ancillary[0][2]) for _, _, ancillary in sent}) == 1
    assert [outcome.ok for outcome in outcomes] == [False, False]
    assert commands._ways == {}


def test_the_same_cannot_be_asked_twice_at_once(run: Run) -> None:
    """Their answers could not be told apart; the first request goes on."""
    config = connection(permission=Permission(3))
    stage = run(config)
    asked = path_status_request(config, path(1).public_ipaddr, path(1).remote_ipaddr, False)
    peer = Peer(path(1).remote_ipaddr, 60456)
    outcomes: list[Outcome] = []
    stage.root.peer_control.begin(asked, peer, Way(), outcomes.append)
    with pytest.raises(PeerError, match="still being asked"):
        stage.root.peer_control.begin(asked, peer, Way(), outcomes.append)
    stage.reactor.pass_time(3.1)
    assert len(outcomes) == 1


def test_a_request_that_cannot_be_sent_is_tried_again(run: Run) -> None:
    """A link that has just gone takes one attempt, not the handshake."""
    config = connection(permission=Permission(3))
    stage = run(config)
    stage.system.fail("sendmsg", errno.ENETUNREACH)
    stage.ask(DOWN)
    assert stage.command_socket.take_sent() == []
    stage.reactor.pass_time(0.55)
    assert len(stage.command_socket.take_sent()) == 1

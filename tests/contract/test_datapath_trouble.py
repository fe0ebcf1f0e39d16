"""What every data path does when TUN and sockets refuse, as far as real descriptors can be made to: everything is
counted under its reason, nothing is raised, no number is wasted, and afterwards all goes on.

What only a planned error shows is in tests/data/test_trouble.py, for the Python data path.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mpt.data.egress import BATCH
from mpt.testing.datapath import OTHER_PEER, Stage, connection_row, numbered, packet, path_row
from mpt.wire import gre
from tests.contract.test_datapath import reply, sequenced

IPV6_MTU = 24  # <linux/in6.h>
IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000  # <linux/in.h>, <linux/socket.h>


# --- descriptors that fail ---


def fill(descriptor: int) -> None:
    """Let one end of a socketpair take no more (EAGAIN), until the other end has been read."""
    try:
        while True:
            os.write(descriptor, b"filling")
    except BlockingIOError:
        pass


def orphan() -> int:
    """One end of a socketpair without the other: ECONNREFUSED once, then ENOTCONN."""
    end, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.setblocking(False)
    other.close()
    return end.detach()


def no_device() -> int:
    """What can be neither read nor written, nor is it a socket: EINVAL, ENOTSOCK."""
    with select.epoll() as epoll:
        return os.dup(epoll.fileno())


def no_interface() -> int:
    """A TUN device that no interface belongs to, as after somebody has removed it: EBADFD."""
    try:
        return os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        pytest.skip(f"/dev/net/tun: {error.strerror}")


@contextmanager
def replaced(descriptor: int, by: int) -> Iterator[None]:
    """Let `descriptor` be the open file `by` for a while."""
    saved = os.dup(descriptor)
    try:
        os.dup2(by, descriptor)
        os.close(by)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


TUN_TROUBLE = pytest.mark.parametrize(("broken", "reason"), [(no_device, "tun_einval"), (no_interface, "tun_ebadfd")])


def two_paths(stage: Stage) -> list[Any]:
    """The sockets of a connection that numbers its packets, over two paths of equal weight."""
    sockets = [stage.new_socket() for _ in range(2)]
    stage.set_table(connection_row(*(path_row(number, each) for number, each in enumerate(sockets)), window=64))
    return sockets


def packets_sent(*sockets: Any) -> list[bytes]:
    return [datagram[8:] for each in sockets for datagram, _ in each.sent()]


def sequence_numbers(*sockets: Any) -> list[int]:
    return sorted(int.from_bytes(datagram[4:8], "big") for each in sockets for datagram, _ in each.sent())


# --- egress ---


@pytest.mark.parametrize("full", [0, 1])
def test_a_full_path_drops(descriptor_stage: Stage, full: int) -> None:
    """Its packets are lost although the other path could take them, and use up no number; then it takes its turns
    again."""
    stage = descriptor_stage
    wans = two_paths(stage)
    fill(wans[full].fileno())
    stage.send(*numbered(6))
    assert sequence_numbers(wans[1 - full]) == [0, 1, 2]
    counters = stage.counters()
    assert counters.egress_dropped == {"send_eagain": 3}
    assert counters.paths[full].send_errors == {"send_eagain": 3}
    assert counters.paths[1 - full].send_errors == {}
    wans[full].sent()
    stage.send(*numbered(2))
    assert sequence_numbers(*wans) == [3, 4]


def test_a_burst_for_a_full_path(descriptor_stage: Stage) -> None:
    """The same when all the packets are there at once."""
    stage = descriptor_stage
    full, other = two_paths(stage)
    fill(full.fileno())
    for each in numbered(8):
        stage.tun.inject(each)
    stage.datapath.tun_readable(stage.now)
    assert sequence_numbers(other) == [0, 1, 2, 3]
    assert stage.counters().egress_dropped == {"send_eagain": 4}


def test_a_buffer_that_is_too_small(descriptor_stage: Stage) -> None:
    """A packet that is longer than the socket takes is lost, with no number, and the next ones go."""
    stage = descriptor_stage
    wans = two_paths(stage)
    for each in wans:
        sharing = socket.socket(fileno=os.dup(each.fileno()))
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sharing.close()
    stage.send(packet(body=bytes(30_000)), *numbered(3))
    assert sequence_numbers(*wans) == [0, 1, 2]
    counters = stage.counters()
    assert counters.egress_dropped == counters.paths[0].send_errors == {"send_emsgsize": 1}


def test_a_socket_without_memory(descriptor_stage: Stage) -> None:
    """ENOBUFS, as of a datagram in fragments for a socket with the smallest of buffers, costs the packet and no
    number."""
    stage = descriptor_stage
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as poor,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer,
    ):
        try:
            peer.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        peer.setblocking(False)
        poor.setblocking(False)
        poor.bind(("::1", 0))
        poor.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, 1280)
        poor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        paths = path_row(0, poor, "::1", remote=peer.getsockname()), path_row(1, stage.new_socket(), usable=False)
        stage.set_table(connection_row(*paths, window=64))
        stage.send(numbered(1)[0], packet(body=bytes(30_000)), numbered(1, 1)[0])
        assert [peer.recv(100) for _ in range(2)] == [
            gre.encode(4, number) + each for number, each in enumerate(numbered(2))
        ]
    counters = stage.counters()
    assert counters.egress_dropped == counters.paths[0].send_errors == {"send_enobufs": 1}


def test_a_path_that_refuses_is_passed_over(descriptor_stage: Stage) -> None:
    """When a path cannot send at all its packets go over another, under the same numbers; nothing is lost."""
    stage = descriptor_stage
    first, second = two_paths(stage)
    with replaced(first.fileno(), orphan()):
        stage.send(*numbered(4))
    assert packets_sent(second) == numbered(4)
    stage.send(*numbered(2))
    assert sequence_numbers(first, second) == [4, 5]
    counters = stage.counters()
    assert counters.egress_dropped == {}
    assert counters.paths[0].send_errors == {"send_econnrefused": 1, "send_enotconn": 1}
    assert [path.packets_sent for path in counters.paths.values()] == [1, 5]


def test_a_burst_for_a_path_that_refuses(descriptor_stage: Stage) -> None:
    """The same when all the packets are there at once. Each is counted under the path's error, or under the one before:
    one that has refused a packet of a batch is not asked again."""
    stage = descriptor_stage
    first, second = two_paths(stage)
    with replaced(first.fileno(), orphan()):
        for each in numbered(8):
            stage.tun.inject(each)
        stage.datapath.tun_readable(stage.now)
    sent = {int.from_bytes(datagram[4:8], "big"): datagram[8:] for datagram, _ in second.sent()}
    assert sent == dict(enumerate(numbered(8)))
    errors = stage.counters().paths[0].send_errors
    assert sum(errors.values()) == 4
    assert errors.keys() <= {"send_econnrefused", "send_enotconn"}


def test_when_every_path_refuses_the_packet_is_dropped(descriptor_stage: Stage) -> None:
    """Each path is tried once; the packet counts as one drop, and its number goes to the next packet."""
    stage = descriptor_stage
    first, second = two_paths(stage)
    with replaced(first.fileno(), orphan()), replaced(second.fileno(), no_device()):
        stage.send(*numbered(1))
    stage.send(*numbered(2))
    assert sequence_numbers(first, second) == [0, 1]
    counters = stage.counters()
    assert counters.egress_dropped == {"send_enotsock": 1}
    assert [path.send_errors for path in counters.paths.values()] == [{"send_econnrefused": 1}, {"send_enotsock": 1}]


def test_a_full_path_ends_the_search(descriptor_stage: Stage) -> None:
    """A path that refuses, then one that is full: the packet is dropped for the second reason."""
    stage = descriptor_stage
    first, second = two_paths(stage)
    fill(second.fileno())
    with replaced(first.fileno(), orphan()):
        stage.send(*numbered(1))
    assert stage.counters().egress_dropped == {"send_eagain": 1}


@TUN_TROUBLE
def test_a_tun_that_cannot_be_read(descriptor_stage: Stage, broken: Callable[[], int], reason: str) -> None:
    """An error of the TUN is counted and ends the batch; when it is over packets flow."""
    stage = descriptor_stage
    wans = two_paths(stage)
    stage.tun.inject(packet())
    with replaced(stage.tun.fd, broken()):
        stage.datapath.tun_readable(stage.now)
    assert stage.counters().egress_dropped == {reason: 1}
    assert sequence_numbers(*wans) == []
    stage.send(packet())
    assert sequence_numbers(*wans) == [0, 1]


def test_an_empty_read_is_no_packet(stage: Stage) -> None:
    """Nothing, read, is counted as what it is."""
    two_paths(stage)
    stage.send(b"")
    assert stage.counters().egress_dropped == {"not_ip": 1}


def test_a_wake_up_sends_a_bounded_batch(python_stage: Stage) -> None:
    """However much waits in the TUN, a wake-up takes BATCH packets and leaves the rest for the next."""
    stage = python_stage
    two_paths(stage)
    for each in numbered(2 * BATCH + 1):
        stage.tun.inject(each)
    for total in (BATCH, 2 * BATCH, 2 * BATCH + 1, 2 * BATCH + 1):
        stage.datapath.tun_readable(stage.now)
        assert stage.counters().packets_read == total


def test_many_flows_do_not_wear_out_the_data_path(stage: Stage) -> None:
    """More address pairs than are remembered are sorted rightly all the same, both ways."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan), networks=[("11.0.0.0/8", "21.0.0.0/8")]))
    for host in range(5000):
        here, there = f"11.0.{host >> 8}.{host & 255}", f"21.0.{host >> 8}.{host & 255}"
        out, back = numbered(1, host, here, there)[0], numbered(1, host, there, here)[0]
        stage.send(out)
        assert wan.sent()[0][0][4:] == out
        assert stage.receive(wan, gre.encode(4) + back) == [back]
    assert stage.counters().paths["p"].packets_sent == 5000


# --- ingress ---


def test_errors_of_a_socket_are_not_datagrams(udp_stage: Stage) -> None:
    """An ICMP error that a receive reports is passed over; the datagrams behind it are read."""
    stage = udp_stage
    wan = stage.new_socket()
    with socket.socket(fileno=os.dup(wan.fileno())) as sharing:
        sharing.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        stage.set_table(connection_row(path_row("a", wan), path_row("b", wan, OTHER_PEER), window=64))
        stage.datapath._network.host(OTHER_PEER).close()  # type: ignore[attr-defined]
        stage.send(*numbered(2))
        for each in sequenced(0, 1):
            wan.deliver(each)
        for _ in range(2):  # a data path may end its wake-up with the error
            stage.datapath.socket_readable(wan, stage.now)
        assert stage.tun.delivered() == [reply(0), reply(1)]
        assert stage.counters().datagrams_received == 2
        assert sharing.recvmsg(100, 100, MSG_ERRQUEUE)[0][8:] == numbered(1, 1)[0]  # there was one


def test_a_socket_with_nothing_but_errors_does_not_hold_us_up(descriptor_stage: Stage) -> None:
    """A wake-up ends although the socket goes on to fail; afterwards it is read."""
    stage = descriptor_stage
    first, _ = two_paths(stage)
    with replaced(first.fileno(), no_device()):
        stage.datapath.socket_readable(first, stage.now)
    assert stage.counters().datagrams_received == 0
    assert stage.receive(first, *sequenced(0)) == [reply(0)]


def test_a_wake_up_receives_a_bounded_batch(python_stage: Stage) -> None:
    """However much waits at a socket, a wake-up takes at most BATCH datagrams, and the next ones take the rest."""
    stage = python_stage
    first, _ = two_paths(stage)
    for each in sequenced(*range(3 * BATCH)):
        first.deliver(each)
    total = 0
    while total < 3 * BATCH:
        stage.datapath.socket_readable(first, stage.now)
        received = stage.counters().datagrams_received
        assert total < received <= total + BATCH
        total = received
    assert stage.tun.delivered() == [reply(number) for number in range(3 * BATCH)]


@TUN_TROUBLE
def test_what_the_tun_does_not_take_is_counted(descriptor_stage: Stage, broken: Callable[[], int], reason: str) -> None:
    """The packet counts as dropped, the next ones are written."""
    stage = descriptor_stage
    first, _ = two_paths(stage)
    stage.receive(first, *sequenced(0))
    with replaced(stage.tun.fd, broken()):
        first.deliver(*sequenced(1))
        stage.datapath.socket_readable(first, stage.now)
    assert stage.receive(first, *sequenced(2)) == [reply(2)]
    counters = stage.counters()
    assert counters.ingress_dropped == {reason: 1}
    assert counters.packets_delivered == 2


def test_a_full_tun(descriptor_stage: Stage) -> None:
    """What a full queue does not take is lost and counted, also what comes out of the reorder buffer at its deadline;
    then packets flow again."""
    stage = descriptor_stage
    first, _ = two_paths(stage)
    stage.receive(first, *sequenced(0))
    fill(stage.tun.fd)
    for each in sequenced(1, 2, 4, 5):
        first.deliver(each)
    stage.datapath.socket_readable(first, stage.now)
    assert stage.counters().ingress_dropped == {"tun_full": 2}
    stage.wait(1)
    counters = stage.counters()
    assert (counters.ingress_dropped, counters.packets_held) == ({"tun_full": 4}, 0)
    assert stage.receive(first, *sequenced(6)) == [reply(6)]

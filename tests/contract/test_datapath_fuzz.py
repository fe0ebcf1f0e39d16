"""Every data path takes 100,000 random and damaged datagrams, and as many packets: nothing raised, everything counted,
nothing stuck.

MPT_FUZZ is how many there are of each; MPT_FUZZ_SEED gives others.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest

from mpt.model import PortMap
from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    PEER,
    REMOTE,
    REMOTE_V6,
    Stage,
    connection_row,
    numbered,
    packet,
    path_row,
)
from mpt.testing.strategies import mutated
from mpt.wire import gre
from mpt.wire.command import encode_keepalive

COUNT = int(os.environ.get("MPT_FUZZ", "100000"))
SEED = int(os.environ.get("MPT_FUZZ_SEED", "1"))


def two_connections(stage: Stage, window: int) -> list[Any]:
    """The two sockets that an IPv4 and an IPv6 connection with networks and mapped ports share."""
    sockets = [stage.new_socket(), stage.new_socket()]
    ports = PortMap(tcp_dst=frozenset({80}), udp_src=frozenset({53}))
    networks = [("11.0.0.0/8", "21.0.0.0/8"), ("fd0a::/16", "fd0b::/16")]
    stage.set_table(
        connection_row(
            path_row("a0", sockets[0], ports=ports),
            path_row("a1", sockets[1], OTHER_PEER),
            key="a",
            networks=networks,
            window=window,
        ),
        connection_row(
            path_row("b0", sockets[0]),
            path_row("b1", sockets[1], OTHER_PEER, weight=3),
            key="b",
            local=LOCAL_V6,
            remote=REMOTE_V6,
            window=window,
            max_delay=0.3,
        ),
    )
    return sockets


def transport(random: Random) -> bytes:
    """The beginning of a TCP or UDP header, and something behind it."""
    ports = [random.choice((80, 53, random.randrange(65536))) for _ in range(2)]
    return b"".join(port.to_bytes(2, "big") for port in ports) + random.randbytes(random.randrange(30))


def datagrams(random: Random) -> list[bytes]:
    """Sound datagrams to start from: data of all kinds, and keepalives."""
    inner = [
        packet(REMOTE, LOCAL, transport(random), 6),
        packet("21.1.2.3", "11.1.2.3", transport(random), 17),
        packet(REMOTE_V6, LOCAL_V6, transport(random), 6),
        packet("fd0b::1", "fd0a::1", transport(random), 44),
    ]
    return [gre.encode(each[0] >> 4, random.choice((None, random.randrange(2**32)))) + each for each in inner] + [
        encode_keepalive(4, ip_address(REMOTE), ip_address(LOCAL)),
        encode_keepalive(6, ip_address(REMOTE_V6), ip_address(LOCAL_V6)),
        b"\xb0\x00\x08\x00" + random.randbytes(12) + inner[0],
    ]


@pytest.mark.parametrize("window", [0, 64])
def test_datagrams_of_any_kind(fast_stage: Stage, window: int) -> None:
    """Whatever comes from whomever is delivered, held or counted, and afterwards a genuine stream flows in order."""
    random = Random(SEED)
    stage, sockets = fast_stage, two_connections(fast_stage, window)
    stems = datagrams(random)
    sequence = 0
    for number in range(COUNT // 2):
        if number % 1000 == 0:
            stems = datagrams(random)
        kind = random.randrange(10)
        if kind == 0:
            datagram = random.randbytes(random.choice((0, 3, 4, 20, 44, 60)))
        elif kind < 3:  # a genuine stream in between
            sequence += random.choice((0, 1, 1, 1, 2, 3, -2))
            datagram = gre.encode(4, sequence & 0xFFFFFFFF) + packet(REMOTE, LOCAL)
        else:
            datagram = mutated(random.choice(stems), random)
        socket = random.choice(sockets)
        host = random.choice((PEER, PEER, OTHER_PEER, "10.9.9.9"))
        stage.receive(socket, datagram, host=host)
        if number % 100 == 0:
            stage.wait(random.choice((0.0, 0.001, 0.05, 0.5)))
            stage.counters()
            deadline = stage.datapath.next_deadline()
            assert deadline is None or deadline > stage.now
    stage.wait(1.0)
    counters = stage.counters()
    assert counters.datagrams_received == COUNT // 2
    assert counters.packets_held <= 8  # strays that are kept aside
    assert min(counters.packets_delivered, counters.keepalives_received, *counters.ingress_dropped.values()) > 0
    stream = numbered(200, 0, REMOTE, LOCAL)
    delivered = [
        each
        for number, inner in enumerate(stream)
        for each in stage.receive(sockets[0], gre.encode(4, 7_000_000 + number) + inner)
    ]
    delivered += stage.wait(1.0)
    genuine = [each for each in delivered if each in stream]
    assert genuine == stream


def test_packets_of_any_kind(fast_stage: Stage) -> None:
    """Whatever the host sends into the tunnel goes over a path or is counted, and afterwards packets flow as before."""
    random = Random(SEED)
    stage, sockets = fast_stage, two_connections(fast_stage, 64)
    for number in range(COUNT):
        source, destination = random.choice(
            ((LOCAL, REMOTE), ("11.1.1.1", "21.1.1.1"), (LOCAL_V6, REMOTE_V6), (LOCAL, PEER))
        )
        inner = packet(source, destination, transport(random), random.choice((6, 17, 1, 0, 43, 44, 51, 60)))
        stage.send(mutated(inner, random) if number % 10 else random.randbytes(random.randrange(60)))
        if number % 1000 == 0:
            stage.counters()
            for each in sockets:
                each.sent()
    counters = stage.counters()
    assert counters.packets_read == COUNT
    assert counters.egress_dropped.keys() == {"not_ip", "no_connection", "loop"}
    assert all(path.packets_sent > 0 for path in counters.paths.values())
    for each in sockets:
        each.sent()
    stage.send(*numbered(10))
    sent = [datagram for each in sockets for datagram, _ in each.sent()]
    assert sorted(datagram[8:] for datagram in sent) == numbered(10)
    numbers = sorted(int.from_bytes(datagram[4:8], "big") for datagram in sent)
    assert numbers == list(range(numbers[0], numbers[0] + 10))

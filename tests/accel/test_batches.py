"""Batches: super-packets in, runs of datagrams out, and back; a refusal of the kernel costs no packet."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from mpt.testing.datapath import LOCAL, OTHER_PEER, PEER, REMOTE, Stage, connection_row, numbered, packet, path_row
from mpt.wire import gre
from tests.accel.engine import inside, native_stage, split, with_offload
from tests.accel.loopback import Loopback, LoopbackDataPath
from tests.accel.model import PSH, TCP, UDP, VNET, Inner

native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)

SO_NO_CHECK = 11  # <asm-generic/socket.h>; the kernel cuts no datagrams without checksums
IP_RECVERR = 11  # <linux/in.h>; an ICMP error is told by the next system call
TO_PEER = Inner(payload=bytes(range(250)) * 100, flags=0x10 | PSH)
FROM_PEER = replace(TO_PEER, source=b"\x0a\0\0\3", destination=b"\x0a\0\0\2")


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A native data path on a socketpair that passes for a TUN with vnet_hdr and every offload."""
    with native_stage(ask_tun=with_offload) as made:
        yield made


@pytest.fixture
def single_stage() -> Iterator[Stage]:
    """The same, but a wake-up serves one descriptor and does not look again."""
    with native_stage(ask_tun=with_offload, budget=0.0) as made:
        yield made


def read(stage: Stage, *frames: bytes) -> None:
    """Let the TUN have all these at once."""
    for each in frames:
        stage.tun.inject(each)
    stage.datapath.tun_readable(stage.now)


def plain(*packets: bytes) -> list[bytes]:
    return [bytes(VNET) + each for each in packets]


@pytest.mark.parametrize("idle", [0, 18])
@pytest.mark.parametrize("window", [2, 8, 20])
def test_no_path_gets_ahead_by_more_than_the_window_holds(stage: Stage, window: int, idle: int) -> None:
    """Path by path, but in batches of half a window: the peer, who gets them so, can put them in order. Paths that are
    down do not make them longer."""
    wan = stage.new_socket()
    paths = path_row("a", wan), path_row("b", wan, OTHER_PEER)
    down = [path_row(number, None, f"10.3.3.{number + 1}", usable=False) for number in range(idle)]
    stage.set_table(connection_row(*paths, *down, window=window))
    read(stage, TO_PEER.frame(500))
    numbers = [int.from_bytes(datagram[4:8], "big") for datagram, _ in wan.sent()]  # in the order of sending
    assert sorted(numbers) == list(range(50))
    assert max(abs(at - number) for at, number in enumerate(numbers)) <= window // 2


@pytest.mark.parametrize(("paths", "limit"), [(2, 176), (3, 132), (4, 176), (5, 220), (8, 256), (12, 256)])
def test_batches_give_each_path_whole_runs(stage: Stage, paths: int, limit: int) -> None:
    """44 packets a path, of two paths 88, but 256 at most: each path sends its share, then comes the next batch."""
    wan = stage.new_socket()
    stage.set_table(connection_row(*(path_row(f"p{n}", wan, f"10.1.1.{n + 3}") for n in range(paths)), window=1000))
    read(stage, TO_PEER.frame(60))
    numbers = [int.from_bytes(datagram[4:8], "big") for datagram, _ in wan.sent()]  # in the order of sending
    batches = [range(first, min(first + limit, 417)) for first in range(0, 417, limit)]
    assert numbers == [number for batch in batches for start in range(paths) for number in batch[start::paths]]


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("version", [4, 6])
def test_a_super_packet_is_shared_out(stage: Stage, version: int, protocol: int) -> None:
    """Its segments take the paths in turn, each with its own number; every path gets them in one system call."""
    wans = stage.new_socket(), stage.new_socket()
    paths = path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER)
    networks = [("fdfd::/16", "fdfd::/16")]
    stage.set_table(connection_row(*paths, window=100, networks=networks))
    inner = replace(TO_PEER, version=version, protocol=protocol, payload=TO_PEER.payload[:24_500])
    read(stage, inner.frame(1000))
    segments = [gre.encode(version, number) + each.octets() for number, each in enumerate(inner.cut(1000))]
    assert [[datagram for datagram, _ in wan.sent()] for wan in wans] == [segments[::2], segments[1::2]]
    assert inside(stage).system_calls()["sends"] == 2
    assert stage.counters().packets_read == 25


@pytest.mark.parametrize("dscp", [46, None])
def test_marks_cost_no_batches(stage: Stage, dscp: int | None) -> None:
    """The datagrams of a super-packet have its DSCP, or a fixed one, and its ECN field; still a system call a path.
    Those that arrive marked alike are joined and written as one."""
    wans = stage.new_socket(), stage.new_socket()
    paths = path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER)
    stage.set_table(connection_row(*paths, window=100, dscp=dscp, ecn=True))
    ect_0 = 2
    read(stage, replace(TO_PEER, tos=10 << 2 | ect_0, payload=TO_PEER.payload[:24_000]).frame(1000))
    assert [len(wan.sent()) for wan in wans] == [12, 12]
    assert {tos for wan in wans for tos in wan.tos_octets} == {(10 if dscp is None else dscp) << 2 | ect_0}
    assert inside(stage).system_calls()["sends"] == 2
    segments = [each.octets() for each in replace(FROM_PEER, tos=10 << 2 | ect_0).cut(1000)]
    wans[0].deliver_run(*(gre.encode(4, number) + each for number, each in enumerate(segments)), tos=ect_0)
    stage.datapath.socket_readable(wans[0], stage.now)
    (frame,) = stage.tun.delivered()
    assert split(frame) == segments
    calls = inside(stage).system_calls()
    assert (calls["receives"], calls["tun_writes"]) == (1, 1)


def test_a_link_that_does_not_cut(stage: Stage) -> None:
    """Where the kernel refuses to cut, every packet still goes, once and in order, and it is not asked again."""
    wan = stage.new_socket()
    sharing = socket.socket(fileno=wan.fileno())
    sharing.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    sharing.detach()
    stage.set_table(connection_row(path_row("a", wan), window=100))
    read(stage, TO_PEER.frame(1000))
    segments = [gre.encode(4, number) + each.octets() for number, each in enumerate(TO_PEER.cut(1000))]
    assert [datagram for datagram, _ in wan.sent()] == segments
    assert "udp_segment" not in inside(stage).offloads()
    assert stage.counters().paths["a"].send_errors == {}


def test_a_packet_that_cannot_go_uses_no_number(stage: Stage) -> None:
    """One that is too long for a datagram is counted; the next one has the number that it would have had."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), window=100))
    packets = [*numbered(2), packet(body=bytes(65_510)), *numbered(2, 2)]
    read(stage, *plain(*packets))
    del packets[2]
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(4, n) + each for n, each in enumerate(packets)]
    counters = stage.counters()
    assert counters.egress_dropped == {"send_emsgsize": 1}
    assert counters.paths["a"].send_errors == {"send_emsgsize": 1}


def test_a_path_that_refuses_leaves_it_to_the_others(stage: Stage) -> None:
    """The share of a path with a broken address goes over the other one, under the numbers it had."""
    wans = stage.new_socket(), stage.new_socket()
    broken = replace(path_row("a", wans[0]), remote=("255.255.255.255", 1))  # EACCES without SO_BROADCAST
    inner = inside(stage)
    healthy = path_row("b", wans[1], OTHER_PEER)
    network = stage.datapath._network  # type: ignore[attr-defined]
    healthy = replace(
        healthy, peer=network.address(OTHER_PEER), remote=(network.address(OTHER_PEER), healthy.remote[1])
    )
    inner.set_table((connection_row(replace(broken, peer=network.address(PEER)), healthy, window=100),), stage.now)
    packets = numbered(6)
    read(stage, *plain(*packets))
    assert sorted(datagram for datagram, _ in wans[1].sent()) == [
        gre.encode(4, n) + each for n, each in enumerate(packets)
    ]
    paths = stage.counters().paths
    assert paths["a"].send_errors == {"send_eacces": 3}
    assert (paths["a"].packets_sent, paths["b"].packets_sent) == (0, 6)
    read(stage, *plain(*packets))  # from now on it is known to refuse: its share takes its place between the others
    assert [datagram for datagram, _ in wans[1].sent()] == [
        gre.encode(4, n + 6) + each for n, each in enumerate(packets)
    ]


def test_a_path_that_refuses_once_carries_no_more_of_the_batch(stage: Stage) -> None:
    """Its numbers would tell the peer that those before them, which go over the other path now, are lost."""
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER), window=1000))
    wans[0].setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    wans[0].sendto(b"", ("127.0.0.1", 9))  # nobody is there: that is told by the next sending
    inners = [replace(TO_PEER, payload=bytes(size)) for size in (4000, 2000)]
    read(stage, inners[0].frame(1000), inners[1].frame(500))  # two messages a path
    packets = [each.octets() for inner, size in zip(inners, (1000, 500), strict=True) for each in inner.cut(size)]
    datagrams = [gre.encode(4, number) + each for number, each in enumerate(packets)]
    assert wans[0].sent() == []
    assert [datagram for datagram, _ in wans[1].sent()] == datagrams[::2] + datagrams[1::2]
    assert stage.counters().paths["a"].send_errors == {"send_econnrefused": 4}
    read(stage, inners[0].frame(1000))
    assert [len(wan.sent()) for wan in wans] == [2, 2]


def test_a_path_that_drops_leaves_no_gaps(stage: Stage) -> None:
    """Once it is known to drop packets, its next ones go before those that follow them are numbered."""
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER), window=100))
    long = packet(body=bytes(65_510))
    read(stage, *plain(numbered(1)[0], long))
    read(stage, *plain(numbered(1)[0], long, *numbered(2)))
    numbers = [int.from_bytes(datagram[4:8], "big") for wan in wans for datagram, _ in wan.sent()]
    assert sorted(numbers) == [0, 1, 2, 3]
    assert stage.counters().egress_dropped == {"send_emsgsize": 2}


def test_what_arrives_joined_is_written_joined(stage: Stage) -> None:
    """A run of datagrams in one buffer becomes one frame for the TUN, which is cut again into the same packets."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), window=100))
    segments = [each.octets() for each in FROM_PEER.cut(1000)]
    datagrams = [gre.encode(4, number) + each for number, each in enumerate(segments)]
    wan.deliver_run(*datagrams)
    stage.datapath.socket_readable(wan, stage.now)
    (frame,) = stage.tun.delivered()
    assert split(frame) == segments
    calls = inside(stage).system_calls()
    assert (calls["receives"], calls["tun_writes"]) == (1, 1)
    assert stage.counters().packets_delivered == len(segments)


def test_a_tun_without_room_for_a_join_gets_its_packets(stage: Stage) -> None:
    """One by one, and the next join is tried again: it may be shorter."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), window=100))
    with socket.socket(fileno=os.dup(stage.tun.fd)) as sharing:
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 7000)  # doubled it is less than both packets, EMSGSIZE
    segments = [each.octets() for each in replace(FROM_PEER, payload=bytes(15_000)).cut(7500)]
    wan.deliver_run(*(gre.encode(4, number) + each for number, each in enumerate(segments)))
    stage.datapath.socket_readable(wan, stage.now)
    assert [split(frame) for frame in stage.tun.delivered()] == [[each] for each in segments]
    counters = stage.counters()
    assert (counters.packets_delivered, counters.ingress_dropped) == (2, {})
    assert "join_tcp" in inside(stage).offloads()


@pytest.mark.parametrize(("protocol", "kept"), [(TCP, "join_udp"), (UDP, "join_tcp")])
def test_a_tun_that_refuses_joins_gets_every_packet_alone(protocol: int, kept: str) -> None:
    """Also the last ones of the wake-up in which it refuses the first; nothing goes uncounted, and the other protocol
    is joined as before."""
    network = Loopback()
    tun = select.epoll()  # takes no write at all: EINVAL, as a TUN that does not know what a frame asks for
    made = native.NativeDataPath(tun.fileno(), ask_tun=with_offload)
    datapath, wan = LoopbackDataPath(made, network), network.new_socket()
    datapath.set_table((connection_row(path_row("a", wan), window=100),), 1.0)
    flows = [replace(FROM_PEER, protocol=protocol, ports=(port, 5201)).cut(1000) for port in (1, 2)]
    segments = [each.octets() for flow in flows for each in flow]
    for number, each in enumerate(segments):
        wan.deliver(gre.encode(4, number) + each, PEER)
    for _ in range(4):
        datapath.socket_readable(wan, 1.0)
    assert made.counters().ingress_dropped == {"tun_einval": len(segments)}
    assert made.offloads() == {"vnet_hdr", "udp_segment", kept}
    datapath.close()
    wan.close()
    network.close()
    tun.close()


def test_what_waits_for_nothing_makes_no_work(single_stage: Stage) -> None:
    """A stray number is kept aside; the sockets of the other paths are not looked at for it for ever after."""
    stage = single_stage
    wan, other = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), path_row("b", other, OTHER_PEER), window=8))
    packets = numbered(3, source=REMOTE, destination=LOCAL)
    stage.receive(wan, gre.encode(4, 0) + packets[0])
    assert stage.receive(wan, gre.encode(4, 5_000_000) + packets[1]) == []
    other.deliver(gre.encode(4, 2) + packets[2], OTHER_PEER)
    assert stage.receive(wan, gre.encode(4, 1) + packets[1]) == plain(packets[1])  # and not the third one, of b
    assert stage.counters().packets_held == 1


def test_what_nobody_waits_for_takes_no_time_from_the_others(single_stage: Stage) -> None:
    """A gap is looked for in the other socket; garbage there ends the search, and the socket that was asked is read."""
    stage = single_stage
    wan, other = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), path_row("b", other, OTHER_PEER), window=100))
    packets = numbered(60, source=REMOTE, destination=LOCAL)
    stage.receive(wan, *(gre.encode(4, number) + packets[number] for number in (0, 2)))
    for _ in range(300):
        other.deliver(b"garbage", OTHER_PEER)
    for number in range(3, 60):
        wan.deliver(gre.encode(4, number) + packets[number], PEER)
    stage.datapath.socket_readable(wan, stage.now)
    counters = stage.counters()
    assert counters.paths["a"].packets_received == 59
    assert sum(counters.ingress_dropped.values()) <= 64


def test_one_wake_up_reads_on_while_there_is_more(single_stage: Stage) -> None:
    """Turn by turn, up to a bound, which many small datagrams reach sooner than a few large ones."""
    stage = single_stage
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), window=100))
    datagrams = [gre.encode(4, n) + each for n, each in enumerate(numbered(64 * 80, source=REMOTE, destination=LOCAL))]
    for start in range(0, len(datagrams), 64):
        wan.deliver_run(*datagrams[start : start + 64])
    received = [0, 1]
    while received[-1] > received[-2]:  # not until all are there: the socket may not have had room for them
        stage.datapath.socket_readable(wan, stage.now)
        received.append(stage.counters().datagrams_received)
    counts = [more - before for before, more in pairwise([0, *received[2:-2]])]
    assert len(counts) > 1
    assert all(900 <= count <= 900 + 32 * 64 for count in counts)


def test_one_wake_up_looks_for_what_fills_a_gap_up_to_a_bound(single_stage: Stage) -> None:
    """It reads the sockets of the other paths, too, but no more in all than it would of one; the next ones go on."""
    stage = single_stage
    wans = [stage.new_socket() for _ in range(17)]
    peers = [f"10.1.1.{number}" for number in range(1, 18)]
    paths = [path_row(number, wan, peer) for number, (wan, peer) in enumerate(zip(wans, peers, strict=True))]
    stage.set_table(connection_row(*paths, window=10_000))
    packets = numbered(3200, source=REMOTE, destination=LOCAL)
    assert stage.receive(wans[0], gre.encode(4, 0) + packets[0], host=peers[0]) == plain(packets[0])
    for number in range(2, 3200):  # the gap could still be filled by the last path, which is silent
        wans[number % 16].deliver(gre.encode(4, number) + packets[number], peers[number % 16])
    received = [1]
    while received[-1] < 3199:
        stage.datapath.socket_readable(wans[0], stage.now)
        received.append(stage.counters().datagrams_received)
    counts = [more - before for before, more in pairwise(received)]
    assert len(counts) > 3
    assert all(900 <= count <= 1024 + 32 for count in counts[:-1])
    assert stage.counters().packets_held == 3198


def test_more_is_held_than_there_are_buffers(stage: Stage) -> None:
    """Held packets are copied out of the receive buffers when these run short."""
    wan, slow = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), path_row("b", slow, OTHER_PEER), window=1000))
    packets = numbered(500, source=REMOTE, destination=LOCAL)
    datagrams = [gre.encode(4, number) + each for number, each in enumerate(packets)]
    assert stage.receive(wan, datagrams[0]) == plain(packets[0])
    assert stage.receive(wan, *datagrams[2:]) == []
    assert stage.counters().packets_held == 498
    wan.deliver(datagrams[1], PEER)
    stage.datapath.socket_readable(wan, stage.now)
    assert stage.tun.delivered()[:3] == plain(*packets[1:4])
    assert stage.counters().packets_held == 0


def test_a_wake_up_of_one_descriptor_is_bounded(single_stage: Stage) -> None:
    """Whatever waits, one round reads only so much, and the next one goes on."""
    stage = single_stage
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan)))
    for frames, expected in (
        (plain(*numbered(270)), [256, 14, 0]),
        ([replace(TO_PEER, payload=bytes(36_000)).frame(36)] * 3, [1000, 1000, 1000]),  # a peer's tiny segments
    ):
        before = stage.counters().packets_read
        for each in frames:
            stage.tun.inject(each)
        counts = []
        for _ in range(3):
            stage.datapath.tun_readable(stage.now)
            counts.append(stage.counters().packets_read - before)
            before += counts[-1]
        assert counts == expected

"""Batches of sealed datagrams: runs stay runs, and whatever is refused, no number has two contents."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mpt.testing.datapath import OTHER_PEER, PEER, Stage, closing, numbered, packet, path_row
from mpt.testing.session import OpenedDatagram, PeerSession
from mpt.wire import gre
from mpt.wire.ip import UDP
from mpt.wire.seal import OVERHEAD, Cipher, envelope
from tests.accel.engine import inside, lib, native_stage, split, with_offload
from tests.accel.test_batches import FROM_PEER, SO_NO_CHECK, TO_PEER, plain, read
from tests.contract.sealed import begin, sealed_row

NativeDataPath = pytest.importorskip("mpt.accel.native", exc_type=ImportError).NativeDataPath

pytestmark = pytest.mark.skipif(not lib.mpt_can_seal(), reason="built without OpenSSL")

SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A native data path on a socketpair that passes for a TUN with vnet_hdr and every offload."""
    with native_stage(ask_tun=with_offload) as made:
        yield made


def opened(session: PeerSession, datagrams: list[tuple[bytes, Any]]) -> list[OpenedDatagram]:
    """In the order of sending."""
    return [session.open(datagram) for datagram, _ in datagrams]


@pytest.mark.parametrize("cipher", Cipher)
def test_a_super_packet_is_shared_out(stage: Stage, cipher: Cipher) -> None:
    """Its segments take the paths in turn; every path gets its share sealed, in one system call."""
    wans = stage.new_socket(), stage.new_socket()
    paths = path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER, id=1)
    stage.set_table(sealed_row(*paths, order="connection", window=100))
    session = begin(stage, session=PeerSession(cipher))
    read(stage, replace(TO_PEER, payload=TO_PEER.payload[:24_500]).frame(1000))
    segments = [each.octets() for each in replace(TO_PEER, payload=TO_PEER.payload[:24_500]).cut(1000)]
    contents = [gre.encode(4, number) + each for number, each in enumerate(segments)]
    for path_id in range(2):
        assert opened(session, wans[path_id].sent()) == [
            (path_id, number, each) for number, each in enumerate(contents[path_id::2])
        ]
    assert inside(stage).system_calls()["sends"] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a socket that takes it all")
def test_more_than_the_room_for_sealed_datagrams(stage: Stage) -> None:
    """A batch that is longer goes in several calls, whole."""
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), order="connection", window=1000))
    session = begin(stage)
    peer: socket.socket = stage.datapath._network.host(PEER)  # type: ignore[attr-defined]
    peer.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
    inner = replace(TO_PEER, payload=TO_PEER.payload * 2)
    for _ in range(3):
        stage.tun.inject(inner.frame(1400))
    stage.datapath.tun_readable(stage.now)
    packets = [each.octets() for each in inner.cut(1400)] * 3
    assert opened(session, wan.sent()) == [(0, n, gre.encode(4, n) + each) for n, each in enumerate(packets)]


def test_sealed_runs_are_joined_for_the_tun(stage: Stage) -> None:
    """They are opened where they were received, and written as one."""
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), order="connection", window=100))
    session = begin(stage)
    segments = [each.octets() for each in FROM_PEER.cut(1000)]
    wan.deliver_run(*(session.seal(gre.encode(4, number) + each) for number, each in enumerate(segments)))
    stage.datapath.socket_readable(wan, stage.now)
    (frame,) = stage.tun.delivered()
    assert split(frame) == segments
    calls = inside(stage).system_calls()
    assert (calls["receives"], calls["tun_writes"]) == (1, 1)


def contents_of(session: PeerSession, datagrams: list[tuple[bytes, Any]]) -> list[bytes]:
    """What was sealed, once each number was seen to be used once."""
    headers = [envelope(datagram) for datagram, _ in datagrams]
    assert len(set(headers)) == len(headers)
    return [each.content for each in opened(session, datagrams)]


def test_a_link_that_does_not_cut(stage: Stage) -> None:
    """The run that the kernel refused has used up its numbers; its packets go one by one under the next."""
    wan = stage.new_socket()
    sharing = socket.socket(fileno=wan.fileno())
    sharing.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    sharing.detach()
    stage.set_table(sealed_row(path_row("a", wan), order="connection", window=100))
    session = begin(stage)
    read(stage, TO_PEER.frame(1000))
    segments = [gre.encode(4, number) + each.octets() for number, each in enumerate(TO_PEER.cut(1000))]
    sent = wan.sent()
    assert contents_of(session, sent) == segments
    assert envelope(sent[0][0]).number > 0
    assert "udp_segment" not in inside(stage).offloads()


def test_a_packet_that_cannot_go_uses_no_sequence_number(stage: Stage) -> None:
    """Those behind it, which were sealed already, are sealed anew with the sequence numbers that they get."""
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), order="connection", window=100))
    session = begin(stage)
    packets = [*numbered(2), packet(body=bytes(65_480)), *numbered(40, 2)]
    read(stage, *plain(*packets))
    del packets[2]
    assert contents_of(session, wan.sent()) == [gre.encode(4, n) + each for n, each in enumerate(packets)]
    assert stage.counters().egress_dropped == {"send_emsgsize": 1}


def test_a_path_that_refuses_leaves_it_to_the_others(stage: Stage) -> None:
    """Its share goes over the other one in envelopes of that path, and no number is used for two contents."""
    wans = stage.new_socket(), stage.new_socket()
    network = stage.datapath._network  # type: ignore[attr-defined]
    broken = replace(path_row("a", wans[0]), remote=("255.255.255.255", 1))  # EACCES without SO_BROADCAST
    healthy = path_row("b", wans[1], OTHER_PEER, id=1)
    healthy = replace(healthy, remote=(network.address(OTHER_PEER), healthy.remote[1]))
    row = sealed_row(replace(broken, peer=network.address(PEER)), healthy, order="connection", window=100)
    inside(stage).set_table((row,), stage.now)
    session = begin(stage)
    for turn in range(2):  # in the second it is known to refuse
        packets = numbered(6)
        read(stage, *plain(*packets))
        sent = wans[1].sent()
        assert sorted(contents_of(session, sent)) == [gre.encode(4, n + 6 * turn) + p for n, p in enumerate(packets)]
        assert {envelope(datagram).path_id for datagram, _ in sent} == {1}
    assert stage.counters().paths["b"].packets_sent == 12


def of_flow(port: int, count: int, first: int = 0) -> list[bytes]:
    """The packets of a flow, which can be told apart."""
    return [packet(body=port.to_bytes(4, "big") + n.to_bytes(2, "big"), protocol=UDP) for n in range(first, count)]


def numbers_of_flows(contents: list[bytes]) -> dict[int, list[tuple[int, bytes]]]:
    """(number, packet) of each key."""
    flows: dict[int, list[tuple[int, bytes]]] = {}
    for each in contents:
        header = gre.decode(each)
        assert header.key is not None
        assert header.sequence is not None
        flows.setdefault(header.key, []).append((header.sequence, each[header.length :]))
    return flows


def test_a_packet_that_cannot_go_uses_no_number_of_its_flow(stage: Stage) -> None:
    """The numbers of each flow follow each other, whatever is refused in its midst."""
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), order="flow", window=100))
    session = begin(stage)
    flows = [of_flow(port, 8) for port in (1, 2, 3)]
    packets = [each for together in zip(*flows, strict=True) for each in together]
    too_long = packet(body=(1).to_bytes(4, "big") + bytes(65_480), protocol=UDP)
    for turn in range(2):
        read(stage, *plain(*packets[:10], too_long, *packets[10:]))
        found = numbers_of_flows(contents_of(session, wan.sent()))
        assert sorted(found.values()) == sorted(list(enumerate(flow, 8 * turn)) for flow in flows)
    assert stage.counters().egress_dropped == {"send_emsgsize": 2}


def test_a_path_that_refuses_leaves_the_flows_to_the_others(stage: Stage) -> None:
    """With the numbers that they have."""
    wans = stage.new_socket(), stage.new_socket()
    network = stage.datapath._network  # type: ignore[attr-defined]
    broken = replace(path_row("a", wans[0]), remote=("255.255.255.255", 1))  # EACCES without SO_BROADCAST
    healthy = path_row("b", wans[1], OTHER_PEER, id=1)
    healthy = replace(healthy, remote=(network.address(OTHER_PEER), healthy.remote[1]))
    row = sealed_row(replace(broken, peer=network.address(PEER)), healthy, order="flow", window=100)
    inside(stage).set_table((row,), stage.now)
    session = begin(stage)
    for turn in range(2):  # in the second it is known to refuse
        flows = [of_flow(port, 8) for port in (1, 2, 3)]
        read(stage, *plain(*(each for together in zip(*flows, strict=True) for each in together)))
        found = numbers_of_flows(contents_of(session, wans[1].sent()))
        assert sorted(map(sorted, found.values())) == sorted(list(enumerate(flow, 8 * turn)) for flow in flows)


def test_a_socket_that_is_full() -> None:
    """What it refuses uses up numbers of the session and no sequence numbers; what goes later has both of its own."""
    with closing(Stage.on_descriptors(partial(NativeDataPath, gso=False))) as stage:
        wan = stage.new_socket()
        sharing = socket.socket(fileno=wan.fileno())
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        sharing.detach()
        stage.set_table(sealed_row(path_row("a", wan), order="connection", window=1000))
        session = begin(stage)
        sent = []
        for first in (0, 100):
            for each in numbered(100, first):
                stage.tun.inject(each)
            stage.datapath.tun_readable(stage.now)
            sent += wan.sent()
        went = contents_of(session, sent)
        assert [int.from_bytes(each[4:8], "big") for each in went] == list(range(len(went)))
        counters = stage.counters()
        assert counters.paths["a"].packets_sent == len(went)
        assert counters.egress_dropped == {"send_eagain": 200 - len(went)}
        assert envelope(sent[-1][0]).number >= len(went) > 2


def test_the_longest_message(stage: Stage) -> None:
    """One octet more than UDP takes does not go, and nothing is overrun."""
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan)))
    session = begin(stage)
    longest = 65_507 - OVERHEAD
    went = [stage.datapath.send("a", b"\x47".ljust(size, b"\0"), stage.now) for size in (longest, longest + 1, 70_000)]
    assert went == [True, False, False]
    assert [len(each.content) for each in opened(session, wan.sent())] == [longest]

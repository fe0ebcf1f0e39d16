"""An offload that the kernel does not know, or the operator does not want, is done without, and costs no packet."""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import replace
from errno import EINVAL
from functools import partial
from typing import Any

import pytest

from mpt.host.tun import IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, TUNGETIFF, TUNSETOFFLOAD
from mpt.host.udp import UDP_GRO
from mpt.testing.datapath import OTHER_PEER, PEER, Stage, connection_row, numbered, path_row
from mpt.testing.tun import FakeTun
from mpt.wire import gre
from tests.accel.engine import inside, lib, native_stage, with_offload
from tests.accel.model import PSH, VNET, Inner

native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)

# <linux/if_tun.h>: TUN_F_CSUM; with TSO4, TSO6 and TSO_ECN; with USO4 and USO6, too
CHECKSUM, AND_TCP, AND_UDP = 0x01, 0x0F, 0x6F
PLAIN = IFF_TUN | IFF_NO_PI
TO_PEER = Inner(payload=bytes(range(250)) * 20, flags=0x10 | PSH)  # 5 segments of 1000 octets
FROM_PEER = replace(TO_PEER, source=TO_PEER.destination, destination=TO_PEER.source)


# --- what a TUN is asked for ---


class Kernel:
    """ioctl() of a TUN with these TUNSETIFF flags. It knows these features, None: not even the question; others it
    refuses, as an old kernel does. `asked`: what it was asked for."""

    def __init__(self, known: int | None, flags: int = PLAIN | IFF_VNET_HDR) -> None:
        self.asked: list[int] = []
        self._known = known
        self._flags = flags

    def ioctl(self, descriptor: int, request: int, argument: Any) -> Any:
        if request == TUNGETIFF:
            return struct.pack("16sH22x", b"tun0", self._flags)
        assert request == TUNSETOFFLOAD
        self.asked.append(argument)
        if self._known is None or argument & ~self._known:
            raise OSError(EINVAL, os.strerror(EINVAL))
        return 0


@pytest.mark.parametrize(
    ("known", "asked", "joins"),
    [
        (0x1FF, [AND_UDP], lib.MPT_JOIN_TCP | lib.MPT_JOIN_UDP),
        (AND_TCP, [AND_UDP, AND_TCP], lib.MPT_JOIN_TCP),  # before Linux 6.2
        (CHECKSUM, [AND_UDP, AND_TCP, CHECKSUM], 0),
        (0, [AND_UDP, AND_TCP, CHECKSUM, 0], 0),
        (None, [AND_UDP, AND_TCP, CHECKSUM, 0], 0),
    ],
)
def test_a_tun_is_asked_for_less_and_less(known: int | None, asked: list[int], joins: int) -> None:
    """All of it, then TCP alone, then checksums alone, then nothing: the first that it does not refuse is used."""
    kernel = Kernel(known)
    assert native.offload_tun(7, True, kernel.ioctl) == lib.MPT_VNET_HDR | joins
    assert kernel.asked == asked


def test_tun_offload_off_asks_for_nothing() -> None:
    """A TUN that has had offloads from somebody before loses them; its frames have their headers all the same."""
    kernel = Kernel(AND_UDP)
    assert native.offload_tun(7, False, kernel.ioctl) == lib.MPT_VNET_HDR
    assert kernel.asked == [0]


def test_a_tun_without_headers_is_asked_for_nothing() -> None:
    """Without IFF_VNET_HDR nothing could be said about a super-packet; and what is no TUN has no offloads."""
    kernel = Kernel(AND_UDP, PLAIN)
    assert native.offload_tun(7, True, kernel.ioctl) == 0
    assert kernel.asked == []
    tun = FakeTun()
    assert native.offload_tun(tun.fd, True) == 0
    os.close(tun.fd)
    tun.close()


# --- what is done without ---


def read(stage: Stage, frame: bytes) -> None:
    stage.tun.inject(frame)
    stage.datapath.tun_readable(stage.now)


def datagrams(inner: Inner, first: int = 0) -> list[bytes]:
    return [gre.encode(4, first + number) + each.octets() for number, each in enumerate(inner.cut(1000))]


def wants_joined(data_socket: Any) -> bool:
    with socket.socket(fileno=os.dup(data_socket.fileno())) as sharing:
        return bool(sharing.getsockopt(socket.IPPROTO_UDP, UDP_GRO))


def received(host: socket.socket) -> list[tuple[bytes, int]]:
    """What has come to a host as (octets, length of the datagrams that they are joined of; 0: one alone)."""
    told: list[tuple[bytes, int]] = []
    while True:
        try:
            octets, ancillary, _, _ = host.recvmsg(65536, 128)
        except BlockingIOError:
            return told
        sizes = {kind: value for level, kind, value in ancillary if level == socket.IPPROTO_UDP}
        told.append((octets, int.from_bytes(sizes.get(UDP_GRO, b""), sys.byteorder)))


@pytest.mark.parametrize("gso", [True, False])
def test_gso_off_sends_and_receives_datagrams_one_by_one(gso: bool) -> None:
    """With gso a run is one message on its way out and on its way in; without it the kernel is not asked for either."""
    with native_stage(ask_tun=with_offload, gso=gso) as stage:
        wan = stage.new_socket()
        stage.set_table(connection_row(path_row("p", wan), window=100))
        assert wants_joined(wan) == gso
        assert ("udp_segment" in inside(stage).offloads()) == gso
        host = stage.datapath._network.host(PEER)  # type: ignore[attr-defined]
        host.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)  # it likes its datagrams joined
        read(stage, TO_PEER.frame(1000))
        sent = datagrams(TO_PEER)
        assert received(host) == ([(b"".join(sent), len(sent[0]))] if gso else [(each, 0) for each in sent])
        wan.deliver_run(*datagrams(FROM_PEER))
        stage.datapath.socket_readable(wan, stage.now)
        counters = stage.counters()
        assert (counters.packets_read, counters.packets_delivered, counters.egress_dropped) == (5, 5, {})


@pytest.mark.parametrize("tun_offload", [True, False])
def test_tun_offload_off_writes_packets_one_by_one(tun_offload: bool) -> None:
    """Datagrams that arrive joined are joined for a TUN with offloads; for another every packet is written alone."""
    ask = partial(native.offload_tun, ioctl=Kernel(AND_UDP).ioctl)
    with native_stage(ask_tun=ask, tun_offload=tun_offload) as stage:
        assert ({"join_tcp", "join_udp"} <= inside(stage).offloads()) == tun_offload
        wan = stage.new_socket()
        stage.set_table(connection_row(path_row("p", wan), window=100))
        wan.deliver_run(*datagrams(FROM_PEER))
        stage.datapath.socket_readable(wan, stage.now)
        frames = stage.tun.delivered()
        if tun_offload:
            assert len(frames) == 1
        else:
            assert frames == [bytes(VNET) + each.octets() for each in FROM_PEER.cut(1000)]
        assert inside(stage).system_calls()["tun_writes"] == len(frames)
        read(stage, bytes(VNET) + TO_PEER.cut(1000)[0].octets())
        assert [datagram for datagram, _ in wan.sent()] == datagrams(TO_PEER.cut(1000)[0])


# --- rows that come again ---


def test_a_row_that_comes_again_goes_by_what_its_socket_is_now() -> None:
    """It is not made into a C structure anew, but the descriptor of a closed socket is nobody's, or somebody else's."""
    with native_stage() as stage:
        wan, closed = stage.new_socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        row = connection_row(path_row("a", wan), path_row("b", closed, OTHER_PEER))
        table = (stage.datapath._row(row),)  # type: ignore[attr-defined]  # as the loopback has it
        for _ in range(2):
            inside(stage).set_table(table, stage.now)
        closed.close()
        inside(stage).set_table(table, stage.now)
        stage.send(*numbered(4))
        assert len(wan.sent()) == 4
        assert stage.counters().paths["b"].send_errors == {}

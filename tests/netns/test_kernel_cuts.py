"""Our cutting and joining against the kernel's own: a router between two TUN devices.

    frames → tun_a (IFF_VNET_HDR) → forwarded by the kernel → tun_b → packets

What the kernel cuts on its way to tun_b must be what we cut of the same frame, with one hop less. One difference is
deliberate and left out here: URG. The kernel leaves flag and urgent pointer on every segment as they were; ours are
relative to each segment (RFC 9293 section 3.8.5), so that they point to the same octet. A Linux sender makes no
super-packets in urgent mode, so this meets forwarded traffic alone.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from struct import pack, unpack_from

import pytest

from mpt.host.tun import DEVICE, IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, TUN_F_CSUM, TUNSETIFF, TUNSETOFFLOAD
from mpt.lab.lab import Lab
from tests.accel.engine import ffi, join, lib, split
from tests.accel.model import ACK, CWR, ECE, FIN, PSH, RST, SYN, TCP, UDP, VNET, Inner, ones_sum
from tests.netns.support import no_traceback as no_traceback

native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)

FRAMES = 400  # half a second
PATIENCE = 5.0  # seconds for a packet; it takes none, the kernel forwards within the write
SOURCES, DESTINATIONS = bytes([10, 0, 1]), bytes([10, 0, 2])
SIZES = (0, 0, 8, 33, 100, 536, 1388, 1400, 8999)
OPTIONS = (b"", b"\x01\x01\x01\x00", bytes.fromhex("0101080a0000000100000002"), bytes(range(12)), bytes(40))
FLAGS = ACK | PSH | FIN | SYN | RST | ECE | CWR
KINDS: dict[str, Callable[[int], object] | None] = {  # of tun_b: IFF_VNET_HDR or not, and what is left to us then
    "plain": None,
    "header": lambda tun: native.offload_tun(tun, False),
    "checksums": lambda tun: fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM),
    "everything": lambda tun: native.offload_tun(tun, True),
}


class Router:
    """The two TUN devices; `joins` is what of enum mpt_offload the kernel takes, `reads` how often tun_b was read."""

    def __init__(self, lab: Lab, kind: str = "plain") -> None:
        leave_to_us = KINDS[kind]
        host = lab.host("router", forwarding=True)
        self._a = host.call(open_tun, "tun_a", IFF_VNET_HDR)
        self._b = host.call(open_tun, "tun_b", IFF_VNET_HDR if leave_to_us else 0)
        self._has_header = leave_to_us is not None
        self.joins = native.offload_tun(self._a, True)
        self.reads = 0
        if leave_to_us is not None:
            leave_to_us(self._b)
        host.ip(
            "link set tun_a up mtu 65535",
            "link set tun_b up mtu 65535 txqueuelen 10000",
            "route add 10.0.2.0/24 dev tun_b",
            "route add fdfd::/16 dev tun_b",
        )

    def forward(self, frame: bytes, count: int) -> list[bytes]:
        """Write `frame` to tun_a; what then comes out of tun_b, of which `count` packets are awaited."""
        assert os.write(self._a, frame) == len(frame)
        packets: list[bytes] = []
        while select.select([self._b], [], [], PATIENCE if len(packets) < count else 0)[0]:
            taken = os.read(self._b, VNET + 65536)
            cut = cut_by_us(taken) if self._has_header else [taken]
            if not own(cut[0]):
                self.reads += 1
                packets += cut
        return packets

    def close(self) -> None:
        os.close(self._a)
        os.close(self._b)


def open_tun(name: str, flags: int) -> int:
    tun = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | flags))
    return tun


def cut_by_us(frame: bytes) -> list[bytes]:
    packets = split(frame)
    assert packets, f"refused: {frame[:120].hex()}"
    return packets


def own(packet: bytes) -> bool:
    """Whether the router itself sent it, to a multicast group."""
    return packet[0] >> 4 == 6 and packet[24] == 0xFF


@contextmanager
def router(lab: Lab, kind: str = "plain") -> Iterator[Router]:
    made = Router(lab, kind)
    try:
        yield made
    finally:
        made.close()


def forwarded(packet: bytes) -> bytes:
    """`packet` one hop later."""
    whole = bytearray(packet)
    if packet[0] >> 4 == 6:
        whole[7] -= 1
        return bytes(whole)
    whole[8] -= 1
    whole[10:12] = bytes(2)
    whole[10:12] = (0xFFFF - ones_sum(bytes(whole[: (packet[0] & 15) * 4]))).to_bytes(2, "big")
    return bytes(whole)


def without_zero(packet: bytes, frame: bytes) -> bytes:
    """`packet` as it is when its checksum was completed alone: where the cut writes 0 for TCP, that is 0xFFFF, which is
    the same number. `frame` tells where the checksum is."""
    _, _, _, _, start, offset = unpack_from("=BBHHHH", frame)
    at = start + offset
    return packet[:at] + b"\xff\xff" + packet[at + 2 :] if packet[at : at + 2] == b"\0\0" else packet


def random_inner(draw: random.Random) -> Inner:
    """A packet of a random flow through the router; URG is left out, see above."""
    return Inner(
        version=draw.choice((4, 6)),
        protocol=draw.choice((TCP, UDP)),
        source=SOURCES + draw.randbytes(1),
        destination=DESTINATIONS + draw.randbytes(1),
        tos=draw.choice((0, draw.randrange(256))),
        ttl=draw.randrange(2, 256),
        ident=draw.choice((0, 1, 0xFFFE, 0xFFFF, draw.randrange(2**16))),
        dont_fragment=draw.random() < 0.5,
        ports=(draw.randrange(2**16), draw.randrange(2**16)),
        sequence=draw.choice((0, 2**32 - 1, 2**32 - 3000, draw.randrange(2**32))),
        acknowledgement=draw.randrange(2**32),
        flags=draw.choice((ACK, ACK | PSH, draw.randrange(256) & FLAGS)),
        window=draw.randrange(2**16),
        options=draw.choice(OPTIONS),
    )


def random_frame(draw: random.Random, joins: int) -> bytes:
    """As a host with offloads gives it: of any size, to be cut or not, some with more headers than TCP and UDP need,
    some with checksums that come out as zero."""
    inner = random_inner(draw)
    size = draw.choice(SIZES)
    if inner.protocol == UDP and not joins & lib.MPT_JOIN_UDP:
        size = 0  # before Linux 6.2
    most = 65_400 if draw.random() < 0.1 else 10_000
    length = draw.randrange(size + 1, min(most, 60 * size) if size else most)  # no super-packet has one segment alone
    inner = replace(inner, payload=draw.randbytes(length))
    if draw.random() < 0.3:
        inner = replace(inner, payload=b"".join(each.with_zero_sum().payload for each in inner.cut(size or length)))
    return with_extension(inner.frame(size)) if draw.random() < 0.2 else inner.frame(size)


def with_extension(frame: bytes) -> bytes:
    """The same frame with IPv4 options, four of no operation, or an empty IPv6 hop-by-hop header."""
    head, packet = bytearray(frame[:VNET]), bytearray(frame[VNET:])
    if packet[0] >> 4 == 4:
        more, at = b"\x01\x01\x01\x01", 20
        packet[0] += 1
        packet[2:4] = (int.from_bytes(packet[2:4], "big") + len(more)).to_bytes(2, "big")
        packet[10:12] = bytes(2)
        packet[10:12] = (0xFFFF - ones_sum(bytes(packet[:20]) + more)).to_bytes(2, "big")
    else:
        more, at = bytes([packet[6], 0, 1, 4, 0, 0, 0, 0]), 40
        packet[4:6] = (int.from_bytes(packet[4:6], "big") + len(more)).to_bytes(2, "big")
        packet[6] = 0
    vnet = ffi.from_buffer("uint16_t[5]", head)
    vnet[1] += len(more)  # the length of the headers
    vnet[3] += len(more)  # where the checksum starts
    return bytes(head + packet[:at] + more + packet[at:])


@pytest.mark.parametrize("kind", KINDS)
def test_we_cut_as_the_kernel_does(lab: Lab, kind: str) -> None:
    """TCP and UDP, IPv4 and IPv6, whatever their fields: what the kernel makes of a frame is what we make of it, and so
    it is where the kernel leaves us the checksums, or the cutting of its own super-packets."""
    draw = random.Random(20260101)
    segments = 0
    with router(lab, kind) as between:
        for number in range(FRAMES):
            frame = random_frame(draw, between.joins)
            expected = [forwarded(each) for each in cut_by_us(frame)]
            if kind == "checksums":
                expected = [without_zero(each, frame) for each in expected]
            assert between.forward(frame, len(expected)) == expected, f"frame {number}: {frame[:120].hex()}"
            segments += len(expected)
        assert between.reads == (FRAMES if kind == "everything" else segments)
    print(f"\n{kind}: {FRAMES} frames, {segments} packets")


def random_run(draw: random.Random) -> list[Inner]:
    """Packets of one flow in order, mostly ones that can be joined; the last may be short, or have PSH."""
    inner = random_inner(draw)
    size, count = draw.choice((1, 10, 100, 1388, 1400)), draw.choice((1, 2, 5, 46, 47, 100))
    length = size * (count - 1) + draw.randrange(1, size + 1)
    return replace(inner, payload=draw.randbytes(length), flags=draw.choice((ACK, ACK | PSH, inner.flags))).cut(size)


def interleaved(draw: random.Random, runs: list[list[Inner]]) -> list[Inner]:
    """The packets of all runs, pieces of each in turn."""
    mixed = []
    while runs := [run for run in runs if run]:
        run = draw.choice(runs)
        piece = draw.randrange(1, 60)
        mixed += run[:piece]
        del run[:piece]
    return mixed


def test_the_kernel_cuts_what_we_join(lab: Lab) -> None:
    """Whatever we join for the TUN, the kernel cuts into the very packets that came."""
    draw = random.Random(20260102)
    joined = 0
    with router(lab) as between:
        for _ in range(FRAMES // 4):
            runs = [random_run(draw) for _ in range(draw.choice((1, 1, 3)))]
            packets = [each.octets() for each in interleaved(draw, runs)]
            frames = join(packets, between.joins)
            came: list[bytes] = []
            for frame in frames:
                came += between.forward(frame, len(cut_by_us(frame)))
            assert came == [forwarded(each) for each in packets]
            joined += len(packets) - len(frames)
    print(f"\n{joined} packets joined to others")
    assert joined > 1000

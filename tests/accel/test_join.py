"""Joining for the TUN: a join can be cut again into the very same packets, and no other packets are joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.accel.engine import join, lib, split
from tests.accel.model import ACK, CWR, FIN, PSH, RST, SYN, TCP, UDP, URG, VNET, Inner


def flow(count: int, size: int = 100, last: int = 0, **fields: object) -> list[Inner]:
    """`count` packets in a row with `size` octets each, the last with `last`."""
    whole = Inner(payload=bytes(range(200)) * 400, **fields)  # type: ignore[arg-type]
    return replace(whole, payload=whole.payload[: (count - 1) * size + (last or size)]).cut(size)


def octets(*packets: Inner) -> list[bytes]:
    return [each.octets() for each in packets]


def cut_again(frames: list[bytes]) -> list[bytes]:
    return [packet for frame in frames for packet in split(frame) or [b"refused"]]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(("count", "size", "last"), [(2, 100, 0), (5, 100, 0), (5, 100, 1), (40, 1388, 3), (64, 10, 0)])
def test_a_run_is_joined(version: int, protocol: int, count: int, size: int, last: int) -> None:
    """Packets in a row become one frame, which is cut again into just them."""
    packets = octets(*flow(count, size, last, version=version, protocol=protocol))
    frames = join(packets)
    assert len(frames) == 1
    assert cut_again(frames) == packets


def test_a_frame_is_64_kb_at_most() -> None:
    """A longer run becomes several frames."""
    packets = octets(*flow(100, 700))
    frames = join(packets)
    assert len(frames) == 2
    assert max(map(len, frames)) <= VNET + 65535
    assert cut_again(frames) == packets


def test_push_ends_a_run() -> None:
    """PSH stays on the segment that had it, the last of its frame."""
    packets = flow(6)
    packets[2] = replace(packets[2], flags=ACK | PSH)
    frames = join(octets(*packets))
    assert len(frames) == 2
    assert cut_again(frames) == octets(*packets)


def changed(**fields: object) -> Callable[[Inner], bytes]:
    return lambda inner: replace(inner, **fields).octets()  # type: ignore[arg-type]


def flipped(at: int, bits: int = 1) -> Callable[[Inner], bytes]:
    def flip(inner: Inner) -> bytes:
        whole = bytearray(inner.octets())
        whole[at] ^= bits
        return bytes(whole)

    return flip


MUST_NOT: dict[str, Callable[[Inner], bytes]] = {
    "SYN": changed(flags=ACK | SYN),
    "FIN": changed(flags=ACK | FIN),
    "RST": changed(flags=ACK | RST),
    "URG": changed(flags=ACK | URG),
    "CWR": changed(flags=ACK | CWR),
    "no ACK": changed(flags=0),
    "TTL": changed(ttl=63),
    "TOS": changed(tos=1),
    "id": changed(ident=7),
    "DF": changed(dont_fragment=False),
    "source": changed(source=b"\x0a\0\0\x09"),
    "destination": changed(destination=b"\x0a\0\0\x09"),
    "ports": changed(ports=(1, 2)),
    "gap": changed(sequence=1201),
    "acknowledgement": changed(acknowledgement=2001),
    "window": changed(window=501),
    "options": changed(options=bytes.fromhex("0101080a0000000100000003")),
    "more options": changed(options=bytes(16)),
    "no payload": changed(payload=b""),
    "longer": changed(payload=bytes(101)),
    "UDP": changed(protocol=UDP),
    "IPv6": changed(version=6),
    "IP checksum": flipped(10),
    "TCP checksum": flipped(36),
    "payload": flipped(60),
    "IP options": flipped(0, 3),
    "fragment": flipped(6, 0x20),
    "fragment offset": flipped(7),
    "length": flipped(3),
    "reserved bits": flipped(32, 1),
}


@pytest.mark.parametrize("reason", MUST_NOT)
def test_what_must_not_be_joined(reason: str) -> None:
    """A packet that differs goes by itself, untouched; the packets before it are one frame."""
    packets = flow(6)
    odd = MUST_NOT[reason](packets[2])
    frames = join([*octets(*packets[:2]), odd, *octets(*packets[3:])])
    assert frames[1] == bytes(VNET) + odd
    assert cut_again(frames) == [*octets(*packets[:2]), odd, *octets(*packets[3:])]
    assert len(frames) == 3


def test_a_udp_datagram_without_checksum_is_left_alone() -> None:
    """0 means "none" in UDP over IPv4; a joined one would get one."""
    packets = [bytes(each[:26]) + b"\0\0" + bytes(each[28:]) for each in octets(*flow(3, protocol=UDP))]
    assert join(packets) == [bytes(VNET) + each for each in packets]


@pytest.mark.parametrize(("protocol", "offload"), [(TCP, lib.MPT_JOIN_UDP), (UDP, lib.MPT_JOIN_TCP)])
def test_only_what_the_kernel_takes_is_joined(protocol: int, offload: int) -> None:
    """Without the offload of a protocol its packets go one by one."""
    packets = octets(*flow(3, protocol=protocol))
    assert join(packets, offload) == [bytes(VNET) + each for each in packets]


RUNS = st.builds(
    lambda count, size, last, fields: flow(count, size, min(last, size), **fields),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(0, 40),
    st.fixed_dictionaries(
        {
            "version": st.sampled_from([4, 6]),
            "protocol": st.sampled_from([TCP, UDP]),
            "ident": st.sampled_from([0, 1, 0xFFFD]),
            "sequence": st.sampled_from([0, 40, 2**32 - 100]),
            "flags": st.sampled_from([ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR]),
            "options": st.sampled_from([b"", bytes(12)]),
        }
    ),
)


@given(
    st.lists(RUNS, max_size=5),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 59), st.integers(1, 255)), max_size=3),
)
def test_joined_and_cut_again_is_the_same(runs: list[list[Inner]], flips: list[tuple[int, int, int]]) -> None:
    """Whatever comes, and whatever was damaged on the way, leaves octet for octet and in its order."""
    packets = [bytearray(each.octets()) for run in runs for each in run]
    for index, at, bits in flips:
        if index < len(packets) and at < len(packets[index]):
            packets[index][at] ^= bits
    plain = [bytes(each) for each in packets]
    assert cut_again(join(plain)) == plain


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=20))
def test_any_octets_do_no_harm(packets: list[bytes]) -> None:
    """Octets that are no packet are written unchanged."""
    assert cut_again(join(packets)) == packets


def test_a_checksum_that_would_be_written_otherwise_is_not_joined() -> None:
    """0xFFFF is the same number as 0, which a cut of TCP writes."""
    a, b = (each.with_zero_sum().octets() for each in Inner(payload=bytes(range(60)) * 2).cut(60))
    assert b[36:38] == b"\0\0"
    assert len(join([a, b])) == 1
    assert len(join([a, b[:36] + b"\xff\xff" + b[38:]])) == 2

"""Super-packets whose segments do not fit every path, and SYNs whose checksum is still to be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mpt.data.fragment import fragments
from mpt.data.toobig import answer
from mpt.testing.datapath import OTHER_PEER, REMOTE, Stage, connection_row, path_row
from mpt.wire import gre
from tests.accel.engine import native_stage, with_offload
from tests.accel.model import SYN, UDP, VNET, Inner

LARGE = Inner(payload=bytes(range(250)) * 20)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A native data path on a socketpair that passes for a TUN with vnet_hdr and every offload."""
    with native_stage(ask_tun=with_offload) as made:
        yield made


def read(stage: Stage, frame: bytes) -> None:
    stage.tun.inject(frame)
    stage.datapath.tun_readable(stage.now)


def test_segments_go_over_the_path_that_carries_them(stage: Stage) -> None:
    """The longest decides for all: 1048 octets with their headers."""
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wans[0], mtu=1047), path_row("b", wans[1], OTHER_PEER, mtu=1052)))
    read(stage, LARGE.frame(1000))
    assert [[datagram for datagram, _ in wan.sent()] for wan in wans] == [
        [],
        [gre.encode(4) + each.octets() for each in LARGE.cut(1000)],
    ]


def test_one_answer_for_a_super_packet(stage: Stage) -> None:
    """About its first segment, as if the host had cut it; all segments are counted."""
    stage.set_table(connection_row(path_row("a", stage.new_socket(), mtu=1000)))
    read(stage, LARGE.frame(1000))
    assert stage.tun.delivered() == [
        bytes(VNET) + (answer(LARGE.cut(1000)[0].octets(), 1000, ip_address(REMOTE)) or b"")
    ]
    assert stage.counters().egress_dropped == {"too_big": 5}


def test_segments_that_may_be_cut_are(stage: Stage) -> None:
    """Each by itself, in order."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan, mtu=600)))
    inner = replace(LARGE, protocol=UDP, dont_fragment=False)
    read(stage, inner.frame(1000))
    pieces = [piece for each in inner.cut(1000) for piece in fragments(each.octets(), 600)]
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(4) + each for each in pieces]


@pytest.mark.parametrize("option", ["020405b4", "0101020405b40101", "01020405b4010101"])
@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("version", [4, 6])
def test_a_partial_checksum_comes_out_right(stage: Stage, version: int, size: int, option: str) -> None:
    """Of a SYN, with as much as a whole super-packet of data (TCP Fast Open)."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), networks=[("fdfd::/16", "fdfd::/16")], mss_clamp=1430))
    syn = Inner(version, flags=SYN, options=bytes.fromhex(option), payload=bytes(range(200)) * (15 if size else 1))
    most = (1390 if version == 4 else 1370).to_bytes(2, "big").hex()
    read(stage, syn.frame(size))
    expected = replace(syn, options=bytes.fromhex(option.replace("05b4", most)))
    assert [datagram for datagram, _ in wan.sent()] == [
        gre.encode(version) + each.octets() for each in (expected.cut(size) if size else [expected])
    ]

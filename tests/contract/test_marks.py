"""DSCP and ECN: the TOS octet that every data path gives its datagrams, and the marks that get into a packet."""

from __future__ import annotations

import pytest

from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    REMOTE,
    REMOTE_V6,
    Stage,
    connection_row,
    packet,
    path_row,
)
from mpt.wire import gre
from tests.wire.test_tos import CE, CELLS, ECT_0, ECT_1, UNEXPECTED

TUNNELS = {4: (LOCAL, REMOTE), 6: (LOCAL_V6, REMOTE_V6)}
EF = 46


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("dscp", "ecn", "tos_octets"),
    [
        (0, False, [0, 0, 0, 0]),
        (EF, False, [EF << 2] * 4),
        (None, False, [0, 10 << 2, EF << 2, EF << 2]),
        (0, True, [0, ECT_0, ECT_1, CE]),
        (None, True, [0, 10 << 2 | ECT_0, EF << 2 | ECT_1, EF << 2 | CE]),
    ],
)
def test_a_datagram_has_its_mark(
    marking_stage: Stage, version: int, dscp: int | None, ecn: bool, tos_octets: list[int]
) -> None:
    """By the packet inside, which itself stays as it is; a path that changes between the packets changes nothing."""
    stage = marking_stage
    wan, other = stage.new_socket(), stage.new_socket()
    local, remote = TUNNELS[version]
    paths = path_row("p", wan), path_row("q", other, OTHER_PEER)
    stage.set_table(connection_row(*paths, local=local, remote=remote, window=8, dscp=dscp, ecn=ecn))
    octets = (0, 10 << 2 | ECT_0, EF << 2 | ECT_1, EF << 2 | CE)
    packets = [packet(local, remote, tos=octet) for octet in octets for _ in range(2)]
    for each in packets:
        stage.tun.inject(each)
    stage.datapath.tun_readable(stage.now)
    for socket, first in ((wan, 0), (other, 1)):
        assert [datagram[8:] for datagram, _ in socket.sent()] == packets[first::2]
        assert socket.tos_octets == tos_octets


@pytest.mark.parametrize("window", [0, 8])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("before", "outer", "expected"), CELLS)
def test_what_the_network_marks_gets_in(
    marking_stage: Stage, version: int, window: int, before: int, outer: int, expected: int | None
) -> None:
    """Whatever is configured here (RFC 6040 section 4.2); the outer DSCP stays outside."""
    stage = marking_stage
    wan = stage.new_socket()
    local, remote = TUNNELS[version]
    stage.set_table(connection_row(path_row("p", wan), local=local, remote=remote, window=window))
    arriving = packet(remote, local, tos=EF << 2 | before)
    wan.deliver(gre.encode(version, 0) + arriving, tos=10 << 2 | outer)
    stage.datapath.socket_readable(wan, stage.now)
    counters = stage.counters()
    assert counters.ecn_unexpected == stage.datapath.ecn_unexpected() == ((before, outer) in UNEXPECTED)
    if expected is None:
        assert stage.tun.delivered() == []
        assert counters.ingress_dropped == {"ecn_not_ect": 1}
    else:
        assert stage.tun.delivered() == [packet(remote, local, tos=EF << 2 | expected)]
        assert counters.ingress_dropped == {}

"""While datagrams are read later than they came, their times teach nothing; afterwards they do again."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mpt.testing.datapath import LOCAL, OTHER_PEER, PEER, REMOTE, Stage, connection_row, packet, path_row
from mpt.wire import gre
from mpt.wire.command import encode_keepalive

LATER = 0.03  # s that the second path takes longer
KEEPALIVE = encode_keepalive(4, ip_address(REMOTE), ip_address(LOCAL))


def numbered(number: int) -> bytes:
    """The peer's datagram of this number."""
    return gre.encode(4, number) + packet(REMOTE, LOCAL, number.to_bytes(8, "big"))


@pytest.mark.parametrize("burst", [1, 63, 64, 65, 128, 256])
def test_after_a_burst_of_any_length_keepalives_teach_how_late_a_path_is(fast_stage: Stage, burst: int) -> None:
    """Also when the burst ends just where a wake-up does: a packet of the faster path is held back then."""
    fast, slow = fast_stage.new_socket(), fast_stage.new_socket()
    fast_stage.set_table(connection_row(path_row("a", fast), path_row("b", slow, OTHER_PEER), window=1000))
    before = [numbered(number) for number in range(40)]  # so that this path carries a good part
    assert len(fast_stage.receive(slow, *before, host=OTHER_PEER)) == 40
    for number in range(burst):
        fast.deliver(numbered(40 + number), PEER)
    for _ in range(-(-burst // 64)):
        fast_stage.datapath.socket_readable(fast, fast_stage.now)
    assert len(fast_stage.tun.delivered()) == burst
    for _ in range(4):
        fast_stage.wait(1.0)
        fast_stage.receive(fast, KEEPALIVE, host=PEER)
        fast_stage.wait(LATER)
        fast_stage.receive(slow, KEEPALIVE, host=OTHER_PEER)
    assert fast_stage.receive(fast, numbered(40 + burst)) == []
    assert fast_stage.wait(LATER - 0.001) == []
    assert len(fast_stage.wait(0.002)) == 1


def test_a_path_that_brought_little_before_it_came_up_is_not_waited_for(fast_stage: Stage) -> None:
    """The peer sent over it when it was down here; it stays a path of small part, however late its keepalives are."""
    main, backup = fast_stage.new_socket(), fast_stage.new_socket()
    rows = path_row("a", main), path_row("b", backup, OTHER_PEER, usable=False)
    fast_stage.set_table(connection_row(*rows, window=1000))
    fast_stage.receive(main, *(numbered(number) for number in range(10)))
    fast_stage.receive(backup, numbered(10), host=OTHER_PEER)
    fast_stage.receive(main, *(numbered(number) for number in range(11, 140)))
    fast_stage.datapath.set_shares({"b": 1}, fast_stage.now)
    for _ in range(4):
        fast_stage.wait(1.0)
        fast_stage.receive(main, KEEPALIVE, host=PEER)
        fast_stage.wait(LATER)
        fast_stage.receive(backup, KEEPALIVE, host=OTHER_PEER)
    assert len(fast_stage.receive(main, numbered(140))) == 1

"""What the kernel joins on its way up (UDP_GRO), with the data path in Python, which needs no compiler."""

from __future__ import annotations

from typing import Any

import pytest

from mpt.data.datapath import PythonDataPath
from mpt.testing.datapath import connection_row, path_row
from mpt.wire import gre
from tests.accel.loopback import loopback_stage
from tests.accel.model import PSH, Inner

FROM_PEER = Inner(payload=bytes(range(250)) * 100, flags=0x10 | PSH, source=b"\x0a\0\0\3", destination=b"\x0a\0\0\2")


@pytest.mark.parametrize("gso", [True, False])
def test_the_python_path_takes_joined_datagrams_apart(gso: bool) -> None:
    """What the kernel hands over at once comes out one by one, unless it may not join."""
    stage = loopback_stage(lambda tun: PythonDataPath(tun, gso))
    wan = stage.new_socket()
    reads, receive = [0], wan.recvmsg

    def counted(*sizes: int) -> Any:
        reads[0] += 1
        return receive(*sizes)

    wan.recvmsg = counted
    stage.set_table(connection_row(path_row("a", wan), window=100))
    segments = [each.octets() for each in FROM_PEER.cut(1000)]
    datagrams = [gre.encode(4, number) + each for number, each in enumerate(segments)]
    wan.deliver_run(*datagrams)
    stage.datapath.socket_readable(wan, stage.now)
    assert stage.tun.delivered() == segments
    assert reads == [2 if gso else len(segments) + 1]
    assert stage.counters().datagrams_received == len(segments)
    stage.datapath.close()
    wan.close()
    stage.tun.close()

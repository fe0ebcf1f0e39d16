"""The native data path and the Python one, side by side: everything is done to both, and must come out the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from mpt.data.datapath import PythonDataPath
from mpt.data.pathtable import ConnectionRow
from mpt.testing.datapath import Stage, closing
from tests.accel.loopback import loopback_stage

native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)

PEERS = ("10.1.1.3", "10.2.2.3", "10.3.3.3")


one_at_a_time = partial(native.NativeDataPath, budget=0.0)  # as the Python one: a wake-up serves one descriptor


def one_lane(datagram: bytes) -> Hashable:
    """All that leaves a socket for one address has one order."""
    return None


class Twins:
    """The Python data path first, with three sockets each.

    Natively every path sends its packets of a wake-up at once. So what leaves a socket is compared address by address,
    and what connections send over one socket to one address, `lane` by lane: it tells them apart.
    """

    wake_ups = 1  # until all has been read

    def __init__(self, stages: tuple[Stage, Stage], lane: Callable[[bytes], Hashable] = one_lane) -> None:
        self.stages = stages
        self.sockets = [[stage.new_socket() for _ in PEERS] for stage in stages]
        self._lane = lane

    def set_table(self, rows: Callable[[Sequence[Any]], Sequence[ConnectionRow]]) -> None:
        """Give both the table that `rows` makes of three sockets."""
        for stage, sockets in zip(self.stages, self.sockets, strict=True):
            stage.set_table(*rows(sockets))
        self.compare()

    def set_shares(self, shares: Mapping[Hashable, int]) -> None:
        """Give both these weights."""
        for stage in self.stages:
            stage.datapath.set_shares(shares, stage.now)
        self.compare()

    def set_path_mtus(self, mtus: Mapping[Hashable, int]) -> None:
        """Give both these sizes."""
        for stage in self.stages:
            stage.datapath.set_path_mtus(mtus, stage.now)
        self.compare()

    def receive(self, index: int, *datagrams: bytes, host: str = "", tos: int = 0) -> None:
        """Let all these arrive at the socket number `index`, at once; from the peer of this number, if not `host`."""
        for stage, sockets in zip(self.stages, self.sockets, strict=True):
            for datagram in datagrams:
                sockets[index].deliver(datagram, host or PEERS[index], tos)
            self.read_socket(stage, sockets[index])
        self.compare()

    def read_socket(self, stage: Stage, data_socket: Any) -> None:
        for _ in range(self.wake_ups):
            stage.datapath.socket_readable(data_socket, stage.now)

    def send(self, *packets: bytes) -> None:
        """Let the host send all these at once."""
        for stage in self.stages:
            for each in packets:
                stage.tun.inject(each)
            self.read_tun(stage)
        self.compare()

    def read_tun(self, stage: Stage) -> None:
        for _ in range(self.wake_ups):
            stage.datapath.tun_readable(stage.now)

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        delivered = [self._packets(stage, stage.wait(seconds)) for stage in self.stages]
        assert delivered[1] == delivered[0]
        self.compare()

    def compare(self) -> None:
        """Return the output since the last call, and the counters."""
        python, other = self.stages
        assert self._packets(other, other.tun.delivered()) == python.tun.delivered()
        assert [self._lanes(each) for each in self.sockets[1]] == [self._lanes(each) for each in self.sockets[0]]
        assert other.counters() == python.counters()
        assert other.datapath.next_deadline() == python.datapath.next_deadline()
        assert list(dict.fromkeys(other.heard)) == list(dict.fromkeys(python.heard))  # natively once a wake-up

    def _lanes(self, data_socket: Any) -> dict[Hashable, list[tuple[bytes, int]]]:
        """Return the datagrams of this socket, as (datagram, TOS octet), by address and lane."""
        sent = data_socket.sent()
        tos_octets, data_socket.tos_octets = data_socket.tos_octets, []
        lanes: dict[Hashable, list[tuple[bytes, int]]] = {}
        for (datagram, address), tos in zip(sent, tos_octets, strict=True):
            lanes.setdefault((address, self._lane(datagram)), []).append((datagram, tos))
        return lanes

    def _packets(self, stage: Stage, delivered: list[bytes]) -> list[bytes]:
        """Return the packets that a TUN was given."""
        return delivered


@contextmanager
def twins(lane: Callable[[bytes], Hashable] = one_lane) -> Iterator[Twins]:
    """One of each."""
    with closing(loopback_stage(PythonDataPath)) as python, closing(loopback_stage(one_at_a_time)) as other:
        yield Twins((python, other), lane)

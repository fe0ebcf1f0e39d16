"""Many flows over paths of unequal delay: who loses packets waits for them, and nobody else does."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Literal

import pytest

from mpt.data.framing import Sealed
from mpt.testing.datapath import LOCAL, REMOTE, packet
from mpt.wire.ip import UDP
from tests.contract.conftest import SEALING
from tests.pair.pair import Pair
from tests.pair.test_pair import MAKERS, both

FLOWS = 7
LOSSY = 3  # the flow that loses packets
SLOW = 0.04  # s of the slower path
INTERVAL = 0.005  # s between packets, of all flows by turns
LOOK = 0.001  # s between two looks at what came out
BEGIN = 3  # packets of a flow; before its first one there is nothing to be in order with

Outcome = dict[int, list[tuple[int, float]]]  # by flow: number, seconds under way


def packet_of(flow: int, number: int) -> bytes:
    body = (4000 + flow).to_bytes(2, "big") + (80).to_bytes(2, "big") + number.to_bytes(4, "big")
    return packet(LOCAL, REMOTE, body, UDP)


def run(maker: str, order: Literal["flow", "connection"], seconds: float, loss: float) -> Outcome:
    """Host a sends on every flow by turns, and LOSSY loses a part: what came out at b."""
    pair = Pair(MAKERS[maker], both(delay=0.0), both(delay=SLOW), framing=Sealed(order))
    pair.rekey()
    pair.settle()
    network, begin, random = pair.network, pair.network.now, Random(1)
    got: Outcome = defaultdict(list)

    def send(turn: int) -> None:
        flow, number = turn % FLOWS, turn // FLOWS
        for there, _ in pair.links:
            there.loss = float(flow == LOSSY and number > BEGIN and random.random() < loss)
        pair.a.tun.inject(packet_of(flow, number))
        pair.a.datapath.tun_readable(network.now)
        network.carry()

    def look() -> None:
        for each in pair.b.tun.delivered():
            flow, number = int.from_bytes(each[20:22], "big") - 4000, int.from_bytes(each[24:28], "big")
            got[flow].append((number, network.now - begin - (number * FLOWS + flow) * INTERVAL))

    for turn in range(int(seconds / INTERVAL)):
        network.at(begin + turn * INTERVAL, lambda turn=turn: send(turn))  # type: ignore[misc]
    for turn in range(int((seconds + 0.5) / LOOK)):
        network.at(begin + turn * LOOK, look)
    network.run(seconds + 1.0)
    assert pair.b.counters().packets_held == 0
    assert sum(pair.b.counters().ingress_dropped.values()) == 0
    pair.close()
    return got


@pytest.mark.parametrize("maker", [name for name in MAKERS if name == "python" or f"{name} on loopback" in SEALING])
def test_a_flow_without_loss_does_not_wait_for_one_that_loses(maker: str) -> None:
    """Nothing of it comes later than over the slower path; where all packets have one order, some do. Each flow is in
    order."""
    flows, one = (run(maker, order, 3.0, 0.3) for order in ("flow", "connection"))
    for flow, came in flows.items():
        numbers = [number for number, _ in came if number > BEGIN]
        assert numbers == sorted(set(numbers))
        assert flow == LOSSY or numbers == list(range(BEGIN + 1, BEGIN + 1 + len(numbers)))
    latest = [max(late for flow in each if flow != LOSSY for _, late in each[flow]) for each in (flows, one)]
    assert latest[0] <= SLOW + 2 * LOOK
    assert latest[1] > SLOW + 4 * LOOK

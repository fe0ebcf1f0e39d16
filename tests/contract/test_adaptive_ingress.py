"""What every data path delivers of adaptive connections: in which order, and how long it waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpt.data.pathtable import Adaptive
from mpt.data.playout import FAR, PLAYOUT
from mpt.testing.datapath import LOCAL, REMOTE, Stage
from mpt.wire import gre
from tests.contract.adaptive import UNORDERED, Peer, from_peer, number_of, tcp


def tcp_from_peer(number: int) -> bytes:
    return tcp(number, source=REMOTE, destination=LOCAL)


def test_each_flow_comes_in_its_order(adapting_stage: Stage) -> None:
    """Whatever path its packets took; others do not wait for it."""
    peer = Peer(adapting_stage)
    start = 2**32 - 2
    assert peer.packet(0, start, from_peer(0)) == [0]
    assert peer.packet(0, start + 2, from_peer(2)) == []
    assert peer.packet(0, start + 3, from_peer(3)) == []
    assert peer.packet(1, 50, from_peer(90), key=8) == [90]
    assert adapting_stage.counters().packets_held == 2
    assert peer.packet(1, start + 1, from_peer(1)) == [1, 2, 3]
    assert sum(adapting_stage.datapath.adaptive_counters("c").holds) == 2


def test_a_gap_is_waited_for_as_long_as_the_peer_says(adapting_stage: Stage) -> None:
    """It knows how long a repair takes; we wait no longer than our own limit."""
    peer = Peer(adapting_stage, max_delay=0.2)
    for step, (hold, waits) in enumerate([(0.050, 0.050), (3.0, 0.2)]):
        peer.order(hold)
        base = 10 * step
        peer.packet(0, base, from_peer(base))
        assert peer.packet(0, base + 2, from_peer(base + 2)) == []
        assert peer.wait(waits - 0.001) == []
        assert peer.wait(0.002) == [base + 2]
        for number in range(base + 3, base + 10):
            peer.packet(0, number, from_peer(number))
    assert adapting_stage.datapath.adaptive_counters("c").skipped == 2


def test_what_comes_after_its_gap_was_given_up_is_delivered_once(adapting_stage: Stage) -> None:
    """Late, but not lost; a second copy is dropped."""
    peer = Peer(adapting_stage)
    peer.packet(0, 0, from_peer(0))
    peer.packet(0, 2, from_peer(2))
    assert adapting_stage.datapath.adaptive_counters("c").held == 1
    peer.wait(1.0)
    assert adapting_stage.datapath.adaptive_counters("c").held == 0
    assert peer.packet(1, 1, from_peer(1)) == [1]
    assert peer.packet(1, 1, from_peer(1)) == []
    assert adapting_stage.counters().ingress_dropped == {"copy": 1}
    counters = adapting_stage.datapath.adaptive_counters("c")
    assert (counters.late, counters.skipped, counters.copies_dropped) == (1, 1, 1)


@pytest.mark.parametrize("key", [7, UNORDERED])
def test_copies_are_dropped(adapting_stage: Stage, key: int) -> None:
    """Of packets in order and of those in none."""
    peer = Peer(adapting_stage)
    assert peer.packet(0, 5, from_peer(5), key=key) == [5]
    assert peer.packet(1, 5, from_peer(5), key=key) == []
    assert adapting_stage.counters().ingress_dropped == {"copy": 1}


def test_packets_in_no_order_wait_for_nothing(adapting_stage: Stage) -> None:
    """Nor does a packet without a number: its flow is mapped to a path."""
    peer = Peer(adapting_stage)
    assert [peer.packet(0, number, from_peer(number), key=UNORDERED) for number in (5, 9, 3)] == [[5], [9], [3]]
    assert [number_of(each) for each in peer.deliver(0, gre.encode(4) + from_peer(1))] == [1]


def test_tcp_packets_wait_for_the_playout_that_the_peer_asks_for(adapting_stage: Stage) -> None:
    """So a slow line beside a fast one can be filled; others go at once."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.order(0.1, playout=50 * 16)
    sent = stage.now
    stage.now += 0.020
    assert peer.packet(0, 0, tcp_from_peer(0), sent=sent) == []
    assert peer.packet(0, 0, from_peer(9), key=8, sent=sent) == [9]
    assert peer.wait(0.029) == []
    assert peer.wait(0.0015) == [0]
    peer.order(0.1, playout=2000 * 16)
    peer.packet(0, 1, tcp_from_peer(1), sent=stage.now)
    assert peer.wait(PLAYOUT - 0.001) == []
    assert peer.wait(0.002) == [1]
    peer.order(0.1)
    assert peer.packet(0, 2, tcp_from_peer(2), sent=stage.now) == [2]


def test_a_copy_of_what_waits_for_its_playout_is_dropped(adapting_stage: Stage) -> None:
    """Though the copy may go at once, as the playout has become less; the first one goes in its turn, and once."""
    peer = Peer(adapting_stage)
    peer.order(0.1, playout=100 * 16)
    assert peer.packet(0, 0, tcp_from_peer(0)) == []
    assert peer.packet(0, 1, tcp_from_peer(1)) == []
    peer.order(0.1)
    assert peer.packet(1, 0, tcp_from_peer(0)) == []
    assert peer.wait(0.5) == [0, 1]
    assert adapting_stage.counters().ingress_dropped == {"copy": 1}


def test_acknowledgements_are_levelled_if_the_peer_wants_it(adapting_stage: Stage) -> None:
    """They come as late as the latest of them, so that TCP sees one round trip; voice does not wait."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.order(0.1, playout=30 * 16, acks=True)
    sent = stage.now
    stage.now += 0.010
    for number in (5, 7, 6):
        assert peer.packet(number % 2, number, tcp_from_peer(number), key=UNORDERED, sent=sent) == []
    assert peer.packet(0, 8, from_peer(8), key=UNORDERED, sent=sent) == [8]
    assert peer.wait(0.019) == []
    assert peer.wait(0.0015) == [5, 6, 7]
    assert stage.datapath.adaptive_counters("c").skipped == 0


def test_a_restarted_peer_is_followed_at_its_first_packet(adapting_stage: Stage) -> None:
    """It begins with any number."""
    peer = Peer(adapting_stage)
    peer.packet(0, 100, from_peer(1))
    assert peer.packet(0, 102 + FAR, from_peer(2)) == [2]
    assert peer.packet(0, 103 + FAR, from_peer(3)) == [3]


def test_without_a_reorder_window_nothing_waits(adapting_stage: Stage) -> None:
    """Copies are dropped all the same."""
    peer = Peer(adapting_stage, window=0)
    assert [peer.packet(0, number, from_peer(number)) for number in (0, 5, 3, 5)] == [[0], [5], [3], []]
    assert adapting_stage.datapath.next_deadline() is not None  # a report


def test_the_order_of_a_peer_without_the_feature_is_as_before(adapting_stage: Stage) -> None:
    """What is held when the peer turns out to understand is delivered first."""
    peer = Peer(adapting_stage, sends=False)
    peer.packet(0, 0, from_peer(0))
    peer.packet(0, 2, from_peer(2))
    assert adapting_stage.counters().packets_held == 1
    adapting_stage.set_table(replace(peer.row, adaptive=Adaptive(True)))
    assert [number_of(each) for each in adapting_stage.tun.delivered()] == [2]
    assert adapting_stage.counters().packets_held == 0


def test_a_rekey_puts_nothing_out_of_order(adapting_stage: Stage) -> None:
    """Numbers of flows go on over sessions; two of these are under way."""
    peer = Peer(adapting_stage)
    peer.packet(0, 0, from_peer(0))
    late = peer.session.seal(gre.encode(4, 1, 7) + from_peer(1), 1)
    peer.came()
    peer.renew()
    assert peer.packet(0, 2, from_peer(2)) == []
    delivered = adapting_stage.receive(peer.sockets[1], late, host="10.2.2.3")
    assert [number_of(each) for each in delivered] == [1, 2]

"""What every data path sends again on adaptive connections: what was lost, what hangs, and the end of a burst."""

from __future__ import annotations

from errno import EAGAIN, EHOSTUNREACH, ENOBUFS

import pytest

from mpt.data.pathtable import ClassRule
from mpt.data.repair import BURST, SHARE, TOO_LATE, TRIES
from mpt.model import PortMap
from mpt.testing.datapath import Stage, path_row
from mpt.wire.feedback import PROBE
from tests.contract.adaptive import ACK, HOSTS, WIDE, Peer, Sent, adaptive_row, bulk, number_of, tcp

DATAGRAM = 1000 + 70
SLOW_TAIL = WIDE._replace(rto=60.0)


def numbers(sent: list[Sent]) -> list[int]:
    return [number_of(each.packet) for each in sent]


# --- lost ---


def test_what_was_lost_goes_again_with_the_same_number(adapting_stage: Stage) -> None:
    """In a new envelope, over the path on which it arrives first; in the counts it is the same packet."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE, WIDE._replace(is_live=False))
    stage.send(*(bulk(number) for number in range(4)))
    first = peer.packets()
    peer.limit(WIDE._replace(is_live=False), WIDE)
    peer.report(0, 3, (1, 2))
    again = peer.packets()
    assert [(each.path, each.number) for each in again] == [(1, 0), (1, 1)]
    assert [each[2:] for each in again] == [each[2:] for each in first[1:3]]
    counters = stage.counters()
    assert sum(path.packets_sent for path in counters.paths.values()) == 4
    assert stage.datapath.adaptive_counters("c").resent == 2
    assert stage.datapath.flight(1).packets == stage.datapath.flight(1).resent == 2


def test_what_is_under_way_to_a_place_that_the_peer_has_left_goes_again(adapting_stage: Stage) -> None:
    """At once, and there is room again: nobody would report on it, and it would fill the window."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(window=3 * 1500))
    stage.send(*(bulk(number) for number in range(4)))
    assert numbers(peer.packets()) == [0, 1, 2]
    stage.datapath.set_remote(0, peer.sockets[0], path_row(0, peer.sockets[0], HOSTS[0]).remote, stage.now)
    assert numbers(peer.packets()) == [0, 1, 2]
    peer.limit(WIDE)
    assert numbers(peer.packets()) == [3]


def test_what_was_lost_again_goes_again_but_not_for_ever(adapting_stage: Stage) -> None:
    """Three times, over the only path as well."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(bulk(7))
    for number in range(TRIES + 1):
        assert numbers(peer.packets()) == [7]
        stage.wait(0.020)
        peer.report(0, number, (number, 1))
    assert peer.packets() == []


def test_what_would_come_too_late_does_not_go_again(adapting_stage: Stage) -> None:
    """Counted from its first sending."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(SLOW_TAIL)
    stage.send(bulk(0), bulk(1))
    peer.packets()
    stage.wait(TOO_LATE - 0.001)
    peer.report(0, 0, (0, 1))
    assert numbers(peer.packets()) == [0]
    stage.wait(0.002)
    peer.report(0, 1, (1, 1))
    assert peer.packets() == []
    assert stage.datapath.adaptive_counters("c").resend_late == 1


def test_repair_is_a_small_part_of_all(adapting_stage: Stage) -> None:
    """Of what was sent in the last second, and some packets beside."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    for number in range(100):
        stage.send(bulk(number))
        peer.packets()
    peer.report(0, 99, (0, 100))
    counters = stage.datapath.adaptive_counters("c")
    assert counters.resent == (SHARE * 100 * DATAGRAM + BURST) // DATAGRAM
    assert counters.resent + counters.resend_refused == 100


@pytest.mark.parametrize("kind", ["pure acknowledgement", "mapped"])
def test_some_packets_are_never_repaired(adapting_stage: Stage, kind: str) -> None:
    """The next acknowledgement says the same; a mapped flow has no numbers that would tell a copy."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    if kind == "mapped":
        mapped = PortMap(tcp_dst=frozenset({80}))
        stage.set_table(adaptive_row(path_row(0, peer.sockets[0], HOSTS[0], ports=mapped)))
    stage.send(tcp(1, ACK, b"" if kind == "pure acknowledgement" else b"data"))
    assert [each.key is None for each in peer.packets()] == [kind == "mapped"]
    peer.report(0, 0, (0, 1))
    stage.wait(2.0)
    assert peer.packets() == []


def test_of_two_copies_the_second_loss_is_repaired(adapting_stage: Stage) -> None:
    """While one of them is under way nothing is missing."""
    stage = adapting_stage
    peer = Peer(stage, adaptive={"classes": (ClassRule(copies=2),)})
    stage.send(bulk(1))
    assert [each.path for each in peer.packets()] == [0, 1]
    peer.report(0, 0, (0, 1))
    assert peer.packets() == []
    peer.report(1, 0, (0, 1))
    assert numbers(peer.packets()) == [1]


def test_a_session_that_ends_loses_what_is_under_way_with_it(adapting_stage: Stage) -> None:
    """Nobody will report it; it goes again with the new one."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    stage.send(bulk(0), bulk(1))
    peer.came()
    peer.renew()
    stage.datapath.end_session("c", peer.other_sessions[0].index)
    assert stage.datapath.flight(0).packets == 0
    stage.send(bulk(2))
    assert sorted(numbers(peer.packets())) == [0, 1, 2]


def test_a_path_that_is_gone_loses_what_is_under_way_on_it(adapting_stage: Stage) -> None:
    """It goes again over the others."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    stage.send(bulk(0), bulk(1))
    assert {each.path for each in peer.packets()} == {0}
    stage.set_table(adaptive_row(path_row(1, peer.sockets[1], HOSTS[1], id=1)))
    stage.send(bulk(2))
    assert sorted(numbers(peer.packets())) == [0, 1, 2]


# --- hanging ---


def test_a_rescue_sends_everything_again_over_other_paths(adapting_stage: Stage) -> None:
    """Once; and it is not limited, as a whole window may hang."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(SLOW_TAIL, SLOW_TAIL)
    stage.send(*(bulk(number) for number in range(80)))
    assert {each.path for each in peer.packets()} == {0}
    assert stage.datapath.rescue(0, stage.now) == 80
    again = peer.packets()
    assert {each.path for each in again} == {1}
    assert numbers(again) == list(range(80))
    assert stage.datapath.rescue(0, stage.now) == 0
    peer.report(0, 79, (0, 80))
    assert peer.packets() == []
    assert stage.datapath.flight(0).packets == 0


def test_what_hangs_on_a_suspect_path_is_copied_within_the_share(adapting_stage: Stage) -> None:
    """Suspicion may be wrong, and again and again."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(SLOW_TAIL, SLOW_TAIL)
    stage.send(*(bulk(number) for number in range(80)))
    peer.packets()
    copied = stage.datapath.rescue(0, stage.now, bounded=True)
    assert len(peer.packets(1)) == copied
    assert copied == int((SHARE * 80 * DATAGRAM + BURST) // DATAGRAM)
    assert stage.datapath.rescue(0, stage.now) == 80 - copied


def test_what_goes_again_waits_for_room_before_all_others(adapting_stage: Stage) -> None:
    """In window and pace: a whole window at once would be a queue for what goes over the other path."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(SLOW_TAIL._replace(window=19 * DATAGRAM + 1500), SLOW_TAIL._replace(is_live=False))
    stage.send(*(bulk(number) for number in range(40)))
    assert numbers(peer.packets()) == list(range(20))
    narrow = SLOW_TAIL._replace(window=5 * DATAGRAM, pace=DATAGRAM / 0.001)
    peer.limit(SLOW_TAIL._replace(is_live=False), narrow)
    peer.packets()
    assert stage.datapath.rescue(0, stage.now) == 20
    stage.wait(0.030)
    sent, settled = numbers(peer.packets(1)), -1
    assert 5 <= len(sent) <= 8
    while stage.counters().packets_waiting:
        settled += 5
        peer.report(1, settled)
        stage.wait(0.010)
        sent += numbers(peer.packets(1))
    again = [number for number in sent if number < 20]
    assert again == list(range(20))
    assert sent.index(39) > sent.index(19)


def test_a_rescue_leaves_what_is_too_old(adapting_stage: Stage) -> None:
    """And does nothing without another path, or for a path that nobody knows."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(SLOW_TAIL, SLOW_TAIL)
    stage.send(bulk(0))
    stage.now += 0.2
    stage.send(bulk(1))
    stage.now += 0.2
    peer.packets()
    assert stage.datapath.rescue(0, stage.now) == 1
    assert numbers(peer.packets()) == [1]
    assert stage.datapath.rescue("nobody", stage.now) == 0
    stage.datapath.set_shares({0: 0}, stage.now)
    stage.send(bulk(2))
    peer.packets()
    assert stage.datapath.rescue(1, stage.now) == 0


def test_what_was_rescued_is_repaired_on_its_new_path(adapting_stage: Stage) -> None:
    """There it counts as sent again once."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(SLOW_TAIL, SLOW_TAIL)
    stage.send(bulk(5))
    stage.datapath.rescue(0, stage.now)
    peer.packets()
    peer.limit(SLOW_TAIL._replace(is_live=False), SLOW_TAIL)
    peer.report(1, 0, (0, 1))
    assert [(each.path, number_of(each.packet)) for each in peer.packets()] == [(1, 5)]


# --- the end of a burst ---


def test_the_end_of_a_burst_is_copied_when_no_news_comes(adapting_stage: Stage) -> None:
    """Nothing behind it shows that it was lost; over another path, once."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE._replace(rto=0.1), WIDE._replace(rto=0.1))
    stage.send(bulk(0), bulk(1))
    peer.packets()
    peer.report(0, 0)
    stage.wait(0.099)
    assert peer.packets() == []
    stage.wait(0.002)
    assert [(each.path, number_of(each.packet)) for each in peer.packets()] == [(1, 1)]
    stage.wait(3.0)
    assert {number_of(each.packet) for each in peer.packets()} <= {1}


def test_news_puts_the_end_off(adapting_stage: Stage) -> None:
    """A path that goes on reporting progress has lost nothing that would not show."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE._replace(rto=0.1), WIDE._replace(is_live=False, rto=0.1))
    stage.send(*(bulk(number) for number in range(9)))
    peer.limit(WIDE._replace(rto=0.1), WIDE._replace(rto=0.1))
    peer.packets()
    for number in range(8):
        stage.wait(0.09)
        peer.report(0, number)
    assert peer.packets() == []


def test_a_path_of_which_nothing_can_be_copied_is_asked(adapting_stage: Stage) -> None:
    """What hangs is too old, and fills the window: without an answer it would do so for ever."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    narrow = WIDE._replace(rto=0.4, window=100)
    peer.limit(narrow, narrow)
    stage.send(bulk(0), bulk(1), bulk(2))
    peer.came()
    stage.wait(0.401)
    assert sorted((each.path, each.message[:1]) for each in peer.came()) == [(0, b"\x49"), (1, b"\x49")]
    peer.report(0, 1, (0, 1))
    assert [(each.path, number_of(each.packet)) for each in peer.packets()] == [(0, 2)]


def test_an_only_path_is_asked(adapting_stage: Stage) -> None:
    """A probe makes the loss show; less and less often while nothing comes back."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(rto=0.1))
    stage.send(bulk(0), bulk(1))
    peer.packets()
    stage.wait(0.101)
    [probe] = peer.came()
    assert (probe.message[0], probe.number) == (PROBE, 2)
    peer.report(0, 2, (0, 2))
    assert numbers(peer.packets()) == [0, 1]
    stage.wait(10.0)
    assert 4 <= len([each for each in peer.came() if each.message]) <= 12


# --- refused by the kernel ---


@pytest.mark.parametrize("error", [EAGAIN, ENOBUFS])
def test_a_full_socket_lets_packets_wait(error: int) -> None:
    """For 2 ms, and behind nothing that would overtake them; other paths go on."""
    stage = Stage.in_memory()
    peer = Peer(stage, paths=1)
    peer.sockets[0].fail(error)
    stage.send(bulk(0), bulk(1))
    assert peer.packets() == []
    assert stage.counters().packets_waiting == 2
    stage.wait(0.0021)
    assert [(number_of(each.packet), each.number) for each in peer.packets()] == [(0, 1), (1, 2)]
    assert stage.counters().egress_dropped == {}


def test_a_refused_packet_takes_another_path() -> None:
    """With the same number; over the only path it is dropped, as on every connection."""
    stage = Stage.in_memory()
    peer = Peer(stage)
    peer.sockets[0].fail(EHOSTUNREACH)
    stage.send(bulk(0))
    assert [each.path for each in peer.packets()] == [1]
    assert stage.counters().paths[0].send_errors == {"send_ehostunreach": 1}
    stage.datapath.set_shares({1: 0}, stage.now)
    stage.now += 1.0
    peer.sockets[0].fail(EHOSTUNREACH)
    stage.send(bulk(1))
    assert stage.counters().egress_dropped == {"send_ehostunreach": 1}


def test_a_resend_that_is_refused_is_tried_again() -> None:
    """When the socket has room."""
    stage = Stage.in_memory()
    peer = Peer(stage, paths=1)
    stage.send(bulk(0))
    peer.packets()
    peer.sockets[0].fail(EAGAIN)
    peer.report(0, 0, (0, 1))
    assert peer.packets() == []
    stage.wait(0.0021)
    assert numbers(peer.packets()) == [0]

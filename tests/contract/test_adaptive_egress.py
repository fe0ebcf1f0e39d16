"""What every data path sends on adaptive connections: over which path, with which numbers, and what waits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mpt.data.framing import Sealed
from mpt.data.pathtable import ClassRule
from mpt.limits import START_WINDOW
from mpt.model import PortMap
from mpt.testing.datapath import Stage, packet, path_row
from mpt.wire import gre, ip, tos
from mpt.wire.feedback import PROBE_MESSAGE
from tests.contract.adaptive import (
    ACK,
    HOSTS,
    SYN,
    UNORDERED,
    WIDE,
    Peer,
    adaptive_row,
    bulk,
    from_peer,
    number_of,
    tcp,
)
from tests.contract.sealed import begin

EF, AF41 = 46 << 2, 34 << 2
DATAGRAM = 1000 + 70  # a packet of 1000 octets with GRE, envelope and UDP


# --- on the wire ---


def test_packets_of_a_flow_have_its_key_and_its_numbers(adapting_stage: Stage) -> None:
    """From any first number on: a peer sees by it that this end was restarted."""
    peer = Peer(adapting_stage)
    adapting_stage.send(*(bulk(number, port=4000) for number in range(4)), *(bulk(10, port=4001) for _ in range(2)))
    sent = peer.packets()
    assert {each.path for each in sent} == {0}  # the fastest
    first, second = sent[0], sent[4]
    assert first.key != second.key and max(first.key or 0, second.key or 0) < UNORDERED
    assert first.sequence is not None
    assert [(each.key, each.sequence) for each in sent[:4]] == [
        (first.key, (first.sequence + step) % 2**32) for step in range(4)
    ]


def test_flows_begin_with_any_number(adapting_stage: Stage) -> None:
    """Seven flows do not all begin near 0."""
    peer = Peer(adapting_stage)
    adapting_stage.send(*(bulk(port, port=port) for port in range(4000, 4007)))
    assert max(each.sequence or 0 for each in peer.packets()) > 1 << 16


@pytest.mark.parametrize(("order", "keys"), [("connection", {0}), ("none", {UNORDERED})])
def test_one_order_for_all_or_none(adapting_stage: Stage, order: str, keys: set[int]) -> None:
    """All packets have one key."""
    framing = Sealed("connection" if order == "connection" else "none")
    peer = Peer(adapting_stage, framing=framing, adaptive={"ordered": order != "none"})
    adapting_stage.send(*(bulk(port, port=port) for port in range(4000, 4010)), tcp(1))
    assert {each.key for each in peer.packets()} == keys


def test_a_mapped_flow_takes_its_path_without_a_number(adapting_stage: Stage) -> None:
    """As on every connection; whatever its path is good for."""
    stage = adapting_stage
    wans = [stage.new_socket(), stage.new_socket()]
    mapped = PortMap(udp_dst=frozenset({80}))
    rows = [path_row(0, wans[0], HOSTS[0]), path_row(1, wans[1], HOSTS[1], id=1, ports=mapped)]
    stage.set_table(adaptive_row(*rows))
    session = begin(stage)
    stage.send(bulk(1), bulk(2))
    assert wans[0].sent() == []
    assert [session.open(datagram).content for datagram, _ in wans[1].sent()] == [
        gre.encode(4) + bulk(number) for number in (1, 2)
    ]
    assert stage.datapath.flight(1).packets == 2


def test_a_peer_without_the_feature_gets_what_it_always_got(adapting_stage: Stage) -> None:
    """The cycle, and no reports."""
    peer = Peer(adapting_stage, sends=False)
    adapting_stage.send(*(bulk(number) for number in range(4)))
    assert Counter(each.path for each in peer.packets()) == {0: 2, 1: 2}
    peer.packet(0, 0, from_peer(1))
    adapting_stage.wait(1.0)
    assert peer.came() == []
    assert adapting_stage.datapath.flight(0).packets == 0


# --- windows and pace ---


def test_the_window_holds_packets_back(adapting_stage: Stage) -> None:
    """Until the peer reports what has arrived; then as many go as have room."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(window=3 * 1500))
    stage.send(*(bulk(number) for number in range(10)))
    assert [number_of(each.packet) for each in peer.packets()] == [0, 1, 2]
    flight = stage.datapath.flight(0)
    assert (flight.octets, flight.packets, flight.queue_packets) == (3 * DATAGRAM, 3, 7)
    assert flight.limited_at == stage.now
    assert stage.counters().packets_waiting == 7
    [report] = peer.report(0, 1)
    assert (report.acked, report.lost, report.in_flight, report.settled_moved) == (2 * DATAGRAM, 0, DATAGRAM, True)
    assert [number_of(each.packet) for each in peer.packets()] == [3, 4]


def test_a_wider_window_lets_packets_go_at_once(adapting_stage: Stage) -> None:
    """Also one datagram always goes, however narrow it is."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(window=100))
    stage.send(*(bulk(number) for number in range(5)))
    assert len(peer.packets()) == 1
    peer.limit(WIDE)
    assert len(peer.packets()) == 4


def test_a_new_path_begins_with_the_start_window(adapting_stage: Stage) -> None:
    """Before control has said anything."""
    stage = adapting_stage
    wan = stage.new_socket()
    stage.set_table(adaptive_row(path_row("new", wan)))
    begin(stage)
    stage.send(*(bulk(number) for number in range(60)))
    assert START_WINDOW - 1500 - DATAGRAM < stage.datapath.flight("new").octets <= START_WINDOW


def test_the_pace_holds_packets_back(adapting_stage: Stage) -> None:
    """Packets go 2 ms before their turn at the most, and each at its time."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(pace=DATAGRAM / 0.001))
    stage.send(*(bulk(number) for number in range(20)))
    assert 2 <= len(peer.packets()) <= 4
    for _ in range(5):
        stage.wait(0.001)
        assert 0 <= len(peer.packets()) <= 2
    stage.wait(0.020)
    peer.packets()
    assert stage.counters().packets_waiting == 0


def test_the_path_of_earliest_arrival_carries_the_next_packet(adapting_stage: Stage) -> None:
    """The queue that packets make on the fast path counts; so both carry what they can."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE._replace(rate=100_000.0), WIDE._replace(rate=100_000.0))
    stage.send(*(bulk(number) for number in range(30)))
    shares = Counter(each.path for each in peer.packets())
    assert shares[0] > 0 and shares[1] > 0
    assert 0 <= shares[0] - shares[1] <= 2


def test_what_has_no_room_on_one_path_takes_the_other(adapting_stage: Stage) -> None:
    """And waits when none has any."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE._replace(window=3 * 1500), WIDE._replace(window=2 * 1500))
    stage.send(*(bulk(number) for number in range(10)))
    assert Counter(each.path for each in peer.packets()) == {0: 3, 1: 2}
    assert stage.counters().packets_waiting == 5


@pytest.mark.parametrize("how", ["dead", "gated", "not used"])
def test_a_path_that_is_not_live_or_not_admitted_carries_no_bulk(adapting_stage: Stage, how: str) -> None:
    """If there is another one; packets go somehow."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    if how == "not used":
        stage.datapath.set_shares({0: 0}, stage.now)
    else:
        closed = WIDE._replace(is_live=False) if how == "dead" else WIDE._replace(admits=False)
        peer.limit(closed, WIDE)
        stage.send(tcp(1, ACK, b""))
        assert [each.path for each in peer.packets()] == [1 if how == "dead" else 0]
    stage.send(bulk(0))
    assert [each.path for each in peer.packets()] == [1]
    if how != "not used":
        peer.limit(closed, closed)
        stage.send(bulk(1))
        assert [each.path for each in peer.packets()] == [0]


def test_a_path_that_is_too_narrow_is_not_taken(adapting_stage: Stage) -> None:
    """A packet that fits no path is cut or refused, as on every connection."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    stage.datapath.set_path_mtus({0: 900, 1: 1200}, stage.now)
    stage.send(bulk(0, 1000), bulk(1, 800))
    assert [(each.path, number_of(each.packet)) for each in peer.packets()] == [(0, 1), (1, 0)]
    peer.limit(WIDE._replace(window=100), WIDE._replace(window=100))
    stage.datapath.set_path_mtus({0: 0, 1: 0}, stage.now)
    stage.send(bulk(0, 1300))
    assert stage.counters().packets_waiting == 1
    stage.datapath.set_path_mtus({0: 900, 1: 900}, stage.now)
    peer.limit(WIDE, WIDE)
    assert peer.packets() == []
    assert stage.counters().egress_dropped == {"too_big": 1}


def test_a_packet_that_no_admitted_path_carries_goes_over_another_live_one(adapting_stage: Stage) -> None:
    """Or it would wait for ever, and all that is behind it."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    stage.datapath.set_path_mtus({0: 900, 1: 1200}, stage.now)
    peer.limit(WIDE, WIDE._replace(admits=False))
    stage.send(bulk(0, 1000), bulk(1, 800))
    assert [(each.path, number_of(each.packet)) for each in peer.packets()] == [(0, 1), (1, 0)]


def test_without_an_open_path_packets_are_dropped(adapting_stage: Stage) -> None:
    """And without a session; what waits already goes on waiting."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(window=100))
    stage.send(bulk(0), bulk(1))
    stage.datapath.set_shares({0: 0}, stage.now)
    stage.send(bulk(2))
    stage.datapath.send_with("c", None, stage.now)
    stage.send(bulk(3))
    assert stage.counters().egress_dropped == {"no_path": 1, "no_session": 1}
    assert stage.counters().packets_waiting == 1
    peer.packets()
    stage.datapath.send_with("c", peer.session.index, stage.now)
    stage.datapath.set_shares({0: 1}, stage.now)
    peer.limit(WIDE)
    assert [number_of(each.packet) for each in peer.packets()] == [1]


@pytest.mark.parametrize("how", ["table", "address"])
def test_what_waits_goes_when_a_path_is_back(adapting_stage: Stage, how: str) -> None:
    """At once: nothing else might wake the data path. What went to another address before goes again."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(window=100))
    stage.send(bulk(0), bulk(1))
    remote = path_row(0, peer.sockets[0], HOSTS[0]).remote
    stage.set_table(adaptive_row(path_row(0, peer.sockets[0] if how == "address" else None, HOSTS[0], remote=())))
    peer.limit(WIDE)
    assert stage.counters().packets_waiting == 1
    peer.packets()
    if how == "table":
        stage.set_table(peer.row)
    else:
        stage.datapath.set_remote(0, peer.sockets[0], remote, stage.now)
    assert [number_of(each.packet) for each in peer.packets()] == ([1] if how == "table" else [0, 1])


# --- the queue ---


def test_a_full_queue_drops_the_head_of_the_longest_flow(adapting_stage: Stage) -> None:
    """And counts it."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1, adaptive={"queue_packets": 5})
    peer.limit(WIDE._replace(window=100))
    stage.send(*(bulk(number) for number in range(10)), bulk(100, port=5000))
    assert stage.counters().egress_dropped == {"queue_full": 5}
    peer.packets()
    peer.limit(WIDE)
    assert sorted(number_of(each.packet) for each in peer.packets()) == [6, 7, 8, 9, 100]
    assert stage.datapath.adaptive_counters("c").overflowed == 5


@pytest.mark.parametrize("ecn", [tos.NOT_ECT, tos.ECT_0, tos.ECT_1])
def test_what_waits_for_too_long_is_marked_or_dropped(adapting_stage: Stage, ecn: int) -> None:
    """CoDel: packets with ECN are marked, others dropped."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(pace=DATAGRAM / 0.010))
    marked = 0
    for number in range(100):
        stage.send(bulk(2 * number, tos=ecn), bulk(2 * number + 1, tos=ecn))
        stage.wait(0.010)
        marked += sum(tos.octet(each.packet) & 3 == tos.CE for each in peer.packets())
    counters = stage.datapath.adaptive_counters("c")
    assert marked == counters.codel_marked
    assert stage.counters().egress_dropped.get("codel", 0) == counters.codel_dropped
    assert (marked > 0, counters.codel_dropped > 0) == (ecn != tos.NOT_ECT, ecn == tos.NOT_ECT)


def test_flows_share_what_there_is(adapting_stage: Stage) -> None:
    """However many packets each sends."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    peer.limit(WIDE._replace(window=100))
    stage.send(bulk(0, port=3999))
    stage.send(*(bulk(number, port=4000) for number in range(50)), *(bulk(number, port=4001) for number in range(20)))
    peer.packets()
    peer.limit(WIDE._replace(window=21 * 1500))
    shares = Counter(each.packet[20:22] for each in peer.packets())
    assert max(shares.values()) - min(shares.values()) <= 2


# --- what does not wait ---


def behind_bulk(stage: Stage, peer: Peer) -> None:
    """Let bulk wait for a window that is full."""
    peer.limit(*(WIDE._replace(window=3 * 1500) for _ in peer.sockets))
    stage.send(*(bulk(number) for number in range(20)))
    assert len(peer.packets()) < 20


@pytest.mark.parametrize(
    "each",
    [bulk(99, 200, 5060, EF), tcp(99, ACK, b""), bulk(99, 200, 5060)],
    ids=["realtime", "pure acknowledgement", "thin"],
)
def test_some_packets_never_wait_behind_bulk(adapting_stage: Stage, each: bytes) -> None:
    """They have the key of what is in no order, and numbers of its own."""
    stage = adapting_stage
    peer = Peer(stage, adaptive={"thin": 2500})
    stage.send(bulk(0), bulk(1))  # now this flow is thin no more
    behind_bulk(stage, peer)
    stage.send(each, each)
    sent = peer.packets(0)
    assert [(one.key, one.packet) for one in sent] == [(UNORDERED, each)] * 2
    assert sent[1].sequence == ((sent[0].sequence or 0) + 1) % 2**32


def test_a_thin_flow_of_tcp_keeps_its_order(adapting_stage: Stage) -> None:
    """It goes at once, but with the numbers of its flow."""
    stage = adapting_stage
    peer = Peer(stage, adaptive={"thin": 2500})
    stage.send(bulk(0), bulk(1))
    behind_bulk(stage, peer)
    stage.send(tcp(1, SYN, b""), tcp(2))
    sent = peer.packets(0)
    assert [number_of(each.packet) for each in sent] == [1, 2]
    assert sent[0].key == sent[1].key != UNORDERED
    assert stage.datapath.adaptive_counters("c").thin == 4


def test_a_flow_that_waits_is_not_thin(adapting_stage: Stage) -> None:
    """Or its packets would overtake each other."""
    stage = adapting_stage
    peer = Peer(stage, paths=1, adaptive={"thin": 2500})
    stage.send(bulk(0), bulk(1))
    behind_bulk(stage, peer)
    stage.now += 0.2
    stage.send(bulk(99))
    assert peer.packets() == []


def test_what_goes_past_the_window_is_bounded(adapting_stage: Stage) -> None:
    """A tenth of it and some packets: then realtime packets wait, too, but before all others."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=1)
    behind_bulk(stage, peer)
    stage.send(*(bulk(1000 + number, 1000, 5060, EF) for number in range(20)))
    assert 1 <= len(peer.packets()) <= 4
    peer.limit(WIDE._replace(window=20 * 1500))
    sent = [number_of(each.packet) for each in peer.packets()]
    assert all(number >= 1000 for number in sent[:15])


def test_rules_decide_before_dscp(adapting_stage: Stage) -> None:
    """The first one that has the packet; by port, protocol, DSCP."""
    rules = (
        ClassRule(ports=((7000, 7009),), realtime=False),
        ClassRule(protocol=ip.UDP, ports=((80, 80),), dscps=frozenset({46})),
        ClassRule(dscps=frozenset({10})),
    )
    peer = Peer(adapting_stage, adaptive={"classes": rules})
    adapting_stage.send(
        bulk(1, port=7005, tos=EF), bulk(2, tos=EF), bulk(3, tos=10 << 2), bulk(4, tos=12 << 2), bulk(5, tos=34 << 2)
    )
    assert {number_of(each.packet): each.key == UNORDERED for each in peer.packets()} == {
        1: False,
        2: True,
        3: True,
        4: False,
        5: True,
    }


# --- copies ---

COPIED = {"classes": (ClassRule(dscps=frozenset({46}), copies=2),)}


def test_a_class_with_copies_goes_over_two_lines(adapting_stage: Stage) -> None:
    """With the same number, so that the peer drops one."""
    stage, peer = adapting_stage, Peer(adapting_stage, paths=3, adaptive=COPIED)
    stage.send(bulk(1, 200, tos=EF))
    sent = peer.packets()
    assert [each.path for each in sent] == [0, 1]
    assert len({each[2:] for each in sent}) == 1
    counters = stage.counters()
    assert sum(path.packets_sent for path in counters.paths.values()) == 1
    assert stage.datapath.adaptive_counters("c").copies_sent == 1
    assert stage.datapath.flight(1).copies == 1


def test_small_flows_have_copies_without_a_rule(adapting_stage: Stage) -> None:
    """Realtime ones, and those that are realtime by what they do: small, and no TCP."""
    stage, peer = adapting_stage, Peer(adapting_stage, adaptive={"thin": 4000})
    stage.send(bulk(1, 200, tos=EF), bulk(2, 200, 5060), tcp(3))
    assert [(each.path, number_of(each.packet), each.key == UNORDERED) for each in peer.packets()] == [
        (0, 1, True),
        (0, 2, True),
        (0, 3, False),
        (1, 1, True),
        (1, 2, True),
    ]


def test_large_flows_have_copies_by_a_rule_alone(adapting_stage: Stage) -> None:
    """A video would take the copies from the voice. What it had in the 100 ms before counts, too."""
    rules = (ClassRule(ports=((7000, 7000),), copies=2), ClassRule(ports=((7001, 7001),), copies=1))
    stage, peer = adapting_stage, Peer(adapting_stage, adaptive={"thin": 4000, "classes": rules})
    video = [bulk(number, 1000, tos=AF41) for number in range(10)]
    stage.send(*video)
    assert [number_of(each.packet) for each in peer.packets(1)] == [0, 1, 2, 3]
    peer.came()
    for _ in range(3):
        stage.now += 0.11
        stage.send(*video)
        assert not peer.packets(1)
        peer.came()
    stage.now += 0.5
    stage.send(video[0])
    assert len(peer.packets(1)) == 1
    stage.send(*(bulk(100 + number, 1000, 7000) for number in range(10)), bulk(200, 200, 7001))
    assert [number_of(each.packet) for each in peer.packets(1)] == list(range(100, 110))


def test_no_copy_goes_over_a_closed_path(adapting_stage: Stage) -> None:
    """One that is dear, silent or away: it is not live."""
    stage, peer = adapting_stage, Peer(adapting_stage, adaptive={"thin": 4000})
    peer.limit(WIDE, WIDE._replace(is_live=False))
    stage.send(bulk(1, 200, tos=EF))
    assert [each.path for each in peer.packets()] == [0]


def test_paths_of_one_line_get_no_copies(adapting_stage: Stage) -> None:
    """They would be lost together."""
    stage, peer = adapting_stage, Peer(adapting_stage, adaptive=COPIED)
    stage.datapath.set_limits({0: WIDE, 1: WIDE}, {}, stage.now)
    stage.send(bulk(1, 200, tos=EF))
    assert len(peer.packets()) == 1


def test_copies_are_few(adapting_stage: Stage) -> None:
    """A tenth of what the lines take, or of what is sent."""
    stage, peer = adapting_stage, Peer(adapting_stage, adaptive=COPIED)
    slow = WIDE._replace(rate=50_000.0)
    peer.limit(slow, slow)
    stage.send(*(bulk(number, 1000, tos=EF) for number in range(50)))
    copies = stage.datapath.adaptive_counters("c").copies_sent
    assert copies == int(max(0.1 * 2 * 50_000.0, 0.1 * (50 + 9) * DATAGRAM) // DATAGRAM)
    assert len(peer.packets()) == 50 + copies
    stage.now += 1.1
    stage.send(bulk(99, 1000, tos=EF))
    assert stage.datapath.adaptive_counters("c").copies_sent == copies + 1


def test_a_shadow_gets_copies_of_bulk_while_it_has_room(adapting_stage: Stage) -> None:
    """So its rate is measured, and no packet waits for it."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE, WIDE._replace(admits=False, shadow=True, window=3 * 1500))
    stage.send(*(bulk(number) for number in range(5)))
    sent = peer.packets()
    assert [number_of(each.packet) for each in sent if each.path == 0] == [0, 1, 2, 3, 4]
    assert [number_of(each.packet) for each in sent if each.path == 1] == [0, 1, 2, 3]
    assert stage.datapath.flight(1).limited_at == stage.now
    assert stage.datapath.rescue(1, stage.now) == 0


def test_a_probe_is_under_way(adapting_stage: Stage) -> None:
    """The peer will report it; other messages are not counted."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    assert stage.datapath.send(1, PROBE_MESSAGE, stage.now)
    assert stage.datapath.flight(1).packets == 1
    [report] = peer.report(1, 0)
    assert (report.path, report.acked, report.in_flight) == (1, len(PROBE_MESSAGE) + 58, 0)


# --- changes ---


def test_what_waits_stays_when_the_table_changes(adapting_stage: Stage) -> None:
    """And what is under way; numbers go on."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    peer.limit(WIDE._replace(window=3 * 1500), WIDE._replace(is_live=False))
    stage.send(*(bulk(number) for number in range(6)))
    before = peer.packets()
    stage.set_table(adaptive_row(path_row(0, peer.sockets[0], HOSTS[0]), path_row(2, peer.sockets[1], HOSTS[1], id=5)))
    assert stage.datapath.flight(0).packets == 3
    peer.limit(WIDE._replace(window=3 * 1500))
    assert peer.report(0, 2)[0].acked == 3 * DATAGRAM
    stage.wait(0.01)
    after = peer.packets()
    assert [each.sequence for each in before + after] == [
        ((before[0].sequence or 0) + step) % 2**32 for step in range(6)
    ]


@pytest.mark.parametrize("how", ["cycle", "peer without the feature", "gone"])
def test_a_connection_that_adapts_no_more(adapting_stage: Stage, how: str) -> None:
    """What waits goes by the cycle, or is dropped with its connection."""
    stage, peer = adapting_stage, Peer(adapting_stage)
    behind_bulk(stage, peer)
    waiting = stage.counters().packets_waiting
    paths = [path_row(each, peer.sockets[each], HOSTS[each], id=each) for each in (0, 1)]
    if how == "gone":
        stage.set_table()
        assert stage.counters().egress_dropped == {"no_connection": waiting}
        return
    row = adaptive_row(*paths, sends=False)
    stage.set_table(replace(row, adaptive=None) if how == "cycle" else row)
    assert stage.counters().packets_waiting == 0
    assert len(peer.packets()) == waiting
    stage.send(packet())
    assert len(peer.packets()) == 1

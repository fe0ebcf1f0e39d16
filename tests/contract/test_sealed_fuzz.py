"""Every data path takes 100,000 damaged datagrams of every sealed kind, and repeated ones: nothing raised, everything
counted, nothing delivered or told twice, nothing answered.

MPT_FUZZ is how many damaged ones there are, a quarter of it how many of all in the mixture; MPT_FUZZ_SEED gives others.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Literal

import pytest

from mpt.data.events import Confirmed, Copied, Handshake, Message, Moved
from mpt.data.replay import WINDOW
from mpt.testing.datapath import LOCAL_V6, OTHER_PEER, PEER, REMOTE_V6, Stage, connection_row, path_row
from mpt.testing.session import PeerSession
from mpt.testing.strategies import mutated
from mpt.wire import gre, seal
from mpt.wire.message import Challenge, Keepalive
from mpt.wire.seal import Cipher, HandshakeDatagram, Retry
from tests.contract.sealed import OTHER_PLACE, begin, content, news, reply, sealed_row
from tests.contract.test_datapath_fuzz import COUNT, SEED

MANY = 10_000  # datagrams, among which there are enough first ones for a retry
BURST = 50  # datagrams that a socket holds
RECORDED = 600  # of every kind
LONG = WINDOW + 1000  # datagrams of one path, more than its replay window

Order = Literal["flow", "connection", "none"]
OUR_KEY, PEER_KEY = seal.mac1_key(b"ours".ljust(32)), seal.mac1_key(b"peer".ljust(32))
TOKEN_KEY = b"token".ljust(32)


class Genuine:
    """Sound datagrams, each content once."""

    def __init__(self, sessions: list[PeerSession], random: Random, order: Order) -> None:
        self.sessions = sessions
        self.order = order
        self.random = random
        self.made = 0

    def make(self) -> bytes:
        self.made += 1
        session, path_id = self.random.choice(self.sessions), self.random.choice((0, 1))
        octets = self.made.to_bytes(8, "big")
        match self.random.randrange(9):
            case 0:
                return session.seal(Challenge(octets).encode(), path_id)
            case 1:
                return session.seal(Keepalive().encode() + octets, path_id)
            case 2:
                return session.seal(self.random.randbytes(self.random.randrange(60)) + octets, path_id)
            case 3:
                datagram = HandshakeDatagram(False, 1, 0, 0, 0, data=octets)
                return datagram.encode(self.random.choice((OUR_KEY, PEER_KEY)))
            case 4:
                datagram = HandshakeDatagram(True, 1, self.random.choice((5, 6)), 0, 0, data=octets)
                return datagram.encode(self.random.choice((OUR_KEY, PEER_KEY)))
            case 5:
                return Retry(5, octets).encode(PEER_KEY)
        sequence = None if self.order == "none" else self.made
        key = self.random.randrange(5) if self.order == "flow" else None
        return session.seal(gre.encode(4, sequence, key) + reply(self.made), path_id)


@pytest.mark.parametrize("order", ["none", "connection", "flow"])
def test_datagrams_of_any_kind(fast_sealing_stage: Stage, order: Order) -> None:
    """Half of them are recorded ones, sent again from anywhere; most others are damaged."""
    random, stage = Random(SEED), fast_sealing_stage
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(
        sealed_row(
            path_row("a", wans[0]),
            path_row("b", wans[1], OTHER_PEER, id=1),
            order=order,
            window=0 if order == "none" else 64,
        ),
        connection_row(path_row("p", wans[0]), key="plain", local=LOCAL_V6, remote=REMOTE_V6),
    )
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    stage.datapath.expect({5: PEER_KEY})
    sessions = [begin(stage, session=PeerSession(cipher)) for cipher in Cipher]
    genuine = Genuine(sessions, random, order)
    recorded = [genuine.make() for _ in range(10)]
    delivered: list[bytes] = []
    told: list[bytes] = []
    answers: list[bytes] = []
    count = COUNT // 4
    for number in range(count):
        if number % 3 == 0:
            recorded[random.randrange(len(recorded))] = genuine.make()
            if len(recorded) < 500:
                recorded.append(genuine.make())
        datagram = random.choice(recorded)
        if random.randrange(2):
            datagram = mutated(datagram, random)
        delivered += stage.receive(random.choice(wans), datagram, host=random.choice((PEER, OTHER_PEER, OTHER_PLACE)))
        for event in news(stage):
            if isinstance(event, Message):
                told.append(event.octets)
            else:
                assert isinstance(event, Confirmed | Copied | Moved | Handshake)
        if number % 1000 == 0:
            stage.counters()
            answers += [datagram for wan in wans for datagram, _ in wan.sent()]
    delivered += stage.wait(1.0)
    counters = stage.counters()
    answers += [datagram for wan in wans for datagram, _ in wan.sent()]
    assert all(isinstance(seal.decode_handshake(each), Retry) and seal.has_mac1(OUR_KEY, each) for each in answers)
    assert len(answers) == counters.ingress_dropped.get("handshake_retry", 0)
    assert answers or count < MANY
    assert counters.datagrams_received == count
    assert counters.packets_held <= 8  # strays that are kept aside
    assert counters.packets_delivered == len(delivered) > count / 50
    assert len(set(delivered)) == len(delivered)
    assert len(set(told)) == len(told) > count / 200
    assert counters.ingress_dropped["seal_replay"] > count / 50
    assert counters.ingress_dropped["seal_tag"] > count / 50
    assert counters.handshakes_received > count / 200
    assert {"seal_session", "seal_path", "seal_truncated", "seal_unknown_kind", "message_unknown"} <= {
        *counters.ingress_dropped
    }
    assert {"handshake_mac", "handshake_unexpected", "unknown_source"} <= {*counters.ingress_dropped}
    last = [10**9 + number for number in range(50)]
    assert stage.receive(wans[0], *(sessions[0].seal(content(each)) for each in last)) == [reply(each) for each in last]


def receive_many(stage: Stage, wans: Sequence[Any], datagrams: Sequence[bytes], random: Random) -> list[bytes]:
    """Let `datagrams` come in bursts, from anywhere to any of the sockets; return the packets that are delivered."""
    delivered = []
    for start in range(0, len(datagrams), BURST):
        wan, host = random.choice(wans), random.choice((PEER, OTHER_PEER, OTHER_PLACE))
        for each in datagrams[start : start + BURST]:
            wan.deliver(each, host)
        stage.datapath.socket_readable(wan, stage.now)
        delivered += stage.tun.delivered()
    return delivered


def test_a_recorded_session_changed_and_repeated(fast_sealing_stage: Stage) -> None:
    """Its datagrams, each of which has come once, changed 100,000 times and then repeated in any order: nothing is
    delivered, told or answered, and each is counted as dropped."""
    random, stage = Random(SEED), fast_sealing_stage
    wans = stage.new_socket(), stage.new_socket()
    paths = path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER, id=1)
    stage.set_table(sealed_row(*paths, order="flow", window=64))
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    stage.datapath.expect({5: PEER_KEY})
    genuine = Genuine([begin(stage, session=PeerSession(cipher)) for cipher in Cipher], random, "flow")
    recorded = [genuine.make() for _ in range(RECORDED)]
    assert receive_many(stage, wans, recorded, random)
    long = [genuine.sessions[0].seal(content(10**6 + number)) for number in range(LONG)]
    assert len(receive_many(stage, wans, long, random)) == LONG
    stage.wait(10.0)
    known, changed = set(recorded), list[bytes]()
    while len(changed) < COUNT:
        if (damaged := mutated(random.choice(recorded), random)) not in known:
            changed.append(damaged)
    again = [each for each in recorded + long if each[0] == seal.ENVELOPE] * 2
    random.shuffle(again)
    for datagrams in (changed, again):
        before = stage.counters()
        for wan in wans:
            wan.sent()
        news(stage)
        assert receive_many(stage, wans, datagrams, random) == []
        assert {type(each) for each in news(stage)} <= {Copied}
        assert [each for wan in wans for each in wan.sent()] == []
        after = stage.counters()
        assert after.datagrams_received - before.datagrams_received == len(datagrams) > 0
        assert sum(after.ingress_dropped.values()) - sum(before.ingress_dropped.values()) == len(datagrams)
    assert after.ingress_dropped["seal_replay"] - before.ingress_dropped["seal_replay"] == len(again)

"""The native data path and the Python one, side by side, with a sealed connection."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt.data.events import Confirmed, Event, Handshake, Message, Moved
from mpt.data.pathtable import ConnectionRow
from mpt.testing.datapath import Stage, numbered, path_row
from mpt.testing.session import PeerSession
from mpt.testing.strategies import mutated
from mpt.wire import gre, seal
from mpt.wire.message import Keepalive
from mpt.wire.seal import Cipher, HandshakeDatagram
from tests.contract.sealed import reply, sealed_row
from tests.contract.twins import PEERS, twins

pytestmark = pytest.mark.skipif(
    not pytest.importorskip("mpt.accel.native", exc_type=ImportError).can_seal(), reason="built without OpenSSL"
)
MAC1_KEY = seal.mac1_key(bytes(32))
CONTENTS = [
    Keepalive().encode(),
    b"\x43" + bytes(40),
    b"\x50" + bytes(9),
    b"",
    b"\x00\x00",
    b"\x30\x00\x08\x00" + bytes(4),
]


def told(stage: Stage, sockets: Sequence[Any], events: Sequence[Event]) -> list[tuple[Any, ...]]:
    """What control was told, with a socket's number instead of the socket, in words that both have."""
    of_socket = {id(each): number for number, each in enumerate(sockets)}
    return [
        (type(event).__name__, *(of_socket.get(id(value), value) for value in event))
        for event in events
        if isinstance(event, Message | Handshake | Moved | Confirmed)
    ]


@given(
    st.randoms(use_true_random=False),
    st.sampled_from(Cipher),
    st.sampled_from(["flow", "connection", "none"]),
    st.sampled_from([0, 8]),
)
@settings(max_examples=40)
def test_the_same_datagrams(random: Random, cipher: Cipher, order: Any, window: int) -> None:
    """Whatever arrives is delivered, told or dropped alike, and what is sent is the same, octet for octet; but for the
    keys of flows, which are hashes with a secret of the sender."""

    def rows(sockets: Sequence[Any]) -> tuple[ConnectionRow]:
        paths = [path_row(n, sockets[n], PEERS[n], id=n) for n in range(2)]
        return (sealed_row(*paths, order=order, window=window),)

    with twins() as pair:
        pair.set_table(rows)
        session = PeerSession(cipher)
        for stage in pair.stages:
            stage.datapath.set_identity(MAC1_KEY, bytes(32))
            stage.datapath.add_session("c", session.keys(), stage.now)
            stage.datapath.send_with("c", session.index, stage.now)
        recorded: list[bytes] = []
        for number in range(60):
            match random.randrange(8):
                case 0 | 1 | 2:
                    content = gre.encode(4, number if order == "connection" else None) + reply(number)
                    recorded.append(session.seal(content, random.randrange(3), stamp=seal.stamp(1000.0)))
                case 3:
                    recorded.append(session.seal(random.choice(CONTENTS), random.randrange(2)))
                case 4:
                    recorded.append(HandshakeDatagram(False, 1, 0, 0, 0, data=b"hello").encode(MAC1_KEY))
                case 5 if order != "flow":
                    pair.send(*numbered(random.randrange(1, 4), number))
                case 6 if recorded:
                    recorded.append(mutated(random.choice(recorded), random))
            if recorded:
                datagram = random.choice(recorded[-3:])
                pair.receive(random.randrange(2), datagram, host=random.choice(PEERS))
                events = [
                    told(stage, sockets, stage.datapath.take_events())
                    for stage, sockets in zip(pair.stages, pair.sockets, strict=True)
                ]
                assert events[1] == events[0]

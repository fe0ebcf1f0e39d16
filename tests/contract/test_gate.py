"""A flood of handshake datagrams with a right mac1: what control is told, and what is answered without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mpt.data import gate
from mpt.data.events import Handshake
from mpt.testing.datapath import OTHER_PEER, PEER, Stage, path_row
from mpt.wire import seal, token
from mpt.wire.seal import HandshakeDatagram, Retry
from tests.contract.sealed import OTHER_PLACE, news, place, sealed_row

OUR_KEY, TOKEN_KEY = seal.mac1_key(b"ours".ljust(32)), b"token".ljust(32)
TOLD = int(gate.FIRSTS_AT_ONCE)


def first(shown: bytes = b"", index: int = 7, receiver: int = 0) -> bytes:
    return HandshakeDatagram(False, index, receiver, 0, 0, shown, b"client hello").encode(OUR_KEY)


def open_stage(stage: Stage) -> Any:
    wan = stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan, remote=())))
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    return wan


def told(stage: Stage) -> int:
    return sum(isinstance(each, Handshake) for each in news(stage))


def told_of(stage: Stage, wan: Any, count: int, make: Callable[[int], bytes], host: str = PEER) -> int:
    """Let `count` datagrams come, each in a wake-up of its own; return how many control is told of."""
    found = 0
    for number in range(count):
        stage.receive(wan, make(number), host=host)
        found += told(stage)
    return found


def address(stage: Stage, host: str) -> tuple[Any, ...]:
    """Return the address from which the data path sees the datagrams of `host`."""
    found: tuple[Any, ...] = getattr(stage.datapath, "_address", lambda given: given)(place(host))
    return found


def test_of_a_flood_a_few_are_told_and_the_rest_is_answered(sealing_stage: Stage) -> None:
    """With a token, that only who receives there can show; it is told then, though the flood goes on."""
    stage = sealing_stage
    wan = open_stage(stage)
    assert told_of(stage, wan, TOLD + 50, lambda number: first(index=number + 1), OTHER_PLACE) == TOLD
    wan.sent()
    stage.receive(wan, first(), host=PEER)
    ((octets, target),) = wan.sent()
    assert target == place(PEER) and told(stage) == 0 and len(octets) <= 3 * len(first())
    retry = seal.decode_handshake(octets)
    assert seal.has_mac1(OUR_KEY, octets) and retry == Retry(7, token.token(TOKEN_KEY, address(stage, PEER), stage.now))
    stage.receive(wan, first(retry.token), host=PEER)
    assert told(stage) == 1 and wan.sent() == []
    assert stage.counters().ingress_dropped == {"handshake_retry": 51}
    assert stage.counters().handshakes_received == TOLD + 1
    stage.now += 0.5
    assert told_of(stage, wan, TOLD, lambda number: first(index=number + 1), OTHER_PLACE) == gate.FIRSTS / 2


def test_a_token_is_good_for_its_address_and_a_while(sealing_stage: Stage) -> None:
    """Not from elsewhere, changed, cut short, too late, too early, with other octets behind it."""
    stage = sealing_stage
    wan = open_stage(stage)
    told_of(stage, wan, TOLD, lambda number: first(index=number + 1), OTHER_PLACE)
    good = token.token(TOKEN_KEY, address(stage, PEER), stage.now)
    forged = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))]
    early = token.token(TOKEN_KEY, address(stage, PEER), stage.now + 0.1)
    other = token.token(bytes(32), address(stage, PEER), stage.now)
    bad = [*forged, early, other, good[:-1], good[:8], b"\0", good + b"\0", b""]
    short = bytearray(first()[: -seal.MAC_LENGTH])
    short[3] = 255  # a token that would be longer than the datagram
    datagrams = [*map(first, bad), bytes(short) + seal.mac1(OUR_KEY, bytes(short))]
    assert told_of(stage, wan, len(datagrams), lambda number: datagrams[number]) == 0
    assert told_of(stage, wan, 1, lambda _: first(good), OTHER_PEER) == 0
    assert told_of(stage, wan, 1, lambda _: first(good)) == 1
    wan.sent()
    stage.now += token.LIFE
    told_of(stage, wan, TOLD, lambda number: first(index=number + 1), OTHER_PLACE)
    assert told_of(stage, wan, 1, lambda _: first(good)) == 1
    stage.now += 0.01
    told_of(stage, wan, TOLD, lambda number: first(index=number + 1), OTHER_PLACE)
    assert told_of(stage, wan, 1, lambda _: first(good)) == 0


@pytest.mark.parametrize("way", ["token", "index"])
def test_an_address_that_is_the_senders_has_an_allowance(sealing_stage: Stage, way: str) -> None:
    """Whoever floods from his own address, with its token or an index that we have told him, hinders nobody else."""
    stage = sealing_stage
    wan = open_stage(stage)
    stage.datapath.expect({99: OUR_KEY})

    def flood(host: str) -> Callable[[int], bytes]:
        shown = token.token(TOKEN_KEY, address(stage, host), stage.now)
        return lambda _: first(shown) if way == "token" else first(receiver=99)

    assert told_of(stage, wan, TOLD + 50, flood(PEER)) == gate.PROVEN_AT_ONCE
    assert told_of(stage, wan, 5, flood(OTHER_PEER), OTHER_PEER) == 5
    assert stage.counters().ingress_dropped == {"handshake_flood": 50} and wan.sent() == []
    stage.now += 0.5
    assert told_of(stage, wan, TOLD, flood(PEER)) == gate.PROVEN / 2


def test_an_index_that_nobody_has_costs_a_look_up(sealing_stage: Stage) -> None:
    """Whatever its mac1: an initiator names an index that we gave it, or none."""
    stage = sealing_stage
    wan = open_stage(stage)
    stage.datapath.expect({99: OUR_KEY})
    stage.receive(wan, first(receiver=98), first(receiver=99))
    assert told(stage) == 1
    assert stage.counters().ingress_dropped == {"handshake_unexpected": 1}

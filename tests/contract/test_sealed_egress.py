"""What every data path sends on sealed connections."""

from __future__ import annotations

from dataclasses import replace
from errno import EHOSTUNREACH
from typing import Any, Literal

import pytest

from mpt.data.framing import Plain
from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    PEER,
    REMOTE,
    REMOTE_V6,
    Stage,
    closing,
    connection_row,
    numbered,
    packet,
    path_row,
)
from mpt.testing.session import PeerSession
from mpt.wire import gre
from mpt.wire.seal import Cipher, SessionKeys
from tests.contract.sealed import KEEPALIVE, OTHER_PLACE, begin, one_path, opened, place, sealed_row
from tests.wire.test_seal import CONTENT, IV, KEY, SEALED

# --- the envelope ---


@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("order", ["none", "connection"])
def test_a_packet_is_sealed(sealing_stage: Stage, cipher: Cipher, order: Literal["none", "connection"]) -> None:
    """GRE as on a plain connection, in an envelope that only the peer opens, each with the next number of the path."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    row = sealed_row(path_row("p", wan, id=5), order=order, networks=[("fd0a::/16", "fd0b::/16")])
    stage.set_table(row)
    session = begin(stage, session=PeerSession(cipher))
    packets = [*numbered(2), packet("fd0a::1", "fd0b::1", b"six")]
    stage.send(*packets)
    sent = wan.sent()
    assert [address for _, address in sent] == [place(PEER)] * 3
    assert [session.open(datagram) for datagram, _ in sent] == [
        (5, number, gre.encode(each[0] >> 4, number if order != "none" else None) + each)
        for number, each in enumerate(packets)
    ]
    counters = stage.counters().paths["p"]
    assert (counters.packets_sent, counters.bytes_sent) == (3, sum(map(len, packets)))


@pytest.mark.parametrize("cipher", SEALED)
def test_the_vectors_of_the_envelope(sealing_stage: Stage, cipher: Cipher) -> None:
    """Session 8: number 5 of path 1, stamp 1234; a message may have any octets."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.now = 0x1234 / 16_000 + 0.00001
    stage.set_table(sealed_row(path_row("p", wan, id=1)))
    secrets = (bytearray(each) for each in (KEY, IV, KEY, IV))
    stage.datapath.add_session("c", SessionKeys(1, 0xA1B2C3D4, cipher, *secrets), stage.now)
    stage.datapath.send_with("c", 1, stage.now)
    for _ in range(5):
        assert stage.datapath.send("p", KEEPALIVE, stage.now)
    assert stage.datapath.send("p", CONTENT, stage.now)
    assert wan.sent()[-1] == (bytes.fromhex(SEALED[cipher]), place(PEER))


def test_without_a_session_nothing_leaves(sealing_stage: Stage) -> None:
    """Packets are counted, messages do not go; a session that is only received with is none."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan)))
    session = PeerSession()
    stage.datapath.add_session("c", session.keys(), stage.now)
    stage.send(*numbered(2))
    assert not stage.datapath.send("p", KEEPALIVE, stage.now)
    stage.datapath.send_with("c", session.index, stage.now)
    stage.datapath.send_with("c", None, stage.now)
    stage.send(*numbered(1))
    assert not stage.datapath.send("p", KEEPALIVE, stage.now)
    assert wan.sent() == []
    assert stage.counters().egress_dropped == {"no_session": 3}


@pytest.mark.parametrize("marked", [False, True])
def test_the_outer_octet_is_as_on_a_plain_connection(sealing_marking_stage: Stage, marked: bool) -> None:
    """The packet's DSCP and ECN field where the row says so, on messages the row's code point."""
    stage = sealing_marking_stage
    wan, _ = one_path(stage, dscp=46, ecn=marked)
    stage.send(packet(tos=0b01), packet(tos=0b10))
    assert stage.datapath.send("p", KEEPALIVE, stage.now)
    wan.sent()
    assert wan.tos_octets == [46 << 2 | (0b01 if marked else 0), 46 << 2 | (0b10 if marked else 0), 46 << 2]


# --- sessions ---


def test_a_new_session_seals_from_its_first_number(sealing_stage: Stage) -> None:
    """And the sequence numbers of the connection go on: a rekey puts nothing out of order."""
    stage = sealing_stage
    wan, first = one_path(stage, order="connection")
    stage.send(*numbered(2))
    before = opened(first, wan)
    second = begin(stage)
    stage.send(*numbered(2))
    after = opened(second, wan)
    assert [(each.number, each.content[:8]) for each in before + after] == [
        (0, gre.encode(4, 0)),
        (1, gre.encode(4, 1)),
        (0, gre.encode(4, 2)),
        (1, gre.encode(4, 3)),
    ]


def test_a_session_that_seals_again_goes_on_with_its_numbers(sealing_stage: Stage) -> None:
    """However often control changes its mind."""
    stage = sealing_stage
    wan, first = one_path(stage)
    stage.send(*numbered(2))
    opened(first, wan)
    second = begin(stage)
    stage.send(*numbered(1))
    opened(second, wan)
    stage.datapath.send_with("c", first.index, stage.now)
    stage.send(*numbered(1))
    assert [each.number for each in opened(first, wan)] == [2]


def test_each_path_counts_by_its_id(sealing_stage: Stage) -> None:
    """Numbers belong to session and path id, whatever key the path has and in whichever table it comes back."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan, id=0), path_row("b", wan, id=63)))
    session = begin(stage)
    stage.send(*numbered(4))
    assert [each[:2] for each in opened(session, wan)] == [(0, 0), (0, 1), (63, 0), (63, 1)]
    stage.set_table(sealed_row(path_row("a", wan, id=63)))
    stage.send(*numbered(1))
    assert stage.datapath.send("a", KEEPALIVE, stage.now)
    stage.set_table(sealed_row(path_row("c", wan, id=0)))
    stage.send(*numbered(1))
    assert [each[:2] for each in opened(session, wan)] == [(0, 2), (63, 2), (63, 3)]


def test_the_largest_number_is_told(sealing_stage: Stage) -> None:
    """Of the session that seals now, over its paths; 0 if there is none."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    assert stage.datapath.sent_numbers("c") == 0
    stage.set_table(sealed_row(path_row("a", wan, id=0), path_row("b", wan, id=1)))
    assert stage.datapath.sent_numbers("c") == 0
    first = begin(stage)
    assert stage.datapath.sent_numbers("c") == 0
    stage.send(*numbered(4))
    for _ in range(3):
        stage.datapath.send("b", KEEPALIVE, stage.now)
    assert stage.datapath.sent_numbers("c") == 4
    begin(stage)
    assert stage.datapath.sent_numbers("c") == 0
    stage.datapath.send_with("c", first.index, stage.now)
    assert stage.datapath.sent_numbers("c") == 4
    stage.datapath.send_with("c", None, stage.now)
    assert stage.datapath.sent_numbers("c") == 0


def test_the_keys_are_taken(sealing_stage: Stage) -> None:
    """Whoever brought them has them no more, so they cannot begin a session twice."""
    stage = sealing_stage
    one_path(stage)
    keys = PeerSession().keys()
    secrets = keys.send_key, keys.send_iv, keys.receive_key, keys.receive_iv
    stage.datapath.add_session("c", keys, stage.now)
    assert keys.is_wiped and not any(map(any, secrets))
    stage.datapath.end_session("c", keys.index)
    with pytest.raises(ValueError, match="taken"):
        stage.datapath.add_session("c", keys, stage.now)


def test_a_session_that_cannot_begin(sealing_stage: Stage) -> None:
    """An index in use, also by another connection; a connection that is not in the table, or not sealed."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(
        sealed_row(path_row("a", wan), key="a"),
        sealed_row(path_row("b", wan), key="b", local="10.0.1.2", remote="10.0.1.3"),
        connection_row(path_row("p", wan), key="plain", local=LOCAL_V6, remote=REMOTE_V6),
    )
    session = begin(stage, "a")
    for connection in ("a", "b"):
        keys = PeerSession(index=session.index).keys()
        with pytest.raises(ValueError, match="in use"):
            stage.datapath.add_session(connection, keys, stage.now)
        assert not keys.is_wiped
    for connection in ("plain", "c"):
        with pytest.raises(KeyError):
            stage.datapath.add_session(connection, PeerSession().keys(), stage.now)
    with pytest.raises(KeyError):
        stage.datapath.send_with("b", session.index, stage.now)
    with pytest.raises(KeyError):
        stage.datapath.send_with("a", 1, stage.now)
    stage.send(*numbered(1))
    assert len(opened(session, wan)) == 1


def test_a_session_that_has_ended_seals_no_more(sealing_stage: Stage) -> None:
    """Of another connection, or unknown, nothing ends."""
    stage = sealing_stage
    wan, session = one_path(stage)
    stage.datapath.end_session("other", session.index)
    stage.datapath.end_session("c", 1)
    stage.send(*numbered(1))
    assert len(opened(session, wan)) == 1
    stage.datapath.end_session("c", session.index)
    stage.send(*numbered(1))
    assert wan.sent() == []
    assert stage.counters().egress_dropped == {"no_session": 1}


@pytest.mark.parametrize("how", ["leaves", "is plain"])
def test_a_connection_that_goes_ends_its_sessions(sealing_stage: Stage, how: str) -> None:
    """If it comes back it begins without one, and others keep theirs."""
    stage = sealing_stage
    wan = stage.new_socket()
    row = sealed_row(path_row("p", wan))
    other = sealed_row(path_row("q", wan, OTHER_PEER), key="d", local=LOCAL_V6, remote=REMOTE_V6)
    stage.set_table(row, other)
    begin(stage)
    kept = begin(stage, "d")
    plain = replace(row, framing=Plain())
    stage.set_table(*[other] if how == "leaves" else [plain, other])
    stage.send(*numbered(1))
    stage.set_table(row, other)
    stage.send(*numbered(1))
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(4) + numbered(1)[0]] * (how == "is plain")
    assert stage.counters().egress_dropped == {"no_session": 1} | ({"no_connection": 1} if how == "leaves" else {})
    stage.send(*numbered(1, 0, LOCAL_V6, REMOTE_V6))
    assert len(opened(kept, wan)) == 1


# --- addresses ---


def test_a_path_without_an_address_is_not_used(sealing_stage: Stage) -> None:
    """The others carry its packets; if there are none, packets have no path. Its messages do not go."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    unknown = path_row("a", wan, remote=())
    stage.set_table(sealed_row(unknown, path_row("b", wan, id=1)))
    session = begin(stage)
    stage.send(*numbered(2))
    assert not stage.datapath.send("a", KEEPALIVE, stage.now)
    assert [each.path_id for each in opened(session, wan)] == [1, 1]
    stage.set_table(sealed_row(unknown))
    stage.send(*numbered(1))
    assert stage.counters().egress_dropped == {"no_path": 1}


def test_a_path_gets_an_address(sealing_stage: Stage) -> None:
    """From then on it is used, with the weight that control gave it last."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", None, remote=()), path_row("b", wan, id=1)))
    session = begin(stage)
    stage.datapath.set_shares({"a": 3}, stage.now)
    stage.send(*numbered(2))
    stage.datapath.set_remote("a", wan, place(OTHER_PLACE), stage.now)
    stage.send(*numbered(4))
    assert stage.datapath.send("a", KEEPALIVE, stage.now)
    sent = wan.sent()
    assert [session.open(each)[:2] for each, to in sent if to == place(PEER)] == [(1, 0), (1, 1), (1, 2)]
    assert [session.open(each)[:2] for each, to in sent if to == place(OTHER_PLACE)] == [(0, n) for n in range(4)]


def test_a_path_that_is_not_used_is_not_used_because_of_its_address(sealing_stage: Stage) -> None:
    """The address decides nothing else."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan, remote=(), usable=False), path_row("b", wan, id=1)))
    session = begin(stage)
    stage.datapath.set_remote("a", wan, place(OTHER_PLACE), stage.now)
    stage.send(*numbered(2))
    assert [each.path_id for each in opened(session, wan)] == [1, 1]


def test_an_address_changes(sealing_stage: Stage) -> None:
    """At once, over another socket if need be; the next table has its own. Numbers go on."""
    stage, wans = sealing_stage, (sealing_stage.new_socket(), sealing_stage.new_socket())
    row = sealed_row(path_row("p", wans[0]))
    stage.set_table(row)
    session = begin(stage)
    stage.send(*numbered(1))
    stage.datapath.set_remote("p", wans[1], place(OTHER_PLACE), stage.now)
    stage.send(*numbered(1))
    assert stage.datapath.send("p", KEEPALIVE, stage.now)
    stage.set_table(row)
    stage.send(*numbered(1))
    sent = [wan.sent() for wan in wans]
    assert [[address for _, address in each] for each in sent] == [[place(PEER)] * 2, [place(OTHER_PLACE)] * 2]
    assert [[session.open(datagram).number for datagram, _ in each] for each in sent] == [[0, 3], [1, 2]]


def test_the_address_of_a_plain_path_does_not_change(sealing_stage: Stage) -> None:
    """Nor of a path that is in no table."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)))
    for path in ("p", "q"):
        stage.datapath.set_remote(path, wan, place(OTHER_PLACE), stage.now)
    stage.send(*numbered(1))
    assert [address for _, address in wan.sent()] == [place(PEER)]


def test_a_packet_to_the_peers_new_address_would_be_a_loop() -> None:
    """As one to its old address was, before it moved."""
    with closing(Stage.in_memory()) as stage:
        wan = stage.new_socket()
        stage.set_table(sealed_row(path_row("p", wan), networks=[("10.0.0.0/8", "10.0.0.0/8")]))
        session = begin(stage)
        here, there = packet(LOCAL, PEER), packet(LOCAL, OTHER_PLACE)
        stage.send(here, there)
        stage.datapath.set_remote("p", wan, place(OTHER_PLACE), stage.now)
        stage.send(here, there)
        assert [each.content[4:] for each in opened(session, wan)] == [there, here]
        assert stage.counters().egress_dropped == {"loop": 2}


def test_a_message_elsewhere(sealing_stage: Stage) -> None:
    """Over the named socket to the named address, also while the path has none; it counts as one of the path."""
    stage, wans = sealing_stage, (sealing_stage.new_socket(), sealing_stage.new_socket())
    stage.set_table(sealed_row(path_row("a", wans[0], id=2), path_row("b", wans[0], remote=(), id=3)))
    session = begin(stage)
    for path in ("a", "b"):
        assert stage.datapath.send(path, b"\x43challenge", stage.now, (wans[1], place(OTHER_PLACE)))
    assert not stage.datapath.send("c", b"\x43challenge", stage.now, (wans[1], place(OTHER_PLACE)))
    assert stage.datapath.send("a", KEEPALIVE, stage.now)
    sent = wans[1].sent()
    assert [address for _, address in sent] == [place(OTHER_PLACE)] * 2
    assert [session.open(datagram) for datagram, _ in sent] == [(2, 0, b"\x43challenge"), (3, 0, b"\x43challenge")]
    assert opened(session, wans[0]) == [(2, 1, KEEPALIVE)]


def test_a_handshake_datagram_is_sent_as_it_is(sealing_stage: Stage) -> None:
    """Before there is any session."""
    stage = sealing_stage
    wan, _ = one_path(stage)
    assert stage.datapath.send_raw(wan, place(OTHER_PLACE), b"\x41handshake")
    assert wan.sent() == [(b"\x41handshake", place(OTHER_PLACE))]


# --- trouble ---


def test_a_refused_datagram_has_used_up_its_number() -> None:
    """Another path gets another envelope; the sequence number stays the packet's."""
    with closing(Stage.in_memory()) as stage:
        wans = stage.new_socket(), stage.new_socket()
        stage.set_table(
            sealed_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER, id=1), order="connection", window=8)
        )
        session = begin(stage)
        wans[0].fail(EHOSTUNREACH, EHOSTUNREACH)
        assert not stage.datapath.send("a", KEEPALIVE, stage.now)
        stage.send(*numbered(2))
        assert stage.datapath.send("a", KEEPALIVE, stage.now)
        assert opened(session, wans[0]) == [(0, 2, KEEPALIVE)]
        assert [each[:2] for each in opened(session, wans[1])] == [(1, 0), (1, 1)]
        assert not stage.datapath.send_raw(_failing(stage), place(PEER), b"\x41")


def _failing(stage: Stage) -> Any:
    wan = stage.new_socket()
    wan.fail(EHOSTUNREACH)
    return wan


def test_an_id_that_two_paths_have(sealing_stage: Stage) -> None:
    """Two paths of one id, which control never makes, share its numbers."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), path_row("b", wan)))
    session = begin(stage)
    stage.send(*numbered(4))
    assert [each[:2] for each in opened(session, wan)] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_a_packet_of_no_connection(sealing_stage: Stage) -> None:
    """It is counted as on plain connections."""
    stage = sealing_stage
    one_path(stage)
    stage.send(packet("10.0.0.9", REMOTE))
    assert stage.counters().egress_dropped == {"no_connection": 1}

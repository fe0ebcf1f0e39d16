"""What every data path takes on sealed connections, and what it tells control."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mpt.data.events import Confirmed, Copied, Handshake, Message, Moved
from mpt.data.framing import Plain
from mpt.data.opening import TOLD, TOLD_AT_ONCE
from mpt.data.replay import RECENT, WINDOW
from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    PEER,
    PORT,
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
from mpt.wire import gre, seal
from mpt.wire.command import encode_keepalive
from mpt.wire.message import Challenge, Keepalive
from mpt.wire.seal import Cipher, HandshakeDatagram, Retry, SessionKeys
from mpt.wire.tos import CE, ECT_0
from tests.contract.sealed import (
    KEEPALIVE,
    OTHER_PLACE,
    begin,
    content,
    kinds,
    news,
    one_path,
    place,
    reply,
    sealed_row,
)
from tests.wire.test_seal import IV, KEY, SEALED

CHALLENGE = Challenge(bytes(8)).encode()


OUR_KEY, PEER_KEY = seal.mac1_key(b"ours".ljust(32)), seal.mac1_key(b"peer".ljust(32))
TOKEN_KEY = b"token".ljust(32)


def initiation(key: bytes = OUR_KEY, receiver: int = 0) -> bytes:
    return HandshakeDatagram(False, 1, receiver, 0, 0, data=b"client hello").encode(key)


def answer(index: int, key: bytes = PEER_KEY) -> bytes:
    return HandshakeDatagram(True, 9, index, 0, 0, data=b"server hello").encode(key)


def dropped(stage: Stage) -> dict[str, int]:
    return stage.counters().ingress_dropped


# --- the envelope ---


@pytest.mark.parametrize("cipher", Cipher)
def test_a_datagram_is_opened(sealing_stage: Stage, cipher: Cipher) -> None:
    """Its packet is delivered and counts for its path; the first one of a session is told."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan, id=7)))
    session = begin(stage, session=PeerSession(cipher))
    delivered = stage.receive(wan, *(session.seal(content(number), 7, stamp=number) for number in range(3)))
    assert delivered == [reply(number) for number in range(3)]
    assert news(stage) == [Confirmed("c", session.index, stage.now)]
    counters = stage.counters().paths["p"]
    assert (counters.packets_received, counters.bytes_received, counters.last_received) == (
        3,
        3 * len(reply(0)),
        stage.now,
    )


@pytest.mark.parametrize("cipher", SEALED)
def test_the_vectors_of_the_envelope(sealing_stage: Stage, cipher: Cipher) -> None:
    """Session 8: a key and a sequence number in the GRE header, a packet of 28 octets behind it."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan, id=1), local=REMOTE, remote=LOCAL))
    secrets = (bytearray(each) for each in (KEY, IV, KEY, IV))
    stage.datapath.add_session("c", SessionKeys(0xA1B2C3D4, 1, cipher, *secrets), stage.now)
    delivered = stage.receive(wan, bytes.fromhex(SEALED[cipher]))
    assert [each.hex() for each in delivered] == ["4500001c00010000400166dd0a0000020a0000030800f7ff00000000"]


def test_sequence_numbers_put_packets_in_order(sealing_stage: Stage) -> None:
    """As on a plain connection, over all paths of a connection and over a rekey."""
    stage, wans = sealing_stage, (sealing_stage.new_socket(), sealing_stage.new_socket())
    row = sealed_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER, id=1), order="connection", window=8)
    stage.set_table(row)
    first, second = begin(stage), begin(stage)
    assert stage.receive(wans[0], first.seal(content(0, 0))) == [reply(0)]
    assert stage.receive(wans[1], second.seal(content(2, 2), 1), host=OTHER_PEER) == []
    assert stage.receive(wans[0], first.seal(content(1, 1))) == [reply(1), reply(2)]


def test_plain_and_sealed_connections_share_a_socket(sealing_stage: Stage) -> None:
    """The first octet tells their datagrams apart, and nothing comes to a sealed connection that is not sealed."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(
        sealed_row(path_row("s", wan)),
        connection_row(path_row("p", wan, OTHER_PEER), key="plain", local="10.0.1.2", remote="10.0.1.3"),
    )
    session = begin(stage)
    plain = numbered(1, 0, "10.0.1.3", "10.0.1.2")
    assert stage.receive(wan, gre.encode(4) + plain[0], host=OTHER_PEER) == plain
    assert stage.receive(wan, session.seal(content(0)), host=OTHER_PEER) == [reply(0)]
    assert stage.receive(wan, content(1)) == []
    assert stage.receive(wan, content(1), host=OTHER_PEER) == []
    assert dropped(stage) == {"unknown_source": 1, "inner_source": 1}
    stage.send(plain[0], *numbered(1, 0, "10.0.1.2", "10.0.1.3"))
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(4) + numbered(1, 0, "10.0.1.2", "10.0.1.3")[0]]


def test_bit_6_is_a_fault_where_nothing_is_sealed(sealing_stage: Stage) -> None:
    """A socket of plain paths alone is read as ever."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan)), sealed_row(path_row("s", stage.new_socket()), key="s"))
    assert stage.receive(wan, b"\x40" + bytes(40)) == []
    assert stage.receive(wan, b"\x40" + bytes(40), host=OTHER_PLACE) == []
    assert dropped(stage) == {"gre_reserved_bits": 1, "unknown_source": 1}


def test_only_the_sources_of_the_connection_get_in(sealing_stage: Stage) -> None:
    """Session 7: another client's addresses, or anybody's, do not."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(
        sealed_row(path_row("a", wan), key="a", networks=[("0.0.0.0/0", "10.5.0.0/16")]),
        sealed_row(path_row("b", wan), key="b", local="10.0.1.2", remote="10.0.1.3"),
    )
    one, other = begin(stage, "a"), begin(stage, "b")
    from_b = numbered(1, 0, "10.0.1.3", "10.0.1.2")[0]
    from_network = packet("10.5.1.1", "8.8.8.8")
    assert stage.receive(wan, one.seal(gre.encode(4) + from_b)) == []
    assert stage.receive(wan, one.seal(gre.encode(4) + packet("10.6.1.1", LOCAL))) == []
    assert stage.receive(wan, other.seal(gre.encode(4) + from_network)) == []
    assert dropped(stage) == {"inner_source": 3}
    assert stage.receive(wan, one.seal(gre.encode(4) + from_network)) == [from_network]
    assert stage.receive(wan, other.seal(gre.encode(4) + from_b)) == [from_b]


def test_a_packet_to_the_peers_outer_address_is_a_loop() -> None:
    """RFC 2784 section 2.4.1: it would come back; the address is where the peer is now."""
    with closing(Stage.in_memory()) as stage:
        wan = stage.new_socket()
        stage.set_table(sealed_row(path_row("p", wan), networks=[("10.0.0.0/8", "10.0.0.0/8")]))
        session = begin(stage)
        here, there = packet(REMOTE, PEER), packet(REMOTE, OTHER_PLACE)
        first = stage.receive(wan, *(session.seal(gre.encode(4) + each) for each in (here, there)))
        stage.datapath.set_remote("p", wan, place(OTHER_PLACE), stage.now)
        after = stage.receive(wan, *(session.seal(gre.encode(4) + each) for each in (here, there)))
        assert (first, after) == ([there], [here])
        assert dropped(stage) == {"loop": 2}


def test_the_networks_mark_reaches_the_packet(sealing_marking_stage: Stage) -> None:
    """RFC 6040 over a sealed connection."""
    stage = sealing_marking_stage
    wan, session = one_path(stage)
    wan.deliver(session.seal(gre.encode(4) + packet(REMOTE, LOCAL, tos=ECT_0)), tos=CE)
    stage.datapath.socket_readable(wan, stage.now)
    assert stage.tun.delivered() == [packet(REMOTE, LOCAL, tos=CE)]


def test_datagrams_that_the_kernel_joins(sealing_udp_stage: Stage) -> None:
    """Each is opened by itself; a forged one among them costs itself alone."""
    stage = sealing_udp_stage
    wan, session = one_path(stage, order="connection", window=64)
    datagrams = [session.seal(content(number, number)) for number in range(40)]
    datagrams[7] = datagrams[7][:-1] + bytes((datagrams[7][-1] ^ 1,))
    datagrams[9] = datagrams[8]
    wan.deliver_run(*datagrams)
    stage.datapath.socket_readable(wan, stage.now)
    delivered = stage.tun.delivered() + stage.wait(1.0)
    assert delivered == [reply(number) for number in range(40) if number not in (7, 9)]
    assert dropped(stage) == {"seal_tag": 1, "seal_replay": 1}


# --- what does not open ---


def test_every_failure_has_its_reason(sealing_stage: Stage) -> None:
    """None is answered, none is told to control, and none counts as a sign of the peer."""
    stage = sealing_stage
    wan, session = one_path(stage)
    sealed = session.seal(content(0))
    wrong = {
        "seal_unknown_kind": [bytes((first,)) + sealed[1:] for first in (0x43, 0x7F, 0xC0, 0xFF)],
        "seal_truncated": [sealed[: seal.OVERHEAD - 1], b"\x40", b"\x41", b"\x42\x01"],
        "seal_session": [PeerSession().seal(content(0)), sealed[:2] + bytes(4) + sealed[6:]],
        "seal_path": [session.seal(content(0), 1), session.seal(content(0), 63), b"\x40\xff" + sealed[2:]],
        "seal_tag": [sealed[:-1], sealed[:-1] + bytes((sealed[-1] ^ 1,)), sealed + b"\0", sealed[: seal.OVERHEAD]],
        "gre_truncated": [session.seal(b""), session.seal(b"\0\0\x08")],
        "gre_version": [session.seal(b"\0\x01\x08\0" + reply(0))],
        "inner_truncated": [session.seal(gre.encode(4)), session.seal(gre.encode(4) + reply(0)[:19])],
        "inner_version": [session.seal(gre.encode(6) + reply(0))],
        "keepalive_unknown": [session.seal(encode_keepalive(4, ip_address(REMOTE), ip_address(LOCAL)))],
    }
    for reason, datagrams in wrong.items():
        assert stage.receive(wan, *datagrams) == [], reason
        news(stage)
    assert dropped(stage) == {reason: len(datagrams) for reason, datagrams in wrong.items()}
    assert stage.counters().paths["p"].packets_received == 0
    assert wan.sent() == []
    assert stage.receive(wan, sealed) == [reply(0)]  # what was made of it has not taken its number


def test_a_number_comes_once(sealing_stage: Stage) -> None:
    """In the window behind the newest, in any order; on another path it is another number."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), path_row("b", wan, id=1)))
    session = begin(stage)
    newest = WINDOW + 100
    numbers = (0, 5, 3, newest, 4, 101, 100, newest - 1)
    datagrams = {number: session.seal(content(number), number=number) for number in numbers}
    assert stage.receive(wan, *datagrams.values()) == [reply(n) for n in (0, 5, 3, newest, 101, newest - 1)]
    assert dropped(stage) == {"seal_replay": 2}  # 4 and 100 are too old
    assert stage.receive(wan, *datagrams.values()) == []
    assert dropped(stage) == {"seal_replay": 2 + len(numbers)}
    assert stage.receive(wan, session.seal(content(9), 1, 4)) == [reply(9)]


def test_a_number_comes_once_whatever_the_table(sealing_stage: Stage) -> None:
    """The window belongs to session and path id: a path that goes and comes, or has another key, opens none again."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), path_row("b", wan, id=1)))
    session = begin(stage)
    datagrams = [session.seal(content(number)) for number in range(3)]
    assert len(stage.receive(wan, *datagrams)) == 3
    for paths in ([path_row("b", wan, id=1)], [path_row("b", wan)], [path_row("a", wan)]):
        stage.set_table(sealed_row(*paths))
        assert stage.receive(wan, *datagrams) == []
    assert dropped(stage) == {"seal_path": 3, "seal_replay": 6}


def test_a_forger_moves_no_window(sealing_stage: Stage) -> None:
    """A number far ahead whose datagram does not open changes nothing, nor tells anybody anything."""
    stage = sealing_stage
    wan, session = one_path(stage)
    sealed = session.seal(content(0))
    forged = sealed[:6] + b"\xff" * 6 + sealed[12:]
    assert stage.receive(wan, forged, host=OTHER_PLACE) == []
    assert news(stage) == []
    assert stage.receive(wan, sealed) == [reply(0)]
    assert dropped(stage) == {"seal_tag": 1}


# --- sessions ---


def test_a_session_that_has_ended_opens_nothing(sealing_stage: Stage) -> None:
    """The other one of the connection goes on."""
    stage = sealing_stage
    wan, first = one_path(stage)
    second = begin(stage)
    assert len(stage.receive(wan, first.seal(content(0)), second.seal(content(1)))) == 2
    stage.datapath.end_session("c", first.index)
    assert stage.receive(wan, first.seal(content(2)), second.seal(content(3))) == [reply(3)]
    assert dropped(stage) == {"seal_session": 1}


def test_each_session_is_confirmed_once(sealing_stage: Stage) -> None:
    """By its first datagram, before the message in it is told; whether it is used to send or not."""
    stage = sealing_stage
    wan, first = one_path(stage)
    second = PeerSession()
    stage.datapath.add_session("c", second.keys(), stage.now)
    stage.receive(wan, second.seal(KEEPALIVE), second.seal(KEEPALIVE), first.seal(content(0)), first.seal(content(1)))
    assert [each for each in news(stage) if isinstance(each, Confirmed)] == [
        Confirmed("c", second.index, stage.now),
        Confirmed("c", first.index, stage.now),
    ]


@pytest.mark.parametrize("how", ["leaves", "is plain"])
def test_a_connection_that_goes_ends_its_sessions(sealing_stage: Stage, how: str) -> None:
    """Its datagrams open no more, also if it comes back."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    row = sealed_row(path_row("p", wan))
    other = sealed_row(path_row("q", wan, id=3), key="d", local=LOCAL_V6, remote=REMOTE_V6)
    stage.set_table(row, other)
    session = begin(stage)
    gone = connection_row(path_row("p", wan), framing=Plain())
    stage.set_table(*[other] if how == "leaves" else [gone, other])
    assert stage.receive(wan, session.seal(content(0))) == []
    stage.set_table(row, other)
    assert stage.receive(wan, session.seal(content(1))) == []
    assert dropped(stage) == {"seal_session": 2}


# --- messages ---


def test_a_message_is_told(sealing_stage: Stage) -> None:
    """With its path, session, size, and the place that it came from; a keepalive counts as one, the others apart."""
    stage = sealing_stage
    wan, session = one_path(stage)
    stage.receive(wan, session.seal(KEEPALIVE), session.seal(CHALLENGE))
    message = Message("p", KEEPALIVE, stage.now, place(PEER), wan, session.index, 62)
    expected = [message, message._replace(octets=CHALLENGE, size=len(CHALLENGE) + seal.OVERHEAD)]
    assert news(stage) == [Confirmed("c", session.index, stage.now), *expected]
    counters = stage.counters()
    assert (counters.keepalives_received, counters.messages_received) == (1, 1)
    assert counters.paths["p"].packets_received == 0


def test_an_unknown_message_is_counted(sealing_stage: Stage) -> None:
    """And ignored: a later version may send it."""
    stage = sealing_stage
    wan, session = one_path(stage)
    unknown = [first for first in range(256) if first & 0x40 and first not in range(0x41, 0x50)]
    stage.receive(wan, *(session.seal(bytes((first,)) + bytes(40)) for first in unknown), session.seal(b"\x40"))
    assert kinds(news(stage)) == [Confirmed]
    assert dropped(stage) == {"message_unknown": len(unknown) + 1}


def test_all_messages_are_told_up_to_a_bound(sealing_stage: Stage) -> None:
    """64 a wake-up and path; the next wake-up tells as many."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), path_row("b", wan, id=1)))
    session = begin(stage)
    told = 0
    for _ in range(200):
        wan.deliver(session.seal(KEEPALIVE))
    wan.deliver(session.seal(KEEPALIVE, 1))
    for _ in range(20):
        stage.datapath.socket_readable(wan, stage.now)
        events = [each for each in news(stage) if isinstance(each, Message)]
        assert sum(each.path == "a" for each in events) <= 64
        told += len(events)
    flood = dropped(stage).get("message_flood", 0)
    assert told + flood == 201
    assert stage.counters().keepalives_received == told


def test_a_peer_with_many_paths_tells_no_more(sealing_stage: Stage) -> None:
    """All paths of a connection together have an allowance, for messages and for moves; it comes back with time, and
    another connection has one of its own."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    rows = [
        sealed_row(*(path_row((key, n), wan, id=n) for n in range(20)), key=key, remote=remote)
        for key, remote in (("c", REMOTE), ("d", "10.0.0.9"))
    ]
    stage.set_table(*rows)
    sessions = [begin(stage, key) for key in "cd"]

    def told(session: PeerSession, kind: type, host: str) -> int:
        found = 0
        for number in range(400):
            wan.deliver(session.seal(KEEPALIVE, number % 20), host)
            stage.datapath.socket_readable(wan, stage.now)
            found += sum(isinstance(each, kind) for each in news(stage))
        return found

    assert told(sessions[0], Message, PEER) == TOLD_AT_ONCE
    assert told(sessions[1], Message, PEER) == TOLD_AT_ONCE
    assert told(sessions[0], Moved, OTHER_PLACE) == TOLD_AT_ONCE
    assert dropped(stage) == {"message_flood": 2 * 150 + 400}
    stage.now += 0.2
    assert told(sessions[0], Message, PEER) == TOLD / 5


def test_what_the_kernel_joins_is_bounded_too(sealing_udp_stage: Stage) -> None:
    """One system call brings more than a wake-up may tell; the others of a flood are counted."""
    stage = sealing_udp_stage
    wan, session = one_path(stage)
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    for make in (lambda: session.seal(KEEPALIVE), initiation):
        for _ in range(2):
            wan.deliver_run(*(make() for _ in range(60)))
        stage.datapath.socket_readable(wan, stage.now)
        assert len([each for each in news(stage) if isinstance(each, Message | Handshake)]) == 64
    assert dropped(stage) == {"message_flood": 56, "handshake_flood": 56}


# --- places ---


def test_another_port_is_another_place(sealing_stage: Stage) -> None:
    """A translator of addresses often changes nothing else."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan, remote=(PEER, PORT + 1))))
    session = begin(stage)
    stage.receive(wan, session.seal(content(0)))
    assert [each.source for each in news(stage) if isinstance(each, Moved)] == [place(PEER)]


@pytest.mark.parametrize("how", ["address", "socket", "first"])
def test_a_path_that_has_moved_is_told(sealing_stage: Stage, how: str) -> None:
    """Its newest datagram came from elsewhere, to another socket, or first of all; it is delivered nevertheless.
    Nothing else changes before control says so."""
    stage, wans = sealing_stage, (sealing_stage.new_socket(), sealing_stage.new_socket())
    here = path_row("p", wans[0], remote=() if how == "first" else place(PEER))
    stage.set_table(sealed_row(here, path_row("q", wans[1], OTHER_PEER, id=1)))
    session = begin(stage)
    host, wan = (OTHER_PLACE, wans[0]) if how == "address" else (PEER, wans[1] if how == "socket" else wans[0])
    for number in range(2):
        datagram = session.seal(content(number))
        assert stage.receive(wan, datagram, host=host) == [reply(number)]
        moved = [each for each in news(stage) if isinstance(each, Moved)]
        assert moved == [Moved("p", wan, place(host), len(datagram), stage.now)]
    stage.datapath.set_shares({"q": 0}, stage.now)
    stage.send(*numbered(1))
    assert [address for _, address in wans[0].sent()] == ([] if how == "first" else [place(PEER)])
    stage.datapath.set_remote("p", wan, place(host), stage.now)
    stage.receive(wan, session.seal(content(2)), host=host)
    assert news(stage) == []
    stage.send(*numbered(1))
    assert [address for _, address in wan.sent()] == [place(host)]
    assert stage.receive(wans[0], session.seal(content(3))) == [reply(3)]
    assert kinds(news(stage)) == ([] if how == "first" else [Moved])


def test_a_socket_that_no_path_has_now(sealing_stage: Stage) -> None:
    """The peer of a path that has moved to another socket may come back, or begin anew, where the path was before."""
    stage, wans = sealing_stage, (sealing_stage.new_socket(), sealing_stage.new_socket())
    stage.set_table(sealed_row(path_row("p", wans[0])))
    session = begin(stage)
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    stage.set_table(sealed_row(path_row("p", wans[1])))
    stage.receive(wans[1], session.seal(content(0)))
    news(stage)
    assert stage.receive(wans[0], session.seal(content(1)), initiation()) == [reply(1)]
    moved, handshake = news(stage)
    assert isinstance(moved, Moved) and (moved.socket, moved.source) == (wans[0], place(PEER))
    assert isinstance(handshake, Handshake) and handshake.socket is wans[0]
    assert stage.receive(wans[0], content(2)) == []
    assert dropped(stage) == {"unknown_source": 1}


def test_only_the_newest_datagram_moves_a_path(sealing_stage: Stage) -> None:
    """One that was overtaken has been elsewhere before; a replayed one opens nothing: it is told as a copy."""
    stage = sealing_stage
    wan, session = one_path(stage)
    datagrams = [session.seal(content(number)) for number in range(3)]
    stage.receive(wan, datagrams[0], datagrams[2])
    news(stage)
    assert stage.receive(wan, datagrams[1], datagrams[2], host=OTHER_PLACE) == [reply(1)]
    assert news(stage) == [Copied("p", wan, place(OTHER_PLACE), len(datagrams[2]), stage.now)]


def test_only_a_late_copy_from_elsewhere_is_told(sealing_stage: Stage) -> None:
    """Once a wake-up; not the copy of an old datagram, nor one from where the path is."""
    stage = sealing_stage
    wan, session = one_path(stage)
    datagrams = [session.seal(content(number)) for number in range(RECENT + 1)]
    stage.receive(wan, *datagrams)
    news(stage)
    stage.receive(wan, *datagrams)
    stage.receive(wan, datagrams[0], host=OTHER_PLACE)
    assert news(stage) == []
    for datagram in datagrams[1:]:
        wan.deliver(datagram, OTHER_PLACE)
    stage.datapath.socket_readable(wan, stage.now)
    assert kinds(news(stage)) == [Copied]
    assert dropped(stage)["seal_replay"] == 2 * (RECENT + 1)


def test_a_move_is_told_once_a_wake_up(sealing_stage: Stage) -> None:
    """And for each path."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("a", wan), path_row("b", wan, id=1)))
    session = begin(stage)
    for number in range(6):
        wan.deliver(session.seal(content(number), number % 2), OTHER_PLACE)
    stage.datapath.socket_readable(wan, stage.now)
    assert [each.path for each in news(stage) if isinstance(each, Moved)] == ["a", "b"]
    assert len(stage.tun.delivered()) == 6


def test_a_path_stays_where_it_is(sealing_stage: Stage) -> None:
    """A datagram from the place of the table tells nothing."""
    stage = sealing_stage
    wan, session = one_path(stage)
    stage.receive(wan, session.seal(content(0)), session.seal(KEEPALIVE))
    assert kinds(news(stage)) == [Confirmed, Message]


# --- handshakes ---


def test_the_handshake_of_an_initiator(sealing_stage: Stage) -> None:
    """It is told if its mac1 shows that he knows our public key; without an identity we answer nobody."""
    stage = sealing_stage
    wan, _ = one_path(stage)
    stage.receive(wan, initiation())
    assert dropped(stage) == {"handshake_unexpected": 1}
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    good = initiation()
    stage.receive(wan, good, initiation(PEER_KEY), good[:-1] + bytes((good[-1] ^ 1,)), good[:30], host=OTHER_PLACE)
    assert news(stage) == [Handshake(wan, place(OTHER_PLACE), good, stage.now)]
    long = good[:-16] + bytes(seal.LARGEST_HANDSHAKE)
    stage.receive(wan, long + seal.mac1(OUR_KEY, long))  # would cost more than one hash of a handshake datagram
    assert dropped(stage) == {"handshake_unexpected": 1, "handshake_mac": 3, "seal_truncated": 1}
    assert stage.counters().handshakes_received == 1
    stage.datapath.set_identity(None, TOKEN_KEY)
    stage.receive(wan, initiation(receiver=77))
    assert dropped(stage)["handshake_unexpected"] == 2
    assert wan.sent() == []


def test_the_answer_of_a_responder(sealing_stage: Stage) -> None:
    """Only to a handshake that we have begun, and with a mac1 of the public key that we asked; retries, too."""
    stage = sealing_stage
    wan, _ = one_path(stage)
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    stage.datapath.expect({5: PEER_KEY, 6: OUR_KEY})
    good = [answer(5), answer(6, OUR_KEY), Retry(5, b"token").encode(PEER_KEY)]
    stage.receive(wan, *good)
    assert [each.octets for each in news(stage) if isinstance(each, Handshake)] == good
    stage.receive(wan, answer(5, OUR_KEY), Retry(6, b"").encode(PEER_KEY), answer(7), Retry(0, b"").encode(OUR_KEY))
    assert dropped(stage) == {"handshake_mac": 2, "handshake_unexpected": 2}
    stage.datapath.expect({})
    stage.receive(wan, *good)
    assert dropped(stage) == {"handshake_mac": 2, "handshake_unexpected": 5}
    assert news(stage) == []


def test_a_socket_without_a_peer_takes_handshakes(sealing_stage: Stage) -> None:
    """A responder knows no address before."""
    stage, wan = sealing_stage, sealing_stage.new_socket()
    stage.set_table(sealed_row(path_row("p", wan, remote=())))
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    stage.receive(wan, initiation(), host=OTHER_PLACE)
    assert kinds(news(stage)) == [Handshake]


def test_handshakes_are_told_up_to_a_bound(sealing_stage: Stage) -> None:
    """64 a wake-up, from whomever; the next wake-up tells as many."""
    stage = sealing_stage
    wan, session = one_path(stage)
    stage.datapath.set_identity(OUR_KEY, TOKEN_KEY)
    for _ in range(150):
        wan.deliver(initiation())
    wan.deliver(session.seal(content(0)))
    told = 0
    for _ in range(20):
        stage.datapath.socket_readable(wan, stage.now)
        events = [each for each in news(stage) if isinstance(each, Handshake)]
        assert len(events) <= 64
        told += len(events)
    assert told + dropped(stage).get("handshake_flood", 0) == 150
    assert stage.counters().handshakes_received == told
    assert stage.tun.delivered() == [reply(0)]


def test_a_keepalive_that_asks(sealing_stage: Stage) -> None:
    """A keepalive that asks is told as it is: control answers."""
    stage = sealing_stage
    wan, session = one_path(stage)
    asking = Keepalive(asks=True).encode()
    stage.receive(wan, session.seal(asking))
    assert [each.octets for each in news(stage) if isinstance(each, Message)] == [asking]
    assert wan.sent() == []

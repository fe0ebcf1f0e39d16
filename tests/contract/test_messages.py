"""Messages of control through every data path: it is the only one that writes to a path's socket and reads from it."""

from __future__ import annotations

from ipaddress import ip_address

from mpt.data.events import Message
from mpt.testing.datapath import (
    LOCAL,
    LOCAL_V6,
    OTHER_PEER,
    PORT,
    REMOTE,
    REMOTE_V6,
    Stage,
    connection_row,
    numbered,
    path_row,
)
from mpt.wire import gre
from mpt.wire.command import keepalive

MESSAGE = keepalive(4, ip_address(LOCAL), ip_address(REMOTE))
ANSWER = keepalive(4, ip_address(REMOTE), ip_address(LOCAL))


def test_a_message_goes_over_its_path(stage: Stage) -> None:
    """Framed without a number, also over a path that carries no packets; it uses no number and counts as no packet."""
    wans = stage.new_socket(), stage.new_socket()
    paths = path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER, usable=False)
    stage.set_table(connection_row(*paths, window=64))
    assert [stage.datapath.send(path, MESSAGE, stage.now) for path in ("a", "b")] == [True, True]
    assert [wan.sent() for wan in wans] == [
        [(gre.encode(4) + MESSAGE, (host, PORT))] for host in ("10.1.1.3", OTHER_PEER)
    ]
    stage.send(*numbered(1))
    assert wans[0].sent()[0][0][:8] == gre.encode(4, 0)
    assert stage.counters().packets_read == 1


def test_a_message_is_framed_as_its_tunnel_is(stage: Stage) -> None:
    """The frame of an IPv6 tunnel's message names IPv6, whatever the path's own addresses are."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), local=LOCAL_V6, remote=REMOTE_V6))
    message = keepalive(6, ip_address(LOCAL_V6), ip_address(REMOTE_V6))
    assert stage.datapath.send("a", message, stage.now)
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(6) + message]


def test_messages_have_the_dscp_of_the_connection(marking_stage: Stage) -> None:
    """But not that of packets, where it is the packet's own."""
    stage = marking_stage
    for dscp, tos in ((46, 46 << 2), (None, 0)):
        wan = stage.new_socket()
        stage.set_table(connection_row(path_row("a", wan), dscp=dscp, ecn=True))
        assert stage.datapath.send("a", MESSAGE, stage.now)
        assert len(wan.sent()) == 1
        assert wan.tos_octets == [tos]


def test_a_message_for_nowhere_does_not_go(stage: Stage) -> None:
    """A path that was never in a table, one that has no socket, and one that has left the table."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), path_row("b", None, OTHER_PEER)))
    assert [stage.datapath.send(path, MESSAGE, stage.now) for path in ("b", "c")] == [False, False]
    stage.set_table()
    assert not stage.datapath.send("a", MESSAGE, stage.now)
    assert wan.sent() == []


def test_what_comes_is_taken_once(stage: Stage) -> None:
    """Message by message in the order of their coming, whole, with their path and time; at most one keepalive a path in
    a wake-up."""
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER), window=64))
    assert list(stage.datapath.take_events()) == []
    stage.receive(wans[1], gre.encode(4, 7) + ANSWER + b"more", host=OTHER_PEER)
    first = stage.now
    stage.now += 1
    for _ in range(3):
        wans[0].deliver(gre.encode(4) + ANSWER)
    for _ in range(3):
        stage.datapath.socket_readable(wans[0], stage.now)
    expected = [Message("b", ANSWER + b"more", first), Message("a", ANSWER, stage.now)]
    assert list(stage.datapath.take_events()) == expected
    assert list(stage.datapath.take_events()) == []
    assert stage.counters().keepalives_received == 4

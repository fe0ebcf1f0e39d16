"""The connection of a packet when several could have it: the best fit; and packets for many peers."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from itertools import permutations

import pytest

from mpt.data.pathtable import ConnectionRow
from mpt.testing.datapath import LOCAL, LOCAL_V6, OTHER_PEER, REMOTE, REMOTE_V6, Stage, connection_row, packet, path_row
from mpt.wire import gre

FAR = "10.0.0.9"  # the tunnel address of another peer
BROADCAST = ip_address("10.0.0.255")

# name -> the networks of a connection, as (source, destination); its peer is 10.0.0.<number>
NETWORKS = {
    "default": [("0.0.0.0/0", "0.0.0.0/0")],
    "site": [("0.0.0.0/0", "192.168.0.0/16")],
    "branch": [("0.0.0.0/0", "192.168.2.0/24")],
    "lab": [("10.7.0.0/16", "192.168.3.0/24")],
}
PEERS = {"default": "10.0.0.4", "site": "10.0.0.5", "branch": "10.0.0.6", "lab": "10.0.0.7"}

BEST = [
    (LOCAL, "8.8.8.8", "default"),
    (LOCAL, "192.168.9.9", "site"),
    (LOCAL, "192.168.2.7", "branch"),
    ("10.7.0.1", "192.168.3.7", "lab"),
    ("10.9.9.9", "192.168.3.7", "site"),  # a source that the lab's connection does not have
    (LOCAL, "10.0.0.5", "site"),  # its own address, though the default has that, too
    (LOCAL, "10.0.0.7", "lab"),
    ("10.9.9.9", "10.0.0.7", "default"),
]


@pytest.mark.parametrize("order", [*permutations(NETWORKS)], ids=" ".join)
def test_the_best_fit_sends(stage: Stage, order: tuple[str, ...]) -> None:
    """The peer's tunnel address goes before the longest prefix, and that before a shorter one, in any order of rows."""
    wans = {name: stage.new_socket() for name in order}
    stage.set_table(
        *(
            connection_row(path_row(name, wans[name]), key=name, remote=PEERS[name], networks=NETWORKS[name])
            for name in order
        )
    )
    for source, destination, expected in BEST:
        stage.send(packet(source, destination))
        assert [name for name in order if wans[name].sent()] == [expected], (source, destination)


@pytest.mark.parametrize("order", [*permutations(NETWORKS)], ids=" ".join)
def test_the_best_fit_receives(stage: Stage, order: tuple[str, ...]) -> None:
    """Of the connections with one host, the one takes a packet that would send the reply."""
    wan = stage.new_socket()
    stage.set_table(
        *(connection_row(path_row(name, wan), key=name, remote=PEERS[name], networks=NETWORKS[name]) for name in order)
    )
    for source, destination, expected in BEST:
        before = {name: path.packets_received for name, path in stage.counters().paths.items()}
        reply = packet(destination, source)
        assert stage.receive(wan, gre.encode(4) + reply) == [reply]
        after = {name: path.packets_received for name, path in stage.counters().paths.items()}
        assert [name for name in order if after[name] > before[name]] == [expected], (source, destination)


# --- groups ---


def two_peers(stage: Stage, networks: Sequence[tuple[str, str]] = ()) -> tuple[ConnectionRow, ConnectionRow]:
    wans = stage.new_socket(), stage.new_socket()
    rows = (
        connection_row(path_row("a", wans[0]), key="a", window=64, broadcast=BROADCAST, networks=networks),
        connection_row(path_row("b", wans[1], OTHER_PEER), key="b", remote=FAR, broadcast=BROADCAST),
    )
    stage.set_table(*rows)
    return rows


def sent(rows: tuple[ConnectionRow, ...]) -> list[list[bytes]]:
    return [[datagram for datagram, _ in row.paths[0].socket.sent()] for row in rows]  # type: ignore[union-attr]


@pytest.mark.parametrize("group", ["224.0.0.5", "239.255.255.250", "10.0.0.255", "255.255.255.255"])
def test_a_group_gets_a_copy_each(stage: Stage, group: str) -> None:
    """Multicast and broadcast from the tunnel address, as OSPF sends them, go to every peer, numbered as its others."""
    rows = two_peers(stage)
    hello, after = packet(LOCAL, group, b"hello"), packet(LOCAL, REMOTE)
    stage.send(hello, hello, after)
    assert sent(rows) == [
        [gre.encode(4, 0) + hello, gre.encode(4, 1) + hello, gre.encode(4, 2) + after],
        [gre.encode(4) + hello] * 2,
    ]
    assert stage.counters().packets_read == 5


def test_an_ipv6_group(stage: Stage) -> None:
    """The same for IPv6, which has multicast only."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("p", wan), local=LOCAL_V6, remote=REMOTE_V6))
    hello = packet(LOCAL_V6, "ff02::5")
    stage.send(hello)
    assert [datagram for datagram, _ in wan.sent()] == [gre.encode(6) + hello]


def test_a_group_of_others_needs_a_network(stage: Stage) -> None:
    """From behind this host, multicast goes where a network of the configuration has it, and there only."""
    rows = two_peers(stage, networks=[("11.1.1.0/24", "224.0.0.0/4")])
    inside, outside = packet("11.1.1.5", "239.1.2.3"), packet("11.1.2.5", "239.1.2.3")
    stage.send(inside, outside, packet("11.1.1.5", "10.0.0.255"))
    assert sent(rows) == [[gre.encode(4, 0) + inside], []]
    assert stage.counters().egress_dropped == {"no_connection": 2}


def test_a_group_without_a_path_is_counted_for_each_peer(stage: Stage) -> None:
    """A copy that cannot go is dropped by itself."""
    wan = stage.new_socket()
    stage.set_table(
        connection_row(path_row("a", wan), key="a"),
        connection_row(path_row("b", wan, usable=False), key="b", remote=FAR),
    )
    stage.send(packet(LOCAL, "224.0.0.5"))
    assert len(wan.sent()) == 1
    assert stage.counters().egress_dropped == {"no_path": 1}


def test_each_copy_for_a_group_is_work(python_stage: Stage) -> None:
    """A packet to a group costs as much as there are peers, and a wake-up is bounded all the same."""
    wan = python_stage.new_socket()
    python_stage.set_table(*(connection_row(path_row(n, wan), key=n, remote=f"10.0.{n}.3") for n in range(20)))
    for _ in range(10):
        python_stage.tun.inject(packet(LOCAL, "224.0.0.5"))
    python_stage.datapath.tun_readable(python_stage.now)
    assert python_stage.counters().packets_read == 80


@pytest.mark.parametrize("group", ["224.0.0.5", "10.0.0.255", "255.255.255.255"])
def test_a_group_is_received(stage: Stage, group: str) -> None:
    """What the peer sends to a group from its tunnel address is delivered."""
    rows = two_peers(stage)
    hello = packet(REMOTE, group)
    assert stage.receive(rows[0].paths[0].socket, gre.encode(4, 7) + hello) == [hello]

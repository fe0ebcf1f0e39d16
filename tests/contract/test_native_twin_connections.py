"""The native data path and the Python one, side by side, with several connections that share sockets and peers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.pathtable import ConnectionRow
from mpt.model import PortMap
from mpt.testing.datapath import LOCAL, LOCAL_V6, REMOTE, REMOTE_V6, connection_row, packet, path_row
from mpt.wire import gre
from mpt.wire.command import encode_keepalive
from tests.contract.twins import PEERS, twins

# name -> our tunnel address, the peer's, and the paths as (socket, peer, weight)
CONNECTIONS = {
    "a": (LOCAL, REMOTE, ((0, 0, 1), (1, 1, 2))),
    "b": (LOCAL, "10.0.0.13", ((0, 0, 3), (1, 1, 1), (2, 2, 1))),  # over the paths of a, too
    "c": (LOCAL_V6, REMOTE_V6, ((0, 1, 1), (2, 2, 1))),  # another peer at the first socket
    "d": ("10.0.0.12", REMOTE, ((0, 0, 1), (2, 0, 1))),  # the peer's address of a
}
NETWORKS = {"b": [("fd0a::/16", "fd0b::/16")], "c": [("fd0a::/16", "fd0b::/32")]}  # c knows better, while it is there
NETWORK = ("fd0a::5", "fd0b::5")  # addresses in the networks of b and c; of b's other IP version
PAIRS = {name: (local, remote) for name, (local, remote, _) in CONNECTIONS.items()} | {
    "b, networks": NETWORK,
    "a, mapped": (LOCAL, REMOTE),
    "nobody": (LOCAL, "10.0.0.99"),
    "d, multicast": ("10.0.0.12", "224.0.0.5"),
    "d, broadcast": ("10.0.0.12", "10.0.0.255"),
    "loop": ("10.0.0.12", PEERS[2]),
}


def table(names: str, window: int) -> Callable[[Sequence[Any]], Sequence[ConnectionRow]]:
    """The connections of these names, in this order; capitals have one path less."""

    def row(name: str, sockets: Sequence[Any]) -> ConnectionRow:
        local, remote, paths = CONNECTIONS[name.lower()]
        rows = [
            path_row(
                f"{name.lower()}{number}",
                sockets[index],
                PEERS[peer],
                weight=weight,
                usable=number > 0 or name.islower(),
                ports=PortMap(udp_dst=frozenset({53})) if number == 1 else PortMap(),
            )
            for number, (index, peer, weight) in enumerate(paths)
        ]
        return connection_row(
            *rows,
            key=name.lower(),
            local=local,
            remote=remote,
            networks=NETWORKS.get(name.lower(), []),
            broadcast=ip_address("10.0.0.255"),
            window=0 if name in "dD" else window,
            ecn=name in "aA",
        )

    return lambda sockets: [row(name, sockets) for name in names]


def outgoing(kind: str, number: int) -> bytes:
    ports = bytes((0, 50, 0, 53 if kind == "a, mapped" else 80))
    return packet(*PAIRS[kind], ports + number.to_bytes(8, "big"), protocol=17, tos=number % 4)


def incoming(kind: str, sequence: int, number: int) -> bytes:
    """A datagram of the peer."""
    local, remote = PAIRS[kind]
    inner = packet(remote, local, number.to_bytes(8, "big"), tos=1)
    return gre.encode(inner[0] >> 4, None if sequence < 0 else sequence) + inner


def connection_of(datagram: bytes) -> Hashable:
    """By the inner addresses: what tells the connections of a path apart."""
    inner = datagram[8 if datagram[0] & 0x10 else 4 :]
    return inner[12:20] if inner[0] >> 4 == 4 else inner[8:10]


KINDS = st.sampled_from([*PAIRS, "a", "b"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(KINDS, min_size=1, max_size=30), st.just(0)),
        st.tuples(st.just("receive"), st.sampled_from([*CONNECTIONS, "b, networks"]), st.integers(0, 2)),
        st.tuples(st.just("receive"), st.sampled_from([*CONNECTIONS, "b, networks"]), st.integers(0, 2)),
        st.tuples(st.just("elsewhere"), KINDS, st.integers(0, 8)),
        st.tuples(st.just("keepalive"), st.sampled_from("abcd"), st.integers(0, 8)),
        st.tuples(st.just("skip"), st.sampled_from("abcd"), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.sampled_from([0.001, 0.01, 0.1, 1.0]), st.just(0)),
        st.tuples(st.just("table"), st.sampled_from(["abcd", "dcba", "Abd", "bCa", "c", ""]), st.integers(0, 1)),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0, 2, 16]))
def test_connections_that_share_sockets(steps: list[tuple[str, Any, int]], window: int) -> None:
    """Each has its own sequence, window and counters, finds its packets by their addresses, and comes and goes without
    a change to the others."""
    with twins(connection_of) as both:
        both.set_table(table("abcd", window))
        at = dict.fromkeys("abcd", 0)
        for count, (kind, value, number) in enumerate(steps):
            if kind == "send":
                both.send(*(outgoing(each, count * 100 + index) for index, each in enumerate(value)))
            elif kind == "receive":  # over one path after the other, every second packet
                paths = CONNECTIONS[value[0]][2]
                for first in (1, 0) if number else (0, 1):
                    index, peer, _ = paths[(number + first) % len(paths)]
                    numbers = range(first, 2 + number, 2)
                    datagrams = [incoming(value, at[value[0]] + each, count * 100 + each) for each in numbers]
                    both.receive(index, *datagrams, host=PEERS[peer])
                at[value[0]] += 2 + number
            elif kind == "elsewhere":  # from any host at any socket, with a sequence number or none
                at_all = at.get(value[0], 0) if number % 2 else -1
                both.receive(number % 3, incoming(value, at_all, count), host=PEERS[number // 3], tos=number % 4)
            elif kind == "keepalive":
                local, remote, _ = CONNECTIONS[value]
                pair = ip_address(remote), ip_address(local)
                both.receive(number % 3, encode_keepalive(pair[0].version, *pair), host=PEERS[number // 3])
            elif kind == "skip":
                at[value] += number
            elif kind == "wait":
                both.wait(value)
            else:
                both.set_table(table(value, window + number))
        both.wait(1)

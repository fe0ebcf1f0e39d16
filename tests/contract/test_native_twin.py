"""The native data path and the Python one, side by side, with one connection: egress and ingress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.pathtable import ConnectionRow
from mpt.model import PortMap
from mpt.testing.datapath import LOCAL, REMOTE, connection_row, packet, path_row
from mpt.wire import gre
from mpt.wire.command import encode_keepalive
from tests.contract.twins import PEERS, twins

PORTS = (PortMap(tcp_dst=frozenset({80, 443})), PortMap(udp_src=frozenset({53})), PortMap(tcp_src=frozenset({80})))
KEEPALIVE = encode_keepalive(4, ip_address(REMOTE), ip_address(LOCAL))
NEAR = st.integers(-3, 12)
FAR = st.sampled_from([0, 1, 50, 99, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32 - 5])


def table(
    window: int, usable: list[bool], weights: list[int], max_delay: float, ports: bool, **changes: Any
) -> Callable[[Sequence[Any]], Sequence[ConnectionRow]]:
    """One connection over all three sockets."""

    def rows(sockets: Sequence[Any]) -> Sequence[ConnectionRow]:
        paths = [
            path_row(
                index,
                sockets[index],
                peer,
                usable=usable[index],
                weight=weights[index],
                ports=PORTS[index] if ports else PortMap(),
            )
            for index, peer in enumerate(PEERS)
        ]
        networks = [("fd0a::/60", "fd0b::/61")]
        return [connection_row(*paths, window=window, max_delay=max_delay, networks=networks, **changes)]

    return rows


def inner(number: int, version: int = 4) -> bytes:
    body = number.to_bytes(8, "big", signed=True)
    return packet(REMOTE, LOCAL, body) if version == 4 else packet("fd0b::1", "fd0a::1", body)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("near"), NEAR, st.integers(0, 2)),
        st.tuples(st.just("near"), NEAR, st.integers(0, 2)),
        st.tuples(st.just("run"), st.integers(1, 30), st.integers(0, 2)),
        st.tuples(st.just("interleave"), st.integers(2, 40), st.integers(0, 2)),
        st.tuples(st.just("far"), FAR, st.integers(0, 2)),
        st.tuples(st.just("votes"), FAR, st.integers(0, 2)),
        st.tuples(st.just("lossy"), st.integers(1, 60), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.004, 0.02, 0.1, 0.4, 11.0]), st.just(0)),
        st.tuples(st.just("keepalive"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("round"), st.sampled_from([0.002, 0.004, 0.01]), st.integers(0, 2)),
        st.tuples(st.just("table"), st.integers(0, 7), st.integers(0, 2)),
        st.tuples(st.just("shares"), st.integers(0, 7), st.integers(0, 2)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 20), FAR, st.sampled_from([0.01, 0.1]))
def test_the_same_order(steps: list[tuple[str, Any, int]], window: int, start: int, max_delay: float) -> None:
    """Gaps, duplicates, late packets, strays, restarts, silences, keepalives, paths that change: the same to both."""
    with twins() as pair:
        usable = [True, True, True]
        pair.set_table(table(window, usable, [1, 2, 3], max_delay, False))
        at = start
        for count, (kind, value, path) in enumerate(steps):
            if kind == "near":
                at += value
                pair.receive(path, gre.encode(4, at % 2**32) + inner(count))
            elif kind == "run":
                pair.receive(path, *(gre.encode(4, (at + n) % 2**32) + inner(n) for n in range(value)))
                at += value
            elif kind == "interleave":  # every other packet over one path, then the rest over another
                for first in (0, 1):
                    numbers = range(first, value, 2)
                    pair.receive((path + first) % 3, *(gre.encode(4, (at + n) % 2**32) + inner(n) for n in numbers))
                at += value
            elif kind == "far":
                pair.receive(path, gre.encode(4, value) + inner(count))
            elif kind == "votes":  # for a stream elsewhere, for longer than a second
                for n in range(6):
                    pair.receive(path, gre.encode(4, (value + n) % 2**32) + inner(count * 10 + n))
                    pair.wait(0.22)
            elif kind == "lossy":  # much over one path with a loss, a packet over the next, what fills a gap
                datagrams = [gre.encode(4, (at + n) % 2**32) + inner(n) for n in range(60) if n != value]
                pair.receive(path, *datagrams)
                pair.receive((path + 1) % 3, gre.encode(4, (at + 61) % 2**32) + inner(61))
                pair.wait(0.003)
                pair.receive(path, gre.encode(4, (at + 60) % 2**32) + inner(60))
                at += 62
            elif kind == "wait":
                pair.wait(value)
            elif kind == "keepalive":
                pair.receive(path, KEEPALIVE)
            elif kind == "round":  # keepalives sent together over paths that are not equally fast
                pair.wait(0.3)
                for each in range(3):
                    pair.receive((path + each) % 3, KEEPALIVE)
                    pair.wait(value)
            elif kind == "shares":
                pair.set_shares({bit: value >> bit & 1 for bit in range(3) if bit != path})
            else:
                usable = [bool(value >> bit & 1) for bit in range(3)]
                pair.set_table(table(window + path // 2, usable, [1, 2, 3], max_delay, False))


PACKETS = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda head, rest: head + rest,
        st.sampled_from([b"\x45", b"\x46", b"\x60\x00", b"\x4f", b"\x45\xba", b"\x6b\xa0"]),
        st.binary(max_size=90),
    ),
    st.builds(
        lambda version, protocol, ports, body: packet(
            *((LOCAL, REMOTE) if version == 4 else ("fd0a::7", "fd0b::9")), ports + body, protocol
        ),
        st.sampled_from([4, 6]),
        st.sampled_from([6, 17, 0, 43, 44, 51, 60, 253]),
        st.sampled_from(
            [bytes.fromhex(each) for each in ("00500050", "003501bb", "1f900035", "01bb0050", "06000050", "1100")]
        ),
        st.binary(max_size=60),
    ),
)


@given(
    st.lists(st.lists(PACKETS, max_size=8), max_size=8),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(0, 7),
    st.sampled_from([0, 8]),
    st.sampled_from([0, 46, None]),
    st.booleans(),
)
def test_the_same_paths(
    batches: list[list[bytes]], weights: list[int], usable: int, window: int, dscp: int | None, ecn: bool
) -> None:
    """Whatever the TUN gives leaves over the same paths with the same octets and marks, or is dropped for the same
    reason."""
    with twins() as pair:
        paths = [bool(usable >> bit & 1) for bit in range(3)]
        pair.set_table(table(window, paths, weights, 0.1, True, dscp=dscp, ecn=ecn))
        for batch in batches:
            pair.send(*batch)


DATAGRAMS = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda flags, protocol, rest: flags.to_bytes(2, "big") + protocol.to_bytes(2, "big") + rest,
        st.one_of(st.sampled_from([0, 0x1000, 0x2000, 0x3000, 0x8000, 0xB000]), st.integers(0, 0xFFFF)),
        st.sampled_from([0x0800, 0x86DD, 0x0801]),
        st.one_of(st.binary(max_size=60), st.integers(0, 30).map(lambda n: bytes(4) + inner(n)), st.just(inner(1, 6))),
    ),
    st.integers(0, 9).map(lambda n: gre.encode(4, n) + inner(n)),
    st.integers(0, 255).map(lambda n: gre.encode(4, n & 7) + b"\x45" + bytes([n]) + inner(n)[2:]),
    st.integers(0, 255).map(lambda n: gre.encode(6) + bytes([0x60 | n >> 4, n << 4 & 0xF0]) + inner(n, 6)[2:]),
    st.integers(0, 9).map(lambda n: gre.encode(6) + inner(n, 6)),
    st.sampled_from([4, 6]).map(lambda version: encode_keepalive(version, ip_address(REMOTE), ip_address(LOCAL))),
    st.sampled_from([4, 6]).map(lambda version: encode_keepalive(version, ip_address(LOCAL), ip_address(REMOTE))),
)


@given(
    st.lists(
        st.tuples(st.lists(DATAGRAMS, max_size=8), st.integers(0, 2), st.sampled_from([0, 1, 2, 3, 0xB8, 0xBB])),
        max_size=8,
    ),
    st.sampled_from([0, 8]),
)
def test_the_same_drops(batches: list[tuple[list[bytes], int, int]], window: int) -> None:
    """Whatever a peer sends is delivered, with the network's marks in it, or dropped for the same reason."""
    with twins() as pair:
        pair.set_table(table(window, [True, True, False], [1, 1, 1], 0.1, False))
        for batch, path, tos in batches:
            pair.receive(path, *batch, tos=tos)
        pair.wait(1)

"""The native data path behind a TUN with IFF_VNET_HDR and the Python one behind a plain TUN, side by side.

The one is given what an offloading host sends, super-packets and packets without their checksums; the other what the
kernel would have made of it. What leaves is the same, octet for octet, and so is what comes in, once it is cut.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.datapath import PythonDataPath
from mpt.data.pathtable import ConnectionRow
from mpt.model import PortMap
from mpt.testing.datapath import Stage, closing, connection_row, path_row
from mpt.wire import gre
from tests.accel.engine import inside, native_stage, split, with_offload
from tests.accel.loopback import loopback_stage
from tests.accel.model import ACK, PSH, TCP, UDP, VNET, Inner
from tests.contract.twins import PEERS, Twins

PORTS = (PortMap(tcp_dst=frozenset({80})), PortMap(udp_src=frozenset({53})), PortMap(tcp_src=frozenset({80})))
LOCAL = bytes((10, 0, 0, 2))
REMOTES = {"a": bytes((10, 0, 0, 3)), "b": bytes((10, 0, 0, 13))}  # connection -> the peer's tunnel address
ELSEWHERE = [bytes((10, 0, 0, 99)), ip_address(PEERS[1]).packed]  # nobody's, and one that would come back
PIECE = [0, 200, 536, 1388, 5999, 9001]  # octets of payload of a segment; 0: not to be cut
Frame = tuple[bytes, list[bytes]]  # what the TUN with the header gives, and the plain one


class FrameTwins(Twins):
    """Twins whose native one has frames where the other has packets."""

    wake_ups = 3  # a segment counts as much as a packet there, and not at all here; and the other way round

    def send_frames(self, frames: Sequence[Frame]) -> None:
        """Let the host send all these at once."""
        python, other = self.stages
        for frame, packets in frames:
            other.tun.inject(frame)
            for each in packets:
                python.tun.inject(each)
        for stage in self.stages:
            self.read_tun(stage)
        self.compare()

    def receive_run(self, index: int, *datagrams: bytes) -> None:
        """Let all these arrive in one message."""
        for stage, sockets in zip(self.stages, self.sockets, strict=True):
            sockets[index].deliver_run(*datagrams, host=PEERS[index])
            self.read_socket(stage, sockets[index])
        self.compare()

    def _packets(self, stage: Stage, delivered: list[bytes]) -> list[bytes]:
        if stage is self.stages[0]:
            return delivered
        return [packet for frame in delivered for packet in split(frame) or [b"malformed"]]


def connection_of(datagram: bytes) -> Hashable:
    """The peer's tunnel address, of either version, is that of the connection."""
    inner = datagram[8 if datagram[0] & 0x10 else 4 :]
    return inner[16:20] if inner[0] >> 4 == 4 else inner[36:40]


@contextmanager
def frame_twins() -> Iterator[FrameTwins]:
    """One of each."""
    with closing(loopback_stage(PythonDataPath)) as python, native_stage(ask_tun=with_offload) as other:
        yield FrameTwins((python, other), connection_of)


def rows(
    sockets: Sequence[Any], window: int, usable: int = 7, weights: Sequence[int] = (1, 2, 3), **changes: Any
) -> list[ConnectionRow]:
    """Two connections to one peer: over all three sockets, with mapped ports, and over the first two of them."""

    def row(name: str, count: int) -> ConnectionRow:
        remote = REMOTES[name]
        v6 = [f"{ip_address(address.rjust(16, bytes((0xFD,))))}/128" for address in (LOCAL, remote)]
        paths = [
            path_row(
                f"{name}{index}",
                sockets[index],
                PEERS[index],
                weight=weights[index],
                usable=bool(usable >> index & 1),
                ports=PORTS[index] if name == "a" else PortMap(),
            )
            for index in range(count)
        ]
        return connection_row(
            *paths,
            key=name,
            local=str(ip_address(LOCAL)),
            remote=str(ip_address(remote)),
            networks=[(v6[0], v6[1])],
            window=window,
            **changes,
        )

    return [row("a", 3), row("b", 2)]


def completed(inner: Inner) -> bytes:
    """A packet whose checksum was still to be made: the kernel writes no 0, but 0xFFFF, which is the same number."""
    octets = inner.octets()
    at = (20 if inner.version == 4 else 40) + (16 if inner.protocol == TCP else 6)
    return octets if any(octets[at : at + 2]) else octets[:at] + b"\xff\xff" + octets[at + 2 :]


def frame(inner: Inner, size: int, whole: bool) -> Frame:
    """A packet to be cut into segments of `size` octets of payload; `whole`: a finished one, as when forwarded."""
    if whole:
        return bytes(VNET) + inner.octets(), [inner.octets()]
    return inner.frame(size), [each.octets() for each in inner.cut(size)] if size else [completed(inner)]


def with_payload(inner: Inner, length: int) -> Inner:
    """Octets that tell their place; made here, for a failure is easier to read without them."""
    return replace(inner, payload=bytes(index * 7 % 253 for index in range(length)))


LENGTHS = st.integers(1, 6000)
PACKETS = st.builds(
    Inner,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    source=st.just(LOCAL),
    destination=st.sampled_from([*REMOTES.values(), *REMOTES.values(), *ELSEWHERE]),
    tos=st.integers(0, 255),
    ident=st.sampled_from([0, 0xFFFE, 777]),
    dont_fragment=st.booleans(),
    ports=st.tuples(st.sampled_from([40000, 53, 80]), st.sampled_from([5201, 53, 80])),
    sequence=st.sampled_from([0, 2**31, 2**32 - 3000]),
    flags=st.integers(0, 255).map(lambda flags: flags | ACK),
    urgent=st.sampled_from([0, 100, 5000]),
    options=st.sampled_from([b"", bytes(range(12)), bytes(40)]),
)
FRAMES = st.tuples(PACKETS, LENGTHS, st.sampled_from(PIECE), st.booleans())


@given(
    st.lists(st.lists(FRAMES, max_size=3), max_size=6),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([0, 3, 5, 7, 7, 7, 7]),
    st.sampled_from([0, 4, 1000]),
    st.sampled_from([0, 46, None]),
    st.booleans(),
)
def test_what_leaves_is_the_same(
    batches: list[list[tuple[Inner, int, int, bool]]],
    weights: list[int],
    usable: int,
    window: int,
    dscp: int | None,
    ecn: bool,
) -> None:
    """Every segment takes the path, the number, the mark and the octets that the kernel's segment takes in Python, or
    is dropped for the same reason; and counts as one packet."""
    with frame_twins() as both:
        both.set_table(lambda sockets: rows(sockets, window, usable, weights, dscp=dscp, ecn=ecn))
        for batch in batches:
            both.send_frames([frame(with_payload(inner, length), size, whole) for inner, length, size, whole in batch])


FLOWS = st.builds(
    Inner,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    source=st.sampled_from(list(REMOTES.values())),
    destination=st.just(LOCAL),
    ident=st.sampled_from([0, 0xFFFE]),
    sequence=st.sampled_from([0, 2**32 - 3000]),
    flags=st.sampled_from([ACK, ACK, ACK | PSH, 255]),
)


@given(
    st.lists(
        st.tuples(
            FLOWS,
            LENGTHS,
            st.sampled_from(PIECE[1:]),
            st.sampled_from(["run", "one by one", "backwards", "a gap", "wait"]),
            st.integers(0, 1),
        ),
        max_size=12,
    ),
    st.sampled_from([0, 16, 1000]),
)
def test_what_comes_in_is_the_same(steps: list[tuple[Inner, int, int, str, int]], window: int) -> None:
    """Whatever arrives joined or is joined for the TUN, cut again it is what the Python data path delivers."""
    with frame_twins() as both:
        both.set_table(lambda sockets: rows(sockets, window))
        at = dict.fromkeys(REMOTES.values(), 0)
        for inner, length, size, kind, path in steps:
            segments = [each.octets() for each in with_payload(inner, length).cut(size)]
            first = at[inner.source] + (kind == "a gap")
            at[inner.source] = first + len(segments)
            datagrams = [gre.encode(inner.version, first + n) + each for n, each in enumerate(segments)]
            if kind == "run":
                both.receive_run(path, *datagrams)
            elif kind == "wait":
                both.wait(0.2)
            else:
                both.receive(path, *(datagrams[::-1] if kind == "backwards" else datagrams))
        both.wait(1)


def test_a_whole_64_kb() -> None:
    """The longest super-packet there is, 47 segments, of TCP and of UDP."""
    payload = bytes(range(256)) * 255
    with frame_twins() as both:
        both.set_table(lambda sockets: rows(sockets, 1000))
        for protocol in (TCP, UDP):
            for destination in REMOTES.values():
                inner = Inner(protocol=protocol, source=LOCAL, destination=destination, payload=payload)
                both.send_frames([frame(inner, 1400, False)])
        sent = both.stages[1].counters().paths
        assert sum(path.packets_sent for path in sent.values()) == 4 * 47


def test_frames_are_really_cut_and_joined() -> None:
    """Three segments take one read; arriving in a run they take one write."""
    inner = Inner(source=LOCAL, destination=REMOTES["b"], payload=bytes(3000), flags=ACK | PSH)
    back = replace(inner, source=inner.destination, destination=LOCAL)
    with frame_twins() as both:
        both.set_table(lambda sockets: rows(sockets, 8))
        both.send_frames([frame(inner, 1000, False)])
        both.receive_run(0, *(gre.encode(4, n) + each.octets() for n, each in enumerate(back.cut(1000))))
        calls = inside(both.stages[1]).system_calls()
        assert calls == {"tun_reads": 1, "tun_writes": 1, "sends": 2, "receives": 1}
        assert both.stages[1].counters().packets_read == 3

"""Frames of the TUN are cut and completed octet for octet as the kernel would do it."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.accel.engine import split
from tests.accel.model import ACK, CWR, ECE, FIN, PSH, TCP, UDP, URG, VNET, Inner

PACKETS = st.builds(
    Inner,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    source=st.binary(min_size=4, max_size=4),
    destination=st.binary(min_size=4, max_size=4),
    tos=st.integers(0, 255),
    ttl=st.integers(1, 255),
    ident=st.sampled_from([0, 1, 0xFFFE, 0xFFFF, 777]),
    dont_fragment=st.booleans(),
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    sequence=st.sampled_from([0, 1, 2**32 - 1, 2**31, 2**32 - 3000]),
    acknowledgement=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 255).map(lambda flags: flags | ACK),
    window=st.integers(0, 65535),
    urgent=st.sampled_from([0, 1, 100, 1400, 5000]),
    options=st.sampled_from([b"", b"\x01\x01\x01\x00", bytes(range(12)), bytes(40)]),
    payload=st.builds(
        lambda seed, size: (seed * (size // len(seed) + 1))[:size],
        st.binary(min_size=1, max_size=20),
        st.integers(1, 9000),
    ),
)


@given(PACKETS, st.sampled_from([8, 100, 536, 1388, 1400, 8999, 9001]))
def test_a_super_packet_is_cut_as_the_model_cuts_it(inner: Inner, size: int) -> None:
    """Lengths, ids, sequence numbers, flags, urgent pointer and checksums, for both IP versions, TCP and UDP."""
    assert split(inner.frame(size)) == [segment.octets() for segment in inner.cut(size)]


@given(PACKETS)
def test_a_partial_checksum_is_completed(inner: Inner) -> None:
    """A single packet of an offloading host gets its checksum; 0 is written as 0xFFFF, which is the same number."""
    (completed,) = split(inner.frame()) or [b""]
    at = (20 if inner.version == 4 else 40) + (16 if inner.protocol == TCP else 6)
    whole = inner.octets()
    expected = whole[at : at + 2] if whole[at : at + 2] != b"\0\0" else b"\xff\xff"
    assert completed == whole[:at] + expected + whole[at + 2 :]


def test_flags_belong_to_their_segment() -> None:
    """CWR to the first, FIN and PSH to the last, ECE to all; the urgent pointer counts from each segment."""
    inner = Inner(flags=ACK | FIN | PSH | CWR | ECE | URG, urgent=150, payload=bytes(300))
    segments = split(inner.frame(100)) or []
    assert [each[33] for each in segments] == [ACK | CWR | ECE | URG, ACK | ECE | URG, ACK | ECE | FIN | PSH]
    assert [int.from_bytes(each[38:40], "big") for each in segments] == [150, 50, 0]


def test_a_whole_64_kb() -> None:
    """The longest packet there is, 47 segments."""
    inner = Inner(payload=bytes(range(256)) * 255)
    segments = split(inner.frame(1400)) or []
    assert [len(each) for each in segments] == [1452] * 46 + [52 + 65280 - 46 * 1400]
    assert b"".join(each[52:] for each in segments) == inner.payload


GOOD = Inner(payload=bytes(3000)).frame(1000)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        GOOD[:9],
        GOOD[:VNET],
        GOOD[: VNET + 19],
        GOOD[: VNET + 52],  # no payload
        pack("=BBHHHH", 1, 1, 0, 0, 20, 16) + GOOD[VNET:],  # size 0
        pack("=BBHHHH", 0, 1, 0, 1000, 20, 16) + GOOD[VNET:],  # no partial checksum
        pack("=BBHHHH", 1, 1, 0, 1000, 19, 16) + GOOD[VNET:],
        pack("=BBHHHH", 1, 1, 0, 1000, 2990, 16) + GOOD[VNET:],
        pack("=BBHHHH", 1, 1, 0, 1000, 20, 6) + GOOD[VNET:],
        pack("=BBHHHH", 1, 4, 0, 1000, 20, 16) + GOOD[VNET:],  # an IPv6 kind
        pack("=BBHHHH", 1, 3, 0, 1000, 20, 16) + GOOD[VNET:],  # UFO, which was not asked for
        pack("=BBHHHH", 1, 0, 0, 0, 3050, 16) + GOOD[VNET:],  # checksum behind the end
        GOOD[:VNET] + b"\x4f" + GOOD[VNET + 1 :],  # header longer than the start of TCP
        GOOD[:VNET] + b"\x42" + GOOD[VNET + 1 :],  # header shorter than any
        GOOD[: VNET + 32] + b"\x00" + GOOD[VNET + 33 :],  # TCP header of no length
    ],
)
def test_what_is_malformed_is_refused(frame: bytes) -> None:
    """A header that does not fit its packet leads nowhere."""
    assert split(frame) is None


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.binary(min_size=10, max_size=10), PACKETS).map(lambda both: both[0] + both[1].octets()),
    )
)
def test_any_octets_do_no_harm(frame: bytes) -> None:
    """Any header and packet give packets or a refusal."""
    segments = split(frame)
    assert segments is None or all(segments) or segments == [b""]

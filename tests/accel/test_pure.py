"""The small pure functions of the engine against their Python twins."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from mpt.data import fragment, mss, toobig
from mpt.data.counters import Reason
from mpt.data.scheduler import WeightedCycle
from mpt.errors import DecodeError
from mpt.wire import gre, ip, tos
from tests.accel.engine import ffi, lib, pieces_of
from tests.accel.model import ACK, SYN, TCP, UDP, Inner, ones_sum

ELEMENTS = ffi.typeof("enum mpt_reason").elements
REASONS = {number: name.removeprefix("MPT_").lower() for number, name in ELEMENTS.items()}


@given(st.binary(max_size=300))
def test_checksum(octets: bytes) -> None:
    """The Internet checksum, word by word; an odd last octet counts as if a zero followed."""
    assert lib.mpt_checksum(octets, len(octets)) == 0xFFFF - ones_sum(octets)


@given(st.binary(min_size=0, max_size=300), st.integers(0, 40))
def test_checksum_of_ones(octets: bytes, ones: int) -> None:
    """Carries all the way."""
    octets = b"\xff" * ones + octets
    assert lib.mpt_checksum(octets, len(octets)) == 0xFFFF - ones_sum(octets)


@given(
    st.one_of(
        st.binary(min_size=19, max_size=19).map(lambda rest: b"\x45" + rest),
        st.binary(min_size=39, max_size=39).map(lambda rest: b"\x60" + rest),
    ),
    st.integers(0, 255),
    st.integers(0, 3),
)
def test_ecn(header: bytes, first: int, outer: int) -> None:
    """The network's mark gets into the packet by RFC 6040."""
    packet = bytes((header[0] & 0xF0 | first & 0x0F,)) + header[1:]
    copy = ffi.new("uint8_t[]", packet)
    result = lib.mpt_decapsulate_ecn(copy, outer)
    expected = tos.decapsulated(packet, outer)
    assert result == (-1 if expected is None else tos.is_unexpected(tos.octet(packet), outer))
    assert bytes(ffi.buffer(copy, len(packet))) == (packet if expected is None else expected)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=20))
def test_cycle(weights: list[int]) -> None:
    """The picks of the draft's cycle."""
    count = 3000
    picks = ffi.new("uint32_t[]", count)
    lib.mpt_cycle(weights, len(weights), picks, count)
    assert ffi.unpack(picks, count) == list(islice(WeightedCycle(list(enumerate(weights))), count))


def test_cycle_of_the_draft() -> None:
    """Draft section 5.1, twice around."""
    picks = ffi.new("uint32_t[]", 30)
    lib.mpt_cycle([12, 18, 15], 3, picks, 30)
    assert ffi.unpack(picks, 30) == [1, 2, 0, 1, 2, 0, 1, 2, 1, 0, 2, 1, 0, 1, 2] * 2


HEADERS = st.builds(
    lambda first, protocol, rest: first + protocol + rest,
    st.one_of(
        st.sampled_from([bytes.fromhex(each) for each in ("0000", "1000", "2000", "3000", "8000", "b000", "4000")]),
        st.binary(min_size=2, max_size=2),
    ),
    st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]),
    st.binary(max_size=30),
)


@given(st.one_of(HEADERS, st.binary(max_size=20)))
def test_gre(datagram: bytes) -> None:
    """Every header is read as the Python decoder reads it, or dropped for the same reason."""
    version, sequenced, sequence = ffi.new("uint32_t *"), ffi.new("int *"), ffi.new("uint32_t *")
    length = lib.mpt_gre_decode(datagram, len(datagram), version, sequenced, sequence)
    try:
        header = gre.decode(datagram)
    except DecodeError as error:
        assert REASONS[-length] == error.reason
    else:
        assert (length, version[0]) == (header.length, header.ip_version)
        assert (sequence[0] if sequenced[0] else None) == header.sequence


@given(st.lists(st.integers(0, 0xFFFF), max_size=20), st.sampled_from([4, 6]))
def test_gre_checksum(words: list[int], version: int) -> None:
    """A right checksum of RFC 2784 is accepted, a wrong one is not."""
    rest = b"".join(word.to_bytes(2, "big") for word in words)
    head = b"\x80\x00" + gre.prefix(version, False)[2:]
    good = head + gre.checksum(head + bytes(4) + rest).to_bytes(2, "big") + bytes(2) + rest
    out = ffi.new("uint32_t *"), ffi.new("int *"), ffi.new("uint32_t *")
    assert lib.mpt_gre_decode(good, len(good), *out) == 8
    bad = good[:-1] + bytes([good[-1] ^ 1])
    assert lib.mpt_gre_decode(bad, len(bad), *out) == -lib.MPT_GRE_CHECKSUM


EXTENSIONS = st.lists(st.sampled_from([0, 43, 44, 51, 60]), max_size=10)


@given(EXTENSIONS, st.sampled_from([6, 17, 1]), st.binary(max_size=60), st.integers(0, 140))
def test_ports_v6(chain: list[int], protocol: int, filler: bytes, length: int) -> None:
    """Through extension headers, fragments and truncations."""
    packet = bytearray(b"\x60" + bytes(39))
    at = 6
    for header in chain:
        packet[at] = header
        at = len(packet)
        packet += bytes([0, len(filler) % 2, *filler[:6].ljust(6, b"\0")]) + bytes(8 * (len(filler) % 2))
    packet[at] = protocol
    same_ports(bytes(packet + filler)[: max(length, 40)])


def test_ports_stand_behind_eight_extension_headers_at_the_most() -> None:
    """As in Python, where a longer chain has none."""
    for count in (7, 8, 9, 10):
        same_ports(b"\x60" + bytes(39) + b"\0\0" * 4 * (count - 1) + bytes([6]) + bytes(7) + b"\0\x50\0\x50")


@given(
    st.binary(min_size=20, max_size=80),
    st.sampled_from([6, 17, 1]),
    st.integers(0, 15),
    st.sampled_from([0, 0x20, 0x40, 0x1F]),
)
def test_ports_v4(octets: bytes, protocol: int, header: int, fragment: int) -> None:
    """With options, of fragments, cut off."""
    same_ports(bytes([0x40 | header]) + octets[1:6] + bytes([fragment, 0, 64, protocol]) + octets[10:])


def test_the_reasons_are_the_same() -> None:
    """Every reason of the Python data path is one of the engine's, and the other way round."""
    assert set(REASONS.values()) == {*Reason, "none", "reasons"}  # the first and the last are no reasons


def same_ports(packet: bytes) -> None:
    found = ip.ports(packet)
    expected = -1 if found is None else found[0] << 32 | found[1] << 16 | found[2]
    assert lib.mpt_ports(packet, len(packet)) == expected


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.lists(st.integers(0, 63), min_size=1, max_size=200))
def test_fitting_cycle(weights: list[int], masks: list[int]) -> None:
    """The same picks when some packets do not fit every path."""
    picks = ffi.new("uint32_t[]", len(masks))
    lib.mpt_fitting_cycle(weights, len(weights), masks, picks, len(masks))
    cycle = WeightedCycle(list(enumerate(weights)))
    expected = [cycle.next_of([index for index in range(6) if mask >> index & 1]) for mask in masks]
    assert ffi.unpack(picks, len(masks)) == [0xFFFFFFFF if each is None else each for each in expected]


def _tcp_options() -> st.SearchStrategy[bytes]:
    option = st.one_of(
        st.integers(0, 65535).map(lambda value: b"\x02\x04" + value.to_bytes(2, "big")),
        st.just(b"\x01"),
        st.just(b"\x00"),
        st.sampled_from([b"\x04\x02", b"\x03\x03\x07", b"\x02\x03\x05", b"\x02\x06abcd", b"\x08\x0a" + bytes(8)]),
        st.binary(max_size=5),
    )
    return st.lists(option, max_size=8).map(lambda each: b"".join(each)[:40].ljust(40, b"\0"))


def _segments() -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda inner, words: inner.octets()[: None if words is None else words],
        st.builds(
            Inner,
            version=st.sampled_from([4, 6]),
            protocol=st.sampled_from([TCP, TCP, TCP, UDP]),
            flags=st.sampled_from([SYN, SYN | ACK, ACK]),
            options=_tcp_options().flatmap(lambda octets: st.integers(0, 10).map(lambda words: octets[: words * 4])),
            payload=st.binary(max_size=9),
            dont_fragment=st.booleans(),
        ),
        st.one_of(st.none(), st.integers(0, 90)),
    )


def _with_extensions(packet: bytes, headers: list[bytes]) -> bytes:
    """Return an IPv6 packet with extension headers behind the first header; IPv4 packets stay."""
    if len(packet) < 40 or packet[0] >> 4 != 6 or not headers:
        return packet
    numbers = [each[0] for each in headers] + [packet[6]]
    chain = b"".join(bytes((follows,)) + each[1:] for each, follows in zip(headers, numbers[1:], strict=True))
    return packet[:6] + bytes((numbers[0],)) + packet[7:40] + chain + packet[40:]


_EXTENSIONS = [
    bytes((0, 0)) + bytes(6),
    bytes((60, 1)) + bytes(14),
    bytes((51, 4)) + bytes(22),
    bytes((44, 0)) + bytes(6),
]
_EXTENSIONS += [bytes((44, 0, 0, 1)) + bytes(4), bytes((44, 0, 0, 8)) + bytes(4)]
SEGMENTS = st.builds(_with_extensions, _segments(), st.lists(st.sampled_from(_EXTENSIONS), max_size=3))
ANY_PACKET = st.one_of(
    SEGMENTS,
    st.binary(min_size=1, max_size=100).map(lambda octets: b"\x45" + octets),
    st.binary(min_size=1, max_size=100).map(lambda octets: b"\x60" + octets),
    st.tuples(st.sampled_from([0x46, 0x4F]), SEGMENTS).map(lambda both: bytes((both[0],)) + both[1][1:]),
)


@given(ANY_PACKET, st.sampled_from([0, 40, 41, 60, 61, 576, 1280, 1430]))
def test_mss(packet: bytes, size: int) -> None:
    """The same octets of any packet, and no other octet is touched."""
    if ip.version(packet) == 0:
        return
    copy = ffi.new("uint8_t[]", packet)
    lib.mpt_clamp_mss(copy, len(packet), size, 0)
    assert bytes(ffi.buffer(copy, len(packet))) == mss.clamped(packet, size)


@given(ANY_PACKET, st.sampled_from([68, 576, 1280, 65535]), st.sampled_from([0, 3, 8, 128, 137]))
def test_too_big(packet: bytes, size: int, kind: int) -> None:
    """The same answer, or none."""
    version = ip.version(packet)
    if version == 0:
        return
    sender = ip_address("10.0.0.9" if version == 4 else "fd00::9")
    if len(packet) > 60 and kind:  # an ICMP message of some kind
        packet = packet[:9] + b"\x01" + packet[10:20] + bytes((kind,)) + packet[21:] if version == 4 else packet
        packet = packet[:6] + b"\x3a" + packet[7:40] + bytes((kind,)) + packet[41:] if version == 6 else packet
    out = ffi.new("uint8_t[]", 1280)
    there = {"version": version, "octets": sender.packed.ljust(16, b"\0")}
    length = lib.mpt_too_big_answer(packet, len(packet), size, ffi.new("struct mpt_address *", there), out)
    assert bytes(ffi.buffer(out, length)) == (toobig.answer(packet, size, sender) or b"")


@given(ANY_PACKET, st.integers(0, 100), st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_fragments(packet: bytes, size: int, more: bytes, field: int) -> None:
    """The same fragments of any IPv4 packet."""
    packet += more
    if ip.version(packet) != 4:
        return
    packet = packet[:2] + len(packet).to_bytes(2, "big") + packet[4:6] + field.to_bytes(2, "big") + packet[8:]
    out, sizes = ffi.new("uint8_t[]", 1 << 17), ffi.new("uint32_t[]", 64)
    count = lib.mpt_fragments(packet, len(packet), size, out, 1 << 17, sizes, 64)
    lengths = ffi.unpack(sizes, max(count, 0))
    assert pieces_of(bytes(ffi.buffer(out, sum(lengths))), lengths) == fragment.fragments(packet, size)

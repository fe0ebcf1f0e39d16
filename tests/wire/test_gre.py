"""The GRE header: what is sent, and every rule by which a datagram is dropped (RFC 2784, RFC 2890)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.testing.strategies import sequences
from mpt.wire import gre

PAYLOAD = bytes.fromhex("45000014") + bytes(16)


def naive_checksum(octets: bytes) -> int:
    """RFC 1071 section 4.1, word by word."""
    total = 0
    for at in range(0, len(octets), 2):
        total += int.from_bytes((octets[at : at + 2] + b"\0")[:2], "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def with_checksum(flags: int, optional: bytes = b"", payload: bytes = PAYLOAD) -> bytes:
    """A datagram with a right checksum; `optional` stands after the checksum field."""
    head = (flags | gre.CHECKSUM_PRESENT).to_bytes(2, "big") + b"\x08\x00"
    sum_ = naive_checksum(head + bytes(4) + optional + payload)
    return head + sum_.to_bytes(2, "big") + bytes(2) + optional + payload


def reason_of(datagram: bytes) -> str | None:
    """Why `datagram` is dropped; None when it is not."""
    try:
        gre.decode(datagram)
    except DecodeError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("version", "sequence", "header"),
    [(4, None, "00000800"), (6, None, "000086dd"), (4, 0, "1000080000000000"), (6, 0xFFFFFFFE, "100086ddfffffffe")],
)
def test_the_octets_of_a_header(version: int, sequence: int | None, header: str) -> None:
    """A header is four octets, or eight with the sequence number in network byte order (guide figure 2)."""
    assert gre.encode(version, sequence).hex() == header
    assert gre.encode(version, sequence).startswith(gre.prefix(version, sequence is not None))


@given(st.sampled_from((4, 6)), st.none() | sequences, st.binary())
def test_what_is_encoded_is_decoded(version: int, sequence: int | None, payload: bytes) -> None:
    """Decoding gives back version and sequence number, and finds the payload."""
    header = gre.encode(version, sequence)
    assert gre.decode(header + payload) == (len(header), version, None, sequence)


def test_all_fields_have_their_place() -> None:
    """Checksum, key and sequence number follow each other in this order."""
    datagram = with_checksum(0x3000, bytes.fromhex("0a0b0c0d01020304"))
    assert gre.decode(datagram) == gre.Header(16, 4, 0x0A0B0C0D, 0x01020304)
    assert gre.decode(with_checksum(0x2000, bytes.fromhex("0a0b0c0d"))) == gre.Header(12, 4, 0x0A0B0C0D, None)
    assert gre.decode(with_checksum(0x1000, bytes.fromhex("01020304"))) == gre.Header(12, 4, None, 0x01020304)
    assert gre.decode(with_checksum(0)) == gre.Header(8, 4, None, None)
    assert gre.decode(bytes.fromhex("200086dd0a0b0c0d") + PAYLOAD) == gre.Header(8, 6, 0x0A0B0C0D, None)


@pytest.mark.parametrize("length", range(4))
def test_less_than_a_header_is_dropped(length: int) -> None:
    """Less than four octets are no header."""
    assert reason_of(bytes(length)) == "gre_truncated"


@pytest.mark.parametrize("fields", range(8))
def test_less_than_the_flagged_fields_is_dropped(fields: int) -> None:
    """A datagram that ends before the end of the fields its flags announce is dropped, wherever it is cut."""
    flags = (0x8000 if fields & 4 else 0) | (0x2000 if fields & 2 else 0) | (0x1000 if fields & 1 else 0)
    whole = flags.to_bytes(2, "big") + b"\x08\x00" + bytes(4 * fields.bit_count())
    for length in range(4, len(whole)):
        assert reason_of(whole[:length]) == "gre_truncated", length
    assert reason_of(whole) in (None, "gre_checksum")


@pytest.mark.parametrize("version", range(1, 8))
def test_other_versions_are_dropped(version: int) -> None:
    """The version must be 0 (RFC 2784 section 2.3.1); version 1 is PPTP's."""
    assert reason_of(bytes((0, version, 8, 0)) + PAYLOAD) == "gre_version"


@pytest.mark.parametrize("bit", range(16))
def test_reserved_bits(bit: int) -> None:
    """Bits 1, 4 and 5 are dropped for; bits 6 to 12 are ignored (RFC 2784 section 2.3, RFC 2890 section 2)."""
    datagram = (0x8000 >> bit).to_bytes(2, "big") + b"\x08\x00" + PAYLOAD
    if bit in (1, 4, 5):
        assert reason_of(datagram) == "gre_reserved_bits"
    elif 6 <= bit <= 12:
        assert gre.decode(datagram) == (4, 4, None, None)


def test_other_protocols_are_dropped() -> None:
    """Only IPv4 and IPv6 are carried: of all protocol types these two."""
    accepted = [kind for kind in range(0x10000) if reason_of(b"\0\0" + kind.to_bytes(2, "big") + PAYLOAD) is None]
    assert accepted == [0x0800, 0x86DD]
    assert reason_of(bytes.fromhex("0000880b") + PAYLOAD) == "gre_protocol"


@given(st.sampled_from((0, 0x1000, 0x2000, 0x3000)), st.binary(max_size=99), st.data())
def test_the_checksum_is_verified(flags: int, payload: bytes, data: st.DataObject) -> None:
    """A right checksum over header and payload, of even or odd length, is accepted; with one bit wrong it is not."""
    optional = bytes.fromhex("0a0b0c0d01020304")[: 4 * flags.bit_count()]
    datagram = with_checksum(flags, optional, payload)
    assert reason_of(datagram) is None
    bit = data.draw(st.integers(32, len(datagram) * 8 - 1))
    broken = int.from_bytes(datagram, "big") ^ 1 << (len(datagram) * 8 - 1 - bit)
    assert reason_of(broken.to_bytes(len(datagram), "big")) == "gre_checksum"


@given(st.binary(max_size=200) | st.lists(st.sampled_from((b"\0\0", b"\xff\xff", b"\0\1")), max_size=40).map(b"".join))
def test_the_checksum_is_that_of_rfc_1071(octets: bytes) -> None:
    """The quick sum is the sum word by word, also where it is all zeros or all ones."""
    assert gre.checksum(octets) == naive_checksum(octets)


def test_the_checksum_example_of_rfc_1071() -> None:
    """RFC 1071 section 3 adds up these eight octets to ddf2."""
    assert gre.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@given(st.binary(max_size=64))
def test_any_octets_are_decoded_or_dropped(octets: bytes) -> None:
    """Whatever comes, there is a header inside the datagram, or a DecodeError with a reason, and nothing else."""
    reason = reason_of(octets)
    if reason is None:
        assert 4 <= gre.decode(octets).length <= len(octets)
    else:
        assert reason.startswith("gre_")


def test_a_key_and_a_number_make_twelve_octets() -> None:
    """RFC 2890: the key comes first; the header of session 8."""
    assert gre.encode(4, 7, 0x123).hex() == "300008000000012300000007"
    assert gre.decode(gre.encode(6, 7, 0x123)) == (12, 6, 0x123, 7)
    assert gre.encode(6, None, 1).hex() == "200086dd00000001"

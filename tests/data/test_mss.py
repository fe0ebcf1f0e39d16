"""The largest segment of SYNs is lowered, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.mss import clamped
from tests.accel.model import ACK, SYN, UDP, Inner


def option(value: int) -> bytes:
    return b"\x02\x04" + value.to_bytes(2, "big")


LINUX = b"\x04\x02\x08\x0a\0\0\0\1\0\0\0\0\x01\x03\x03\x07"  # SACK permitted, timestamps, window scale
ODD = b"\x01%b\x01\x04\x02"  # the value lies across two words of the checksum


@pytest.mark.parametrize(("version", "most"), [(4, 1390), (6, 1370)])
@given(
    flags=st.sampled_from([SYN, SYN | ACK]),
    value=st.integers(0, 65535),
    around=st.sampled_from([b"%b" + LINUX, b"\x01\x01%b\x01\x01", ODD]),
    sequence=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=5),
)
def test_a_syn_gets_the_packet_that_it_would_have_been(
    version: int, most: int, flags: int, value: int, around: bytes, sequence: int, payload: bytes
) -> None:
    """Checksum and all, wherever the option stands; a smaller value stays."""
    syn = Inner(version, flags=flags, options=around % option(value), sequence=sequence, payload=payload)
    expected = replace(syn, options=around % option(min(value, most)))
    assert clamped(syn.octets(), 1430) == expected.octets()


def test_octet_for_octet() -> None:
    """A SYN of Linux from 10.0.0.2 to 10.0.0.3: 1460 becomes 1390, and the checksum 46 more."""
    before = bytes.fromhex(
        "4500003c1c46400040060a740a0000020a000003 a8e4145100000001 00000000a002faf0 f62f0000"
        "020405b40402080a00000001000000000103 0307"
    )
    after = before.replace(bytes.fromhex("020405b4"), bytes.fromhex("0204056e"))
    after = after[:36] + bytes.fromhex("f675") + after[38:]
    assert clamped(before, 1430) == after


SYN_PACKET = Inner(flags=SYN, options=option(1460)).octets()


@pytest.mark.parametrize(
    "packet",
    [
        Inner(flags=ACK, options=option(1460)).octets(),
        Inner(protocol=UDP, payload=bytes(30)).octets(),
        SYN_PACKET[:6] + b"\x20\0" + SYN_PACKET[8:],  # the first of several fragments
        SYN_PACKET[:6] + b"\0\x01" + SYN_PACKET[8:],
        SYN_PACKET[:43],  # the option is cut off
        Inner(flags=SYN, options=b"\0\0\0\0" + option(1460)).octets(),  # behind the end of the options
        Inner(flags=SYN, options=b"\x03\x01\x01\x01" + option(1460)).octets(),  # an option that cannot be that short
        Inner(flags=SYN, options=b"\x01\x01\x01\x02").octets(),
        Inner(flags=SYN, options=b"\x02\x05\x05\xb4\0\0\0\0").octets(),
    ],
)
def test_what_is_no_whole_good_syn_stays(packet: bytes) -> None:
    """Octet for octet; nothing is read beyond its end."""
    assert clamped(packet, 1430) is packet


def test_ipv6_extension_headers_are_skipped() -> None:
    """A SYN behind a destination header; the checksum does not know that header."""
    syn, expected = (Inner(6, flags=SYN, options=option(value)).octets() for value in (1440, 1370))

    def extended(packet: bytes) -> bytes:
        return packet[:6] + b"\x3c" + packet[7:40] + b"\x06\0\x01\x04\0\0\0\0" + packet[40:]

    assert clamped(extended(syn), 1430) == extended(expected)

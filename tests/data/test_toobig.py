"""The sender of a packet that no path carries is told, unless the standards forbid it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mpt.data.toobig import answer
from mpt.wire.gre import checksum
from tests.accel.model import UDP, Inner
from tests.wire.packets import icmp_packet, ip_packet, udp_packet

PEER = {4: ip_address("10.0.0.3"), 6: ip_address("fd00::3")}


@pytest.mark.parametrize(("version", "quoted"), [(4, 548), (6, 1232)])
def test_the_answer(version: int, quoted: int) -> None:
    """From the peer to the sender, with the size, the begin of the packet and right checksums."""
    packet = Inner(version, UDP, payload=bytes(range(250)) * 6).octets()
    told = answer(packet, 1300, PEER[version])
    assert told is not None and told.endswith(packet[:quoted])
    if version == 4:
        assert told[:10] == bytes.fromhex("45c0 0240 0000 4000 4001") and checksum(told[:20]) == 0
        assert told[12:20] == PEER[4].packed + packet[12:16]
        assert told[20:22] + told[24:28] == bytes.fromhex("0304 0000 0514") and checksum(told[20:]) == 0
    else:
        assert told[:8] == bytes.fromhex("6000 0000 04d8 3a40") and told[8:40] == PEER[6].packed + packet[8:24]
        assert told[40:42] + told[44:48] == bytes.fromhex("0200 00000514")
        assert checksum(told[8:40] + bytes.fromhex("000004d8 0000003a") + told[40:]) == 0


UDP_4 = udp_packet("10.0.0.2", 1, "10.0.0.3", 2, bytes(1400))
UDP_6 = udp_packet("fd00::2", 1, "fd00::3", 2, bytes(1400))
LATER_FRAGMENT = ip_packet(44, "fd00::2", "fd00::3", bytes.fromhex("1100000800000001") + bytes(1400))


@pytest.mark.parametrize(
    "packet",
    [
        UDP_4[:6] + b"\x40\x01" + UDP_4[8:],  # a later fragment
        LATER_FRAGMENT,
        *(udp_packet(source, 1, "10.0.0.3", 2, b"") for source in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1")),
        *(udp_packet("10.0.0.2", 1, to, 2, b"") for to in ("224.0.0.1", "255.255.255.255")),
        *(udp_packet(source, 1, "fd00::3", 2, b"") for source in ("::", "::1", "ff02::1")),
        udp_packet("fd00::2", 1, "ff02::1", 2, b""),
        *(icmp_packet("10.0.0.2", "10.0.0.3", kind, 0, UDP_4) for kind in (3, 4, 5, 11, 12)),
        *(icmp_packet("fd00::2", "fd00::3", kind, 0, UDP_6) for kind in (1, 2, 3, 4, 127, 137)),
        ip_packet(1, "10.0.0.2", "10.0.0.3", b""),  # an ICMP message that is cut off: it may be an error
        ip_packet(60, "fd00::2", "fd00::3", b"\x3a\x01"),
    ],
)
def test_who_is_not_told(packet: bytes) -> None:
    """RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)."""
    assert answer(packet, 1300, PEER[packet[0] >> 4]) is None


@pytest.mark.parametrize(
    "packet",
    [
        icmp_packet("10.0.0.2", "10.0.0.3", 8, 0, UDP_4),
        icmp_packet("fd00::2", "fd00::3", 128, 0, UDP_6),
        UDP_4[:6] + b"\x20\0" + UDP_4[8:],
    ],
)
def test_a_large_ping_is_answered(packet: bytes) -> None:
    """As is a first fragment."""
    assert answer(packet, 1300, PEER[packet[0] >> 4]) is not None

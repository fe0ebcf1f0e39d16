"""The peek at inner packets: version and ports, in whatever shape the packet comes."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.wire import ip

PORTS = bytes.fromhex("0050c001")  # from port 80 to port 49153
SOUGHT = (80, 49153)
TCP, UDP, ICMP, NO_NEXT_HEADER = 6, 17, 1, 59


def ipv4(protocol: int, transport: bytes, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IPv4 packet; `fragment` is the field of flags and offset."""
    first = 0x45 + len(options) // 4
    return (
        bytes((first, 0, 0, 0, 0, 0))
        + fragment.to_bytes(2, "big")
        + bytes((64, protocol))
        + bytes(10)
        + options
        + transport
    )


def ipv6(*headers: tuple[int, bytes], transport: bytes) -> bytes:
    """An IPv6 packet; `headers` are (own number, octets with 0 for the next header), the last names the transport."""
    numbers = [number for number, _ in headers]
    extensions = b"".join(
        bytes((follows,)) + octets[1:] for follows, (_, octets) in zip(numbers[1:], headers, strict=False)
    )
    return b"\x60" + bytes(5) + bytes((numbers[0],)) + bytes(33) + extensions + transport


HOP_BY_HOP = (0, bytes((0, 0)) + bytes(6))
ROUTING = (43, bytes((0, 2)) + bytes(22))
DESTINATION = (60, bytes((0, 1)) + bytes(14))
AUTHENTICATION = (51, bytes((0, 4)) + bytes(22))
FIRST_FRAGMENT = (44, bytes((0, 0, 0, 1, 1, 2, 3, 4)))
LATER_FRAGMENT = (44, bytes((0, 0, 0, 8, 1, 2, 3, 4)))
FAR_FRAGMENT = (44, bytes((0, 0, 0x20, 0, 1, 2, 3, 4)))
EXTENSIONS = (HOP_BY_HOP, ROUTING, DESTINATION, AUTHENTICATION, FIRST_FRAGMENT)


@pytest.mark.parametrize("length", [0, 1, 19, 20, 39, 40, 1500])
def test_the_version(length: int) -> None:
    """A packet has a version when it has at least the header of that version."""
    assert ip.version((b"\x45" + bytes(length))[:length]) == (4 if length >= 20 else 0)
    assert ip.version((b"\x60" + bytes(length))[:length]) == (6 if length >= 40 else 0)
    assert ip.version((b"\xa1" + bytes(length))[:length]) == 0
    assert ip.version(bytes(length)) == 0


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("words", range(11))
def test_ports_stand_behind_ipv4_options(protocol: int, words: int) -> None:
    """The ports are found behind any number of option words."""
    assert ip.ports(ipv4(protocol, PORTS, bytes(4 * words))) == (protocol, *SOUGHT)


def test_an_impossible_header_length_has_no_ports() -> None:
    """A header length below five words is nonsense."""
    for words in range(5):
        packet = bytearray(ipv4(TCP, PORTS))
        packet[0] = 0x40 | words
        assert ip.ports(bytes(packet)) is None


def test_fragments_of_ipv4() -> None:
    """The first fragment has the ports; what stands there in a later one are no ports."""
    assert ip.ports(ipv4(UDP, PORTS, fragment=0x2000)) == (UDP, *SOUGHT)  # more fragments, offset 0
    assert ip.ports(ipv4(UDP, PORTS, fragment=0x4000)) == (UDP, *SOUGHT)  # don't fragment
    for offset in (1, 0xFF, 0x100, 0x1FFF):
        assert ip.ports(ipv4(UDP, PORTS, fragment=offset)) is None
        assert ip.ports(ipv4(UDP, PORTS, fragment=0x2000 | offset)) is None


def test_other_protocols_have_no_ports() -> None:
    """Only TCP and UDP are mapped by port."""
    others = set(range(256)) - {TCP, UDP}
    assert not any(ip.ports(ipv4(protocol, PORTS * 4)) for protocol in others)
    assert not any(ip.ports(ipv6((protocol, b""), transport=PORTS * 4)) for protocol in others - {0, 43, 44, 51, 60})


def test_ports_of_plain_ipv6() -> None:
    """Without extension headers the ports follow the 40 octets."""
    assert ip.ports(ipv6((TCP, b""), transport=PORTS)) == (TCP, *SOUGHT)
    assert ip.ports(ipv6((UDP, b""), transport=PORTS)) == (UDP, *SOUGHT)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_ports_stand_behind_every_chain_of_extension_headers(length: int) -> None:
    """The ports are found behind any chain of the extension headers that may precede them."""
    for chain in product(EXTENSIONS, repeat=length):
        assert ip.ports(ipv6(*chain, (UDP, b""), transport=PORTS)) == (UDP, *SOUGHT), chain


def test_a_later_fragment_of_ipv6_has_no_ports() -> None:
    """A later fragment has none, wherever its header stands."""
    for later in (LATER_FRAGMENT, FAR_FRAGMENT):
        assert ip.ports(ipv6(later, (UDP, b""), transport=PORTS)) is None
        assert ip.ports(ipv6(HOP_BY_HOP, later, DESTINATION, (UDP, b""), transport=PORTS)) is None


def test_the_walk_is_bounded() -> None:
    """Eight extension headers are followed; a hostile chain of more is not."""
    assert ip.ports(ipv6(*[HOP_BY_HOP] * 8, (UDP, b""), transport=PORTS)) == (UDP, *SOUGHT)
    assert ip.ports(ipv6(*[HOP_BY_HOP] * 9, (UDP, b""), transport=PORTS)) is None
    assert ip.ports(ipv6(*[HOP_BY_HOP] * 8000, (UDP, b""), transport=PORTS)) is None
    assert ip.ports(ipv6(HOP_BY_HOP, (NO_NEXT_HEADER, b""), transport=PORTS)) is None


@pytest.mark.parametrize(
    "packet",
    [ipv4(TCP, PORTS), ipv4(TCP, PORTS, bytes(40)), ipv6((UDP, b""), transport=PORTS)]
    + [ipv6(extension, (UDP, b""), transport=PORTS) for extension in EXTENSIONS]
    + [ipv6(*EXTENSIONS, (UDP, b""), transport=PORTS)],
)
def test_a_packet_that_is_cut_off_has_no_ports(packet: bytes) -> None:
    """Cut off anywhere before the end of the ports, a packet has none, and that is all."""
    assert ip.ports(packet) is not None
    for length in range(ip.MIN_LENGTH[ip.version(packet)], len(packet)):
        assert ip.ports(packet[:length]) is None, length


@given(st.integers(0x40, 0x4F), st.binary(min_size=19, max_size=99))
def test_any_ipv4_packet_has_ports_or_none(first: int, rest: bytes) -> None:
    """Whatever follows a first octet of IPv4, looking for the ports does not fail."""
    found = ip.ports(bytes((first,)) + rest)
    assert found is None or found[0] in (TCP, UDP)


@given(st.sampled_from((0, 43, 44, 51, 60, TCP, UDP)), st.binary(min_size=33, max_size=400))
def test_any_ipv6_packet_has_ports_or_none(header: int, rest: bytes) -> None:
    """Whatever follows a first octet of IPv6, looking for the ports does not fail."""
    found = ip.ports(b"\x60" + bytes(5) + bytes((header,)) + rest)
    assert found is None or found[0] in (TCP, UDP)

"""Dumb Python models of what the C functions do: packets built from their fields, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from struct import pack

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 4, 5
NEEDS_CHECKSUM = 1
VNET = 10


def ones_sum(octets: bytes) -> int:
    """The one's complement sum of RFC 1071, word by word."""
    total = 0
    for index in range(0, len(octets), 2):
        total += int.from_bytes(octets[index : index + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Inner:
    """A TCP or UDP packet, a right one; a wrong one is made by changing its octets."""

    version: int = 4
    protocol: int = TCP
    source: bytes = b"\x0a\0\0\2"
    destination: bytes = b"\x0a\0\0\3"
    tos: int = 0
    ttl: int = 64
    ident: int = 0
    dont_fragment: bool = True
    ports: tuple[int, int] = (40000, 5201)
    sequence: int = 1000
    acknowledgement: int = 2000
    flags: int = ACK
    window: int = 500
    urgent: int = 0
    options: bytes = bytes.fromhex("0101080a0000000100000002")
    payload: bytes = b""

    @property
    def headers(self) -> int:
        return (20 if self.version == 4 else 40) + (20 + len(self.options) if self.protocol == TCP else 8)

    def transport(self, checksum: int) -> bytes:
        if self.protocol == UDP:
            return pack("!HHHH", *self.ports, 8 + len(self.payload), checksum) + self.payload
        offset = (20 + len(self.options)) // 4 << 4
        head = pack(
            "!HHIIBBHHH",
            *self.ports,
            self.sequence,
            self.acknowledgement,
            offset,
            self.flags,
            self.window,
            checksum,
            self.urgent,
        )
        return head + self.options + self.payload

    def pseudo(self) -> bytes:
        length = len(self.transport(0))
        if self.version == 4:
            return self._addresses() + pack("!HH", self.protocol, length)
        return self._addresses() + pack("!II", length, self.protocol)

    def _addresses(self) -> bytes:
        if self.version == 4:
            return self.source + self.destination
        return self.source.rjust(16, b"\xfd") + self.destination.rjust(16, b"\xfd")

    def octets(self, partial: bool = False) -> bytes:
        """The packet; `partial`: its checksum field holds the sum of the pseudo-header, as offloading leaves it."""
        checksum = ones_sum(self.pseudo())
        if not partial:
            checksum = 0xFFFF - ones_sum(self.pseudo() + self.transport(0))
            if checksum == 0 and self.protocol == UDP:
                checksum = 0xFFFF
        transport = self.transport(checksum)
        if self.version == 6:
            return (
                pack("!IHBB", 6 << 28 | self.tos << 20, len(transport), self.protocol, self.ttl)
                + self._addresses()
                + transport
            )
        head = pack(
            "!BBHHHBB",
            0x45,
            self.tos,
            20 + len(transport),
            self.ident,
            self.dont_fragment << 14,
            self.ttl,
            self.protocol,
        )
        check = 0xFFFF - ones_sum(head + bytes(2) + self._addresses())
        return head + check.to_bytes(2, "big") + self._addresses() + transport

    def with_zero_sum(self) -> Inner:
        """The same but for the last whole word of the payload, which makes its checksum come out as zero."""
        at = len(self.payload) // 2 * 2 - 2
        if at < 0:
            return self
        rest = replace(self, payload=self.payload[:at] + bytes(2) + self.payload[at + 2 :])
        word = 0xFFFF - ones_sum(rest.pseudo() + rest.transport(0))
        return replace(self, payload=self.payload[:at] + word.to_bytes(2, "big") + self.payload[at + 2 :])

    def cut(self, size: int) -> list[Inner]:
        """What the kernel's segmentation makes of it: segments of `size` octets of payload, the last may be shorter."""
        pieces = [self.payload[at : at + size] for at in range(0, len(self.payload), size)]
        segments = []
        for index, piece in enumerate(pieces):
            flags = self.flags
            if index > 0:
                flags &= ~CWR
            if index < len(pieces) - 1:
                flags &= ~(FIN | PSH)
            offset = index * size
            urgent = self.urgent
            if flags & URG and offset:
                urgent = max(urgent - offset, 0)
                if urgent == 0:
                    flags &= ~URG
            segments.append(
                replace(
                    self,
                    payload=piece,
                    flags=flags,
                    urgent=urgent,
                    ident=(self.ident + index) % 2**16,
                    sequence=(self.sequence + offset) % 2**32,
                )
            )
        return segments

    def frame(self, size: int = 0) -> bytes:
        """As a TUN gives it: with a virtio_net_hdr, and to be cut into `size` octets of payload unless that is 0."""
        kind = GSO_UDP_L4 if self.protocol == UDP else GSO_TCPV4 if self.version == 4 else GSO_TCPV6
        start = 20 if self.version == 4 else 40
        head = pack(
            "=BBHHHH",
            NEEDS_CHECKSUM,
            kind if size else GSO_NONE,
            self.headers,
            size,
            start,
            16 if self.protocol == TCP else 6,
        )
        return head + self.octets(partial=True)

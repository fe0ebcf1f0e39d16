"""The largest segment that two TCP ends agree on, lowered to what the tunnel carries in one packet (RFC 9293, 3.7.1).

A SYN tells the peer the largest segment that its sender takes (RFC 6691: without any options). Where routers lose
"fragmentation needed", a host that believed in more would never hear otherwise.
"""

from __future__ import annotations

from typing import Final

from mpt.wire import ip

HEADERS: Final = {4: 20 + 20, 6: 40 + 20}  # of IP and TCP
_TCP_HEADER: Final = 20
_OFFSET, _FLAGS, _CHECKSUM = 12, 13, 16
_SYN: Final = 0x02
_END, _NOTHING, _MSS = 0, 1, 2  # kinds of options
_MSS_LENGTH: Final = 4


def clamped(packet: bytes, size: int) -> bytes:
    """Return `packet` with the largest segment at most that of packets of `size` octets. It has an IP version.

    Only a whole SYN of TCP that names a larger one differs; its checksum follows the change (RFC 1624).
    """
    first = packet[0]
    if first == 0x45:
        if packet[9] != ip.TCP:
            return packet
        at = 20
    else:
        at = 40 if first >> 4 == 6 and packet[6] == ip.TCP else _offset(packet)
    if len(packet) < at + _TCP_HEADER or not packet[at + _FLAGS] & _SYN or not at:
        return packet
    return _lowered(packet, at, size - HEADERS[first >> 4])


def _offset(packet: bytes) -> int:
    """Return where the TCP header begins; 0: there is none."""
    found = ip.transport(packet)
    return found[1] if found is not None and found[0] == ip.TCP else 0


def _lowered(packet: bytes, at: int, most: int) -> bytes:
    found, end = ip.transport(packet), at + (packet[at + _OFFSET] >> 4) * 4
    if found is None or found[2] or end > len(packet) or most < 1:
        return packet  # a fragment; or a header that is cut off
    lowered, place = packet, at + _TCP_HEADER
    while place < end and packet[place] != _END:
        if packet[place] == _NOTHING:
            place += 1
            continue
        length = packet[place + 1] if place + 1 < end else 0
        if length < 2 or place + length > end:
            break
        if packet[place] == _MSS and length == _MSS_LENGTH:
            lowered = _with_value(lowered, at, place + 2, most)
        place += length
    return lowered


def _with_value(packet: bytes, at: int, place: int, most: int) -> bytes:
    """Return `packet` with at most the number `most` in the two octets at `place`; its TCP header begins at `at`."""
    before = packet[place] << 8 | packet[place + 1]
    if before <= most:
        return packet
    changed = bytearray(packet)
    changed[place : place + 2] = most.to_bytes(2, "big")
    if (place - at) % 2:  # across two words of the sum
        before, most = _swapped(before), _swapped(most)
    check = at + _CHECKSUM
    total = (~(packet[check] << 8 | packet[check + 1]) & 0xFFFF) + (~before & 0xFFFF) + most  # RFC 1624, equation 3
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    changed[check : check + 2] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(changed)


def _swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8

"""An IPv4 packet cut into fragments, as a router does it for a way that is too narrow (RFC 791 section 3.2)."""

from __future__ import annotations

from typing import Final

from mpt.wire.gre import checksum

_DONT_FRAGMENT, _MORE, _OFFSET = 0x4000, 0x2000, 0x1FFF
_COPIED: Final = 0x80  # of an option: it belongs to every fragment
_END, _NOTHING = 0, 1
_HEADER: Final = 20


def may_be_cut(packet: bytes) -> bool:
    """Return whether `packet`, which has a version (`mpt.wire.ip`), is of IPv4 and its sender lets routers cut it."""
    return packet[0] >> 4 == 4 and not packet[6] & _DONT_FRAGMENT >> 8


def fragments(packet: bytes, size: int) -> list[bytes]:
    """Return an IPv4 packet as fragments of at most `size` octets; none if its header does not fit it or the size."""
    header = (packet[0] & 0x0F) * 4
    total = packet[2] << 8 | packet[3]
    field = packet[6] << 8 | packet[7]
    step = (size - header) & ~7
    place = field & _OFFSET
    if header < _HEADER or total > len(packet) or total <= header or step < 8:
        return []
    if place * 8 + total - header > 0xFFFF:
        return []  # it would end beyond any packet
    heads = packet[:header], packet[:_HEADER] + _later_options(packet[_HEADER:header])
    cut = []
    for start in range(header, total, step):
        end = min(start + step, total)
        more = field & _MORE or (_MORE if end < total else 0)
        offset = place + (start - header) // 8
        cut.append(
            _head(heads[start > header], header + end - start, field & 0x8000 | more | offset) + packet[start:end]
        )
    return cut


def _later_options(options: bytes) -> bytes:
    """Return options in which those that only the first fragment has are replaced by nothing."""
    later, place = bytearray(options), 0
    while place < len(options) and options[place] != _END:
        length = 1 if options[place] == _NOTHING else options[place + 1] if place + 1 < len(options) else 0
        if length < 1 or place + length > len(options) or (options[place] != _NOTHING and length < 2):
            break
        if not options[place] & _COPIED:
            later[place : place + length] = bytes((_NOTHING,)) * length
        place += length
    return bytes(later)


def _head(header: bytes, length: int, field: int) -> bytes:
    """Return `header` with another total length, another field of flags and offset, and the right checksum."""
    head = header[:2] + length.to_bytes(2, "big") + header[4:6] + field.to_bytes(2, "big") + header[8:10] + bytes(2)
    head += header[12:]
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:]

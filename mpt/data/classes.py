"""The traffic classes of an adaptive connection: which packets wait behind others, and for others.

The first rule of the connection that has a packet decides; then DSCP does, as applications set it for voice and video
(RFC 4594: EF, CS6, AF4x). Packets of small flows that are no TCP are as urgent (`mpt.data.adaptive`). A TCP packet
without payload, SYN, FIN or RST is a *pure acknowledgement*: later ones say the same and more, so it waits for nothing
and is never repaired.
"""

from __future__ import annotations

from typing import Final

from mpt.data.pathtable import ClassRule
from mpt.wire import ip, tos

TCP: Final = 0
OTHER: Final = 1
ACKNOWLEDGEMENT: Final = 2
REALTIME: Final = 3  # over two lines, if its flow is small
SINGLE: Final = 4  # realtime, over one line
COPIED: Final = 5  # realtime, over two lines

_COPIES: Final = {None: REALTIME, 1: SINGLE, 2: COPIED}
REALTIME_DSCPS: Final = frozenset((34, 36, 38, 46, 48))  # AF41, AF42, AF43, EF, CS6
_PURE: Final = 0x07  # FIN, SYN, RST
_TCP_HEADER: Final = 20


def trait(packet: bytes, rules: tuple[ClassRule, ...]) -> int:
    """Return what a `packet` is for its queue; it has an IP version."""
    code_point = tos.octet(packet) >> 2
    if rules:
        found = ip.ports(packet)
        for rule in rules:
            if _has(rule, packet, code_point, found):
                return _COPIES[rule.copies] if rule.realtime else _of_transport(packet)
    return REALTIME if code_point in REALTIME_DSCPS else _of_transport(packet)


def _has(rule: ClassRule, packet: bytes, code_point: int, found: tuple[int, int, int] | None) -> bool:
    if rule.dscps and code_point not in rule.dscps:
        return False
    if rule.protocol is not None:
        transport = found or ip.transport(packet)
        if transport is None or transport[0] != rule.protocol:
            return False
    if not rule.ports:
        return True
    return found is not None and any(first <= port <= last for first, last in rule.ports for port in found[1:])


def _of_transport(packet: bytes) -> int:
    """Return the trait of a packet without a class: a pure acknowledgement of TCP, other TCP, or neither."""
    found = ip.transport(packet)
    if found is None or found[0] != ip.TCP or found[2] or len(packet) < found[1] + _TCP_HEADER:
        return OTHER
    offset = found[1]
    has_payload = len(packet) > offset + (packet[offset + 12] >> 4) * 4
    return TCP if has_payload or packet[offset + 13] & _PURE else ACKNOWLEDGEMENT

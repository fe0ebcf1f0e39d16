"""The GRE keys of a sealed connection with ``order = flow``: which packets wait for each other (session 3).

A flow is a pair of addresses with its protocol and, for TCP and UDP, its ports. Fragments have no ports that could be
relied on: all those of a pair of addresses are one flow. Flows whose keys are equal wait for each other, no more. Which
ones these are nobody can tell who does not know the secret of this host.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from mpt.wire import ip

KEYS: Final = 4096
CACHED: Final = 4096  # flows; then the cache starts anew


class FlowKeys:
    """The keys of one data path; `secret` has 16 octets."""

    __slots__ = ("_keys", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._keys: dict[bytes, int] = {}

    def of(self, packet: bytes) -> int:
        """Return the key of an IP packet, 0 .. KEYS - 1."""
        flow = flow_of(packet)
        key = self._keys.get(flow)
        if key is None:
            if len(self._keys) >= CACHED:
                self._keys.clear()
            digest = blake2b(flow, key=self._secret, digest_size=2).digest()
            key = self._keys[flow] = int.from_bytes(digest, "big") % KEYS
        return key


def flow_of(packet: bytes) -> bytes:
    """Return the octets that name the flow of an IP packet: addresses, protocol, ports if there are any."""
    pair = packet[12:20] + packet[9:10] if packet[0] >> 4 == 4 else packet[8:40] + packet[6:7]
    found = ip.transport(packet)
    if found is None or found[0] not in (ip.TCP, ip.UDP) or found[2] or len(packet) < found[1] + 4:
        return pair
    return pair + packet[found[1] : found[1] + 4]

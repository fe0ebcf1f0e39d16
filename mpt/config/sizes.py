"""How large packets and windows may be: what follows from the headers, the MTU of a line, its rate and its delay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mpt.model import MAX_REORDER_WINDOW, PathConfig

ETHERNET: Final = 1500  # octets, the MTU of most lines
PACKET: Final = 1400  # octets of a packet in a reorder window, as docs/getting-started.md counts

_PLAIN_HEADERS: Final = {4: 20 + 8 + 8, 6: 40 + 8 + 8}  # octets of IP, UDP, and GRE with a sequence number
_SEALED_MORE: Final = 34  # octets: the envelope (30) and GRE's key (4), session 3


def versions_of(path: PathConfig) -> set[int]:
    """Return the IP versions that a path is known to use."""
    return {path.ip_ver, *(address.version for address in path.remote_addresses)}


def largest_packet(mtu: int, versions: Collection[int], is_sealed: bool) -> int:
    """Return the octets of the largest packet that fits one datagram, on a line of this MTU and for all `versions` of
    IP, 4 if there are none."""
    return mtu - _PLAIN_HEADERS[max(versions, default=4)] - (_SEALED_MORE if is_sealed else 0)


def packets_in(rate: int, delay: int) -> int:
    """Return the packets that `rate` Mbit/s bring in `delay` ms, at most the largest window."""
    return min(MAX_REORDER_WINDOW, -(-rate * delay * 1000 // (8 * PACKET)))


def rate_of(window: int, delay: int) -> int:
    """Return the rate, in Mbit/s, whose packets of `delay` ms a window holds; 0 without a delay."""
    return 8 * PACKET * window // (1000 * delay) if delay else 0

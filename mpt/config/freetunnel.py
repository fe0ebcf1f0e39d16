"""The network that is proposed for a new tunnel: one that no line of this host has."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Final

from mpt.model import InterfaceAddress

TUNNELS: Final = (*(f"10.{second}.0.0/24" for second in range(77, 100)), "192.168.77.0/24")  # the first that is free


def free_tunnel(addresses: Iterable[InterfaceAddress]) -> IPv4Network | None:
    """Return a network that overlaps none of these addresses' networks, None if all of TUNNELS do."""
    taken = [each.network for each in addresses if each.version == 4]
    free = (IPv4Network(text) for text in TUNNELS)
    return next((each for each in free if not any(each.overlaps(network) for network in taken)), None)

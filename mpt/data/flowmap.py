"""Flow mapping: TCP and UDP packets of certain ports always take a certain path (draft section 5.2).

The keys are looked up in the order tcp_src, tcp_dst and udp_src, udp_dst; a packet of no listed port, a fragment
without ports, and a mapped path that cannot be used fall back to the cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpt.model import PortMap
from mpt.wire import ip


class FlowMap:
    """Port to path index, from the port lists of the paths of one connection in their order."""

    __slots__ = ("_by_destination", "_by_source")

    def __init__(self, maps: Sequence[PortMap]) -> None:
        self._by_source: dict[tuple[int, int], int] = {}
        self._by_destination: dict[tuple[int, int], int] = {}
        for index, ports in enumerate(maps):
            for table, protocol, listed in (
                (self._by_source, ip.TCP, ports.tcp_src),
                (self._by_destination, ip.TCP, ports.tcp_dst),
                (self._by_source, ip.UDP, ports.udp_src),
                (self._by_destination, ip.UDP, ports.udp_dst),
            ):
                for port in listed:
                    table.setdefault((protocol, port), index)

    def __bool__(self) -> bool:
        return bool(self._by_source or self._by_destination)

    def path(self, packet: bytes) -> int | None:
        """The index of the path that `packet` is mapped to, or None when it is free to take any."""
        found = ip.ports(packet)
        if found is None:
            return None
        protocol, source, destination = found
        index = self._by_source.get((protocol, source))
        return index if index is not None else self._by_destination.get((protocol, destination))

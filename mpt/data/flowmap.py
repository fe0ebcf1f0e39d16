"""Flow mapping: TCP and UDP packets of certain ports always take a certain path (draft section 5.2).

The keys are looked up in the order tcp_src, tcp_dst and udp_src, udp_dst. The cycle gets every other packet: its port
is not listed, it is a fragment without ports, or its path cannot be used.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpt.model import PortMap
from mpt.wire import ip


class FlowMap:
    """Port to path index, from the port lists of the paths of one connection in their order.

    `by_source` and `by_destination` hold (protocol, port) -> index.
    """

    __slots__ = ("by_destination", "by_source")

    def __init__(self, maps: Sequence[PortMap]) -> None:
        self.by_source: dict[tuple[int, int], int] = {}
        self.by_destination: dict[tuple[int, int], int] = {}
        for index, ports in enumerate(maps):
            for table, protocol, listed in (
                (self.by_source, ip.TCP, ports.tcp_src),
                (self.by_destination, ip.TCP, ports.tcp_dst),
                (self.by_source, ip.UDP, ports.udp_src),
                (self.by_destination, ip.UDP, ports.udp_dst),
            ):
                for port in listed:
                    table.setdefault((protocol, port), index)

    def __bool__(self) -> bool:
        return bool(self.by_source or self.by_destination)

    def path(self, packet: bytes) -> int | None:
        """Return the index of the path that `packet` is mapped to, or None: any path will do."""
        found = ip.ports(packet)
        if found is None:
            return None
        protocol, source, destination = found
        index = self.by_source.get((protocol, source))
        return index if index is not None else self.by_destination.get((protocol, destination))

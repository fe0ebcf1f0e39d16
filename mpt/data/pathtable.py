"""The table that control gives to data: the connections, their paths, and which paths may be used now.

The rows are frozen, and made anew at every change. The data path keeps its running state (sequence numbers, reorder
buffers, counters) beside them, under the keys of the rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final, Protocol

from mpt.data.framing import Plain, Sealed
from mpt.host.udp import Ancillary
from mpt.model import Address, NetworkConfig, PortMap

ADDRESS: Final = 130  # more than 1 + the length of any prefix
ANY_SIZE: Final = 0xFFFFFFFF  # octets, more than any packet has
LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")


class DataSocket(Protocol):
    """The methods of a UDP socket that the data path needs; ``socket.socket`` and the fakes have them."""

    def sendto(self, datagram: bytes, address: Any, /) -> int: ...
    def sendmsg(self, buffers: Iterable[bytes], ancillary: Iterable[Ancillary], flags: int, address: Any, /) -> int: ...
    def recv(self, size: int, flags: int, /) -> bytes: ...
    def recvmsg(self, size: int, ancillary_size: int, /) -> tuple[bytes, list[Ancillary], int, Any]: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PathRow:
    """One path: its `socket` and destination (`remote`, for ``sendto``), the `peer` (the host as ``recvfrom`` names it)
    from which it takes datagrams, its `weight` in the cycle, and whether egress may use it.

    A sealed path takes every datagram of its session with its `id` (0 .. 63), wherever it comes from. Its `remote` has
    the host as ``recvfrom`` names it; it is empty while the peer's address is not known: then egress cannot use it.

    `mtu`: the octets of the largest packet that it carries, 0: unknown. Larger ones go over other paths.
    """

    key: Hashable
    socket: DataSocket | None  # None: the interface or the address is not there
    remote: tuple[Any, ...]
    peer: str
    peer_address: Address
    weight: int
    usable: bool
    ports: PortMap = field(default_factory=PortMap)
    id: int = 0
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class ClassRule:
    """Which packets have a class: those with one of the `dscps`, if there are any, of the `protocol`, if there is one,
    and with a port in one of the `ports` (first, last), if there are any, as source or destination.

    `realtime`: they wait behind nothing, and for nothing at the peer. `copies` = 2: they go over two lines at once;
    None: if their flow is small.
    """

    dscps: frozenset[int] = frozenset()
    protocol: int | None = None
    ports: tuple[tuple[int, int], ...] = ()
    realtime: bool = True
    copies: int | None = None


@dataclass(frozen=True, slots=True)
class Adaptive:
    """How a sealed connection adapts to its lines; `sends`: the peer understands it, so packets go this way, too. Else
    only what comes is reported.

    `ordered`: each flow arrives in its order; else no packet waits for another. `queue_packets` wait at most. `target`
    and `interval` are CoDel's, in seconds (RFC 8289). A flow is small with at most `thin` octets in 100 ms. The first
    of the `classes` that has a packet decides about it, then the built-in rules do (`mpt.data.classes`).
    """

    sends: bool
    ordered: bool = True
    queue_packets: int = 3000
    target: float = 0.040
    interval: float = 0.300
    thin: int = 4000
    classes: tuple[ClassRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One connection: its tunnel addresses, networks and paths; `max_delay` in seconds, `reorder_window` in packets.

    `dscp` is the code point of all datagrams; None: each has its packet's. `ecn`: whether they have the packet's ECN
    field. `framing` is for datagrams sent; arriving datagrams are read with or without sequence numbers.

    `mss_clamp`: the octets of the largest packet on which TCP ends may agree, for both directions; 0: any.

    `adaptive`: None: packets go by the weighted cycle. Only sealed connections have another value.
    """

    key: Hashable
    tunnel_local: Address
    tunnel_peer: Address
    networks: tuple[NetworkConfig, ...]
    reorder_window: int
    max_delay: float
    paths: tuple[PathRow, ...]
    framing: Plain | Sealed
    dscp: int | None = 0
    ecn: bool = False
    broadcast: Address | None = None  # of the tunnel's IPv4 prefix
    mss_clamp: int = 0
    adaptive: Adaptive | None = None

    def sends(self, source: Address, destination: Address) -> bool:
        """Return whether a packet from `source` to `destination` enters the tunnel here (draft section 4)."""
        return self.has(source) and self.reach(destination) > 0

    def has(self, address: Address) -> bool:
        """Return whether `address` is ours, or in a network behind us."""
        return address == self.tunnel_local or any(address in network.source for network in self.networks)

    def reach(self, address: Address) -> int:
        """Return how precisely `address` is known to be at the peer: ADDRESS for its tunnel address, else 1 + the
        length of the longest prefix behind it that has the address, else 0."""
        if address == self.tunnel_peer:
            return ADDRESS
        lengths = (network.destination.prefixlen for network in self.networks if address in network.destination)
        return max(lengths, default=-1) + 1

    def takes_group(self, source: Address, destination: Address) -> bool:
        """Return whether a packet to the group `destination` (`is_group`) from `source` goes to this peer, too."""
        return source == self.tunnel_local or self.sends(source, destination)

    def is_group(self, destination: Address) -> bool:
        """Return whether `destination` is many hosts: multicast, or broadcast in the tunnel's prefix."""
        return destination.is_multicast or destination in (LIMITED_BROADCAST, self.broadcast)


Table = tuple[ConnectionRow, ...]

"""What is known about this host: values that ``mpt.host.survey`` gathers, and that checks compare a configuration with.

What the kernel hides, as in a sandbox, is left out. Nothing is concluded from a fact that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mpt.model import Address, Interface, Route


class UdpSocket(NamedTuple):
    """A UDP socket of this network namespace. `pid` 0 and `program` "": its owner is not known. `drops` are datagrams
    that found no room in its buffer."""

    address: Address
    port: int
    pid: int = 0
    program: str = ""
    drops: int = 0


class Target(NamedTuple):
    """A UDP port of a peer, and how this host gets there: over `interface`, from `local` (None: the kernel chooses)."""

    interface: str
    local: Address | None
    peer: Address
    port: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """This host. `default_routes` are by interface and IP version. `speeds` are what the drivers say, in Mbit/s.

    `sysctls` are by name, such as "net.ipv4.ip_forward". `udp_sockets` None: the kernel does not list them. `probed`
    says what is wrong with a UDP port of a peer that was tried, "" for nothing that can be seen. `daemon` is the
    process of the daemon that answers here, 0 if none does.
    """

    interfaces: Mapping[str, Interface]
    default_routes: Mapping[tuple[str, int], Route] = field(default_factory=dict)
    speeds: Mapping[str, int] = field(default_factory=dict)
    udp_sockets: tuple[UdpSocket, ...] | None = None
    probed: Mapping[tuple[Address, int], str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    kernel: tuple[int, int] = (0, 0)
    tun_device: str = ""  # why /dev/net/tun cannot be used; "": it can
    is_root: bool = True
    has_native: bool = True  # whether the native data path was built
    daemon: int = 0

    def reaches(self, version: int) -> bool:
        """Return whether a default route of this IP version leads anywhere."""
        return any(each == version for _name, each in self.default_routes)

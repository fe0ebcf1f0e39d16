"""The outside world as the services need it, in one value, so that a test can give them another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpt.errors import HostError
from mpt.host.clocks import sleep_clocks
from mpt.host.credentials import UdpSender, udp_sender
from mpt.host.netlink import Netlink, NetlinkApi
from mpt.host.resolvers import name_servers
from mpt.host.sockets import open_data_socket
from mpt.host.system import System
from mpt.host.tap import Tap, drops_what_returns_elsewhere
from mpt.host.tun import Tun, open_tun
from mpt.model import Address, Interface, TunnelConfig


@dataclass(frozen=True, slots=True)
class Machine:
    """`reactor` schedules and watches descriptors; `now` is its clock, in monotonic seconds.

    `wall` is the clock of people, in seconds since 1970. What outlives the daemon is in the `state_directory`; None: it
    keeps nothing. `data_ports` are the data sockets of all tunnels, by address and port, then by endpoint: the path
    that opened each.
    """

    reactor: Any
    now: Callable[[], float]
    system: System
    netlink: NetlinkApi
    open_tun: Callable[[TunnelConfig, System, NetlinkApi, int], Tun] = open_tun
    open_data_socket: Callable[[Address, int, str | None, System], Any] = open_data_socket
    udp_sender: Callable[[Address, int, int], UdpSender | None] = udp_sender
    open_tap: Callable[[str, int, int], Any] = Tap
    is_filtered: Callable[[str], bool] = drops_what_returns_elsewhere
    name_servers: Callable[[], tuple[Address, ...]] = name_servers
    sleep_clocks: Callable[[], tuple[float, float]] = sleep_clocks
    wall: Callable[[], float] = time.time
    state_directory: Path | None = None
    data_ports: dict[tuple[Address, int], dict[Any, tuple[str, int]]] = field(default_factory=dict)


def interfaces_here() -> dict[str, Interface] | None:
    """Return the interfaces of this host, before the daemon forks; None if the kernel hides them, as in a sandbox."""
    netlink = Netlink()
    try:
        return netlink.snapshot()
    except (HostError, OSError):
        return None
    finally:
        netlink.close()

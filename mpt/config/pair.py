"""A matching pair of configurations: the files of both ends of one connection, from what is the same for both.

    plan = Plan(("home", "vps"), ip_network("10.77.0.0/24"), paths)
    for side in (0, 1):
        plan.interface_text(side), plan.connection_text(side, public_key_of_the_other)

Each end mirrors the other: addresses, networks and paths, path by path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import Any, Final

from mpt import values
from mpt.config.schema import SPELLINGS
from mpt.config.sizes import packets_in
from mpt.config.writer import interface_text, new_interface_text
from mpt.model import (
    MAX_NETWORKS,
    MAX_WEIGHT,
    Address,
    GeneralConfig,
    InterfaceAddress,
    Network,
    TunnelConfig,
    unspecified,
)
from mpt.values import text_of

SIDES: Final = (0, 1)
PLAIN_MTU: Final = {4: 1440, 6: 1420}  # octets, on Ethernet
DELAY: Final = 100  # ms that a packet waits for its order
LEAST_WINDOW: Final = 1000  # packets
SEALED_PORT: Final = SPELLINGS["connection"]["remote_port"].default_value(sealed=True)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a path: an interface, and the addresses and DNS names by which the other end finds it.

    The first address has the length of its prefix if that was written: what is in it is on the link.
    """

    interface: str
    addresses: tuple[InterfaceAddress, ...] = ()
    names: tuple[str, ...] = ()
    is_link_known: bool = False

    @property
    def found_at(self) -> tuple[Address | str, ...]:
        """Return the addresses, then the names."""
        return (*(each.ip for each in self.addresses), *self.names)


@dataclass(frozen=True, slots=True)
class PairedPath:
    """A path: its two ends, and what each end sends over it, in Mbit/s; None: not known."""

    ends: tuple[End, End]
    rates: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What both configurations are made from. Of each pair the first is of the first host.

    `networks` are behind each host. Raises ValueError if something does not fit.
    """

    names: tuple[str, str]
    tunnel: Network
    paths: Sequence[PairedPath]
    networks: tuple[tuple[Network, ...], tuple[Network, ...]] = ((), ())
    port: int = SEALED_PORT
    is_sealed: bool = True
    is_adaptive: bool = False

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("a tunnel needs a path")
        if self.tunnel.num_addresses < 4:
            raise ValueError(f"the tunnel {self.tunnel} has no room for two hosts")
        if self.names[0] == self.names[1]:
            raise ValueError("the two hosts need different names")
        if self.is_adaptive and not self.is_sealed:
            raise ValueError("only a sealed connection can be adaptive")
        for number, path in enumerate(self.paths):
            if self.is_sealed and not any(end.found_at for end in path.ends):
                raise ValueError(f"path {number} needs the address, or the DNS name, of one of its ends")
            if not self.is_sealed and not all(end.addresses for end in path.ends):
                raise ValueError(f"path {number} needs the addresses of both ends, as a connection without keys does")
        if len(list(self._pairs(0))) > MAX_NETWORKS:
            raise ValueError(f"so many networks make more than {MAX_NETWORKS} pairs")

    def address(self, side: int) -> InterfaceAddress:
        """Return the tunnel address of a host: the second host, which is the server if one is, has the first."""
        hosts = self.tunnel.hosts()
        found = [next(hosts), next(hosts)]
        return ip_interface(f"{found[1 - side]}/{self.tunnel.prefixlen}")

    def interface_text(self, side: int) -> str:
        """Return interface.conf."""
        address = self.address(side)
        if self.is_sealed:
            return new_interface_text(address)
        versions = {end.addresses[0].version for path in self.paths for end in path.ends}
        families: dict[str, Any] = {f"ipv{address.version}_addr": address}
        return interface_text(GeneralConfig(), [TunnelConfig("tun0", PLAIN_MTU[max(versions)], **families)])

    def connection_text(self, side: int, peer_key: str = "") -> str:
        """Return the connection file; `peer_key` is the public key of the other host if the connection is sealed."""
        blocks = [("connection", self._head(side, peer_key))]
        blocks += [(f"path_{number}", self._path(side, path)) for number, path in enumerate(self.paths)]
        blocks += [(f"net_{number}", self._network(*pair)) for number, pair in enumerate(self._pairs(side))]
        written = [f"; Made by mpt init: {self.names[side]} to {self.names[1 - side]}."]
        for title, rows in blocks:
            written += ["", f"[{title}]", *(f"{key:<18} = {text_of(value)}" for key, value in rows)]
        return "\n".join(written) + "\n"

    def _head(self, side: int, peer_key: str) -> list[tuple[str, object]]:
        own, peer = self.address(side).ip, self.address(1 - side).ip
        rows: list[tuple[str, object]] = [("name", self.names[1 - side])]
        if self.is_sealed:
            rows += [("peer_key", peer_key), ("ip_local", own), ("ip_remote", peer)]
            rows += [("local_port", self.port), ("remote_port", self.port)] if self.port != SEALED_PORT else []
            rows += [("scheduler", "adaptive")] if self.is_adaptive else []
            rows += [("scheduler", "cycle"), *self._window()] if self._goes_by_rates() else []
            return rows
        rows += [("permission", 3), ("ip_ver", own.version), ("ip_local", own), ("local_port", self.port)]
        rows += [("ip_remote", peer), ("remote_port", self.port), ("remote_cmd_port", GeneralConfig().cmdport_local)]
        rows += [("path_count", len(self.paths)), ("network_count", len(list(self._pairs(side)))), ("status", 0)]
        return [*rows, *(self._window() or [("reorder_window", LEAST_WINDOW)]), ("auth_type", 0)]

    def _goes_by_rates(self) -> bool:
        """Return whether packets of a sealed connection are shared out by the rates: they differ at one end, which by
        itself makes that end alone go by them."""
        weights = [{self._weight(side, each) for each in self.paths} for side in SIDES]
        return not self.is_adaptive and any(len(each) > 1 for each in weights)

    def _weight(self, side: int, path: PairedPath) -> int:
        return path.rates[side] if path.rates is not None else 1

    def _window(self) -> list[tuple[str, object]]:
        """Return the reorder window if the rates are known and ask for more than the default."""
        rate = sum(max(path.rates) for path in self.paths if path.rates is not None)
        packets = packets_in(rate, DELAY)
        default = SPELLINGS["connection"]["reorder_window"].default_value(sealed=True) if self.is_sealed else 0
        if packets <= default:
            return []
        return [("reorder_window", max(LEAST_WINDOW, packets)), ("max_buffdelay_msec", DELAY)]

    def _path(self, side: int, path: PairedPath) -> list[tuple[str, object]]:
        here, there = path.ends[side], path.ends[1 - side]
        rows: list[tuple[str, object]] = [("interface_name", here.interface)]
        if self.is_sealed:
            rows += [("remote_ipaddr", there.found_at)] if there.found_at else []
        else:
            own, peer = here.addresses[0], there.addresses[0].ip
            on_link = here.is_link_known and peer in own.network
            gateway = own.ip if on_link else unspecified(own.version)
            rows += [("ip_ver", own.version), ("public_ipaddr", own.ip), ("gw_ipaddr", gateway)]
            rows += [("remote_ipaddr", peer), ("keepalive_time", 0.5), ("dead_time", 2.0)]
        weight = self._weight(side, path)
        rows += [("weight_out", weight)] if weight != 1 or not self.is_sealed else []
        return rows if self.is_sealed else [*rows, ("status", 0)]

    def _pairs(self, side: int) -> Iterator[tuple[Network, Network]]:
        """Return source and destination of each [net_n], in one order at both ends; the tunnel addresses themselves
        need none."""
        first, second = self._behind(0), self._behind(1)
        for one in first:
            for other in second:
                if one.version == other.version and (one, other) != (first[0], second[0]):
                    yield (one, other) if side == 0 else (other, one)

    def _behind(self, side: int) -> list[Network]:
        """Return a host's tunnel address and the networks behind it."""
        return [ip_network(self.address(side).ip), *self.networks[side]]

    def _network(self, source: Network, destination: Network) -> list[tuple[str, object]]:
        versions: list[tuple[str, object]] = [] if self.is_sealed else [("ip_ver", source.version)]
        return [*versions, ("src_addr", source), ("dst_addr", destination)]


def read_path(text: str) -> PairedPath:
    """Return a path from its text: END,END or END,END,RATE/RATE, an END being INTERFACE or INTERFACE=ADDRESS+….

    Raises ValueError, whose text says what is allowed.
    """
    allowed = "HERE,THERE such as eth1,eth0=192.0.2.10 or eth1=10.1.1.2/24,eth1=10.1.1.3/24, with ,UP/DOWN for rates"
    ends = text.split(",")
    if len(ends) not in (2, 3):
        raise ValueError(allowed)
    rates = None
    if len(ends) == 3:
        up, slash, down = ends[2].partition("/")
        if not slash or not all(each.isdigit() and 0 < int(each) <= MAX_WEIGHT for each in (up, down)):
            raise ValueError(f"{allowed}: UP and DOWN are Mbit/s, 1 to {MAX_WEIGHT}")
        rates = int(up), int(down)
    return PairedPath((_end(ends[0]), _end(ends[1])), rates)


def _end(text: str) -> End:
    interface, _equals, found = text.partition("=")
    addresses: list[InterfaceAddress] = []
    names: list[str] = []
    for word in found.split("+") if found else ():
        for each in values.remotes(word.partition("/")[0]):
            if isinstance(each, str):
                names.append(each)
            else:
                addresses.append(values.interface_address(word))
    return End(values.interface_name(interface), tuple(addresses), tuple(names), "/" in found)

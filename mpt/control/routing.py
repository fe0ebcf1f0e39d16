"""Which addresses and routes a connection needs (guide 2.6.3.2 and 2.6.3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from mpt.model import Address, ConnectionConfig, Interface, Network, PathConfig, Route

# Two paths may lead to one remote address over different interfaces. The kernel keeps both routes if their metrics
# differ, and a socket that is bound to its interface finds its own. Metric = this + the interface's index.
PEER_ROUTE_METRIC: Final = 4754

HALVES: Final[dict[int, tuple[Network, ...]]] = {
    4: (ip_network("0.0.0.0/1"), ip_network("128.0.0.0/1")),
    6: (ip_network("::/1"), ip_network("8000::/1")),
}


def local_address(path: PathConfig, interfaces: Mapping[str, Interface]) -> Address | None:
    """Return the address that the sockets of `path` are bound to, or None while it is not there.

    That is private_ipaddr, else public_ipaddr; if unspecified (0.0.0.0), the first address of the interface. A path
    that is not bound to its interface may use an address of another one.
    """
    interface = interfaces.get(path.interface_name)
    if interface is None:
        return None
    wanted = path.private_ipaddr if path.private_ipaddr is not None else path.public_ipaddr
    own = [address.ip for address in interface.addresses if address.version == path.ip_ver]
    if wanted.is_unspecified:
        routable = [address for address in own if not address.is_link_local]
        return next(iter(routable or own), None)
    if not path.bind_to_device:
        own = [address.ip for each in interfaces.values() for address in each.addresses]
    return next((address for address in own if address.packed == wanted.packed), None)


@dataclass(frozen=True, slots=True)
class PeerRoute:
    """The route to the peer of a path, or None. Then `missing` says why there is none; None: none is needed.

    `is_found`: the gateway was looked up (gw_ipaddr = 0.0.0.0).
    """

    route: Route | None
    missing: str | None = None
    is_found: bool = False


NO_ROUTE: Final = PeerRoute(None)


def peer_route(path: PathConfig, interface: Interface, default_route: Callable[[str, int], Route | None]) -> PeerRoute:
    """Return the host route to the peer over the `interface` of `path`.

    A gateway that is the peer's address, or an address that the host has or had, means "directly connected", as in the
    guide's samples. For an unspecified gateway, the gateway of `default_route(interface, version)` is taken. Without a
    default route there is a route only if the peer is in a network of the interface, or if the link has one other end.
    Nothing is guessed: the kernel would ask the link for an address that nobody there has.
    """
    remote = path.remote_ipaddr
    if remote.is_unspecified or remote.is_link_local or remote.is_loopback:
        return NO_ROUTE
    own = [address for address in interface.addresses if address.version == path.ip_ver]
    direct = Route(_just(remote), interface.name, None, PEER_ROUTE_METRIC + interface.index)
    gateway = path.gateway_ipaddr
    if not gateway.is_unspecified:
        if gateway in (remote, path.public_ipaddr, path.private_ipaddr) or any(gateway == each.ip for each in own):
            return PeerRoute(direct)
        return PeerRoute(replace(direct, gateway=gateway))
    if any(remote in address.network for address in own):
        return PeerRoute(direct)
    default = default_route(interface.name, path.ip_ver)
    if default is not None:
        return PeerRoute(replace(direct, gateway=default.gateway, onlink=default.onlink), is_found=True)
    if interface.needs_gateway:
        return PeerRoute(None, f"{interface.name} has no IPv{path.ip_ver} default route and gw_ipaddr names no gateway")
    return PeerRoute(direct)


@lru_cache(4096)
def _just(address: Address) -> Network:
    """Return the network of one address; ipaddress makes it slowly."""
    return ip_network(address)


def tunnel_routes(connection: ConnectionConfig, tunnel: str) -> list[Route]:
    """Return the routes into the tunnel: to the peer's tunnel address and to the networks behind it.

    "Everything" (0.0.0.0/0 or ::/0) becomes its two halves, which win over a default route without touching it; the
    host routes of the paths are more specific still, so the paths themselves are not cut off. Packets of this host to
    the networks get its tunnel address as their source. Left alone, the kernel would prefer the global address of
    another interface to the guide's site-local one (RFC 6724 section 5, rule 2), and no connection carries that packet.
    """
    routes = [Route(ip_network(connection.ip_remote), tunnel)]
    for network in connection.networks:
        whole = network.destination.prefixlen == 0
        source = connection.ip_local if connection.ip_local.version == network.ip_ver else None
        destinations = HALVES[network.ip_ver] if whole else (network.destination,)
        if network.destination != routes[0].destination:
            routes += [Route(destination, tunnel, source=source) for destination in destinations]
    return list(dict.fromkeys(routes))

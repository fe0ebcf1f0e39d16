"""The network of a machine in memory, behind the interface of mpt.host.netlink, and as strict as the kernel."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_interface

from mpt.errors import HostError
from mpt.host import rtnetlink
from mpt.host.netlink import address_refused, link_refused
from mpt.host.routetable import DEFAULT_METRIC, FAMILY, route_refused
from mpt.host.rtnetlink import EventSocket
from mpt.model import Address, Interface, InterfaceAddress, Route


class FakeEventSocket(EventSocket):
    """Becomes readable when it is fired; leaves the list of open sockets when it is closed."""

    def __init__(self, open_ones: list[FakeEventSocket]) -> None:
        source, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        source.setblocking(False)
        self._kernel.setblocking(False)
        self._open_ones = open_ones
        super().__init__(source)

    def fire(self, event: bytes) -> None:
        with suppress(BlockingIOError):  # full: it is readable already
            self._kernel.send(event)

    def close(self) -> None:
        super().close()
        self._kernel.close()
        if self in self._open_ones:
            self._open_ones.remove(self)


class FakeNetlink:
    """A machine that has only `lo` until a test gives it more; every change wakes the open event sockets.

    `routes` holds the routes of add_route() and of the test; the routes that the kernel makes by itself are understood,
    not listed. `left_behind` are the `routes` that a killed process has left. `disable_ipv6` is the sysctl of that
    name, for every interface. `queue_lengths` are the tunnels' transmit queues.
    """

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.left_behind: list[Route] = []
        self.queue_lengths: dict[str, int] = {}
        self.disable_ipv6 = False
        self._own: set[Route] = set()  # added here, perhaps gone since
        self._interfaces: dict[str, Interface] = {}
        self._unplugged: set[str] = set()
        self._event_sockets: list[FakeEventSocket] = []
        self._last_index = 0
        self.add_interface("lo", "127.0.0.1/8", "::1/128", mtu=65536)

    # --- what a test does to the machine -----------------------------------------------------------------------------

    def add_interface(
        self, name: str, *addresses: str, up: bool = True, mtu: int = 1500, needs_gateway: bool = True
    ) -> None:
        """Plug in an interface, with carrier if it is `up`."""
        self._last_index += 1
        own = tuple(ip_interface(address) for address in addresses)
        interface = Interface(name, self._last_index, up, carrier=up, mtu=mtu, addresses=own)
        self._interfaces[name] = replace(interface, needs_gateway=needs_gateway)
        self.fire_event(name)

    def remove_interface(self, name: str) -> None:
        """Pull an interface out; its addresses and routes go with it."""
        index = self._interfaces.pop(name).index
        self._forget_routes(name)
        self._fire(rtnetlink.RTM_DELLINK, rtnetlink.LINK.pack(0, 0, 0, index, 0, 0))

    def set_carrier(self, name: str, carrier: bool) -> None:
        """Plug the cable in or out; addresses and routes stay."""
        (self._unplugged.discard if carrier else self._unplugged.add)(name)
        self._interfaces[name] = replace(self._interfaces[name], carrier=carrier and self._interfaces[name].up)
        self.fire_event(name)

    def set_mtu(self, name: str, mtu: int) -> None:
        """Give a link another MTU; addresses and routes stay."""
        self._interfaces[name] = replace(self._interfaces[name], mtu=mtu)
        self.fire_event(name)

    def fire_event(self, interface: str) -> None:
        """Tell the event sockets that something of `interface` has changed."""
        index = self._interfaces[interface].index
        self._fire(rtnetlink.RTM_NEWLINK, rtnetlink.LINK.pack(0, 0, 0, index, 0, 0))

    def lose_route(self, route: Route) -> None:
        """Let another program delete `route`."""
        self.routes.remove(route)
        self._tell_route(rtnetlink.RTM_DELROUTE, route)
        self._own.discard(route)

    # --- what mpt.host.netlink.Netlink does --------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Interface]:
        return dict(self._interfaces)

    def open_event_socket(self) -> EventSocket:
        events = FakeEventSocket(self._event_sockets)
        self._event_sockets.append(events)
        return events

    def claim_routes(self) -> int:
        removed = [route for route in self.left_behind if route in self.routes]
        self.routes = [route for route in self.routes if route not in removed]
        self.left_behind = []
        return len(removed)

    def own_routes(self, version: int) -> list[Route]:
        return [route for route in self.routes if route in self._own and route.destination.version == version]

    def default_route(self, interface: str, version: int) -> Route | None:
        self._find(interface)
        routes = [route for route in self.routes if route.interface == interface and route.destination.prefixlen == 0]
        routes = [route for route in routes if route.destination.version == version]
        return min(routes, key=_metric) if routes else None

    def add_route(self, route: Route) -> bool:
        for other in self.routes:
            if other.destination == route.destination and _metric(other) == _metric(route):
                if (other.interface, other.gateway) == (route.interface, route.gateway):
                    return False
                raise route_refused(route, _error(errno.EEXIST))
        interface = self._find(route.interface)
        if not interface.up and route.gateway is None:
            raise route_refused(route, _error(errno.ENETDOWN))
        if route.gateway is not None and not (interface.up and self._is_on_link(route.gateway, interface)):
            raise route_refused(route, _error(errno.ENETUNREACH))
        if route.source is not None and not self._is_own(route.source):
            raise route_refused(route, _error(errno.EINVAL))
        self.routes.append(route)
        self._own.add(route)
        self._tell_route(rtnetlink.RTM_NEWROUTE, route)
        return True

    def delete_route(self, route: Route) -> bool:
        for other in self.routes:
            if replace(other, metric=_metric(other), source=None) == replace(route, metric=_metric(route), source=None):
                self.lose_route(other)
                return True
        return False

    def add_address(self, interface: str, address: InterfaceAddress, check_duplicates: bool = True) -> bool:
        found = self._find(interface)
        if address in found.addresses:
            return False
        if address.version == 6 and self.disable_ipv6:
            raise address_refused(interface, address, _error(errno.EACCES))
        if address.version == 6 and found.mtu < 1280:
            raise address_refused(interface, address, _error(errno.EINVAL))
        self._interfaces[interface] = replace(found, addresses=(*found.addresses, address))
        self.fire_event(interface)
        return True

    def delete_address(self, interface: str, address: InterfaceAddress) -> bool:
        found = self._find(interface)
        if address not in found.addresses:
            return False
        self._interfaces[interface] = replace(found, addresses=tuple(a for a in found.addresses if a != address))
        self.routes = [route for route in self.routes if route.source != address.ip]
        self.fire_event(interface)
        return True

    def set_link(self, interface: str, up: bool) -> None:
        found = self._find(interface)
        carrier = up and interface not in self._unplugged
        addresses = tuple(address for address in found.addresses if up or address.version == 4)
        self._interfaces[interface] = replace(found, up=up, carrier=carrier, addresses=addresses)
        if not up:
            self._forget_routes(interface)
        self.fire_event(interface)

    def configure_tunnel(self, interface: str, mtu: int, queue_length: int) -> None:
        found = self._find(interface)
        if not 68 <= mtu <= 65535:
            raise HostError(f"the kernel refuses an MTU of {mtu} for {interface}: {os.strerror(errno.EINVAL)}")
        self._interfaces[interface] = replace(found, mtu=mtu)
        self.queue_lengths[interface] = queue_length

    def close(self) -> None:
        """Do nothing: event sockets live on."""

    # --- details -----------------------------------------------------------------------------------------------------

    def _find(self, interface: str) -> Interface:
        try:
            return self._interfaces[interface]
        except KeyError:
            raise link_refused(interface, _error(errno.ENODEV)) from None

    def _fire(self, kind: int, body: bytes) -> None:
        for events in self._event_sockets:
            events.fire(rtnetlink.event(kind, body))

    def _tell_route(self, kind: int, route: Route) -> None:
        """Send an event if the kernel would send one to an EventSocket."""
        length = route.destination.prefixlen
        if length == 0 or (kind == rtnetlink.RTM_DELROUTE and route in self._own):
            protocol = rtnetlink.ROUTE_PROTOCOLS[0]
            self._fire(
                kind, rtnetlink.ROUTE.pack(FAMILY[route.destination.version], length, 0, 0, 254, protocol, 0, 1, 0)
            )

    def _forget_routes(self, interface: str) -> None:
        self.routes = [route for route in self.routes if route.interface != interface]
        self._own.intersection_update(self.routes)

    def _is_on_link(self, gateway: Address, interface: Interface) -> bool:
        networks = [address.network for address in interface.addresses]
        networks += [r.destination for r in self.routes if r.interface == interface.name and r.gateway is None]
        return gateway.is_link_local or any(gateway in network for network in networks)

    def _is_own(self, address: Address) -> bool:
        return any(own.ip == address for interface in self._interfaces.values() for own in interface.addresses)


def _metric(route: Route) -> int:
    return DEFAULT_METRIC[route.destination.version] if route.metric is None else route.metric


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))

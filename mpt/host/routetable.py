"""Finds, adds and removes routes of this machine (rtnetlink(7)).

Routes survive the process that added them. So each process gives its routes an rtm_protocol that nobody else uses. A
start finds and removes the routes of killed processes (`RouteTable.claim_routes`).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from mpt.errors import HostError
from mpt.host import rtnetlink
from mpt.host.rtnetlink import ROUTE_PROTOCOLS, Message, RequestSocket, attribute
from mpt.model import Address, Route

# <linux/rtnetlink.h>
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTA_VIA: Final = 18
RTNH_F_DEAD: Final = 0x1
RTNH_F_ONLINK: Final = 0x4
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RT_TABLE_MAIN: Final = 254
RTN_UNICAST: Final = 1

FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
DEFAULT_METRIC: Final = {4: 0, 6: 1024}  # of a route without a metric, by IP version


class _Hop(NamedTuple):
    """One way that a route offers."""

    interface: int
    gateway: Address | None
    flags: int


class _Entry:
    """A route as the kernel lists it; a metric of 0 stands for "none"."""

    def __init__(self, message: Message) -> None:
        head = rtnetlink.ROUTE.unpack_from(message.octets, message.start)
        family, self.prefix_length, _, _, table, self.protocol, _, self.type, self.flags = head
        self.version = 4 if family == socket.AF_INET else 6
        self._values = message.attributes(rtnetlink.ROUTE.size)
        self.table = number(self._values.get(RTA_TABLE)) or table
        self.metric = number(self._values.get(RTA_PRIORITY))

    def hops(self) -> Iterator[_Hop]:
        """Yield the ways of this route; several if it is a multipath route."""
        ways = self._values.get(RTA_MULTIPATH)
        if ways is None:
            yield _Hop(number(self._values.get(RTA_OIF)), _gateway(self._values), self.flags)
            return
        place = 0
        while place + rtnetlink.NEXT_HOP.size <= len(ways):
            length, flags, _, index = rtnetlink.NEXT_HOP.unpack_from(ways, place)
            values = rtnetlink.attributes(ways, place + rtnetlink.NEXT_HOP.size, place + length)
            yield _Hop(index, _gateway(values), flags)
            place += max((length + 3) & ~3, rtnetlink.NEXT_HOP.size)

    def route(self, interface: str, hop: _Hop) -> Route:
        """Return this route over one of its hops, whose interface is called `interface`."""
        address = self._values.get(RTA_DST, bytes(4 if self.version == 4 else 16))
        source = self._values.get(RTA_PREFSRC)
        return Route(
            ip_network((address, self.prefix_length)),
            interface,
            hop.gateway,
            None if self.metric == DEFAULT_METRIC[self.version] else self.metric,
            ip_address(source) if source else None,
            bool(hop.flags & RTNH_F_ONLINK),
        )


class RouteTable:
    """The routes of the network namespace of the thread that asks first."""

    def __init__(self, open_requests: Callable[[], RequestSocket] = RequestSocket) -> None:
        self._open_requests = open_requests
        self._protocol = ROUTE_PROTOCOLS[-1]
        self._claim: socket.socket | None = None

    @cached_property
    def _requests(self) -> RequestSocket:
        """Opened at the first call, in the process and the network namespace that make it: a daemon forks before."""
        try:
            return self._open_requests()
        except OSError as error:
            raise HostError(f"cannot ask the kernel about the network: {error.strerror}") from error

    def close(self) -> None:
        """Give up the socket for requests, in the thread that asked first, and the claim on a protocol."""
        if "_requests" in self.__dict__:
            self.__dict__.pop("_requests").close()
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def claim_routes(self) -> int:
        """Take an rtm_protocol for the routes of this process, and remove the routes of processes that are gone.

        Return how many were removed. Each process in this network namespace takes a protocol that no other has, and
        holds a socket named after it, which the kernel removes when the process ends in any way. So a route was left by
        a killed process if nobody holds its protocol. If others hold all protocols, this process shares the last one,
        whose routes stay.
        """
        removed = 0
        for protocol in ROUTE_PROTOCOLS:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0mpt rtm_protocol {protocol}")
            except OSError:  # a living process has it
                claim.close()
                continue
            routes = [route for version in (4, 6) for route in self._added(protocol, version)]
            removed += sum(self._delete(route, protocol) for route in routes)
            if self._claim is None:
                self._claim, self._protocol = claim, protocol
            else:
                claim.close()
        return removed

    def own_routes(self, version: int) -> list[Route]:
        """Return the routes that add_route() has added and that are still there, as they were added."""
        return self._added(self._protocol, version)

    def default_route(self, interface: str, version: int) -> Route | None:
        """Return the default route over `interface`: of the main table if possible, then by the lowest metric.

        A route without a gateway says that everybody is on the link (PPP). An IPv4 route may have an IPv6 gateway (RFC
        9229). Of a multipath route only the way over `interface` counts. None if there is no such route. Raises
        HostError if there is no such interface.
        """
        try:
            index = interface_index(interface)
        except OSError as error:
            raise refused(f"the interface {interface}", interface, error) from error
        found = []
        for entry in self._entries(version, prefix_length=0, index=index):
            if entry.type == RTN_UNICAST:
                hops = [hop for hop in entry.hops() if hop.interface == index and not hop.flags & RTNH_F_DEAD]
                found += [(entry.table != RT_TABLE_MAIN, entry.metric, entry.route(interface, hop)) for hop in hops]
        return min(found, key=lambda each: each[:2])[2] if found else None

    def add_route(self, route: Route) -> bool:
        """Add `route` to the main table; return False if it is there already.

        Raises HostError if the kernel refuses, also because another route (interface, gateway) has the same destination
        and metric: the kernel keeps one for each. While it checks an IPv6 address of the interface for duplicates, a
        route may have a gateway there, but not that address as its `source`.
        """
        try:
            body = _body(route, self._protocol)
            self._requests.change(rtnetlink.RTM_NEWROUTE, body, rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL)
        except OSError as error:
            if error.errno == errno.EEXIST and self._is_there(route):
                return False
            raise route_refused(route, error) from error
        return True

    def delete_route(self, route: Route) -> bool:
        """Delete `route`, which add_route() has added; return False if it was gone, perhaps with its interface."""
        return self._delete(route, self._protocol)

    def _delete(self, route: Route, protocol: int) -> bool:
        try:
            self._requests.change(rtnetlink.RTM_DELROUTE, _body(route, protocol))
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENODEV):
                return False
            raise route_refused(route, error) from error
        return True

    def _added(self, protocol: int, version: int) -> list[Route]:
        """Return the routes of the main table with `protocol`."""
        found = []
        for entry in self._entries(version, protocol=protocol):
            if entry.table == RT_TABLE_MAIN:
                for hop in entry.hops():
                    name = _interface_name(hop.interface)
                    found += [entry.route(name, hop)] if name is not None else []
        return found

    def _is_there(self, route: Route) -> bool:
        """Return whether a route with the same destination, metric, interface and gateway is there."""
        version = route.destination.version
        metric = DEFAULT_METRIC[version] if route.metric is None else route.metric
        index = interface_index(route.interface)
        return any(
            entry.table == RT_TABLE_MAIN
            and entry.metric == metric
            and entry.route(route.interface, hop).destination == route.destination
            and (hop.interface, hop.gateway) == (index, route.gateway)
            for entry in self._entries(version, prefix_length=route.destination.prefixlen, index=index)
            for hop in entry.hops()
        )

    def _entries(
        self, version: int, prefix_length: int | None = None, index: int | None = None, protocol: int = 0
    ) -> Iterator[_Entry]:
        """Return the routes of an IP version, in all tables: of one prefix length, interface or protocol if given.

        The kernel leaves out other interfaces and protocols, unless it is old. It lists routes of other lengths, which
        cost some 0.5 µs each.
        """
        family = FAMILY[version]
        body = rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
        if index is not None:
            body += attribute(RTA_OIF, index)

        lengths = {} if prefix_length is None else {1: prefix_length}
        protocols = {5: protocol} if protocol else {}
        where = {**lengths, **protocols, 0: family}  # the family last: a kernel without IPv6 lists its IPv4 routes
        try:
            listed = self._requests.listing(rtnetlink.RTM_GETROUTE, body, where)
        except OSError as error:
            # a kernel without IPv6, or an interface that has just gone, with its routes
            if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENODEV):
                raise HostError(f"the kernel does not list its routes: {error.strerror}") from error
            listed = []
        return map(_Entry, listed)


def interface_index(interface: str) -> int:
    """Return the number of `interface`; raises OSError (ENODEV) if there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:  # which comes without an errno
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def number(octets: bytes | None) -> int:
    """Return the value of an attribute that is a number; 0 if it is not there."""
    return int.from_bytes(octets or b"", sys.byteorder)


def route_refused(route: Route, error: OSError) -> HostError:
    """Return why a route was not added or deleted, in the operator's words."""
    where = f"over {route.interface}"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) and route.gateway is not None:
        return HostError(
            f"{route.gateway} is not reachable {where}: check gw_ipaddr, and that {route.interface} is up and has an "
            f"address in that network"
        )
    if error.errno == errno.EEXIST:
        return HostError(
            f"another route to {route.destination} is in the way of ours {where}: remove it, or give it "
            f"another metric (see: ip route show {route.destination})"
        )
    return refused(f"the route to {route.destination} {where}", route.interface, error)


def refused(what: str, interface: str, error: OSError) -> HostError:
    """Return why `what` of `interface` was not changed, in the operator's words."""
    if error.errno == errno.ENODEV:
        return HostError(f"there is no interface {interface}")
    if error.errno == errno.EPERM:
        return HostError(f"no privilege to change {what}: run as root or with CAP_NET_ADMIN")
    if error.errno == errno.ENETDOWN:
        return HostError(f"cannot change {what}: {interface} is down")
    return HostError(f"the kernel refuses to change {what}: {error.strerror}")


def _gateway(values: dict[int, bytes]) -> Address | None:
    """Return the gateway of a hop; struct rtvia has the address behind its family."""
    octets = values.get(RTA_GATEWAY) or values.get(RTA_VIA, b"")[2:]
    return ip_address(octets) if octets else None


def _interface_name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:  # gone meanwhile
        return None


def _body(route: Route, protocol: int) -> bytes:
    """Return the octets of a request that adds or deletes `route`."""
    version = route.destination.version
    scope = RT_SCOPE_LINK if route.gateway is None and version == 4 else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if route.onlink else 0
    length = route.destination.prefixlen
    body = rtnetlink.ROUTE.pack(FAMILY[version], length, 0, 0, RT_TABLE_MAIN, protocol, scope, RTN_UNICAST, flags)
    body += attribute(RTA_DST, route.destination.network_address.packed)
    body += attribute(RTA_OIF, interface_index(route.interface))
    if route.gateway is not None and route.gateway.version == version:
        body += attribute(RTA_GATEWAY, route.gateway.packed)
    elif route.gateway is not None:
        via = FAMILY[route.gateway.version].to_bytes(2, sys.byteorder) + route.gateway.packed
        body += attribute(RTA_VIA, via)
    if route.metric is not None:
        body += attribute(RTA_PRIORITY, route.metric)
    if route.source is not None:
        body += attribute(RTA_PREFSRC, route.source.packed)
    return body

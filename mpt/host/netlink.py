"""The links, addresses and routes of this machine, over rtnetlink (rtnetlink(7)); nothing else knows pyroute2.

A call is synchronous and takes about a millisecond. Each may be made from any thread, but none inside a running asyncio
loop, which pyroute2 would borrow. Interfaces come and go: each call looks its interface up afresh, and one that is gone
is a HostError.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol

from mpt.errors import HostError
from mpt.model import Address, Interface, InterfaceAddress, Route

# <linux/if.h>, <linux/if_addr.h>, <linux/if_link.h>, <linux/rtnetlink.h>
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFF_DORMANT = 0x20000
_IFA_F_NODAD = 0x02
_IFA_F_OPTIMISTIC = 0x04
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_IN6_ADDR_GEN_MODE_NONE = 1
_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100
_RTPROT_STATIC = 4
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1

DEFAULT_METRIC = {4: 0, 6: 1024}  # what the kernel takes for a route without a metric, by IP version
_ANY = {4: "0.0.0.0", 6: "::"}
_DUMP_ATTEMPTS = 10  # the kernel marks a listing that changed under way, and we ask again


class EventSocket:
    """A socket that becomes readable when a link or an address changes; what changed, only a snapshot tells."""

    def __init__(self, source: socket.socket) -> None:
        self._socket = source

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read all that is pending, without blocking. True if anything changed, or if so much did that the kernel lost
        count (ENOBUFS)."""
        changed = False
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise HostError(f"cannot watch the interfaces: {error.strerror}") from error
            changed = True

    def close(self) -> None:
        self._socket.close()


class NetlinkApi(Protocol):
    """What Netlink and its in-memory twin for tests (mpt.testing.netlink) both do; see Netlink."""

    def snapshot(self) -> dict[str, Interface]: ...
    def open_event_socket(self) -> EventSocket: ...
    def add_route(self, route: Route, again: bool = False) -> bool: ...
    def delete_route(self, route: Route) -> bool: ...
    def gateway_of(self, interface: str, version: int) -> Address | None: ...
    def add_address(self, interface: str, address: InterfaceAddress, check_duplicates: bool = True) -> bool: ...
    def delete_address(self, interface: str, address: InterfaceAddress) -> bool: ...
    def set_link(self, interface: str, up: bool) -> None: ...
    def configure_tunnel(self, interface: str, mtu: int, queue_length: int) -> None: ...
    def close(self) -> None: ...


class Netlink:
    """The real machine, in the network namespace of the thread that asks first."""

    @cached_property
    def _pyroute2(self) -> Any:
        import pyroute2  # here, not above: it costs 0.15 s and 10 MB, which only a running daemon should pay

        return pyroute2

    @cached_property
    def _iproute(self) -> Any:
        """Opened at the first call, in the process and the network namespace that make it: a daemon forks before."""
        return self._pyroute2.IPRoute(ext_ack=True)  # ext_ack: the kernel says in words what it dislikes

    def close(self) -> None:
        """Give up the netlink socket, in the thread that asked first; event sockets live on."""
        if "_iproute" in self.__dict__:
            self._iproute.close()

    # --- looking -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Interface]:
        """All interfaces by name, with their addresses."""
        addresses: dict[int, list[InterfaceAddress]] = {}
        for message in self._dump(self._iproute.get_addr):
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            unusable = flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC)
            if not unusable:
                own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")  # with both, this is the peer's
                address = ipaddress.ip_interface(f"{own}/{message['prefixlen']}")
                addresses.setdefault(message["index"], []).append(address)
        interfaces = {}
        for message in self._dump(self._iproute.get_links):
            name, index, flags = message.get_attr("IFLA_IFNAME"), message["index"], message["flags"]
            interfaces[name] = Interface(
                name=name,
                index=index,
                up=bool(flags & _IFF_UP),
                carrier=bool(flags & _IFF_LOWER_UP) and not flags & _IFF_DORMANT,
                mtu=message.get_attr("IFLA_MTU"),
                addresses=tuple(addresses.get(index, ())),
            )
        return interfaces

    def open_event_socket(self) -> EventSocket:
        """A socket for the reactor to watch. Open it before the first snapshot, or a change between them is lost."""
        try:
            source = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
            source.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        except OSError as error:
            raise HostError(f"cannot watch the interfaces: {error.strerror}") from error
        return EventSocket(source)

    def gateway_of(self, interface: str, version: int) -> Address | None:
        """The gateway of the default route over `interface`, the main table first, then the lowest metric.

        None when there is no such route, or when it needs no gateway (PPP). An IPv4 route may have an IPv6 gateway
        (RFC 9229). Raises HostError when there is no such interface.
        """
        try:
            index = self._index(interface)
        except OSError as error:
            raise link_refused(interface, error) from error
        found: list[tuple[bool, int, str | None]] = []
        for message in self._routes(version):
            if message["dst_len"] == 0 and message["type"] == _RTN_UNICAST:
                beside_main = message.get_attr("RTA_TABLE") != _RT_TABLE_MAIN
                metric = message.get_attr("RTA_PRIORITY") or 0
                found += [(beside_main, metric, gateway) for oif, gateway in _next_hops(message) if oif == index]
        if not found:
            return None
        gateway = min(found, key=lambda route: route[:2])[2]
        return ipaddress.ip_address(gateway) if gateway else None

    # --- changing ----------------------------------------------------------------------------------------------------

    def add_route(self, route: Route, again: bool = False) -> bool:
        """Add `route` to the main table. False: it is there already.

        `again` says that the caller has added it before and only wants it back if it is gone: what is there already is
        not looked at, because for that the kernel has to list all its routes.

        The kernel keeps one route for each destination and metric: where another with both is in the way (other
        interface, other gateway), and whenever it refuses, HostError. On IPv6 a gateway may be named while the
        interface's own address is still being checked for duplicates, but a `source` may not.
        """
        try:
            index = self._index(route.interface)
            self._change(self._iproute.route, "add", **_route_arguments(route, index))
        except OSError as error:
            if error.errno == errno.EEXIST and (again or self._is_there(route, index)):
                return False
            raise route_refused(route, error) from error
        return True

    def delete_route(self, route: Route) -> bool:
        """Delete `route`. False: it was gone, perhaps with its interface."""
        try:
            self._change(self._iproute.route, "del", **_route_arguments(route, self._index(route.interface)))
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENODEV):
                return False
            raise route_refused(route, error) from error
        return True

    def add_address(self, interface: str, address: InterfaceAddress, check_duplicates: bool = True) -> bool:
        """Give `interface` an address. False: it has it already.

        Without `check_duplicates` an IPv6 address can be used at once; otherwise only some two seconds later.
        """
        arguments = {} if check_duplicates or address.version == 4 else {"flags": _IFA_F_NODAD}
        return self._change_address("add", interface, address, errno.EEXIST, **arguments)

    def delete_address(self, interface: str, address: InterfaceAddress) -> bool:
        """Take an address from `interface`. False: it did not have it."""
        return self._change_address("del", interface, address, errno.EADDRNOTAVAIL)

    def set_link(self, interface: str, up: bool) -> None:
        """Switch `interface` on or off; off, it loses its routes and its IPv6 addresses (sysctl keep_addr_on_down)."""
        try:
            self._change(self._iproute.link, "set", index=self._index(interface), state="up" if up else "down")
        except OSError as error:
            raise link_refused(interface, error) from error

    def configure_tunnel(self, interface: str, mtu: int, queue_length: int) -> None:
        """Set the MTU (bytes) and the queue (packets) of a tunnel, and keep the kernel from giving it an fe80:: address
        and sending router solicitations into it."""
        try:
            index = self._index(interface)
            self._change(self._iproute.link, "set", index=index, mtu=mtu, txqlen=queue_length)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ERANGE):
                raise HostError(f"the kernel refuses an MTU of {mtu} for {interface}: {error.strerror}") from error
            raise link_refused(interface, error) from error
        mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)]}
        try:
            self._change(self._iproute.link, "set", index=index, af_spec={"attrs": [("AF_INET6", mode)]})
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):  # no IPv6 here, hence no fe80:: either
                raise link_refused(interface, error) from error

    # --- details -----------------------------------------------------------------------------------------------------

    def _change(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Call pyroute2 and turn its error into the OSError that it stands for, with the kernel's own words."""
        try:
            function(*arguments, **named)
        except self._pyroute2.NetlinkError as error:
            raise OSError(error.code, str(error.args[-1])) from error

    def _change_address(self, command: str, interface: str, address: InterfaceAddress, moot: int, **named: Any) -> bool:
        """Add or delete an address; False if the kernel answers `moot`, that there is nothing to do."""
        try:
            index = self._index(interface)
            ip, prefixlen = str(address.ip), address.network.prefixlen
            self._change(self._iproute.addr, command, index=index, address=ip, prefixlen=prefixlen, **named)
        except OSError as error:
            if error.errno == moot:
                return False
            raise address_refused(interface, address, error) from error
        return True

    def _dump(self, function: Callable[..., Any], **named: Any) -> list[Any]:
        """A whole listing; one that changed while the kernel wrote it is asked for again."""
        for _ in range(_DUMP_ATTEMPTS):
            try:
                return list(function(**named))
            except self._pyroute2.NetlinkDumpInterrupted:
                continue
            except self._pyroute2.NetlinkError as error:
                raise HostError(f"the kernel does not list the state of the network: {error.args[-1]}") from error
        raise HostError("the state of the network changes faster than the kernel lists it")

    def _routes(self, version: int) -> list[Any]:
        return self._dump(self._iproute.get_routes, family=socket.AF_INET if version == 4 else socket.AF_INET6)

    def _is_there(self, route: Route, index: int) -> bool:
        """Whether the kernel has this very route; `index` is its interface's."""
        version = route.destination.version
        metric = DEFAULT_METRIC[version] if route.metric is None else route.metric
        hop = index, str(route.gateway) if route.gateway else None
        return any(
            message["dst_len"] == route.destination.prefixlen
            and (message.get_attr("RTA_PRIORITY") or 0) == metric
            and message.get_attr("RTA_TABLE") == _RT_TABLE_MAIN
            and (message.get_attr("RTA_DST") or _ANY[version]) == str(route.destination.network_address)
            and hop in _next_hops(message)
            for message in self._routes(version)
        )

    def _index(self, interface: str) -> int:
        try:
            return socket.if_nametoindex(interface)
        except OSError as error:  # which comes without an errno
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def _route_arguments(route: Route, index: int) -> dict[str, Any]:
    """`route` in pyroute2's words."""
    on_link = route.gateway is None and route.destination.version == 4
    arguments: dict[str, Any] = {
        "family": socket.AF_INET if route.destination.version == 4 else socket.AF_INET6,
        "dst": str(route.destination),
        "oif": index,
        "table": _RT_TABLE_MAIN,
        "proto": _RTPROT_STATIC,
        "scope": _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE,
    }
    if route.gateway is not None and route.gateway.version == route.destination.version:
        arguments["gateway"] = str(route.gateway)
    elif route.gateway is not None:
        arguments["via"] = {"family": socket.AF_INET6, "addr": str(route.gateway)}
    if route.metric is not None:
        arguments["priority"] = route.metric
    if route.source is not None:
        arguments["prefsrc"] = str(route.source)
    return arguments


def _next_hops(message: Any) -> Iterator[tuple[int, str | None]]:
    """The (interface index, gateway) pairs of a route; several if it is a multipath route."""
    hops = [(hop["oif"], hop) for hop in message.get_attr("RTA_MULTIPATH") or ()]
    for index, hop in hops or [(message.get_attr("RTA_OIF"), message)]:
        yield index, hop.get_attr("RTA_GATEWAY") or (hop.get_attr("RTA_VIA") or {}).get("addr")


def route_refused(route: Route, error: OSError) -> HostError:
    """Why a route was not added or deleted, in the operator's words."""
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
    return _refused(f"the route to {route.destination} {where}", route.interface, error)


def address_refused(interface: str, address: InterfaceAddress, error: OSError) -> HostError:
    """Why an address was not added or deleted, in the operator's words."""
    what = f"the address {address} on {interface}"
    if address.version == 6 and error.errno == errno.EACCES:
        sysctl = f"net.ipv6.conf.{interface}.disable_ipv6"
        return HostError(f"cannot set {what}: IPv6 is off there (sysctl {sysctl} = 1), switch it on or leave this out")
    if address.version == 6 and error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
        return HostError(f"cannot set {what}: this kernel runs without IPv6; leave the IPv6 address out")
    if address.version == 6 and error.errno == errno.EINVAL:
        return HostError(f"cannot set {what}: IPv6 needs an MTU of 1280 at least, and a unicast address")
    return _refused(what, interface, error)


def link_refused(interface: str, error: OSError) -> HostError:
    """Why an interface was not changed, in the operator's words."""
    return _refused(f"the interface {interface}", interface, error)


def _refused(what: str, interface: str, error: OSError) -> HostError:
    if error.errno == errno.ENODEV:
        return HostError(f"there is no interface {interface}")
    if error.errno == errno.EPERM:
        return HostError(f"no privilege to change {what}: run as root or with CAP_NET_ADMIN")
    if error.errno == errno.ENETDOWN:
        return HostError(f"cannot change {what}: {interface} is down")
    return HostError(f"the kernel refuses to change {what}: {error.strerror}")

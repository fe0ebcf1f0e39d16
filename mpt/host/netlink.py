"""The links, addresses and routes of this machine, over rtnetlink (rtnetlink(7)); nothing else knows pyroute2.

A call is synchronous. A listing or a route takes some microseconds (`mpt.host.rtnetlink`). A change of a link or an
address goes through pyroute2 and takes a millisecond; any thread may make it, but not inside a running asyncio loop,
which pyroute2 would borrow. Interfaces come and go: each call looks its interface up afresh, and raises HostError if it
is gone.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address, ip_interface
from types import ModuleType
from typing import Any, Protocol

from mpt.errors import HostError
from mpt.host import rtnetlink
from mpt.host.routetable import FAMILY, RouteTable, interface_index, number, refused
from mpt.host.rtnetlink import EventSocket, Message
from mpt.model import Interface, InterfaceAddress, Route

# <linux/if.h>, <linux/if_addr.h>, <linux/if_link.h>, <linux/rtnetlink.h>
_IFF_UP = 0x1
_IFF_POINTOPOINT = 0x10
_IFF_NOARP = 0x80
_IFF_LOWER_UP = 0x10000
_IFF_DORMANT = 0x20000
_IFA_F_NODAD = 0x02
_IFA_F_OPTIMISTIC = 0x04
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_EXT_MASK = 29
_RTEXT_FILTER_SKIP_STATS = 0x8
_IN6_ADDR_GEN_MODE_NONE = 1


class NetlinkApi(Protocol):
    """The methods of Netlink, which describes them, and of its twin in memory for tests (mpt.testing.netlink)."""

    def snapshot(self) -> dict[str, Interface]: ...
    def open_event_socket(self) -> EventSocket: ...
    def claim_routes(self) -> int: ...
    def own_routes(self, version: int) -> list[Route]: ...
    def default_route(self, interface: str, version: int) -> Route | None: ...
    def add_route(self, route: Route) -> bool: ...
    def delete_route(self, route: Route) -> bool: ...
    def add_address(self, interface: str, address: InterfaceAddress, check_duplicates: bool = True) -> bool: ...
    def delete_address(self, interface: str, address: InterfaceAddress) -> bool: ...
    def set_link(self, interface: str, up: bool) -> None: ...
    def configure_tunnel(self, interface: str, mtu: int, queue_length: int) -> None: ...
    def close(self) -> None: ...


class Netlink(RouteTable):
    """The real machine, in the network namespace of the thread that asks first."""

    @cached_property
    def _iproute(self) -> Any:
        """Opened at the first call, in the process and the network namespace that make it: a daemon forks before."""
        return _pyroute2("iproute").IPRoute(ext_ack=True)  # ext_ack: the kernel says in words what it dislikes

    def close(self) -> None:
        """Give up the netlink sockets, in the thread that asked first, and the claim on a protocol for routes; event
        sockets live on."""
        super().close()
        if "_iproute" in self.__dict__:
            self._iproute.close()

    # --- looking -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Interface]:
        """Return all interfaces by name, with their addresses; 600 of them take some 5 ms."""
        addresses: dict[int, list[InterfaceAddress]] = {}
        for message in self._list(rtnetlink.RTM_GETADDR, rtnetlink.ADDRESS.pack(0, 0, 0, 0, 0)):
            family, prefix_length, flags, _, index = rtnetlink.ADDRESS.unpack_from(message.octets, message.start)
            values = message.attributes(rtnetlink.ADDRESS.size)
            flags = number(values.get(_IFA_FLAGS)) or flags
            unusable = flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC)
            own = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)  # with both, the second is the peer's
            if own is not None and family in FAMILY.values() and not unusable:
                address = ip_interface((ip_address(own), prefix_length))
                addresses.setdefault(index, []).append(address)
        interfaces = {}
        everything = rtnetlink.LINK.pack(0, 0, 0, 0, 0, 0)
        counts_nothing = rtnetlink.attribute(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
        for message in self._list(rtnetlink.RTM_GETLINK, everything + counts_nothing):
            _, _, _, index, flags, _ = rtnetlink.LINK.unpack_from(message.octets, message.start)
            values = message.attributes(rtnetlink.LINK.size)
            name = os.fsdecode(values[_IFLA_IFNAME].rstrip(b"\0"))
            interfaces[name] = Interface(
                name=name,
                index=index,
                up=bool(flags & _IFF_UP),
                carrier=bool(flags & _IFF_LOWER_UP) and not flags & _IFF_DORMANT,
                mtu=number(values.get(_IFLA_MTU)),
                addresses=tuple(addresses.get(index, ())),
                needs_gateway=not flags & (_IFF_POINTOPOINT | _IFF_NOARP),
            )
        return interfaces

    def open_event_socket(self) -> EventSocket:
        """Return a socket for the reactor to watch. Open it before the first snapshot, or a change between is lost."""
        try:
            return EventSocket.open()
        except OSError as error:
            raise HostError(f"cannot watch the interfaces: {error.strerror}") from error

    # --- changing ----------------------------------------------------------------------------------------------------

    def add_address(self, interface: str, address: InterfaceAddress, check_duplicates: bool = True) -> bool:
        """Give `interface` an address; return False if it has it already. Raises HostError.

        Without `check_duplicates` an IPv6 address can be used at once; otherwise only some two seconds later.
        """
        arguments = {} if check_duplicates or address.version == 4 else {"flags": _IFA_F_NODAD}
        return self._change_address("add", interface, address, errno.EEXIST, **arguments)

    def delete_address(self, interface: str, address: InterfaceAddress) -> bool:
        """Take an address from `interface`; return False if it does not have it. Raises HostError."""
        return self._change_address("del", interface, address, errno.EADDRNOTAVAIL)

    def set_link(self, interface: str, up: bool) -> None:
        """Switch `interface` on or off; off, it loses its routes and its IPv6 addresses (sysctl keep_addr_on_down)."""
        try:
            self._change(self._iproute.link, "set", index=interface_index(interface), state="up" if up else "down")
        except OSError as error:
            raise link_refused(interface, error) from error

    def configure_tunnel(self, interface: str, mtu: int, queue_length: int) -> None:
        """Set the MTU (bytes) and the queue (packets) of a tunnel, and keep the kernel from giving it an fe80:: address
        and sending router solicitations into it."""
        try:
            index = interface_index(interface)
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
        """Call pyroute2; turn its error into an OSError with the kernel's number and words."""
        try:
            function(*arguments, **named)
        except _pyroute2("netlink.exceptions").NetlinkError as error:
            raise OSError(error.code, str(error.args[-1])) from error

    def _change_address(self, command: str, interface: str, address: InterfaceAddress, moot: int, **named: Any) -> bool:
        """Add or delete an address; return False if the kernel answers `moot`: there is nothing to do."""
        try:
            index = interface_index(interface)
            ip, prefixlen = str(address.ip), address.network.prefixlen
            self._change(self._iproute.addr, command, index=index, address=ip, prefixlen=prefixlen, **named)
        except OSError as error:
            if error.errno == moot:
                return False
            raise address_refused(interface, address, error) from error
        return True

    def _list(self, kind: int, body: bytes) -> list[Message]:
        try:
            return self._requests.listing(kind, body)
        except OSError as error:
            raise HostError(f"the kernel does not list the state of the network: {error.strerror}") from error


def _pyroute2(module: str) -> Any:
    """Return a module of pyroute2, for a running daemon alone: not imported before.

    The package imports all of its modules, a database among them: 10 MB and 0.15 s. An empty one in its place, which
    finds the same modules, halves both.
    """
    if "pyroute2" not in sys.modules:
        spec = find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("pyroute2 is not installed")
        package = ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["pyroute2"] = package
    return import_module(f"pyroute2.{module}")


def address_refused(interface: str, address: InterfaceAddress, error: OSError) -> HostError:
    """Return why an address was not added or deleted, in the operator's words."""
    what = f"the address {address} on {interface}"
    if address.version == 6 and error.errno == errno.EACCES:
        sysctl = f"net.ipv6.conf.{interface}.disable_ipv6"
        return HostError(f"cannot set {what}: IPv6 is off there (sysctl {sysctl} = 1), switch it on or leave this out")
    if address.version == 6 and error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
        return HostError(f"cannot set {what}: this kernel runs without IPv6; leave the IPv6 address out")
    if address.version == 6 and error.errno == errno.EINVAL:
        return HostError(f"cannot set {what}: IPv6 needs an MTU of 1280 at least, and a unicast address")
    return refused(what, interface, error)


def link_refused(interface: str, error: OSError) -> HostError:
    """Return why an interface was not changed, in the operator's words."""
    return refused(f"the interface {interface}", interface, error)

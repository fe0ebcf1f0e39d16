"""A router that translates addresses, as home routers and carriers do.

    client  10.9.0.2 ──── 10.9.0.1  router  203.0.113.5 ──── server

A datagram from inside leaves with the router's outer address and with another source port. What comes back to that
port passes while the kernel remembers the pair, and only from where the datagram went to; everything else is dropped
without a word. The work is done by nftables and by the kernel's connection tracking.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_interface
from typing import Final

from mpt.errors import HostError
from mpt.lab import namespaces
from mpt.lab.hosts import Host

PORTS: Final = "20000-59999"  # of the outer address; each mapping gets one by chance
FOREVER: Final = 3600.0  # s

_NETLINK_NETFILTER: Final = 12  # linux/netlink.h
_DELETE: Final = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE: linux/netfilter/nfnetlink*.h
_REQUEST_AND_ACKNOWLEDGE: Final = 0x1 | 0x4
_MESSAGE: Final = struct.Struct("=IHHIIBBH")  # nlmsghdr, nfgenmsg
_ACKNOWLEDGEMENT: Final = struct.Struct("=IHHIIi")


class Nat:
    """Translates on `router` (a forwarding host) what leaves by `interface`, which has the `outer` address and prefix.

    A mapping is forgotten after `timeout` seconds without a datagram.
    """

    def __init__(self, router: Host, interface: str, outer: str, timeout: float = FOREVER) -> None:
        self.router, self.interface, self.outer = router, interface, ip_interface(outer)
        router.sysctl({f"net/ipv4/conf/{interface}/promote_secondaries": "1"})
        self._translate()
        self.set_timeout(timeout)

    @property
    def address(self) -> str:
        """Return the outer address."""
        return str(self.outer.ip)

    def set_timeout(self, seconds: float) -> None:
        """Forget a mapping after so many whole seconds without a datagram, from the next datagram on."""
        text = str(max(round(seconds), 1))
        self.router.sysctl(
            {"net/netfilter/nf_conntrack_udp_timeout": text, "net/netfilter/nf_conntrack_udp_timeout_stream": text}
        )

    def flush(self) -> None:
        """Forget all mappings, as by a restart: the next datagrams from inside get other ports."""
        self.router.call(_forget_connections)

    def move(self, outer: str) -> None:
        """Have another outer address and prefix from now on, as after a new dial-in; all mappings are forgotten."""
        before, self.outer = self.outer, ip_interface(outer)
        self.router.ip(f"address add {self.outer} dev {self.interface}")
        self._translate()
        self.flush()
        self.router.ip(f"address delete {before} dev {self.interface}")

    def _translate(self) -> None:
        out = f'oifname "{self.interface}"'
        rules = f"""
            table ip nat
            delete table ip nat
            table ip nat {{
                chain out {{
                    type nat hook postrouting priority srcnat;
                    {out} meta l4proto {{ tcp, udp }} snat to {self.address}:{PORTS} fully-random
                    {out} snat to {self.address}
                }}
                chain strangers {{
                    type filter hook input priority filter;
                    iifname "{self.interface}" meta l4proto {{ tcp, udp }} drop
                }}
            }}
        """
        namespaces.run_program(["ip", "netns", "exec", self.router.namespace, "nft", "-f", "-"], rules)


def _forget_connections() -> None:
    """Empty the table of tracked connections of this namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netfilter:
        netfilter.send(_MESSAGE.pack(_MESSAGE.size, _DELETE, _REQUEST_AND_ACKNOWLEDGE, 1, 0, socket.AF_UNSPEC, 0, 0))
        *_, error = _ACKNOWLEDGEMENT.unpack_from(netfilter.recv(4096))
    if error:
        raise HostError(f"cannot empty the table of connections: {os.strerror(-error)}")

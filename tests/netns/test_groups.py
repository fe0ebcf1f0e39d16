"""Packets for many hosts: the hellos of a routing protocol, and broadcast in the prefix of the tunnel."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from mpt.lab.lab import Lab
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import answers, figure_3, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback

PORT = 5004
GROUPS = ("224.0.0.251", "239.255.255.250", "10.0.0.255", "255.255.255.255", "ff02::fb")


def listen(group: str) -> socket.socket:
    """A UDP socket that takes what comes for `group` over tun0."""
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.settimeout(5)
    opened.bind(("", PORT))
    octets, index = ip_address(group).packed, socket.if_nametoindex("tun0")
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, octets + index.to_bytes(4, "little"))
    elif ip_address(group).is_multicast:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, octets + bytes(4) + index.to_bytes(4, "little"))
    return opened


def send(group: str, source: str, text: bytes) -> None:
    """Send one datagram to `group` over tun0, from the tunnel address `source`."""
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.bind((source, 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tun0")
        opened.sendto(text, (group, PORT))


@on_every_data_plane
def test_multicast_and_broadcast_reach_the_peer(lab: Lab) -> None:
    """A datagram to a multicast group, or to the broadcast address of the tunnel's prefix, arrives once at the peer."""
    a, b, links = figure_3(lab)
    Tunnel(Description(links, tunnel_ipv6=("fd00::1/64", "fd00::2/64"), reorder_window=100), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2") and answers(a, "fd00::2"), "answers through the tunnel")
    for group in GROUPS:
        source = "fd00::1" if ":" in group else "10.0.0.1"
        with b.call(listen, group) as receiver:
            a.call(send, group, source, group.encode())
            octets, address = receiver.recvfrom(100)
            assert (octets, address[0]) == (group.encode(), source)
            receiver.settimeout(0.2)
            with pytest.raises(TimeoutError):
                receiver.recvfrom(100)

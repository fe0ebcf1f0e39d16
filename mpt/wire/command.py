"""The command header of MPT: so far only the keepalive, which travels in band on the data port.

A keepalive is a plain GRE header and 40 octets: command A1, zeros, the tunnel's IP version, and the tunnel addresses of
its sender and its receiver, 16 octets each, IPv4 as ::ffff:a.b.c.d. It is never authenticated.
"""

from __future__ import annotations

from typing import Final

from mpt.model import Address
from mpt.wire import gre

COMMAND: Final = 0xA0  # a first payload octet from here on is no IP packet
KEEPALIVE: Final = 0xA1
KEEPALIVE_LENGTH: Final = 40


def encode_keepalive(ip_version: int, sender: Address, receiver: Address) -> bytes:
    """The 44 octets of a keepalive from tunnel address `sender` to tunnel address `receiver`."""
    head = bytes((KEEPALIVE, 0, 0, 0, 0, ip_version, 0, 0))
    return gre.encode(ip_version) + head + address_octets(sender) + address_octets(receiver)


def address_octets(address: Address) -> bytes:
    """An address in the 16 octets that MPT uses for both versions."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed

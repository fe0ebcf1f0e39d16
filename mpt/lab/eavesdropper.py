"""A man on the line: he sees every datagram, keeps it, changes it, and sends it again from where he likes.

For tests of what he must not be able to do. He sees what enters a link at one end, before the link's rate and delay, so
that his copies may be first. On a plain link, frames may be larger than the MTU (segmentation is left to the receiver):
give the link a shape.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from random import Random
from types import TracebackType
from typing import Final, NamedTuple

from mpt.lab.hosts import Host
from mpt.lab.links import Direction, Link

Endpoint = tuple[str, int]  # address and UDP port

ETH_P_IP: Final = 0x0800  # linux/if_ether.h
ETHERNET_HEADER: Final = 14
KEPT: Final = 100_000  # datagrams
LOOK: Final = 0.05  # s between two looks whether he shall go

_ADDRESSES_V4: Final = struct.Struct("!4s4s")
_UDP: Final = struct.Struct("!HHHH")
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")


class Seen(NamedTuple):
    """A datagram on the line `at` (monotonic seconds)."""

    source: Endpoint
    destination: Endpoint
    payload: bytes
    at: float


class Eavesdropper:
    """Sees the UDP datagrams (IPv4) that enter `link` in `direction`, while its `with` block runs.

    `seen` has the latest ones. `heard` is called for each at once, in a thread of its own.
    """

    def __init__(self, link: Link, direction: Direction, heard: Callable[[Seen], None] | None = None) -> None:
        self.seen: deque[Seen] = deque(maxlen=KEPT)
        self._heard = heard
        self._socket = link.overhear(direction, ETH_P_IP)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="eavesdropper", daemon=True)

    def __enter__(self) -> Eavesdropper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._ends.is_set():
            if not select.select([self._socket], [], [], LOOK)[0]:
                continue
            datagram = read_frame(self._socket.recv(65535), time.monotonic())
            if datagram is None:
                continue
            self.seen.append(datagram)
            if self._heard is not None:
                self._heard(datagram)


class Forger:
    """Sends datagrams (IPv4) from `host`, with its own source or with anybody's."""

    def __init__(self, host: Host) -> None:
        self._own = host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._raw = host.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def __enter__(self) -> Forger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._own.close()
        self._raw.close()

    def send(self, payload: bytes, destination: Endpoint, source: Endpoint | None = None) -> None:
        """Send `payload` as from `source`; None: from this host, always from the same port."""
        if source is None:
            self._own.sendto(payload, destination)
        else:
            self._raw.sendto(packet(source, destination, payload), (destination[0], 0))

    def answers(self) -> list[bytes]:
        """Return the datagrams that have come back to this host's own port."""
        found = []
        while select.select([self._own], [], [], 0)[0]:
            found.append(self._own.recv(65535))
        return found


def packet(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """Return an IPv4 packet for a raw socket, which adds the header's checksum. UDP's is left out (RFC 768)."""
    addresses = [ip_address(host).packed for host, _ in (source, destination)]
    length = _UDP.size + len(payload)
    header = _IPV4.pack(0x45, 0, _IPV4.size + length, 0, 0, 64, socket.IPPROTO_UDP, 0, *addresses)
    return header + _UDP.pack(source[1], destination[1], length, 0) + payload


def read_frame(frame: bytes, at: float) -> Seen | None:
    """Return the UDP datagram of an Ethernet frame with IPv4; None: it is something else, or a fragment."""
    ip = frame[ETHERNET_HEADER:]
    if len(ip) < _IPV4.size or ip[0] >> 4 != 4 or ip[9] != socket.IPPROTO_UDP or ip[6] & 0x3F or ip[7]:
        return None
    udp = ip[(ip[0] & 0xF) * 4 :]
    if len(udp) < _UDP.size:
        return None
    source_port, destination_port, length, _ = _UDP.unpack_from(udp)
    source, destination = (str(ip_address(octets)) for octets in _ADDRESSES_V4.unpack_from(ip, 12))
    return Seen((source, source_port), (destination, destination_port), udp[_UDP.size : length], at)


def mutated(octets: bytes, random: Random) -> bytes:
    """Return `octets` with one to three changes, such as wrong bits, a cut, or other octets behind; never the same."""
    changed = bytearray(octets)
    for _ in range(random.randint(1, 3)):
        where = random.randrange(len(changed)) if changed else 0
        match random.randrange(6) if changed else 5:
            case 0:
                changed[where] ^= 1 << random.randrange(8)
            case 1:
                changed[where] = random.randrange(256)
            case 2:
                del changed[where:]
            case 3:
                del changed[where : where + random.randint(1, 8)]
            case 4:
                changed[where : where + 4] = random.choice((bytes(4), b"\xff" * 4, random.randbytes(4)))
            case _:
                changed += random.randbytes(random.randint(1, 40))
    return bytes(changed) if bytes(changed) != octets else bytes(changed) + b"\0"

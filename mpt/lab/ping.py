"""Round-trip times by ICMP echo (RFC 792, RFC 4443 section 4), for machines without the ping program."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from ipaddress import ip_address

from mpt.lab.hosts import Host

ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}


def ping(
    host: Host, address: str, *, count: int = 5, interval: float = 0.05, timeout: float = 1.0, size: int = 56
) -> list[float | None]:
    """Send `count` echo requests with `size` bytes of data from `host` and wait for each answer before the next.

    Returns the round-trip times in seconds, None for a request without an answer within `timeout`.
    """
    version = ip_address(address).version
    family, protocol = {
        4: (socket.AF_INET, socket.IPPROTO_ICMP),
        6: (socket.AF_INET6, socket.IPPROTO_ICMPV6),
    }[version]
    times: list[float | None] = []
    with host.call(socket.socket, family, socket.SOCK_RAW, protocol) as raw:
        raw.connect((address, 0))
        identifier = os.getpid() & 0xFFFF
        for sequence in range(count):
            if sequence:
                time.sleep(interval)
            times.append(_echo(raw, version, identifier, sequence, size, timeout))
    return times


def _echo(raw: socket.socket, version: int, identifier: int, sequence: int, size: int, timeout: float) -> float | None:
    """Return the seconds between a request and its answer, or None without one."""
    header = struct.pack("!BBHHH", ECHO_REQUEST[version], 0, 0, identifier, sequence)
    message = header + bytes(size)
    if version == 4:
        message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
    sent = time.monotonic()
    try:
        raw.send(message)
    except OSError:  # no route, no buffer, no carrier: no answer
        return None
    while (left := sent + timeout - time.monotonic()) > 0 and select.select([raw], [], [], left)[0]:
        try:
            answer = raw.recv(65535)
        except OSError:  # an ICMP error for an earlier request
            continue
        if version == 4:
            answer = answer[(answer[0] & 0x0F) * 4 :]
        kind, _, _, its_identifier, its_sequence = struct.unpack_from("!BBHHH", answer)
        if (kind, its_identifier, its_sequence) == (ECHO_REPLY[version], identifier, sequence):
            return time.monotonic() - sent
    return None


def internet_checksum(data: bytes) -> int:
    """Return the internet checksum of `data` (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

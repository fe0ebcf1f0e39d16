"""A look at the keepalives and ICMP errors that arrive at an interface, before rp_filter, firewalls and sockets.

It is a packet socket with a filter in the kernel, so other traffic, however much, never reaches us. Its buffer is
small, and drops the rest. It is open for some seconds, when a path does not work for an unknown reason.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

from mpt.errors import HostError

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
SO_ATTACH_FILTER: Final = 26  # <asm-generic/socket.h>
BUFFER_SIZE: Final = 64 << 10  # octets; some hundred packets
LONGEST: Final = 200  # octets of a packet that are read
MOST: Final = 256  # packets that one look reads

KEEPALIVE: Final = 0xA1  # the first octet behind UDP and a plain GRE header (mpt.wire.command)
_UDP_AND_GRE: Final = 8 + 4

# Classic BPF, <linux/bpf_common.h>: operation, and jumps for true and false counted from the next instruction.
_LOAD_OCTET, _LOAD_HALF, _LOAD_OCTET_X, _LOAD_HALF_X = 0x30, 0x28, 0x50, 0x48
_LOAD_HEADER_LENGTH, _JUMP_IF_EQUAL, _RETURN = 0xB1, 0x15, 0x06
_ACCEPT: Final = (_RETURN, 0, 0, LONGEST)
_DROP: Final = (_RETURN, 0, 0, 0)


class Instruction(NamedTuple):
    """One instruction of the filter."""

    code: int
    if_true: int
    if_false: int
    operand: int


def program(version: int, port: int) -> list[Instruction]:
    """Return the filter: keepalives to UDP `port`, and ICMP errors about datagrams from it; packets begin with IP."""
    if version == 4:
        lines = [
            (_LOAD_HEADER_LENGTH, 0, 0, 0),
            (_LOAD_OCTET, 0, 0, 9),
            (_JUMP_IF_EQUAL, 5, 0, socket.IPPROTO_UDP),
            (_JUMP_IF_EQUAL, 0, 8, socket.IPPROTO_ICMP),
            (_LOAD_OCTET_X, 0, 0, 0),
            (_JUMP_IF_EQUAL, 0, 6, 3),  # destination unreachable
            (_LOAD_HALF_X, 0, 0, 8 + 20),  # our source port, in the datagram that the error quotes
            (_JUMP_IF_EQUAL, 5, 4, port),
            # UDP
            (_LOAD_HALF_X, 0, 0, 2),
            (_JUMP_IF_EQUAL, 0, 2, port),
            (_LOAD_OCTET_X, 0, 0, _UDP_AND_GRE),
            (_JUMP_IF_EQUAL, 1, 0, KEEPALIVE),
        ]
        return [Instruction(*line) for line in (*lines, _DROP, _ACCEPT)]
    lines = [
        (_LOAD_OCTET, 0, 0, 6),
        (_JUMP_IF_EQUAL, 6, 0, socket.IPPROTO_UDP),
        (_JUMP_IF_EQUAL, 0, 9, socket.IPPROTO_ICMPV6),
        (_LOAD_OCTET, 0, 0, 40),
        (_JUMP_IF_EQUAL, 1, 0, 1),  # destination unreachable
        (_JUMP_IF_EQUAL, 0, 6, 2),  # packet too big
        (_LOAD_HALF, 0, 0, 40 + 8 + 40),
        (_JUMP_IF_EQUAL, 5, 4, port),
        # UDP
        (_LOAD_HALF, 0, 0, 42),
        (_JUMP_IF_EQUAL, 0, 2, port),
        (_LOAD_OCTET, 0, 0, 40 + _UDP_AND_GRE),
        (_JUMP_IF_EQUAL, 1, 0, KEEPALIVE),
    ]
    return [Instruction(*line) for line in (*lines, _DROP, _ACCEPT)]


class Tap:
    """Gathers keepalives and errors for UDP `port` over IP `version` at `interface`, from now on. Raises HostError."""

    def __init__(self, interface: str, port: int, version: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except OSError as error:
            raise HostError(f"cannot look at what arrives at {interface}: {error.strerror}") from error
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
            _attach(self._socket, program(version, port))
            self._socket.bind((interface, ETH_P_IP if version == 4 else ETH_P_IPV6))
        except OSError as error:
            self._socket.close()
            raise HostError(f"cannot look at what arrives at {interface}: {error.strerror}") from error

    def read(self) -> list[bytes]:
        """Return the packets that have come, each from its IP header on, cut after `LONGEST` octets."""
        packets: list[bytes] = []
        while len(packets) < MOST:
            try:
                packets.append(self._socket.recv(LONGEST))
            except OSError:  # no more, or the interface is gone
                break
        return packets

    def close(self) -> None:
        """Look no more."""
        self._socket.close()


def _attach(tap: socket.socket, instructions: list[Instruction]) -> None:
    octets = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(octets)
    tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(instructions), ctypes.addressof(buffer)))


def drops_what_returns_elsewhere(interface: str, root: Path = Path("/proc/sys/net/ipv4/conf")) -> bool:
    """Return whether the kernel drops IPv4 packets at `interface` whose sender it would reach over another.

    That is so with sysctl rp_filter = 1; the larger value of the interface and of "all" counts.
    """
    values = []
    for name in ("all", interface):
        try:
            values.append(int((root / name / "rp_filter").read_text()))
        except (OSError, ValueError):
            values.append(0)
    return max(values) == 1

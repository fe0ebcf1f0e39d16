"""The command datagrams of MPT, and the keepalive, which has the same header and travels in band on the data port.

A datagram between two command ports, `sh` being 0, 4 or 36 octets of authentication for type 0, 1 or 2:

    0       command: A1 keepalive, A2 path status change, A3 connection create
    1       in a request its value (A2: 00 up, 80 down); in a reply the result code, 0 is "done"
    2, 3    authentication type, and `sh`; a receiver computes `sh` from octet 2
    4..     type 1 and 2: the random number of 4 octets; type 2: and the digest of 32
    sh+4    round 1..4; 1 and 3 are requests, 2 and 4 replies. A keepalive has 0
    sh+5    IP version of the tunnel; two octets of 0 follow
    sh+8    tunnel address of the initiator, then of its peer, 16 octets each, IPv4 as ::ffff:a.b.c.d
    sh+40   payload

A reply repeats the addresses of its request, not swapped. Whole numbers in payloads are in host order, which is little
endian on everything that MPT runs on. A keepalive is a plain GRE header and this header, and is never authenticated.
A4 and A5 are between a program and the daemon of its own host: see ``mpt.local.protocol``.

Whatever the bytes are, decoding raises nothing but DecodeError.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from mpt.errors import DecodeError
from mpt.model import Address, AuthType
from mpt.wire import gre

COMMAND: Final = 0xA0  # a first payload octet from here on is no IP packet
KEEPALIVE: Final = 0xA1
PATH_STATUS: Final = 0xA2
CREATE: Final = 0xA3

HEADER_LENGTH: Final = 40  # without the octets of authentication
AUTH_LENGTH: Final = {AuthType.NONE: 0, AuthType.RANDOM: 4, AuthType.SHA256: 36}
CREATE_OFFSET: Final = HEADER_LENGTH + AUTH_LENGTH[AuthType.SHA256]  # where the text of a create begins
VALUE_UP: Final = 0x00
VALUE_DOWN: Final = 0x80
NO_RANDOM: Final = bytes(4)
NO_DIGEST: Final = bytes(32)

LARGEST_FOR_C: Final = 1600  # the C program cuts longer datagrams
TEXT_FOR_C: Final = LARGEST_FOR_C - CREATE_OFFSET  # octets of a create's text that a C server reads in full
LARGEST_TEXT: Final = 32_768  # octets of a create's text; 20 paths are some 8 kB
C_SKIPS: Final = 4  # octets at the start of a create's text that the C server does not read

_LAST_ROUND = 4
_MAPPED = bytes(10) + b"\xff\xff"
_COMMENT = frozenset(b";#")


class Result(enum.IntEnum):
    """The result codes of replies; a peer may send others."""

    DONE = 0
    NO_ANSWER = 1  # never on the wire: what an initiator ends with
    AUTH_FAILED = 3
    NO_CONNECTION = 4  # of a create: its text cannot be used
    ALREADY_EXISTS = 5
    NO_PATH = 6  # no such path; of a create: the paths of both sides do not fit
    NOT_PERMITTED = 7  # ours: `permission` or `accept_remote` forbids it
    ROUND_MISMATCH = 9


_MEANING = {
    Result.DONE: "done",
    Result.NO_ANSWER: "the peer did not answer",
    Result.AUTH_FAILED: "authentication failed: both ends need the same auth_type and auth_key",
    Result.NO_CONNECTION: "the peer has no such connection, or cannot use this one",
    Result.ALREADY_EXISTS: "the peer has this connection already",
    Result.NO_PATH: "the peer has no path that fits",
    Result.NOT_PERMITTED: "the peer does not permit it: see its permission, accept_remote and conf.template",
    Result.ROUND_MISMATCH: "the peer has lost the thread: try again",
}


def meaning(code: int) -> str:
    """Return a result code in words."""
    try:
        return _MEANING[Result(code)]
    except ValueError:
        return f"the peer answered with the unknown code {code}"


@dataclass(frozen=True, slots=True)
class Message:
    """One command datagram between two hosts; `random` has 4 octets, `digest` 32, both zeros where there are none."""

    command: int
    value: int
    round: int
    ip_version: int
    sender: Address  # tunnel address of the initiator, in replies too
    receiver: Address
    payload: bytes = b""
    auth_type: AuthType = AuthType.NONE
    random: bytes = NO_RANDOM
    digest: bytes = NO_DIGEST


# ---- header -----------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Return the octets of `message`, its digest as it stands there (``mpt.control.auth.sign`` fills it in)."""
    length = AUTH_LENGTH[message.auth_type]
    head = bytes((message.command, message.value, message.auth_type, length))
    proof = (message.random + message.digest)[:length]
    tail = bytes((message.round, message.ip_version, 0, 0))
    return head + proof + tail + address_octets(message.sender) + address_octets(message.receiver) + message.payload


def decode(datagram: bytes) -> Message:
    """Return the message in `datagram`, A1 to A3. Raises DecodeError with one of the reasons command_short,
    command_unknown, command_auth_type, command_round and command_ip_version."""
    if len(datagram) < HEADER_LENGTH:
        raise DecodeError("command_short", f"{len(datagram)} octets")
    command = datagram[0]
    if command not in (KEEPALIVE, PATH_STATUS, CREATE):
        raise DecodeError("command_unknown", f"{command:02x}")
    try:
        auth_type = AuthType(datagram[2])
    except ValueError:
        raise DecodeError("command_auth_type", str(datagram[2])) from None
    at = AUTH_LENGTH[auth_type]
    if len(datagram) < HEADER_LENGTH + at:
        raise DecodeError("command_short", f"{len(datagram)} octets")
    proof = bytes(datagram[4 : 4 + at]).ljust(36, b"\0")
    number, ip_version = datagram[at + 4], datagram[at + 5]
    if (number == 0) is not (command == KEEPALIVE) or number > _LAST_ROUND:
        raise DecodeError("command_round", str(number))
    sender, receiver = address_from(datagram[at + 8 : at + 24]), address_from(datagram[at + 24 : at + 40])
    if not (ip_version == sender.version == receiver.version):
        raise DecodeError("command_ip_version", str(ip_version))
    return Message(
        command,
        datagram[1],
        number,
        ip_version,
        sender,
        receiver,
        bytes(datagram[at + 40 :]),
        auth_type,
        proof[:4],
        proof[4:],
    )


def address_octets(address: Address) -> bytes:
    """Return an address in the 16 octets that MPT uses for both versions."""
    return address.packed if address.version == 6 else _MAPPED + address.packed


def address_from(octets: bytes) -> Address:
    """Return the address in 16 octets."""
    return IPv4Address(octets[12:]) if octets[:12] == _MAPPED else IPv6Address(octets)


# ---- payloads ---------------------------------------------------------------------------------------------------


def encode_size(size: int) -> bytes:
    """Return the payload of round 1: how many octets the payload of round 3 will have."""
    return size.to_bytes(4, "little")


def encode_path(own: Address, peer: Address) -> bytes:
    """Return the payload of A2 in round 3: the initiator's public_ipaddr and remote_ipaddr of the path."""
    return address_octets(own) + address_octets(peer)


def decode_path(payload: bytes) -> tuple[Address, Address]:
    """Return the initiator's public_ipaddr and remote_ipaddr; raises DecodeError."""
    if len(payload) < 32:
        raise DecodeError("path_status_short", f"{len(payload)} octets")
    return address_from(payload[:16]), address_from(payload[16:32])


def encode_create(text: str) -> bytes:
    """Return the payload of A3 in round 3 and 4; raises ValueError if the C server would not read all of the text."""
    payload = text.encode()
    if len(payload) > LARGEST_TEXT:
        raise ValueError(f"a connection of {len(payload)} octets is too long for a datagram")
    if len(payload) <= C_SKIPS or not _COMMENT.issuperset(payload[: C_SKIPS + 1]):
        raise ValueError("the text of a create begins with 5 comment characters: the C server skips the first 4")
    return payload


def decode_create(payload: bytes) -> str:
    """Return the text of A3, of both rounds; raises DecodeError. A reply of the C program has lost its last 36 octets,
    a comment or a part of a network."""
    if len(payload) > LARGEST_TEXT:
        raise DecodeError("create_long", f"{len(payload)} octets")
    text = payload.partition(b"\0")[0]
    if len(text) <= C_SKIPS or not _COMMENT.issuperset(text[: C_SKIPS + 1]):
        raise DecodeError("create_start", "it does not begin with a comment")
    return text.decode("utf-8", "replace")


# ---- keepalive --------------------------------------------------------------------------------------------------


def keepalive_tunnel(payload: bytes) -> bytes | None:
    """Return the octets by which a keepalive names its tunnel: IP version, sender's and receiver's address; None for
    any other payload. That is enough to find its path, and cheaper than `decode`. More octets may follow the header."""
    if len(payload) < HEADER_LENGTH or payload[0] != KEEPALIVE or payload[2] or payload[4]:
        return None
    return payload[5:6] + payload[8:HEADER_LENGTH]


def keepalive(ip_version: int, sender: Address, receiver: Address) -> bytes:
    """Return the 40 octets of a keepalive from tunnel address `sender` to tunnel address `receiver`."""
    return encode(Message(KEEPALIVE, 0, 0, ip_version, sender, receiver))


def encode_keepalive(ip_version: int, sender: Address, receiver: Address) -> bytes:
    """Return the 44 octets of a keepalive as it lies in a datagram, behind a GRE header."""
    return gre.encode(ip_version) + keepalive(ip_version, sender, receiver)

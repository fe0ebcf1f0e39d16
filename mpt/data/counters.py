"""The counters of a data path. Every dropped packet or datagram is counted under its reason."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from errno import errorcode


class Reason(enum.StrEnum):
    """Why a packet or a datagram was dropped; enum mpt_reason of the native data path has the same names.

    Failed system calls have further reasons, an open list: "send_" or "tun_" and the name of the errno.
    """

    NOT_IP = enum.auto()
    NO_CONNECTION = enum.auto()
    LOOP = enum.auto()
    NO_PATH = enum.auto()
    NO_SESSION = enum.auto()
    TOO_BIG = enum.auto()
    QUEUE_FULL = enum.auto()
    CODEL = enum.auto()
    OFFLOAD_MALFORMED = enum.auto()
    UNKNOWN_SOURCE = enum.auto()
    GRE_TRUNCATED = enum.auto()
    GRE_VERSION = enum.auto()
    GRE_RESERVED_BITS = enum.auto()
    GRE_PROTOCOL = enum.auto()
    GRE_CHECKSUM = enum.auto()
    INNER_TRUNCATED = enum.auto()
    INNER_VERSION = enum.auto()
    INNER_SOURCE = enum.auto()
    KEEPALIVE_UNKNOWN = enum.auto()
    COMMAND_ON_DATA_PORT = enum.auto()
    SEAL_UNKNOWN_KIND = enum.auto()
    SEAL_TRUNCATED = enum.auto()
    SEAL_SESSION = enum.auto()
    SEAL_PATH = enum.auto()
    SEAL_REPLAY = enum.auto()
    SEAL_TAG = enum.auto()
    HANDSHAKE_UNEXPECTED = enum.auto()
    HANDSHAKE_MAC = enum.auto()
    HANDSHAKE_FLOOD = enum.auto()
    HANDSHAKE_RETRY = enum.auto()
    MESSAGE_UNKNOWN = enum.auto()
    MESSAGE_FLOOD = enum.auto()
    FEEDBACK_MALFORMED = enum.auto()
    ECN_NOT_ECT = enum.auto()
    LATE = enum.auto()
    DUPLICATE = enum.auto()
    COPY = enum.auto()
    STRAY = enum.auto()
    TUN_FULL = enum.auto()


EGRESS_REASONS = (
    Reason.NOT_IP,
    Reason.NO_CONNECTION,
    Reason.LOOP,
    Reason.NO_PATH,
    Reason.NO_SESSION,
    Reason.TOO_BIG,
    Reason.QUEUE_FULL,
    Reason.CODEL,
    Reason.OFFLOAD_MALFORMED,
)
"""The reasons on the way from the TUN to the network; the others are on the way back, where `LOOP` may be, too."""


def errno_reason(call: str, number: int | None) -> str:
    """Return the reason for a system call's errno; `call` is "send" or "tun"."""
    return f"{call}_{errorcode.get(number or 0, 'error').lower()}"


@dataclass(slots=True)
class PathCounters:
    """The counters of one path: inner packets, their octets, and when the last one came (monotonic s, 0.0: never)."""

    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    last_received: float = 0.0
    send_errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Counters:
    """A snapshot of one tunnel.

    `packets_read` from the TUN = the sum of `packets_sent` + the sum of `egress_dropped` + `packets_waiting` in the
    queues of adaptive connections; a packet for a group counts as one for each of its connections, a packet that is cut
    as one for each fragment. What is sent again, or over a second path, counts in `packets_sent` the first time only.
    `datagrams_received` = `keepalives_received` + `messages_received` + `handshakes_received` + `packets_delivered` +
    `packets_held` + the sum of `ingress_dropped`. `messages_received` are those of sealed paths that are no keepalives;
    `handshakes_received` are the handshake datagrams that were passed to control.
    `ecn_unexpected` packets came with a pair of inner and outer ECN fields that no path makes if it keeps the rules
    (RFC 6040 section 4.2): somebody on the way has changed the outer field.
    """

    packets_read: int = 0
    packets_waiting: int = 0
    egress_dropped: dict[str, int] = field(default_factory=dict)
    datagrams_received: int = 0
    keepalives_received: int = 0
    messages_received: int = 0
    handshakes_received: int = 0
    packets_delivered: int = 0
    packets_held: int = 0
    ecn_unexpected: int = 0
    ingress_dropped: dict[str, int] = field(default_factory=dict)
    paths: dict[Hashable, PathCounters] = field(default_factory=dict)

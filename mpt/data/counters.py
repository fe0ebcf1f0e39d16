"""What the data path counts. Nothing is dropped without being counted under its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(slots=True)
class PathCounters:
    """Of one path: inner packets and their octets, and when the last one came (monotonic seconds, 0.0: never)."""

    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    last_received: float = 0.0
    send_errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Counters:
    """A snapshot of one tunnel.

    `packets_read` from the TUN = the sum of `packets_sent` + the sum of `egress_dropped`.
    `datagrams_received` = `keepalives_received` + `packets_delivered` + `packets_held` + the sum of `ingress_dropped`.
    `ecn_unexpected` packets came with ECN fields inside and outside that no path makes which keeps the rules (RFC 6040
    section 4.2): somebody on the way has changed the outer one.
    """

    packets_read: int = 0
    egress_dropped: dict[str, int] = field(default_factory=dict)
    datagrams_received: int = 0
    keepalives_received: int = 0
    packets_delivered: int = 0
    packets_held: int = 0
    ecn_unexpected: int = 0
    ingress_dropped: dict[str, int] = field(default_factory=dict)
    paths: dict[Hashable, PathCounters] = field(default_factory=dict)

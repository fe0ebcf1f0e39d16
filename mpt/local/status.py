"""The status of a daemon: the document "mpt.status/1" as frozen values (`mpt.local.statustext`: the same for people).

The JSON keys are the field names (docs/commands.md has them all). Within version 1 fields may be added, none is
removed or changes its meaning. Addresses are text, times are seconds, counts are whole numbers since the tunnel
interface was made. The document never contains keys (secrets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, TypeVar

from mpt.model import Status

SCHEMA: Final = "mpt.status/1"

_Kind = TypeVar("_Kind")

WORDS: Final = {
    Status.OK: "up",
    Status.DOWN: "down",  # no keepalive
    Status.INTERFACE_DOWN: "interface down",
    Status.ADDRESS_DOWN: "address down",
    Status.MANUAL_DOWN: "manual down",
    Status.DISABLED: "disabled",
}
"""The word for each status, in the document and on the screen."""

WAITING: Final = "waiting"
"""The word for a path that is OK but over which nothing was heard yet."""

DOWN_AT_PEER: Final = "down (peer)"
"""The word for a path that is OK or silent here, and that the peer does not want to use."""


def state_word(status: str, peer_says_down: bool) -> str:
    """Return the word for the state of a path, in which the peer has a say: `status`, one of WORDS or WAITING, is what
    this end knows."""
    return DOWN_AT_PEER if peer_says_down and status in _PEER_HAS_A_SAY else status


_PEER_HAS_A_SAY: Final = (WORDS[Status.OK], WAITING, WORDS[Status.DOWN])


@dataclass(frozen=True, slots=True)
class PathStatus:
    """One path. Counts are of inner packets and their octets; `drops` counts the packets not sent, by reason."""

    name: str  # "path_0"
    status: str  # one of WORDS, or WAITING; "down" if the peer says so of a path that is up here
    interface: str
    local_address: str  # on the interface
    public_address: str  # as the peer sees it
    remote_address: str
    weight_out: int
    weight_in: int
    keepalive_time: float  # 0: none
    dead_time: float  # 0: never
    keepalive_age: float | None  # since the last one came, of a sealed path as heard_age; None: none yet
    packets_sent: int
    bytes_sent: int
    packets_received: int
    bytes_received: int
    peer_says_down: bool = False  # the peer told us that it does not want to use this path
    drops: Mapping[str, int] = field(default_factory=dict)
    gateway: str | None = None  # on the way to the peer; None: the peer is on the link, or the gateway is not known
    no_route: str | None = None  # why there is no route to the peer
    reason: str | None = None  # why the status is not "up", for people
    loss: float | None = None  # of the peer's keepalives, adaptive: of what was sent; in per cent; None: not known
    cause: str | None = None  # what a look at the line has shown to be wrong, and the remedy, for people
    since: float | None = None  # seconds in this state
    state: str | None = None  # one of WORDS, WAITING or DOWN_AT_PEER: the word that people see
    heard_age: float | None = None  # since anything of the peer came over it, a packet too; None: nothing yet
    out_rate: float | None = None  # octets of inner packets a second, in the last second; None: the path is too new
    in_rate: float | None = None
    share: float | None = None  # of the octets that the connection sent in that second, 0 .. 1; None: it sent none
    round_trip: float | None = None  # seconds; None: not known
    adaptive: Mapping[str, Any] | None = None  # what an adaptive connection knows of it (docs/commands.md)


@dataclass(frozen=True, slots=True)
class SealedStatus:
    """The keys of a sealed connection; nothing of it is secret."""

    state: str  # one of the values of control.session.State
    peer_key: str  # as it was shown; else the first of the configured ones
    cipher: str | None = None  # None: there are no keys
    key_exchange: str | None = None  # "X25519MLKEM768" or "x25519"
    keys_age: float | None = None
    reason: str | None = None  # why there are no keys, for people
    renewal_failure: str | None = None  # why the last try to renew the keys failed, for people


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection and its paths."""

    name: str
    file: str | None  # without its directory; None: created by the peer and not saved
    tunnel: str  # the interface
    local_address: str  # inside the tunnel
    remote_address: str
    local_port: int
    remote_port: int
    remote_cmd_port: int
    permission: int
    auth_type: int
    reorder_window: int
    max_buffdelay_msec: int
    dscp: int | str  # of the datagrams; "copy": the same as of the packet inside
    ecn: str  # "normal" or "compatibility" (RFC 6040)
    paths: Sequence[PathStatus]
    report_failure: str | None = (
        None  # why the peer's command port could not be told of a path; None: it was, or need not
    )
    sealed: SealedStatus | None = None  # None: the connection is plain
    adaptive: Mapping[str, Any] | None = None  # None: it goes by weight_out (docs/commands.md)
    inside: Mapping[str, float | None] | None = None  # mpt.local.history.Inside; None: the connection is too new


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One tunnel interface and its packets; drops by reason."""

    name: str
    mtu: int
    ipv4_addr: str | None
    ipv6_addr: str | None
    data_plane: str  # "python" or "native"
    offloads: Sequence[str]  # in use now, in alphabetical order
    packets_read: int
    packets_delivered: int
    packets_held: int
    ecn_unexpected: int  # packets with ECN fields that no honest path makes
    datagrams_received: int
    keepalives_received: int
    egress_dropped: Mapping[str, int]
    ingress_dropped: Mapping[str, int]
    sealing: str | None = None  # the libraries that seal; None: no connection of it is sealed


@dataclass(frozen=True, slots=True)
class StatusDocument:
    """The whole daemon. `control_dropped` counts refused command datagrams, `handshakes_dropped` handshake datagrams
    that led to nothing, by reason."""

    version: str  # of the program
    pid: int
    uptime: float
    cmdport: int
    accept_remote: bool
    tunnels: Sequence[TunnelStatus]
    connections: Sequence[ConnectionStatus]
    control_dropped: Mapping[str, int] = field(default_factory=dict)
    handshakes_dropped: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()  # what is wrong with the connections, and the remedy, for people
    schema: str = SCHEMA

    def as_json(self) -> dict[str, Any]:
        """Return the document as plain values: dicts, lists, text and numbers."""
        plain: dict[str, Any] = _plain(self)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> StatusDocument:
        """Return the document that a daemon gave as plain values; members that are not known here are left out.

        Raises ValueError if it is none.
        """
        if plain.get("schema") != SCHEMA:
            raise ValueError(f"the schema is {plain.get('schema')!r}, not {SCHEMA!r}")
        try:
            connections = [
                _of(
                    ConnectionStatus,
                    each,
                    paths=[_of(PathStatus, path) for path in each["paths"]],
                    sealed=_of(SealedStatus, each["sealed"]) if each.get("sealed") else None,
                )
                for each in plain["connections"]
            ]
            tunnels = [_of(TunnelStatus, each) for each in plain["tunnels"]]
            return _of(cls, plain, tunnels=tunnels, connections=connections)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the document is not whole: {error}") from error


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _names(kind: type[Any]) -> list[str]:
    return [each.name for each in fields(kind)]


_FIELDS = {
    kind: (tuple(names := _names(kind)), attrgetter(*names))
    for kind in (PathStatus, SealedStatus, ConnectionStatus, TunnelStatus, StatusDocument)
}
"""By class: the names of its fields, and the function that gets their values."""


def _plain(value: Any) -> Any:
    """Return `value` as plain values; a server has a hundred thousand of them."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return [each if type(each) in _PLAIN else _plain(each) for each in value]
    names, values = _FIELDS[type(value)]
    return {
        name: each if type(each) in _PLAIN else _plain(each) for name, each in zip(names, values(value), strict=True)
    }


def _of(kind: type[_Kind], plain: Mapping[str, Any], **given: Any) -> _Kind:
    """Return a value of `kind` with the members of `plain` that it has, and those `given`."""
    known = {name: plain[name] for name in _names(kind) if name in plain}
    return kind(**(known | given))

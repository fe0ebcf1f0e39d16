"""The status for `mpt show status`: the document "mpt.status/1" as frozen values, and the same as text for people.

The JSON keys are the field names (docs/commands.md has them all). Within version 1 fields may be added, none is
removed or changes its meaning. Addresses are text, times are seconds, counts are whole numbers since the tunnel
interface was made. The document never contains keys (secrets).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from mpt.model import GeneralConfig, Status, TunnelConfig

SCHEMA: Final = "mpt.status/1"

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


@dataclass(frozen=True, slots=True)
class PathStatus:
    """One path. Counts are of inner packets and their octets; `drops` counts the packets not sent, by reason."""

    name: str  # "path_0"
    status: str  # one of WORDS, or WAITING
    interface: str
    local_address: str  # on the interface
    public_address: str  # as the peer sees it
    remote_address: str
    weight_out: int
    weight_in: int
    keepalive_time: float  # 0: none
    dead_time: float  # 0: never
    keepalive_age: float | None  # since the last one came; None: none yet
    packets_sent: int
    bytes_sent: int
    packets_received: int
    bytes_received: int
    peer_says_down: bool = False  # the peer told us that it does not want to use this path
    drops: Mapping[str, int] = field(default_factory=dict)
    gateway: str | None = None  # on the way to the peer; None: the peer is on the link, or the gateway is not known
    no_route: str | None = None  # why there is no route to the peer
    reason: str | None = None  # why the status is not "up", for people
    loss: float | None = None  # of the peer's keepalives, in per cent; None: not known
    cause: str | None = None  # what a look at the line has shown to be wrong, and the remedy, for people


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
    schema: str = SCHEMA

    def as_json(self) -> dict[str, Any]:
        """Return the document as plain values: dicts, lists, text and numbers."""
        plain: dict[str, Any] = _plain(self)
        return plain


_PLAIN = frozenset({str, int, float, bool, type(None)})


_FIELDS = {
    kind: (tuple(names := [each.name for each in fields(kind)]), attrgetter(*names))
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


# ---- for people -----------------------------------------------------------------------------------------------------

_COLUMNS = ("PATH", "STATUS", "INTERFACE", "LOCAL", "REMOTE", "OUT:IN", "HEARD", "SENT", "RECEIVED", "DROPPED")


def start_text(general: GeneralConfig, tunnels: Iterable[tuple[TunnelConfig, str, int]]) -> str:
    """Return the "Tunnel information" blocks of guide 3, one for each tunnel, its device file and its descriptor."""
    return "\n".join(
        "Tunnel information:\n"
        f"Tunnel interface : {tunnel.name}\n"
        f"Tunnel device    : {device}\n"
        f"Tunnel file desc.: {descriptor}\n"
        f"Tunnel ipv4 addr.: {tunnel.ipv4_addr or '-'}\n"
        f"Tunnel ipv6 addr.: {tunnel.ipv6_addr or '-'}\n"
        f"CMD server port number : {general.cmdport_local}\n"
        f"CMD client port number : {general.cmdport_local}\n"
        f"Global server      : {int(general.accept_remote)}\n"
        for tunnel, device, descriptor in tunnels
    )


def status_text(document: StatusDocument) -> str:
    """Return the document as text: some lines for each tunnel, then for each connection a table, one row a path."""
    lines = [
        f"mpt {document.version}, pid {document.pid}, up for {_age(document.uptime)}, "
        f"command port {document.cmdport}, remote creation {'on' if document.accept_remote else 'off'}"
    ]
    if document.control_dropped:
        lines.append(f"  refused commands: {_reasons(document.control_dropped)}")
    if document.handshakes_dropped:
        lines.append(f"  dropped handshake datagrams: {_reasons(document.handshakes_dropped)}")
    for tunnel in document.tunnels:
        addresses = ", ".join(address for address in (tunnel.ipv4_addr, tunnel.ipv6_addr) if address)
        lines += [
            "",
            f"{tunnel.name}: {addresses}, mtu {tunnel.mtu}; packets out {tunnel.packets_read}, "
            f"in {tunnel.packets_delivered}, held {tunnel.packets_held}",
            f"  {tunnel.data_plane} data path, offloads: {', '.join(tunnel.offloads) or 'none'}",
        ]
        drops = (("out", tunnel.egress_dropped), ("in", tunnel.ingress_dropped))
        lines += [f"  dropped {way}: {_reasons(reasons)}" for way, reasons in drops if any(reasons.values())]
        if tunnel.ecn_unexpected:
            lines.append(f"  ECN fields that no honest path makes: {tunnel.ecn_unexpected}")
    for connection in document.connections:
        lines += ["", *_connection_lines(connection)]
    if not document.connections:
        lines += ["", "no connection"]
    return "\n".join(lines) + "\n"


def _connection_lines(connection: ConnectionStatus) -> Iterable[str]:
    usable = sum(path.status == WORDS[Status.OK] and not path.peer_says_down for path in connection.paths)
    yield (
        f"{connection.name} ({connection.file or 'not saved'}): {connection.local_address} to "
        f"{connection.remote_address} on {connection.tunnel}, {usable} of {len(connection.paths)} paths work"
    )
    if connection.sealed is not None:
        yield from (f"  {line}" for line in _sealed_lines(connection.sealed))
    rows = [_COLUMNS, *map(_row, connection.paths)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for path in connection.paths:
        if path.no_route is not None:
            yield f"  {path.name} has no route to {path.remote_address}: {path.no_route}"
        elif path.reason is not None:
            yield f"  {path.name}: {path.reason}"
        if path.cause is not None:
            yield f"  {path.name}: {path.cause}"
    if connection.report_failure is not None:
        text = f"  the peer was not told that {connection.report_failure}"
        port = connection.remote_cmd_port if connection.sealed is None else 0  # a sealed one reports without it
        yield text + (f"; does a firewall let UDP {port}, its command port, through?" if port else "")


def _sealed_lines(sealed: SealedStatus) -> Iterable[str]:
    if sealed.keys_age is None:
        yield f"sealed with {sealed.peer_key}"
        yield f"there are no keys yet: {sealed.reason}"
        return
    yield f"sealed with {sealed.peer_key}"
    yield f"{sealed.cipher}, {sealed.key_exchange or 'unknown key exchange'}, keys {_age(sealed.keys_age)} old"
    if sealed.renewal_failure is not None:
        yield f"the keys could not be renewed: {sealed.renewal_failure}"


def _row(path: PathStatus) -> tuple[str, ...]:
    return (
        path.name,
        f"{path.status} (peer: down)" if path.peer_says_down else path.status,
        path.interface,
        path.local_address,
        path.remote_address,
        f"{path.weight_out}:{path.weight_in}",
        "-" if path.keepalive_age is None else f"{_age(path.keepalive_age)} ago",
        f"{path.packets_sent} / {_octets(path.bytes_sent)}",
        f"{path.packets_received} / {_octets(path.bytes_received)}",
        _reasons(path.drops),
    )


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()) if count) or "-"


def _octets(count: int) -> str:
    """Return `count` octets in the largest unit that is not larger: "17 B", "1.4 kB", "23.0 GB"."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def _age(seconds: float) -> str:
    """Return `seconds` as a short text: "0.4 s", "59 s", "12 min", "5 h", "3 d"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

"""The status document as text for people, at most 80 columns wide: first what is wrong and what to do, then everything.

`mpt show status` and `mpt status` print it, also the key p of mptsrv.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from textwrap import wrap
from typing import Any, Final

from mpt.local.status import (
    DOWN_AT_PEER,
    WAITING,
    WORDS,
    ConnectionStatus,
    PathStatus,
    SealedStatus,
    StatusDocument,
    TunnelStatus,
    state_word,
)
from mpt.model import GeneralConfig, Status, TunnelConfig

WIDTH: Final = 80  # columns
UP: Final = WORDS[Status.OK]

_COLUMNS = ("PATH", "INTERFACE", "STATE", "SINCE", "SHARE", "OUT/s", "IN/s", "RTT", "LOSS")
_HEAD: Final = re.compile(r"(.+)( \([^()]*\): )((\d+) of (\d+) paths work)")  # of a connection
_LEFT: Final = 3  # columns of text; the others have numbers
_LONGEST_INTERFACE: Final = 11

_REMEDIES: Final = {
    WORDS[Status.DOWN]: "does the line work? try: ping -I {interface} {remote_address}",
    WORDS[Status.INTERFACE_DOWN]: "plug it in, or: mpt interface {interface} up",
    WORDS[Status.ADDRESS_DOWN]: "look at: ip address show dev {interface}",
    WORDS[Status.MANUAL_DOWN]: "when it shall work again: mpt path up {where}",
    WAITING: "does mptsrv run at {remote_address}, and does its firewall let UDP {port} in?",
}


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


class Paint:
    """Marks parts of the text: with colours on terminals that want them, else not at all."""

    __slots__ = ("_codes",)

    def __init__(self, colour: bool) -> None:
        self._codes = {"good": "32", "bad": "1;31", "doubt": "33", "dim": "2", "head": "1"} if colour else {}

    def __call__(self, kind: str, text: str) -> str:
        """Return `text` marked as "good", "bad", "doubt", "dim" or "head"."""
        code = self._codes.get(kind)
        return f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() else text


PLAIN: Final = Paint(False)


def works(path: PathStatus) -> bool:
    """Return whether the peer is heard over `path` and wants it used."""
    return path.status == UP and not path.peer_says_down


def named(document: StatusDocument, name: str) -> StatusDocument:
    """Return the document with the connections of this name or file alone, and their tunnels."""
    connections = [each for each in document.connections if name in (each.name, each.file)]
    tunnels = {each.tunnel for each in connections}
    return replace(
        document,
        connections=connections,
        tunnels=[each for each in document.tunnels if each.name in tunnels],
        problems=problems_of(connections),
    )


def status_text(document: StatusDocument, paint: Paint = PLAIN) -> str:
    """Return the whole document as text."""
    if paint is not PLAIN:
        return painted(status_text(document), paint)
    head = (
        f"mpt {document.version}, pid {document.pid}, up for {age(document.uptime)}, "
        f"command port {document.cmdport}, remote creation {'on' if document.accept_remote else 'off'}"
    )
    lines = [*_wrapped(head, "", "  "), *problem_lines(document)]
    for connection in document.connections:
        lines += ["", *_connection_lines(connection)]
    if not document.connections:
        lines += ["", "no connection"]
    for tunnel in document.tunnels:
        lines += ["", *_tunnel_lines(tunnel)]
    return "\n".join(lines) + "\n"


def painted(text: str, paint: Paint) -> str:
    """Return a text of `status_text`, marked: a client need not read the document of a large server for that."""
    lines = text.split("\n")
    columns: slice | None = None  # of the states, in the table of a connection
    for place, line in enumerate(lines):
        if not line:
            columns = None
        elif line.startswith("  PATH "):
            columns = slice(line.index(_COLUMNS[2]), line.index(_COLUMNS[3]) - 2)
            lines[place] = paint("dim", line)
        elif columns is not None and line.startswith("    "):
            lines[place] = paint("dim", line)
        elif columns is not None:
            word = line[columns].rstrip()
            kind = "good" if word == UP else "doubt" if word == WAITING else "bad"
            lines[place] = line[: columns.start] + paint(kind, line[columns]) + line[columns.stop :]
        elif line.startswith("! "):
            lines[place] = paint("bad", line)
        elif found := _HEAD.fullmatch(line):
            good, all_of_them = found[4], found[5]
            kind = "good" if good == all_of_them else "doubt" if good != "0" else "bad"
            lines[place] = f"{paint('head', found[1])}{found[2]}{paint(kind, found[3])}"
    return "\n".join(lines)


def brief_text(document: StatusDocument, paint: Paint = PLAIN) -> str:
    """Return one line for each connection: its name, how many of its paths work, its rates, and what is wrong."""
    lines = []
    for connection in document.connections:
        good = sum(map(works, connection.paths))
        kind = "good" if good == len(connection.paths) else "doubt" if good else "bad"
        out, into = (rate(sum(rates)) for rates in zip(*map(_rates, connection.paths), strict=True))
        line = f"{connection.name}  {paint(kind, f'{good}/{len(connection.paths)} up')}  out {out}  in {into}"
        wrong = ", ".join(f"{path.name} {state(path)}" for path in connection.paths if not works(path))
        lines.append(line + (f"  {wrong}" if wrong else ""))
    return "\n".join(lines or ["no connection"]) + "\n"


# ---- what is wrong --------------------------------------------------------------------------------------------------


def problem_lines(document: StatusDocument, paint: Paint = PLAIN) -> list[str]:
    """Return what is wrong and what to do about it; nothing if all is well."""
    lines: list[str] = []
    for problem in problems_of(document.connections):
        first, *rest = _wrapped(f"! {problem}", "", "  ")
        lines += [paint("bad", first), *rest]
    if document.control_dropped:
        lines += _wrapped(f"refused commands: {_reasons(document.control_dropped)}", "  ", "    ")
    if document.handshakes_dropped:
        lines += _wrapped(f"dropped handshake datagrams: {_reasons(document.handshakes_dropped)}", "  ", "    ")
    return ["", *lines] if lines else []


def problems_of(connections: Iterable[ConnectionStatus]) -> list[str]:
    """Return a sentence for each thing that is wrong, with its remedy."""
    return [problem for connection in connections for problem in _problems(connection)]


def _problems(connection: ConnectionStatus) -> Iterator[str]:
    sealed = connection.sealed
    has_keys = sealed is None or sealed.keys_age is not None
    if sealed is not None and not has_keys:
        yield f"{connection.name}: there are no keys yet: {sealed.reason}"
    if sealed is not None and sealed.renewal_failure is not None:
        yield f"{connection.name}: the keys could not be renewed: {sealed.renewal_failure}"
    for path in connection.paths:
        if path.no_route is not None:
            yield f"{path.name} has no route to {path.remote_address}: {path.no_route} ({connection.name})"
        elif not works(path) and (has_keys or path.status != WAITING):
            yield _path_problem(connection, path)
        elif path.cause is not None:
            yield f"{path.name} of {connection.name}: {path.cause}"
    if connection.report_failure is not None:
        text = f"{connection.name}: the peer was not told that {connection.report_failure}"
        port = connection.remote_cmd_port if sealed is None else 0  # a sealed one reports without it
        yield text + (f"; does a firewall let UDP {port}, its command port, through?" if port else "")


def _path_problem(connection: ConnectionStatus, path: PathStatus) -> str:
    since = f" for {age(path.since)}" if path.since is not None else ""
    reason = f": {path.reason}" if path.reason is not None else ""
    remedy = path.cause or _REMEDIES.get(path.status, "").format(
        interface=path.interface,
        remote_address=path.remote_address,
        where=f"{connection.name}/{path.name}",
        port=connection.remote_port or connection.local_port,
    )
    if state(path) == DOWN_AT_PEER:
        remedy = "look at the status of the peer"
    return f"{path.name} of {connection.name} is {state(path)}{since}{reason}" + (f"; {remedy}" if remedy else "")


# ---- the connections ------------------------------------------------------------------------------------------------


def _connection_lines(connection: ConnectionStatus) -> Iterator[str]:
    good, all_of_them = sum(map(works, connection.paths)), len(connection.paths)
    yield f"{connection.name} ({connection.file or 'not saved'}): {good} of {all_of_them} paths work"
    yield from _wrapped(
        f"{connection.local_address} to {connection.remote_address} on {connection.tunnel}, "
        + ("plain" if connection.sealed is None else "sealed"),
        "  ",
        "  ",
    )
    if connection.sealed is not None:
        yield from (f"  {line}" for line in _sealed_lines(connection.sealed))
    rows = [_COLUMNS, *map(_row, connection.paths)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, path in zip(rows, (None, *connection.paths), strict=True):
        cells = [
            cell.ljust(width) if place < _LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
        if path is not None:
            yield from (f"    {line}" for line in _packed(_details(path), WIDTH - 4))


def _sealed_lines(sealed: SealedStatus) -> Iterator[str]:
    yield f"sealed with {sealed.peer_key}"
    if sealed.keys_age is not None:
        yield f"{sealed.cipher}, {sealed.key_exchange or 'unknown key exchange'}, keys {age(sealed.keys_age)} old"


def state(path: PathStatus) -> str:
    """Return the word for the state of a path, in which the peer has a say."""
    return path.state or state_word(path.status, path.peer_says_down)


def _row(path: PathStatus) -> tuple[str, ...]:
    interface = path.interface
    return (
        path.name,
        interface if len(interface) <= _LONGEST_INTERFACE else interface[: _LONGEST_INTERFACE - 1] + "…",
        state(path),
        "-" if path.since is None else age(path.since),
        "-" if path.share is None else f"{path.share:.0%}",
        "-" if path.out_rate is None else rate(path.out_rate),
        "-" if path.in_rate is None else rate(path.in_rate),
        "-" if path.round_trip is None else milliseconds(path.round_trip),
        "-" if path.loss is None else f"{path.loss:g}%",
    )


def _details(path: PathStatus) -> Iterator[str]:
    yield f"{path.local_address} to {path.remote_address}"
    yield f"weight {path.weight_out}:{path.weight_in}"
    heard = path.keepalive_age if path.heard_age is None else path.heard_age  # an older daemon tells the one alone
    yield "not heard" if heard is None else f"heard {age(heard)} ago"
    yield f"{octets(path.bytes_sent)} out, {octets(path.bytes_received)} in"
    if len(path.interface) > _LONGEST_INTERFACE:
        yield path.interface
    yield from _adaptive(path.adaptive or {})
    if path.peer_says_down:
        yield "peer: down"
    if any(path.drops.values()):
        yield f"dropped {_reasons(path.drops)}"


def _adaptive(known: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts that an adaptive connection knows of a path, unless they are as everybody wants them."""
    if known.get("state", "active") != "active":
        yield f"{known['state']}: {known.get('reason')}"
    if known.get("capacity") is not None:
        yield f"carries {rate(known['capacity'])}"
    if known.get("cost", "free") != "free":
        yield str(known["cost"])
    if quota := known.get("quota"):
        yield f"{quota['used'] / quota['octets']:.0%} of its quota is used"


def _tunnel_lines(tunnel: TunnelStatus) -> Iterator[str]:
    addresses = ", ".join(address for address in (tunnel.ipv4_addr, tunnel.ipv6_addr) if address)
    yield from _wrapped(f"{tunnel.name}: {addresses}, mtu {tunnel.mtu}", "", "  ")
    yield from _wrapped(
        f"packets out {tunnel.packets_read}, in {tunnel.packets_delivered}, held {tunnel.packets_held}", "  ", "    "
    )
    yield from _wrapped(
        f"{tunnel.data_plane} data path, offloads: {', '.join(tunnel.offloads) or 'none'}", "  ", "    "
    )
    if tunnel.sealing:
        yield from _wrapped(f"seals with {tunnel.sealing}", "  ", "    ")
    drops = (("out", tunnel.egress_dropped), ("in", tunnel.ingress_dropped))
    for way, reasons in drops:
        if any(reasons.values()):
            yield from _wrapped(f"dropped {way}: {_reasons(reasons)}", "  ", "    ")
    if tunnel.ecn_unexpected:
        yield f"  ECN fields that no honest path makes: {tunnel.ecn_unexpected}"


# ---- words, numbers, lines ------------------------------------------------------------------------------------------


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()) if count) or "-"


def _rates(path: PathStatus) -> tuple[float, float]:
    return path.out_rate or 0.0, path.in_rate or 0.0


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    """Return `text` in lines of at most WIDTH columns; a longer word stays whole."""
    if len(first) + len(text) <= WIDTH:  # the usual case; a server has thousands of lines
        return [first + text]
    return wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _packed(parts: Iterable[str], width: int) -> list[str]:
    """Return `parts` in lines of at most `width` columns, two spaces between two; a longer part stands alone."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def octets(count: int) -> str:
    """Return `count` octets in the largest unit that is not larger: "17 B", "1.4 kB", "23.0 GB"."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def rate(octets_a_second: float) -> str:
    """Return a rate in bits a second, as lines are sold: "0", "940k", "12.1M", "1.2G"."""
    bits = 8 * octets_a_second
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if bits >= 0.9995 * size:
            amount = bits / size
            return (
                f"{amount:.{2 if unit == 'G' and amount < 10 else 1 if amount < 99.95 and unit != 'k' else 0}f}{unit}"
            )
    return f"{bits:.0f}"


def milliseconds(seconds: float) -> str:
    """Return a short time: "0.4ms", "23ms", "1.2s"."""
    if seconds >= 1:
        return f"{seconds:.1f}s"
    return f"{1000 * seconds:.1f}ms" if seconds < 0.00995 else f"{1000 * seconds:.0f}ms"


def age(seconds: float) -> str:
    """Return `seconds` as a short text: "0.4 s", "59 s", "12 min", "5 h", "3 d"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

"""The parts of the benchmark: the variants side by side, their measures, and the tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench.clients import SPREAD, ManyConnections
from bench.events import while_links_change
from bench.hostile import KINDS, under_attack
from bench.load import under_load
from bench.measure import Measure, round_trip, spread_tcp, tcp, udp
from bench.report import Block, Column
from bench.variants import WINDOW, ManyPaths, Sealed, Variant, WireGuard
from bench.wireguard import has_wireguard
from mpt.model import CIPHERS

NAMES = ("ping", "tcp", "udp", "load", "paths", "connections", "events", "sealed", "hostile")
LOAD_KEEPALIVE = 0.1  # seconds
PATH_COUNTS, QUICK_PATH_COUNTS = (1, 2, 4, 8), (2, 8)
CONNECTION_COUNTS, QUICK_CONNECTION_COUNTS = (1, 10, 100), (1, 100)
LEGEND = """\
python N, native N  the tunnel with that data path and reorder_window = N, over
                    two links like the plain one; under Paths with N links, and
                    under Clients with N connections on one port, window 1000
TCP N, UDP          N streams; UDP from a to b, at the rate at which most arrive
under load          ping and latest keepalive of a and b, during TCP 1, a to b
commands            round trip of show status at a and at b, during the same
cable, address,     a's keepalives while a cable with 30,000 routes goes down,
default             an address or a default route comes, 600 interfaces there
native aes128 …     the tunnel with keys, by its cipher, window 1000; openssl:
                    without libipsec-mb; by scheduler = cycle, or adaptive
attacked            TCP 1, while 10,000 hostile datagrams a second come to the
                    port of the tunnel; share, CPU: divided by those of the same
                    at another port
wireguard-go        its tunnel over one link, if the program is installed
/plain /0 /python   the first figure divided by that of the plain link, of the
/2 /1 /open         same with window 0, with the Python data path, with 2 paths,
/cycle /wg          with 1 connection, without keys, by scheduler = cycle, of
                    wireguard-go, round by round; then the median
CPU s/GB, s/M       user and system time for 10⁹ bytes, for 10⁶ packets"""


@dataclass(frozen=True)
class Part:
    """One part: all `variants` stand at the same time, and every round takes every measure of each."""

    name: str
    variants: Sequence[Variant]
    measures: Sequence[Measure]
    blocks: Sequence[Block]


def parts(planes: Sequence[str], *, quick: bool = False) -> list[Part]:
    """Return all parts, for these data paths; `quick`: fewer variants, and TCP not in every way."""
    counted = planes[-1:] if quick else planes
    windows = (WINDOW,) if quick else (0, WINDOW)
    path_counts = QUICK_PATH_COUNTS if quick else PATH_COUNTS
    connection_counts = QUICK_CONNECTION_COUNTS if quick else CONNECTION_COUNTS
    ways = [(1, False), (4, True)] if quick else [(1, False), (1, True), (4, False), (4, True)]
    compared = [Variant(), *(Variant(plane, window) for plane in planes for window in windows)]
    ciphers = CIPHERS[:1] if quick else CIPHERS
    sealed = [
        *(Variant(plane, WINDOW) for plane in counted),
        *(Sealed(plane, WINDOW, cipher=cipher) for plane in counted for cipher in ciphers),
        *(Sealed(plane, WINDOW, scheduler="adaptive") for plane in counted if not quick),
        *(Sealed("native", WINDOW, openssl=True) for plane in counted if plane == "native" and not quick),
        *([WireGuard()] if has_wireguard() else []),
    ]
    loaded = [Variant(None, 0, LOAD_KEEPALIVE), *(Variant(plane, WINDOW, LOAD_KEEPALIVE) for plane in planes)]
    return [
        Part("ping", compared, [round_trip], [PING]),
        Part("tcp", compared, [partial(tcp, streams=n, back=back) for n, back in ways], [_tcp(*way) for way in ways]),
        Part("udp", compared, [partial(udp, payload=size) for size in (64, 1400)], [_udp(64), _udp(1400), MEMORY]),
        Part("load", loaded, [under_load], [LOAD, COMMANDS]),
        Part("paths", [ManyPaths(plane, WINDOW, paths=n) for plane in counted for n in path_counts], [tcp], [PATHS]),
        Part(
            "connections",
            [ManyConnections(plane, WINDOW, connections=n) for plane in counted for n in connection_counts],
            [tcp, partial(spread_tcp, streams=SPREAD)],
            [CLIENTS, CLIENTS_SPREAD, MEMORY],
        ),
        Part("events", [Variant(plane, WINDOW, LOAD_KEEPALIVE) for plane in counted], [while_links_change], [EVENTS]),
        Part("sealed", sealed, [tcp, partial(tcp, back=True)], [_tcp(1, False), _tcp(1, True)]),
        Part(
            "hostile",
            [Sealed(plane, WINDOW) for plane in counted],
            [partial(under_attack, kind=kind) for kind in KINDS],
            [ATTACKED, ATTACKED_SHARE, ATTACKED_CPU],
        ),
    ]


def _per_byte(title: str, name: str) -> Block:
    """Return the table of throughput and its cost."""
    cpu = f"{name}_cpu_s_per_gb"
    return Block(
        title,
        (
            Column("Mbit/s", f"{name}_mbit"),
            Column("CPU s/GB", cpu, 2),
            Column("of a", f"{cpu}_a", 2),
            Column("of b", f"{cpu}_b", 2),
        ),
    )


def _tcp(streams: int, back: bool) -> Block:
    name = f"tcp{streams}_back" if back else f"tcp{streams}"
    return _per_byte(f"TCP {streams}, {'b to a' if back else 'a to b'}", name)


def _udp(payload: int) -> Block:
    cpu = f"udp{payload}_cpu_s_per_mpkt"
    return Block(
        f"UDP, {payload} bytes",
        (
            Column("packet/s", f"udp{payload}_pps", 0),
            Column("CPU s/M", cpu, 2),
            Column("of a", f"{cpu}_a", 2),
            Column("of b", f"{cpu}_b", 2),
        ),
    )


PING = Block("Ping, ms", (Column("median", "ping_ms", 3), Column("99 %", "ping_p99_ms", 3)))
LOAD = Block(
    "Under load, ms",
    (
        Column("ping", "load_ping_ms", 2),
        Column("99 %", "load_ping_p99_ms", 2),
        Column("max", "load_ping_max_ms", 2, max),
        Column("late a", "load_keepalive_late_ms_a", 1, max),
        Column("late b", "load_keepalive_late_ms_b", 1, max),
        Column("Mbit/s", "load_tcp_mbit"),
    ),
    compared=False,
)
EVENTS = Block(
    "Latest keepalive, ms",
    (
        Column("cable", "events_cable_late_ms", 1, max),
        Column("address", "events_address_late_ms", 1, max),
        Column("default", "events_default_late_ms", 1, max),
    ),
    compared=False,
)
COMMANDS = Block(
    "Commands, ms",
    (
        Column("of a", "load_command_ms_a", 2),
        Column("99 %", "load_command_p99_ms_a", 2),
        Column("max", "load_command_max_ms_a", 2, max),
        Column("of b", "load_command_ms_b", 2),
        Column("99 %", "load_command_p99_ms_b", 2),
        Column("max", "load_command_max_ms_b", 2, max),
    ),
    compared=False,
)
ATTACKED = Block("Attacked, Mbit/s", tuple(Column(kind, f"{kind}_mbit") for kind in KINDS), compared=False)
ATTACKED_SHARE = Block("Attacked, share", tuple(Column(kind, f"{kind}_share", 3) for kind in KINDS), compared=False)
ATTACKED_CPU = Block("Attacked, CPU of b", tuple(Column(kind, f"{kind}_cpu", 3) for kind in KINDS), compared=False)
PATHS = _per_byte("Paths, TCP 1", "tcp1")
CLIENTS = _per_byte("Clients, TCP 1", "tcp1")
CLIENTS_SPREAD = _per_byte(f"Clients, TCP {SPREAD}", "spread")
MEMORY = Block(
    "Memory, MB",
    (
        Column("start a", "rss_start_mb_a"),
        Column("start b", "rss_start_mb_b"),
        Column("after a", "rss_load_mb_a"),
        Column("after b", "rss_load_mb_b"),
        Column("peak a", "rss_peak_mb_a"),
        Column("peak b", "rss_peak_mb_b"),
    ),
    compared=False,
)

"""Every key of the configuration files, in one table; everything else about keys is derived from it.

To add a key, add its line to the table and the field of the same name to the value in ``mpt/model.py``. Parser, writer,
`mpt reload` and `mptsrv --check` then know it; ``python -m tests.config.tables`` writes it into docs/configuration.md,
``python -m tests.manpages`` into the manual pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any

from mpt import values
from mpt.model import (
    COSTS,
    DATA_PLANES,
    LOG_FORMATS,
    LOG_LEVELS,
    MAX_NETWORKS,
    MAX_PATHS,
    MAX_REORDER_WINDOW,
    MAX_WEIGHT,
    MSS_CLAMPS,
    ORDERS,
    SCHEDULERS,
    UDP_COMMANDS,
    Config,
    TunnelConfig,
)
from mpt.values import AUTO, PRIVATE, Words, address, address_or_any, flag, integer, seconds, text_of

MAX_TUNNELS = 20  # ours
MAX_NUMBERED = max(MAX_PATHS, MAX_NETWORKS, MAX_TUNNELS)  # sections of one kind; more are not read

_port = integer(1, 65534)
_auto = Words({"auto": True, "off": False})
_ecn = Words({"normal": True, "compatibility": False})
_class = Words({"realtime": True, "bulk": False})


def _one_of(words: Iterable[str]) -> Words[str]:
    return Words({word: word for word in words})


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how it is read and written, and its value when it is absent.

    `default` is the text that an absent key stands for. Without a default the value is `absent`, and `doc` says what
    that does. An error message proposes `example` for a missing mandatory key. `write` gives the text of a value
    that is not `absent`. `in_create` puts the key into the text of a create, and so into every new file: the C program
    writes these keys in the order of this table, and calls one of them by its alias `c_name`. `reload` says whether
    `mpt reload` takes a new value; otherwise the next start of mptsrv does.

    On a sealed connection `sealed` is the default, "" for none; with it a mandatory key may be left out. The value of a
    key that is `derived` then follows from other keys. `read_sealed` reads what only a sealed connection may have.
    """

    name: str
    read: Callable[[str], Any]
    default: str
    doc: str
    mandatory: bool = False
    example: str = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    reload: bool = True
    absent: Any = None
    write: Callable[[Any], str] = text_of
    in_create: bool = True
    c_name: str = ""
    sealed: str | None = None
    derived: bool = False
    read_sealed: Callable[[str], Any] | None = None
    _defaults: tuple[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_defaults", tuple(map(self._default, (False, True))))

    def _default(self, sealed: bool) -> Any:
        text = self.default_text(sealed)
        return self.reader(sealed)(text) if text else self.absent

    def default_text(self, sealed: bool) -> str:
        """Return the text that an absent key of a plain or `sealed` connection stands for, "" for none."""
        return self.sealed if sealed and self.sealed is not None else self.default

    def default_value(self, sealed: bool = False) -> Any:
        """Return the value of an absent key of a plain or `sealed` connection."""
        return self._defaults[sealed]

    def reader(self, sealed: bool) -> Callable[[str], Any]:
        """Return the function that reads the key on a plain or `sealed` connection."""
        return self.read_sealed if sealed and self.read_sealed is not None else self.read

    def is_needed(self, sealed: bool) -> bool:
        """Return whether the key must be written on a plain or `sealed` connection."""
        return self.mandatory and not (sealed and self.sealed is not None)

    @property
    def written_name(self) -> str:
        """Return the name that mpt writes."""
        return self.c_name or self.name

    def text(self, value: Any, sealed: bool = False) -> str:
        """Return `value` as text, "" for a key that is left out. Raises TypeError for a None that means nothing."""
        return "" if value == self.absent and not self.default_text(sealed) else self.write(value)


def _must(name: str, read: Callable[[str], Any], example: str, doc: str, **more: Any) -> Key:
    """Return a mandatory key; a default is for templates (guide 4.7), which may leave some keys out."""
    return Key(name, read, more.pop("default", ""), doc, mandatory=True, example=example, **more)


def _ports(name: str, doc: str) -> Key:
    return Key(name, values.ports, "", doc, absent=frozenset(), in_create=False)


GENERAL = (  # guide 2.6.2
    Key("tunnel_num", integer(1, MAX_TUNNELS), "", "How many [tun_n] sections there are; absent: all.", reload=False),
    Key("accept_remote", flag, "0", "Whether peers that no file names may create connections here."),
    Key("cmdport_local", _port, "65050", "UDP port that takes control commands.", reload=False),
    Key("cmd_timeout", seconds(0.1, 3600), "25", "How long the `mpt` command waits for an answer."),
    Key(
        "udp_commands",
        _one_of(UDP_COMMANDS),
        "connected",
        "Local UDP sockets whose commands may change something: those connected to cmdport_local; or others too.",
    ),
    Key("public_address_resolver", address, "", "DNS server that we ask for our public address.", reload=False),
    Key(
        "control_socket",
        values.socket_path,
        "",
        "Unix socket for local commands; absent: one below /run/mpt.",
        reload=False,
    ),
    Key(
        "data_plane",
        _one_of(DATA_PLANES),
        "auto",
        "The data path; auto: native where it is built.",
        reload=False,
    ),
    Key(
        "gso",
        _auto,
        "auto",
        "Whether the kernel joins datagrams, and cuts those of native.",
        write=_auto.text,
        reload=False,
    ),
    Key(
        "tun_offload", _auto, "auto", "The same for the tunnel's packets, with native.", write=_auto.text, reload=False
    ),
    Key("log_ecn", flag, "1", "Whether the log tells, once an hour, of ECN fields that no honest path makes."),
    Key("allow_default_key", flag, "0", "Whether the key that every MPT program has built in opens this host to all."),
    Key(
        "public_address_name",
        values.host_name,
        "myip.opendns.com",
        "The name that the DNS server is asked.",
        reload=False,
    ),
    Key(
        "private_key_file",
        values.file_path,
        "private.key",
        "Private key of this host, as `mpt genkey` makes it, for sealed connections.",
        reload=False,
    ),
    Key(
        "status_listen",
        values.status_place,
        "",
        "Where the status page and the metrics are: 127.0.0.1:9400, or unix:PATH; absent: nowhere.",
        reload=False,
    ),
    Key("log_format", _one_of(LOG_FORMATS), "text", "Lines for people, or JSON, one object a line.", reload=False),
    Key("log_level", _one_of(LOG_LEVELS), "info", "What is logged: this and what is worse.", reload=False),
    Key(
        "key_log",
        values.file_path,
        "",
        "File that gets the keys of all sessions: who has it reads everything. Only for those who debug.",
        reload=False,
    ),
)

TUNNEL = (  # guide 2.6.2
    _must("name", values.interface_name, "tun0", "Name of the tunnel interface.", reload=False),
    Key(
        "mtu",
        values.mtu,
        "1440",
        "Largest packet of the tunnel: 1420 to 1464 on Ethernet; auto: what sealed paths allow.",
        reload=False,
    ),
    Key("ipv4_addr", values.ipv4_interface, "", "IPv4 address of the tunnel; /24 if no length is given.", reload=False),
    Key("ipv6_addr", values.ipv6_interface, "", "IPv6 address of the tunnel; /64 if no length is given.", reload=False),
    Key("queue_length", integer(1, 100_000), "1500", "Transmit queue of the tunnel, in packets.", reload=False),
)

CONNECTION = (  # guide 2.6.3.1
    _must("name", values.word, "MPT_connection_10.0.0.2", "Name of the connection; no other connection may have it."),
    Key(
        "peer_key",
        values.public_keys,
        "",
        "Public key of the peer: makes the connection sealed. Two, while one is being replaced.",
        absent=(),
        in_create=False,
    ),
    _must(
        "permission",
        values.permission,
        "3",
        "Whether this host may start changes (SEND) and the peer may (RECEIVE).",
        sealed="3",
    ),
    _must("ip_ver", values.ip_version, "4", "IP version inside the tunnel.", sealed="", derived=True),
    _must("ip_local", address, "10.0.0.2", "Our tunnel address; interface.conf gives it to a [tun_n]."),
    _must("local_port", _port, "4754", "UDP port of our end of every path.", sealed="4754"),
    Key("local_cmd_port", integer(0, 65535), "", "Read and ignored: cmdport_local of interface.conf is used."),
    _must("ip_remote", address, "10.0.0.3", "The peer's tunnel address."),
    Key(
        "remote_port",
        integer(0, 65534),
        "0",
        "UDP port of the peer's end of every path; 0: not known yet.",
        sealed="4754",
    ),
    _must(
        "remote_cmd_port",
        _port,
        "65050",
        "UDP port on which the peer takes control commands.",
        default="65050",
        sealed="",
        absent=0,
    ),
    _must("path_count", integer(1, MAX_PATHS), "2", "How many [path_n] sections there are.", sealed="", derived=True),
    _must(
        "network_count", integer(0, MAX_NETWORKS), "0", "How many [net_n] sections there are.", sealed="", derived=True
    ),
    _must(
        "status",
        values.status,
        "0",
        "131 or 255: the connection is loaded and down until its file says 0 and is reloaded; the others: it is up.",
        sealed="0",
    ),
    Key(
        "reorder_window",
        integer(0, MAX_REORDER_WINDOW),
        "0",
        "Packets held to restore the order; 0: no reordering.",
        sealed="2000",
    ),
    Key(
        "max_buffdelay_msec",
        values.delay(100),
        "100",
        "Longest time a packet is held for its order.",
        aliases=("max_buffdelay",),
        sealed="300",
        read_sealed=values.delay(300),
    ),
    Key(
        "max_loss",
        values.per_cent,
        "30",
        "Loss on a path, in per cent, above which the path is left; 0: never.",
        in_create=False,
    ),
    Key(
        "size_probe",
        flag,
        "0",
        "1: the peer is mpt. Padded keepalives find out how large a datagram each path carries, and its round trip.",
        in_create=False,
    ),
    Key(
        "dscp",
        values.dscp,
        "0",
        "DSCP of the datagrams; copy: that of the packet inside.",
        write=values.dscp_text,
        in_create=False,
    ),
    Key(
        "ecn",
        _ecn,
        "compatibility",
        "normal: the datagrams have the ECN field of the packet inside (RFC 6040).",
        write=_ecn.text,
        in_create=False,
    ),
    Key(
        "require_pq",
        flag,
        "0",
        "Whether a handshake without X25519MLKEM768, the key exchange that quantum computers do not break, is refused.",
        in_create=False,
    ),
    Key(
        "ciphers",
        values.ciphers,
        "",
        "Ciphers that may be used, the best first; absent: all, the fastest for this CPU first.",
        absent=(),
        in_create=False,
    ),
    Key(
        "order",
        _one_of(ORDERS),
        "connection",
        "flow: a missing packet delays its own flow only; connection: all packets.",
        in_create=False,
        sealed="flow",
    ),
    Key(
        "mss_clamp",
        _one_of(MSS_CLAMPS),
        "off",
        "auto: the MSS of forwarded TCP connections is made to fit the tunnel.",
        in_create=False,
        sealed="auto",
    ),
    Key(
        "scheduler",
        _one_of(SCHEDULERS),
        "cycle",
        "cycle: packets go over the paths by weight_out; adaptive: by the measured rates and delays of the paths. "
        "Without it different weights mean cycle.",
        in_create=False,
        sealed="adaptive",
    ),
    Key(
        "delay_budget",
        values.delay_budget,
        "110",
        "adaptive: how much later than over the best path a packet of bulk may arrive over another one.",
        in_create=False,
    ),
    _must("auth_type", values.auth_type, "0", "How control commands are authenticated.", sealed="0"),
    Key(
        "auth_key",
        values.secret,
        "",
        "Key of auth_type 2: 64 hexadecimal digits, upper and lower case matter.",
        secret=True,
        absent="",
        in_create=False,
    ),
)

PATH = (  # guide 2.6.3.2; the port keys are of draft section 5.2
    _must("interface_name", values.interface_name, "eth1", "The physical interface of this path."),
    _must("ip_ver", values.ip_version, "4", "IP version outside the tunnel; absent: both.", sealed=""),
    Key(PRIVATE, address_or_any, "", "Our address on the interface, behind NAT; 0.0.0.0: the interface's first one."),
    _must(
        "public_ipaddr",
        values.public_address,
        "10.1.1.2",
        "Our address as the peer sees it; 0.0.0.0: find it out.",
        sealed="0.0.0.0",
    ),
    _must(
        "gateway_ipaddr",
        address_or_any,
        "10.1.1.1",
        "Next hop to the peer: our own address if it is on the link, 0.0.0.0 for the interface's default route.",
        aliases=("gw_ipaddr",),
        c_name="gw_ipaddr",
        sealed="0.0.0.0",
    ),
    _must(
        "remote_ipaddr",
        values.remote_address,
        "10.1.1.3",
        "The peer's address; only while remote_port is 0 may it be absent or 0.0.0.0.",
        sealed="",
        read_sealed=values.remotes,
    ),
    Key("keepalive_time", seconds(0.01, 255, "none"), "0", "Time between two keepalives; 0.1 is fine.", sealed="15"),
    Key(
        "dead_time",
        seconds(0.01, 65535, "never"),
        "",
        "Silence after which the path is down; absent: 3 × keepalive_time.",
    ),
    Key("weight_in", integer(1, MAX_WEIGHT), "1", "The peer's weight_out, set there by `mpt create`."),
    _must(
        "weight_out",
        integer(1, MAX_WEIGHT),
        "1",
        "Share of the outgoing packets that takes it.",
        default="1",
        sealed="1",
    ),
    _must(
        "status",
        values.status,
        "0",
        "State of the path at start: 131 or 255 down by hand, 128 down until the peer is heard, else up.",
        sealed="0",
    ),
    Key(
        "cmd_default",
        flag,
        "0",
        "Whether `mpt create` talks over this path.",
        aliases=("default_cmd",),
        in_create=False,
    ),
    Key(
        "bind_to_device",
        flag,
        "1",
        "Whether its socket is tied to the interface; two paths to one address need it.",
        in_create=False,
    ),
    Key(
        "cost",
        _one_of(COSTS),
        "free",
        "adaptive: a path of a higher cost is used only while the cheaper ones are full, or none of them works.",
        in_create=False,
    ),
    Key(
        "quota",
        values.quota,
        "",
        "adaptive: what the path may carry, both ways together; then it rests. Weeks begin on Mondays, by UTC.",
        write=values.quota_text,
        in_create=False,
    ),
    _ports("tcp_dst", "TCP destination ports whose packets take this path."),
    _ports("tcp_src", "TCP source ports whose packets take this path."),
    _ports("udp_dst", "UDP destination ports whose packets take this path."),
    _ports("udp_src", "UDP source ports whose packets take this path."),
)

NETWORK = (  # guide 2.6.3.3
    _must("ip_ver", values.ip_version, "4", "IP version of the two networks.", sealed="", derived=True),
    _must("src_addr", values.network, "192.168.1.0/24", "A network behind this host."),
    _must("dst_addr", values.network, "192.168.2.0/24", "A network behind the peer; 0.0.0.0/0 for everything."),
)

CLASS = (  # ours; a condition that is absent is met by every packet
    _must(
        "class",
        _class,
        "realtime",
        "realtime: never behind bulk, over the path of least delay; bulk: the rest.",
        write=_class.text,
    ),
    Key(
        "dscp",
        values.dscps,
        "",
        "The packet's DSCP is one of these.",
        absent=frozenset(),
        write=values.dscps_text,
    ),
    Key("protocol", values.protocol, "", "Its protocol is this.", write=values.protocol_text),
    Key("ports", values.ports, "", "Its source or destination port is one of these.", absent=frozenset()),
    Key(
        "copies",
        integer(1, 2),
        "",
        "For realtime. 2: each packet goes over the two best lines; 1: over one; absent: 2 while a flow is small.",
    ),
)

CLIENT = (  # session 7
    Key(
        "peer_key",
        values.public_keys,
        "",
        "Public key of the client; absent: the client is not there yet, its address is kept for it.",
        absent=(),
    ),
    _must("ip_remote", address, "10.0.0.2", "The client's tunnel address."),
    Key(
        "networks",
        values.networks,
        "",
        "Networks behind the client: from these and its tunnel address it may send.",
        absent=(),
    ),
)

PORT_KEYS = ("tcp_dst", "tcp_src", "udp_dst", "udp_src")
SECTIONS = {
    "general": GENERAL,
    "tun_n": TUNNEL,
    "connection": CONNECTION,
    "path_n": PATH,
    "net_n": NETWORK,
    "class": CLASS,
    "client": CLIENT,
}
INTERFACE_SECTIONS = ("general", "tun_n")
CONNECTION_SECTIONS = ("connection", "path_n", "net_n", "class")
NAMED_SECTIONS = ("class", "client")  # [class NAME]

SPELLINGS: dict[str, dict[str, Key]] = {
    kind: {spelling: key for key in keys for spelling in (key.name, *key.aliases)} for kind, keys in SECTIONS.items()
}
"""Of each kind of section, every accepted spelling of every key."""


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Return the keys whose values differ between `old` and `new` and that only a new start of mptsrv takes.

    Each is named with its section, such as "[general] gso"; a tunnel that is only in one of them is "[tun_1]".
    """
    sections: list[tuple[str, tuple[Key, ...], Any, Any]] = [("general", GENERAL, old.general, new.general)]
    pairs = zip_longest(old.tunnels, new.tunnels)
    sections += [(f"tun_{number}", TUNNEL, *pair) for number, pair in enumerate(pairs)]
    changed: list[str] = []
    for name, keys, before, after in sections:
        if before is None or after is None:
            changed.append(f"[{name}]")
            continue
        changed += [
            f"[{name}] {key.name}"
            for key in keys
            if not key.reload and settings_of(before)[key.name] != settings_of(after)[key.name]
        ]
    return tuple(changed)


def settings_of(section: Any) -> dict[str, Any]:
    """Return the fields of a value of ``mpt/model.py`` by the names of their keys."""
    found = {each.name: getattr(section, each.name) for each in fields(section)}
    if isinstance(section, TunnelConfig) and section.mtu_auto:
        found["mtu"] = AUTO
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that looks most like `word`, or ""."""
    from difflib import get_close_matches  # slow to import, and needed only for errors

    close = get_close_matches(word[:40].lower(), known, n=1, cutoff=0.7)
    return close[0] if close else ""


def advice(kind: str, spelling: str) -> str:
    """Return advice about the unknown key `spelling` in a section of this `kind`: the key that was probably meant."""
    if near := nearest(spelling, SPELLINGS[kind]):
        return f"is unknown and ignored: is {near!r} meant?"
    homes = [f"[{other}]" for other, keys in SPELLINGS.items() if spelling in keys]
    return f"is ignored here: it belongs into {' or '.join(homes)}" if homes else "is unknown and ignored"

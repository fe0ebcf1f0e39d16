"""Every key of the configuration files: one table, and the small functions that read the values.

A reading function takes the text of a value and returns it typed; it raises ``ValueError`` whose text completes
"must be ...", so what is allowed is written once and serves the error messages and docs/configuration.md alike.

To add a key, add its line to the table and the field of the same name to the value in ``mpt/model.py``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from itertools import zip_longest
from typing import Any

from mpt.model import (
    MAX_NETWORKS,
    MAX_PATHS,
    MAX_REORDER_WINDOW,
    MAX_WEIGHT,
    Address,
    AuthType,
    Config,
    Permission,
    Status,
)

MAX_TUNNELS = 20  # ours
MAX_NUMBERED = max(MAX_PATHS, MAX_NETWORKS, MAX_TUNNELS)  # sections of one kind; more are not read
PRIVATE = "private_ipaddr"  # public_ipaddr may name this key instead of an address

_WHOLE_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")

_DSCP_NAMES = {  # RFC 4594; VOICE-ADMIT: RFC 5865; LE: RFC 8622
    **{f"cs{number}": number << 3 for number in range(8)},
    **{f"af{major}{minor}": major << 3 | minor << 1 for major in range(1, 5) for minor in range(1, 4)},
    "ef": 46, "va": 44, "le": 1,
}  # fmt: skip
_STATUS_WORDS = {"up": Status.OK, "down": Status.DOWN}
_FLAG_WORDS = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


# ---- values -----------------------------------------------------------------------------------------------------


def whole_number(text: str) -> int:
    """Decimal, or hexadecimal after 0x; a leading 0 does not mean octal, as it does for the C program."""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("a whole number")
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text)


def integer(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`, both included."""

    def read(text: str) -> int:
        try:
            number = whole_number(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def seconds(low: float, high: float, zero: str = "") -> Callable[[str], float]:
    """A reader of times in seconds from `low` to `high`; `zero`, if not empty, allows 0 too and says what it means."""

    def read(text: str) -> float:
        number = float(text) if _DECIMAL.fullmatch(text) else -1.0
        if not low <= number <= high and not (zero and number == 0):
            raise ValueError(f"seconds from {low:g} to {high:g}" + (f", or 0 for {zero}" if zero else ""))
        return number

    return read


def flag(text: str) -> bool:
    """0 or 1, and the usual words for them."""
    try:
        return _FLAG_WORDS[text.lower()]
    except KeyError:
        raise ValueError("0 or 1 (also no or yes, false or true, off or on)") from None


def ip_version(text: str) -> int:
    """The number of an IP version."""
    if text not in ("4", "6"):
        raise ValueError("4 or 6")
    return int(text)


def permission(text: str) -> Permission:
    """Guide table 2: the sum of SEND and RECEIVE."""
    try:
        return Permission(integer(0, 3)(text))
    except ValueError:
        raise ValueError("0 (none), 1 (SEND), 2 (RECEIVE) or 3 (both)") from None


def auth_type(text: str) -> AuthType:
    """Guide table 3."""
    try:
        return AuthType(whole_number(text))
    except ValueError:
        raise ValueError("0 (none), 1 (random number) or 2 (SHA-256)") from None


def status(text: str) -> Status:
    """The numbers of the guide and of the C program, and the words of the draft."""
    try:
        return _STATUS_WORDS[text.lower()] if text.lower() in _STATUS_WORDS else Status(whole_number(text))
    except ValueError:
        raise ValueError(
            "0 or up, 128 or down, 129 (interface down), 130 (address down), 131 (manual down) or 255 (disabled)"
        ) from None


def delay(text: str) -> int:
    """Milliseconds; 0 stands for the default, as it does for the C program."""
    try:
        return integer(0, 60_000)(text) or 100
    except ValueError:
        raise ValueError("milliseconds from 1 to 60000, or 0 for the default of 100") from None


def word(text: str) -> str:
    """A name that stands in commands and tables: no white space."""
    if not 1 <= len(text) <= 64 or not text.isprintable() or any(map(str.isspace, text)):
        raise ValueError("one word of at most 64 characters, without white space")
    return text


def interface_name(text: str) -> str:
    """What Linux takes as the name of a network interface (and takes literally, so no %)."""
    if not 1 <= len(text.encode()) <= 15 or text in (".", "..") or re.search(r"[\s/:%\0]", text):
        raise ValueError("an interface name of 1 to 15 bytes, without white space, '/', ':' and '%'")
    return text


def host_name(text: str) -> str:
    """A DNS name."""
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("a DNS name such as myip.opendns.com")
    return text


def data_plane(text: str) -> str:
    """The name of a data path."""
    if text.lower() not in ("auto", "python", "native"):
        raise ValueError("auto, python or native")
    return text.lower()


def auto_or_off(text: str) -> bool:
    """Whether to use something where it can be used."""
    if text.lower() not in ("auto", "off"):
        raise ValueError("auto or off")
    return text.lower() == "auto"


def udp_commands(text: str) -> str:
    """Which UDP sockets of this host may send commands that change something."""
    if text.lower() not in ("connected", "unconnected"):
        raise ValueError("connected or unconnected")
    return text.lower()


def per_cent(text: str) -> int:
    """A share in per cent; 0 stands for no limit."""
    try:
        return integer(0, 100)(text)
    except ValueError:
        raise ValueError("per cent, a whole number from 1 to 100, or 0 for never") from None


def dscp(text: str) -> int | None:
    """A differentiated services code point, by number or name; None for that of the packet inside."""
    word = text.lower()
    if word == "copy":
        return None
    try:
        return _DSCP_NAMES[word] if word in _DSCP_NAMES else integer(0, 63)(text)
    except ValueError:
        raise ValueError("copy, a number from 0 to 63, or its name such as EF, AF41 or CS1") from None


def ecn(text: str) -> bool:
    """The mode of RFC 6040 in which packets are encapsulated: whether it is the normal one."""
    if text.lower() not in ("normal", "compatibility"):
        raise ValueError("normal or compatibility")
    return text.lower() == "normal"


def socket_path(text: str) -> str:
    """The path of a unix socket; the kernel takes no more than 107 octets."""
    if not text.startswith("/") or len(text.encode()) > 107:
        raise ValueError("an absolute path of at most 107 octets such as /run/mpt/mpt.sock")
    return text


def secret(text: str) -> str:
    """Key material; whether it fits the authentication type is checked where both are known."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("printable ASCII characters: 64 hexadecimal digits for auth_type = 2")
    return text


def _plain_address(text: str, example: str) -> Address:
    """An address in its own family: neither zoned, nor multicast, nor IPv4 in IPv6 clothes."""
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or found.is_multicast:
        raise ValueError(example)
    if isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped):
        raise ValueError(example)
    return found


def address(text: str) -> Address:
    """One host's address."""
    allowed = "an IPv4 or IPv6 address such as 10.1.1.3 or 2001:db8::3"
    found = _plain_address(text, allowed)
    if found.is_unspecified:
        raise ValueError(allowed)
    return found


def address_or_any(text: str) -> Address:
    """An address, or 0.0.0.0 or :: for "find it out"; which of the two is written means nothing."""
    return _plain_address(text, "an IPv4 or IPv6 address such as 10.1.1.2 or 2001:db8::2, or 0.0.0.0 for: find it out")


def remote_address(text: str) -> Address:
    """The peer's address; 0.0.0.0 is taken too, but only for a peer that is not known yet."""
    try:
        return address_or_any(text)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address such as 10.1.1.3 or 2001:db8::3") from None


def public_address(text: str) -> Address | str:
    """An address, 0.0.0.0, or the name of the key private_ipaddr, which is returned as it is."""
    if text.lower() == PRIVATE:
        return PRIVATE
    try:
        return address_or_any(text)
    except ValueError as error:
        raise ValueError(f"{error}, or the word {PRIVATE}") from None


def _interface(text: str, prefix: int) -> IPv4Interface | IPv6Interface | None:
    """The address of a tunnel, with the default length of guide 4.1 if there is none; None if it is no such thing."""
    try:
        found = ip_interface(text if "/" in text else f"{text}/{prefix}")
    except ValueError:
        return None
    if found.ip.is_unspecified or found.ip.is_multicast or found.network.prefixlen == 0 or "%" in text:
        return None
    return found


def ipv4_interface(text: str) -> IPv4Interface:
    """An IPv4 address and its prefix length."""
    found = _interface(text, 24)
    if not isinstance(found, IPv4Interface):
        raise ValueError("an IPv4 address with its prefix length, such as 10.0.0.2/24")
    return found


def ipv6_interface(text: str) -> IPv6Interface:
    """An IPv6 address and its prefix length."""
    found = _interface(text, 64)
    if not isinstance(found, IPv6Interface) or found.ip.ipv4_mapped:
        raise ValueError("an IPv6 address with its prefix length, such as fec0::2/64")
    return found


def network(text: str) -> IPv4Interface | IPv6Interface:
    """A network; what it returns still has the host bits, so that a warning can tell of them."""
    allowed = "a network with its prefix length, such as 11.1.1.0/24, 2001:db8:1::/64 or 0.0.0.0/0"
    try:
        found = ip_interface(text) if "/" in text and "%" not in text else None
    except ValueError:
        found = None
    if found is None or found.network.is_multicast:
        raise ValueError(allowed)
    return found


def ports(text: str) -> frozenset[int]:
    """Ports and ranges of ports, separated by spaces, commas or colons (draft section 5.2; ranges are ours)."""
    found: set[int] = set()
    size = 0  # a list that names ports again and again must not take for ever
    for item in re.split(r"[\s,:]+", text.strip(" \t,:")):
        match = _PORTS.fullmatch(item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        size += last - first + 1
        if not 1 <= first <= last <= 65535 or size > 65535:
            raise ValueError("ports from 1 to 65535, such as 80 443 or 8000-8010")
        found.update(range(first, last + 1))
    return frozenset(found)


# ---- keys -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how to read it, and what it is when it is not written.

    `default` is the text that an absent key stands for; "" means None, and `doc` then says what that does. `example`
    is the value that an error message proposes for a missing mandatory key. `reload` says whether `mpt reload` takes
    a new value; a key without it takes effect at the next start of mptsrv.
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
    default_value: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "default_value", self.read(self.default) if self.default else None)


def _must(name: str, read: Callable[[str], Any], example: str, doc: str, **more: Any) -> Key:
    """A mandatory key; a default given all the same is for templates (guide 4.7), which may leave some out."""
    return Key(name, read, more.pop("default", ""), doc, mandatory=True, example=example, **more)


_port = integer(1, 65534)

GENERAL = (  # guide 2.6.2
    Key("tunnel_num", integer(1, MAX_TUNNELS), "", "How many [tun_n] sections there are; absent: all.", reload=False),
    Key("accept_remote", flag, "0", "Whether peers that no file names may create connections here."),
    Key("cmdport_local", _port, "65050", "UDP port that takes control commands.", reload=False),
    Key("cmd_timeout", seconds(0.1, 3600), "25", "How long the `mpt` command waits for an answer."),
    Key(
        "udp_commands",
        udp_commands,
        "connected",
        "Local UDP sockets whose commands may change something: those connected to cmdport_local; or others too.",
    ),
    Key("public_address_resolver", address, "", "DNS server that we ask for our public address.", reload=False),
    Key("control_socket", socket_path, "", "Unix socket for local commands; absent: one below /run/mpt.", reload=False),
    Key("data_plane", data_plane, "auto", "The data path; auto: native where it is built.", reload=False),
    Key("gso", auto_or_off, "auto", "Whether the kernel joins datagrams, and cuts those of native.", reload=False),
    Key("tun_offload", auto_or_off, "auto", "The same for the tunnel's packets, with native.", reload=False),
    Key("log_ecn", flag, "1", "Whether the log tells, once an hour, of ECN fields that no honest path makes."),
    Key("allow_default_key", flag, "0", "Whether the key that every MPT program has built in opens this host to all."),
    Key("public_address_name", host_name, "myip.opendns.com", "The name that the DNS server is asked.", reload=False),
)

TUNNEL = (  # guide 2.6.2
    _must("name", interface_name, "tun0", "Name of the tunnel interface.", reload=False),
    Key("mtu", integer(576, 65535), "1440", "Largest packet of the tunnel: 1420 to 1464 on Ethernet.", reload=False),
    Key("ipv4_addr", ipv4_interface, "", "IPv4 address of the tunnel; /24 if no length is given.", reload=False),
    Key("ipv6_addr", ipv6_interface, "", "IPv6 address of the tunnel; /64 if no length is given.", reload=False),
    Key("queue_length", integer(1, 100_000), "1500", "Transmit queue of the tunnel, in packets.", reload=False),
)

CONNECTION = (  # guide 2.6.3.1
    _must("name", word, "MPT_connection_10.0.0.2", "Name of the connection; no other connection may have it."),
    _must("permission", permission, "3", "Whether this host may start changes (SEND) and the peer may (RECEIVE)."),
    _must("ip_ver", ip_version, "4", "IP version inside the tunnel."),
    _must("ip_local", address, "10.0.0.2", "Our tunnel address; interface.conf gives it to a [tun_n]."),
    _must("local_port", _port, "4754", "UDP port of our end of every path."),
    Key("local_cmd_port", integer(0, 65535), "", "Read and ignored: cmdport_local of interface.conf is used."),
    _must("ip_remote", address, "10.0.0.3", "The peer's tunnel address."),
    Key("remote_port", integer(0, 65534), "0", "UDP port of the peer's end of every path; 0: not known yet."),
    _must("remote_cmd_port", _port, "65050", "UDP port on which the peer takes control commands.", default="65050"),
    _must("path_count", integer(1, MAX_PATHS), "2", "How many [path_n] sections there are."),
    _must("network_count", integer(0, MAX_NETWORKS), "0", "How many [net_n] sections there are."),
    _must("status", status, "0", "State of the connection at start."),
    Key("reorder_window", integer(0, MAX_REORDER_WINDOW), "0", "Packets held to restore the order; 0: no reordering."),
    Key("max_buffdelay_msec", delay, "100", "Longest time a packet is held for its order.", aliases=("max_buffdelay",)),
    Key("max_loss", per_cent, "30", "Loss on a path, in per cent, above which the path is left; 0: never."),
    Key("dscp", dscp, "0", "DSCP of the datagrams; copy: that of the packet inside."),
    Key("ecn", ecn, "compatibility", "normal: the datagrams have the ECN field of the packet inside (RFC 6040)."),
    _must("auth_type", auth_type, "0", "How control commands are authenticated."),
    Key("auth_key", secret, "", "Key of auth_type 2: 64 hexadecimal digits, upper and lower case matter.", secret=True),
)

PATH = (  # guide 2.6.3.2; the port keys are of draft section 5.2
    _must("interface_name", interface_name, "eth1", "The physical interface of this path."),
    _must("ip_ver", ip_version, "4", "IP version outside the tunnel."),
    _must("public_ipaddr", public_address, "10.1.1.2", "Our address as the peer sees it; 0.0.0.0: find it out."),
    Key(PRIVATE, address_or_any, "", "Our address on the interface, behind NAT; 0.0.0.0: the interface's first one."),
    _must(
        "remote_ipaddr",
        remote_address,
        "10.1.1.3",
        "The peer's address; only while remote_port is 0 may it be absent or 0.0.0.0.",
    ),
    _must(
        "gateway_ipaddr",
        address_or_any,
        "10.1.1.1",
        "Next hop to the peer: our own address if it is on the link, 0.0.0.0 for the interface's default route.",
        aliases=("gw_ipaddr",),
    ),
    Key("keepalive_time", seconds(0.01, 255, "none"), "0", "Time between two keepalives; 0.1 is fine."),
    Key(
        "dead_time",
        seconds(0.01, 65535, "never"),
        "",
        "Silence after which the path is down; absent: 3 × keepalive_time.",
    ),
    _must("weight_out", integer(1, MAX_WEIGHT), "1", "Share of the outgoing packets that takes it.", default="1"),
    Key("weight_in", integer(1, MAX_WEIGHT), "1", "The peer's weight_out, set there by `mpt create`."),
    Key("cmd_default", flag, "0", "Whether `mpt create` talks over this path.", aliases=("default_cmd",)),
    _must("status", status, "0", "State of the path at start."),
    Key("bind_to_device", flag, "1", "Whether its socket is tied to the interface; two paths to one address need it."),
    Key("tcp_dst", ports, "", "TCP destination ports whose packets take this path."),
    Key("tcp_src", ports, "", "TCP source ports whose packets take this path."),
    Key("udp_dst", ports, "", "UDP destination ports whose packets take this path."),
    Key("udp_src", ports, "", "UDP source ports whose packets take this path."),
)

NETWORK = (  # guide 2.6.3.3
    _must("ip_ver", ip_version, "4", "IP version of the two networks."),
    _must("src_addr", network, "11.1.1.0/24", "A network behind this host."),
    _must("dst_addr", network, "21.1.1.0/24", "A network behind the peer; 0.0.0.0/0 for everything."),
)

PORT_KEYS = ("tcp_dst", "tcp_src", "udp_dst", "udp_src")
SECTIONS = {"general": GENERAL, "tun_n": TUNNEL, "connection": CONNECTION, "path_n": PATH, "net_n": NETWORK}
INTERFACE_SECTIONS = ("general", "tun_n")
CONNECTION_SECTIONS = ("connection", "path_n", "net_n")

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
            if not key.reload and getattr(before, key.name) != getattr(after, key.name)
        ]
    return tuple(changed)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like `word`, or ""."""
    close = difflib.get_close_matches(word[:40].lower(), known, n=1, cutoff=0.7)
    return close[0] if close else ""


def advice(kind: str, spelling: str) -> str:
    """What to say about the unknown key `spelling` in a section of this `kind`: the key that was probably meant."""
    if near := nearest(spelling, SPELLINGS[kind]):
        return f"is unknown and ignored: is {near!r} meant?"
    homes = [f"[{other}]" for other, keys in SPELLINGS.items() if spelling in keys]
    return f"is ignored here: it belongs into {' or '.join(homes)}" if homes else "is unknown and ignored"

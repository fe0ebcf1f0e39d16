"""Every key of every section: what it accepts, where its range ends, and what its errors say."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from mpt.config import schema
from mpt.config.directory import load_directory
from mpt.config.parser import ConfigurationErrors
from mpt.model import AuthType, Config, Permission, Quota, Status, StatusPlace, unspecified
from mpt.values import public_key, text_of
from tests.config.files import (
    CONNECTION,
    INTERFACE,
    OTHER_PEER_KEY,
    PEER_KEY,
    PUBLIC_KEY,
    changed,
    connection_with,
    line_of,
    write,
)

PEER, OTHER_PEER = public_key(PEER_KEY), public_key(OTHER_PEER_KEY)
THIRD = text_of(bytes(31) + b"\x07")
HEX_64 = "00112233445566778899AABBCCDDEEFFA0A1A2A3A4A5A6A7A8A9AAABACADAEAF"
STATUSES = [
    ("0", Status.OK),
    ("up", Status.OK),
    ("128", Status.DOWN),
    ("0x80", Status.DOWN),
    ("Down", Status.DOWN),
    ("0x81", Status.INTERFACE_DOWN),
    ("130", Status.ADDRESS_DOWN),
    ("131", Status.MANUAL_DOWN),
    ("255", Status.DISABLED),
]
FLAGS = [("0", False), ("1", True), ("yes", True), ("NO", False), ("on", True), ("false", False)]
BAD_FLAGS = ["2", "-1", "maybe"]
BAD_STATUSES = ["1", "127", "256", "-1", "ok?", "0b1"]
BAD_ADDRESSES = [
    *("10.0.0", "10.0.0.256", "eth1", "10.0.0.2/24", "224.0.0.1"),
    *("ff02::1", "::ffff:10.0.0.2", "fe80::1%eth1"),
]
BAD_NAMES = ["a" * 16, "eth/1", "eth 1", "eth:1", "tun%d", ".", "..", "é" * 8]
BAD_PORTS = ["-1", "65535", "70000", "http", "1.5", "1_000", "٣"]
PORTS = [
    ("80", {80}),
    ("80 443 8080", {80, 443, 8080}),
    ("80,443:8080, 1", {80, 443, 8080, 1}),
    ("1 65535", {1, 65535}),
    ("8000-8002,9", {8000, 8001, 8002, 9}),
]
BAD_LISTS = ["0", "65536", "80 http", "8010-8000", "80-", "-80", "1-65535 1-65535"]

# Of (section, key), values as written and as loaded.
GOOD: dict[tuple[str, str], list[tuple[str, Any]]] = {
    ("general", "tunnel_num"): [("1", 1), ("0x1", 1), ("01", 1), ("", 1)],
    ("general", "accept_remote"): FLAGS,
    ("general", "cmdport_local"): [("1", 1), ("65534", 65534), ("0xFDE8", 65000), ("010", 10), ("", 65050)],
    ("general", "cmd_timeout"): [("25", 25.0), ("0.1", 0.1), ("3600", 3600.0), (".5", 0.5), ("", 25.0)],
    ("general", "udp_commands"): [("connected", "connected"), ("Unconnected", "unconnected"), ("", "connected")],
    ("general", "public_address_resolver"): [
        ("208.67.222.222", IPv4Address("208.67.222.222")),
        ("2620:119:35::35", IPv6Address("2620:119:35::35")),
        ("", None),
    ],
    ("general", "control_socket"): [("/run/mpt/mpt.sock", "/run/mpt/mpt.sock"), ("/" + "x" * 106, "/" + "x" * 106)],
    ("general", "data_plane"): [("auto", "auto"), ("Python", "python"), ("native", "native")],
    ("general", "gso"): [("auto", True), ("off", False), ("OFF", False)],
    ("general", "tun_offload"): [("auto", True), ("off", False)],
    ("general", "log_ecn"): FLAGS,
    ("general", "allow_default_key"): FLAGS,
    ("general", "public_address_name"): [("my-ip.example.", "my-ip.example."), ("", "myip.opendns.com")],
    ("general", "private_key_file"): [("a/b.key", Path("a/b.key")), ("/k", Path("/k")), ("", Path("private.key"))],
    ("general", "status_listen"): [
        ("127.0.0.1:9400", StatusPlace(IPv4Address("127.0.0.1"), 9400)),
        ("[::1]:80", StatusPlace(IPv6Address("::1"), 80)),
        ("unix:/run/mpt/status.sock", StatusPlace(IPv4Address("0.0.0.0"), 0, "/run/mpt/status.sock")),
        ("", None),
    ],
    ("general", "log_format"): [("text", "text"), ("JSON", "json"), ("", "text")],
    ("general", "log_level"): [("debug", "debug"), ("warn", "warn"), ("error", "error"), ("", "info")],
    ("general", "key_log"): [("/tmp/keys", Path("/tmp/keys")), ("", None)],
    ("tun_0", "name"): [("tun0", "tun0"), ("mpt-A_1.2", "mpt-A_1.2"), ("a" * 15, "a" * 15)],
    ("tun_0", "mtu"): [("1280", 1280), ("65535", 65535), ("", 1440), ("Auto", 1280)],
    ("tun_0", "ipv4_addr"): [
        ("10.0.0.2/30", IPv4Interface("10.0.0.2/30")),
        ("10.0.0.2", IPv4Interface("10.0.0.2/24")),
        ("10.0.0.2/255.255.0.0", IPv4Interface("10.0.0.2/16")),
    ],
    ("tun_0", "ipv6_addr"): [
        ("fd00::2/128", IPv6Interface("fd00::2/128")),
        ("fd00::2", IPv6Interface("fd00::2/64")),
        ("", None),
    ],
    ("tun_0", "queue_length"): [("1", 1), ("100000", 100_000), ("", 1500)],
    ("connection", "name"): [("a", "a"), ("x" * 64, "x" * 64), ("Árvíz_1.2", "Árvíz_1.2")],
    ("connection", "permission"): [("0", 0), ("1", Permission.SEND), ("2", Permission.RECEIVE), ("3", 3)],
    ("connection", "ip_ver"): [("4", 4)],
    ("connection", "ip_local"): [("10.0.0.2", IPv4Address("10.0.0.2"))],
    ("connection", "local_port"): [("1", 1), ("65534", 65534), ("4754", 4754)],
    ("connection", "local_cmd_port"): [("0", None), ("65535", None), ("", None)],
    ("connection", "ip_remote"): [("10.9.9.9", IPv4Address("10.9.9.9"))],
    ("connection", "remote_port"): [("1", 1), ("65534", 65534), ("0", 0), ("", 0)],
    ("connection", "remote_cmd_port"): [("1", 1), ("65534", 65534)],
    ("connection", "path_count"): [("2", None)],
    ("connection", "network_count"): [("2", None)],
    ("connection", "status"): STATUSES,
    ("connection", "reorder_window"): [("0", 0), ("10000", 10_000), ("", 0)],
    ("connection", "max_buffdelay_msec"): [("1", 1), ("60000", 60_000), ("0", 100), ("", 100)],
    ("connection", "max_loss"): [("0", 0), ("100", 100), ("5", 5), ("", 30)],
    ("connection", "size_probe"): [*FLAGS, ("", False)],
    ("connection", "dscp"): [("copy", None), ("63", 63), ("EF", 46), ("af41", 34), ("CS0", 0), ("LE", 1), ("", 0)],
    ("connection", "ecn"): [("normal", True), ("Compatibility", False), ("", False)],
    ("connection", "peer_key"): [
        (PEER_KEY, (PEER,)),
        (f"{PEER_KEY}  {OTHER_PEER_KEY}", (PEER, OTHER_PEER)),
        (f"{PEER_KEY} {PEER_KEY}", (PEER,)),
        ("", ()),
    ],
    ("connection", "require_pq"): [*FLAGS, ("", False)],
    ("connection", "ciphers"): [
        ("aes-128-gcm", ("aes-128-gcm",)),
        ("ChaCha20-Poly1305  aes-256-gcm", ("chacha20-poly1305", "aes-256-gcm")),
        ("", ()),
    ],
    ("connection", "order"): [("flow", "flow"), ("Connection", "connection"), ("", "connection")],
    ("connection", "mss_clamp"): [("auto", "auto"), ("OFF", "off"), ("", "off")],
    ("connection", "scheduler"): [("cycle", "cycle"), ("Cycle", "cycle"), ("", "cycle")],
    ("connection", "delay_budget"): [("1", 1), ("1000", 1000), ("", 110)],
    ("connection", "auth_type"): [("0", AuthType.NONE), ("1", AuthType.RANDOM)],
    ("connection", "auth_key"): [(HEX_64, HEX_64), ("'a;b'", "a;b")],
    ("path_1", "interface_name"): [("wlan0", "wlan0"), ("enp0s31f6.100", "enp0s31f6.100")],
    ("path_1", "ip_ver"): [("4", 4)],
    ("path_1", "public_ipaddr"): [
        ("10.2.2.9", IPv4Address("10.2.2.9")),
        ("0.0.0.0", unspecified(4)),
        ("::", unspecified(4)),
    ],
    ("path_1", "private_ipaddr"): [
        ("192.168.1.9", IPv4Address("192.168.1.9")),
        ("0.0.0.0", unspecified(4)),
        ("", None),
    ],
    ("path_1", "remote_ipaddr"): [("203.0.113.7", IPv4Address("203.0.113.7"))],
    ("path_1", "gw_ipaddr"): [("10.2.2.1", IPv4Address("10.2.2.1")), ("0.0.0.0", unspecified(4))],
    ("path_1", "keepalive_time"): [("0.1", 0.1), ("0.01", 0.01), ("3.", 3.0)],
    ("path_1", "dead_time"): [("65535", 65535.0), ("6.5", 6.5), ("", 15.0), ("0", 0.0)],
    ("path_1", "weight_out"): [("1", 1), ("10000", 10_000)],
    ("path_1", "weight_in"): [("1", 1), ("10000", 10_000), ("", 1)],
    ("path_1", "cmd_default"): [("0", False), ("", False)],
    ("path_1", "status"): STATUSES,
    ("path_1", "bind_to_device"): [*FLAGS, ("", True)],
    ("path_1", "cost"): [("free", "free"), ("Metered", "metered"), ("backup", "backup"), ("", "free")],
    ("path_1", "quota"): [
        ("20 GB/month", Quota(20 * 10**9, "month")),
        ("1mb / Day", Quota(10**6, "day")),
        ("1000 TB/week", Quota(10**15, "week")),
        ("1.25 GB/day", Quota(1_250_000_000, "day")),
        ("", None),
    ],
    ("path_1", "tcp_dst"): PORTS,
    ("path_1", "tcp_src"): PORTS,
    ("path_1", "udp_dst"): PORTS,
    ("path_1", "udp_src"): PORTS,
    ("net_1", "ip_ver"): [("4", 4)],
    ("net_1", "src_addr"): [("10.0.0.2/32", IPv4Network("10.0.0.2/32"))],
    ("net_1", "dst_addr"): [("0.0.0.0/0", IPv4Network("0.0.0.0/0")), ("224.0.0.0/4", IPv4Network("224.0.0.0/4"))],
    ("class voice", "class"): [("realtime", True), ("Bulk", False)],
    ("class voice", "dscp"): [("EF", {46}), ("0 63", {0, 63}), ("cs6 AF41 46 46", {34, 46, 48})],
    ("class voice", "protocol"): [("tcp", 6), ("UDP", 17), ("icmp", 1), ("icmpv6", 58), ("255", 255), ("", None)],
    ("class voice", "ports"): [*PORTS, ("", frozenset())],
    ("class voice", "copies"): [("1", 1), ("2", 2), ("", None)],
}

# Of (section, key), values that are refused, each with one error; "" means that the key has to be written.
BAD: dict[tuple[str, str], list[str]] = {
    ("general", "tunnel_num"): ["0", "2", "21", "one"],
    ("general", "accept_remote"): BAD_FLAGS,
    ("general", "cmdport_local"): ["0", *BAD_PORTS],
    ("general", "cmd_timeout"): ["0", "0.09", "3601", "nan", "inf", "1e3", "0,5"],
    ("general", "udp_commands"): ["1", "any", "off"],
    ("general", "public_address_resolver"): ["0.0.0.0", *BAD_ADDRESSES],
    ("general", "control_socket"): ["mpt.sock", "./mpt.sock", "/" + "x" * 107],
    ("general", "data_plane"): ["c", "fast", "auto native"],
    ("general", "gso"): ["on", "1", "no"],
    ("general", "tun_offload"): ["on", "0"],
    ("general", "log_ecn"): BAD_FLAGS,
    ("general", "allow_default_key"): BAD_FLAGS,
    ("general", "public_address_name"): ["-a.example", "a..b", "a b", "x" * 64 + ".example", "a." * 127 + "ab"],
    ("general", "private_key_file"): ["a\tb", "x" * 4096],
    ("general", "status_listen"): [
        "9400",
        "127.0.0.1",
        "::1:80",
        "[::1]",
        "localhost:80",
        "10.1.1.1:0",
        "1.1.1.1:70000",
        "unix:x",
    ],
    ("general", "log_format"): ["xml", "1"],
    ("general", "log_level"): ["loud", "7"],
    ("general", "key_log"): ["a\tb"],
    ("tun_0", "name"): ["", *BAD_NAMES],
    ("tun_0", "mtu"): ["1279", "575", "65536", "big", "auto 1400"],
    ("tun_0", "ipv4_addr"): ["10.0.0.2/33", "10.0.0.2/0", "fec0::2/64", "0.0.0.0/24", "10.0.0/24", "224.0.0.1/24"],
    ("tun_0", "ipv6_addr"): ["fec0::2/129", "fec0::2/0", "10.0.0.2/24", "::/64", "::ffff:10.0.0.2/120", "fe80::1%1/64"],
    ("tun_0", "queue_length"): ["0", "100001", "-1"],
    ("connection", "name"): ["", "two words", "x" * 65, "tab\tbed"],
    ("connection", "permission"): ["", "4", "-1", "all"],
    ("connection", "ip_ver"): ["", "5", "0", "46", "IPv4"],
    ("connection", "ip_local"): ["", "0.0.0.0", "10.0.0.99", "fec0::2", *BAD_ADDRESSES],
    ("connection", "local_port"): ["", "0", "60456", *BAD_PORTS],
    ("connection", "local_cmd_port"): ["65536", "x"],
    ("connection", "ip_remote"): ["", "0.0.0.0", "10.0.0.2", "fec0::3", *BAD_ADDRESSES],
    ("connection", "remote_port"): BAD_PORTS,
    ("connection", "remote_cmd_port"): ["", "0", *BAD_PORTS],
    ("connection", "path_count"): ["", "0", "21", "1", "3", "two"],
    ("connection", "network_count"): ["", "-1", "21", "1", "3"],
    ("connection", "status"): ["", *BAD_STATUSES],
    ("connection", "reorder_window"): ["-1", "10001", "many"],
    ("connection", "max_buffdelay_msec"): ["-1", "60001", "1.5"],
    ("connection", "max_loss"): ["101", "-1", "2.5", "5%"],
    ("connection", "dscp"): ["64", "-1", "AF44", "inherit"],
    ("connection", "ecn"): ["1", "copy"],
    ("connection", "peer_key"): [
        *("abc", PEER_KEY[:-1], PEER_KEY[:-2] + "l=", PEER_KEY.replace("=", ""), PEER.hex(), PUBLIC_KEY),
        *(
            "A" * 43 + "=",
            "AQ" + "A" * 41 + "=",
            f"{PEER_KEY},{OTHER_PEER_KEY}",
            f"{PEER_KEY} {OTHER_PEER_KEY} {THIRD}",
        ),
    ],
    ("connection", "size_probe"): BAD_FLAGS,
    ("connection", "require_pq"): BAD_FLAGS,
    ("connection", "ciphers"): ["aes", "aes-128-gcm,aes-256-gcm", "aes-128-gcm aes-128-gcm"],
    ("connection", "order"): ["none", "1"],
    ("connection", "mss_clamp"): ["on", "1400"],
    ("connection", "scheduler"): ["adaptive", "fastest", "1"],
    ("connection", "delay_budget"): ["0", "1001", "1.5", "0.1 s"],
    ("connection", "auth_type"): ["", "3", "-1", "sha256"],
    ("connection", "auth_key"): ["kulcs-é", "a\tb"],
    ("path_1", "interface_name"): ["", "tun0", *BAD_NAMES],
    ("path_1", "ip_ver"): ["", "5"],
    ("path_1", "public_ipaddr"): ["", "2001:db8::2", "private_ipaddr", "public_ipaddr", *BAD_ADDRESSES],
    ("path_1", "private_ipaddr"): ["2001:db8::2", "private_ipaddr", *BAD_ADDRESSES],
    ("path_1", "remote_ipaddr"): ["", "0.0.0.0", "::", "2001:db8::3", *BAD_ADDRESSES],
    ("path_1", "gw_ipaddr"): ["2001:db8::1", *BAD_ADDRESSES],
    ("path_1", "keepalive_time"): ["-1", "0.009", "255.1", "256", "nan", "1e1"],
    ("path_1", "dead_time"): ["-1", "65535.5", "65536", "0.001"],
    ("path_1", "weight_out"): ["", "0", "10001", "-1", "0.5"],
    ("path_1", "weight_in"): ["0", "10001", "half"],
    ("path_1", "cmd_default"): BAD_FLAGS,
    ("path_1", "status"): ["", *BAD_STATUSES],
    ("path_1", "bind_to_device"): BAD_FLAGS,
    ("path_1", "cost"): ["cheap", "1"],
    ("path_1", "quota"): [
        *("20 GB", "20/month", "GB/month", "0.9 MB/day", "1001 TB/day", "20 GB/year", "20 GiB/month"),
        *("-1 GB/day", "0.0000015 TB/day", "1e3 GB/day", "1.0000001 GB/day"),
    ],
    ("path_1", "tcp_dst"): BAD_LISTS,
    ("path_1", "tcp_src"): BAD_LISTS,
    ("path_1", "udp_dst"): BAD_LISTS,
    ("path_1", "udp_src"): BAD_LISTS,
    ("net_1", "ip_ver"): ["", "5"],
    ("net_1", "src_addr"): ["", "12.1.1.0", "12.1.1.0/33", "2001:db8::/64", "net", "ff00::/8", "fe80::%1/64"],
    ("net_1", "dst_addr"): ["", "22.1.1.0", "22.1.1.0/-1", "::/0"],
    ("class voice", "class"): ["", "voice", "1"],
    ("class voice", "dscp"): ["64", "copy", "EF,AF41", "EF copy", "-1"],
    ("class voice", "protocol"): ["256", "-1", "sctp"],
    ("class voice", "ports"): BAD_LISTS,
    ("class voice", "copies"): ["0", "3", "two"],
}

NAME_OF = {"gw_ipaddr": "gateway_ipaddr"}  # the guide's samples spell one key differently from its text
KINDS = {
    "general": "general",
    "tun_0": "tun_n",
    "connection": "connection",
    "path_1": "path_n",
    "net_1": "net_n",
    "class voice": "class",
}
FIELD_OF = {"peer_key": "peer_keys", "src_addr": "source", "dst_addr": "destination", **NAME_OF}
FIELD_OF_CLASS = {"class": "is_realtime", "dscp": "dscps"}


def files_with(section: str, key: str, value: str) -> tuple[str, str]:
    """The guide's two files, with one key changed."""
    if section in ("general", "tun_0"):
        return changed(INTERFACE, section, **{key: value}), CONNECTION
    return INTERFACE, changed(connection_with(section), section, **{key: value})


def loaded(config: Config, section: str, key: str) -> Any:
    """What became of a key."""
    connection = config.connections[0]
    if section == "class voice":
        return getattr(connection.classes[0], FIELD_OF_CLASS.get(key, key))
    home: Any = {
        "general": config.general,
        "tun_0": config.tunnels[0],
        "connection": connection,
        "path_1": connection.paths[1],
        "net_1": connection.networks[1],
    }[section]
    if key in schema.PORT_KEYS:
        return set(getattr(home.ports, key))
    return getattr(home, FIELD_OF.get(key, key), None)


def cases(table: dict[tuple[str, str], list[Any]]) -> list[Any]:
    return [
        pytest.param(section, key, value, id=f"{section}-{key}-{value}")
        for (section, key), values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("section", "key", "case"), cases(GOOD))
def test_a_good_value_is_loaded(section: str, key: str, case: tuple[str, Any], tmp_path: Path) -> None:
    """A value within the range arrives as the typed field; an empty one as its default."""
    written, expected = case
    interface, connection = files_with(section, key, written)
    config = load_directory(write(tmp_path, interface, {"host_b.conf": connection})).config
    assert loaded(config, section, key) == expected


@pytest.mark.parametrize(("section", "key", "value"), cases(BAD))
def test_a_bad_value_is_one_error_that_says_where(section: str, key: str, value: str, tmp_path: Path) -> None:
    """A value out of range is one error with file, line, section, key and value, and says what to write."""
    interface, connection = files_with(section, key, value)
    in_interface = section in ("general", "tun_0")
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(write(tmp_path, interface, {"host_b.conf": connection}))
    problem = caught.value.problems[0]
    file = tmp_path / "interface.conf" if in_interface else tmp_path / "connections" / "host_b.conf"
    assert len(caught.value.problems) == 1, str(caught.value)
    assert problem.file == file
    assert problem.section == section
    assert problem.key == NAME_OF.get(key, key)
    assert problem.line == line_of(interface if in_interface else connection, section, key)
    assert problem.value == ("(hidden)" if key == "auth_key" else value)
    starts = ("must ", "is empty: write for example", "names a key", "is this host's own", "[path_", "[net_", "[tun_")
    assert problem.message.startswith(starts)
    assert str(problem) in str(caught.value)


def test_every_key_of_the_schema_is_tried() -> None:
    """A key added to the schema needs its good and bad values here; those of clients.conf have their own tests."""
    every = {(kind, key.name) for kind, keys in schema.SECTIONS.items() for key in keys if kind != "client"}
    for table in (GOOD, BAD):
        assert {(KINDS[section], NAME_OF.get(key, key)) for section, key in table} == every


@pytest.mark.parametrize(
    ("section", "key"),
    [(section, key.name) for section, kind in KINDS.items() for key in schema.SECTIONS[kind] if key.mandatory],
)
def test_a_missing_mandatory_key_is_an_error_with_an_example(section: str, key: str, tmp_path: Path) -> None:
    """The error names the key and proposes a line that would do."""
    interface, connection = INTERFACE, connection_with(section)
    names = {key: None, "gw_ipaddr": None} if key == "gateway_ipaddr" else {key: None}
    if section == "tun_0":
        interface = changed(interface, section, **names)
    else:
        connection = changed(connection, section, **names)
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(write(tmp_path, interface, {"host_b.conf": connection}))
    (problem,) = caught.value.problems
    assert (problem.section, problem.key) == (section, key)
    assert problem.line == line_of(interface if section == "tun_0" else connection, section)
    assert problem.message.startswith(f"is missing: write for example '{key} = ")


@pytest.mark.parametrize(
    ("section", "spelling", "value", "key", "expected"),
    [
        ("path_1", "gateway_ipaddr", "10.2.2.1", "gw_ipaddr", IPv4Address("10.2.2.1")),
        ("path_1", "gw_ipaddr", "10.2.2.1", "gw_ipaddr", IPv4Address("10.2.2.1")),
        ("connection", "max_buffdelay", "77", "max_buffdelay_msec", 77),
        ("connection", "MAX_BuffDelay_mSec", "77", "max_buffdelay_msec", 77),
    ],
)
def test_other_spellings_are_accepted(
    section: str, spelling: str, value: str, key: str, expected: Any, tmp_path: Path
) -> None:
    """The guide's text, its samples and the C program spell some keys differently."""
    names: dict[str, str | None] = {key: None, spelling: value}
    loaded_directory = load_directory(write(tmp_path, connections={"a.conf": changed(CONNECTION, section, **names)}))
    assert loaded(loaded_directory.config, section, key) == expected
    assert loaded_directory.warnings == ()


def test_two_spellings_of_one_key_warn_and_the_last_counts(tmp_path: Path) -> None:
    """They are one key, written twice."""
    text = CONNECTION.replace("gw_ipaddr      = 10.2.2.2\n", "gw_ipaddr = 10.2.2.2\ngateway_ipaddr = 10.2.2.1\n")
    result = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert loaded(result.config, "path_1", "gw_ipaddr") == IPv4Address("10.2.2.1")
    assert len(result.warnings) == 1
    assert "another spelling" in result.warnings[0]


def test_an_ipv6_network_and_tunnel_are_loaded(tmp_path: Path) -> None:
    """The version of a network follows its own ip_ver, and that of a connection its tunnel's address."""
    text = changed(CONNECTION, "net_1", ip_ver="6", src_addr="2001:db8:1::/64", dst_addr="::/0")
    text = changed(text, "connection", ip_ver="6", ip_local="fec0::2", ip_remote="fec0::3")
    connection = load_directory(write(tmp_path, connections={"a.conf": text})).config.connections[0]
    assert connection.networks[1].source == IPv6Network("2001:db8:1::/64")
    assert connection.networks[1].destination == IPv6Network("::/0")
    assert connection.ip_remote == IPv6Address("fec0::3")

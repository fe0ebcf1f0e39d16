"""Connections to text: for the peer, for a new file, and into a file that is there."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpt.config.directory import load_connection
from mpt.config.parser import ConfigurationErrors, read_text
from mpt.config.writer import connection_text, file_text, save
from mpt.errors import ConfigError
from mpt.model import (
    AuthType,
    ConnectionConfig,
    GeneralConfig,
    NetworkConfig,
    PathConfig,
    Permission,
    PortMap,
    Status,
    TunnelConfig,
    unspecified,
)
from tests.config.files import CONNECTION, changed

GENERAL = GeneralConfig(cmdport_local=60456)
TUNNELS = (TunnelConfig("tun0", ipv4_addr=IPv4Interface("10.0.0.2/24"), ipv6_addr=IPv6Interface("fec0::2/64")),)
CMD_PORT = 60456

# Of the C program's `mpt save`, for the connection below
SAVED = """\
;;;;;;;#################### Multipath Connection Information: ###############

[connection]
name             = MPT_connection_10.0.0.2
permission       = 3
ip_ver           = 4
ip_local         = 10.0.0.2
local_port       = 23456
local_cmd_port   = 60456
ip_remote        = 10.0.0.3
remote_port      = 23456
remote_cmd_port  = 60456
path_count       = 1
network_count    = 1
status           = 0
reorder_window   = 0
max_buffdelay_msec = 200
auth_type        = 2

########################## PATHS ############################

[path_0]
interface_name   = eth1
ip_ver           = 4
private_ipaddr   = 10.1.1.2
public_ipaddr    = 10.1.1.2
gw_ipaddr        = 10.1.1.1
remote_ipaddr    = 10.1.1.3
keepalive_time   = 5
dead_time        = 11
weight_in        = 1
weight_out       = 3
status           = 128
####################### NETWORKS #####################################

[net_0]
ip_ver           = 4
src_addr         = 11.1.1.0/24
dst_addr         = 21.1.1.0/24
"""

SAMPLE = ConnectionConfig(
    name="MPT_connection_10.0.0.2",
    ip_ver=4,
    ip_local=ip_address("10.0.0.2"),
    local_port=23456,
    ip_remote=ip_address("10.0.0.3"),
    remote_port=23456,
    remote_cmd_port=60456,
    permission=Permission(3),
    max_buffdelay_msec=200,
    auth_type=AuthType.SHA256,
    auth_key="00112233445566778899AABBCCDDEEFF" * 2,
    paths=(
        PathConfig(
            "eth1",
            4,
            ip_address("10.1.1.2"),
            ip_address("10.1.1.3"),
            ip_address("10.1.1.1"),
            keepalive_time=5.0,
            dead_time=11.0,
            weight_out=3,
            cmd_default=True,
            bind_to_device=False,
            ports=PortMap(tcp_dst=frozenset({80, 443, 8000, 8001, 8002})),
        ),
    ),
    networks=(NetworkConfig(4, ip_network("11.1.1.0/24"), ip_network("21.1.1.0/24")),),
)


def load(path: Path) -> ConnectionConfig:
    return load_connection(path, GENERAL, TUNNELS)[0]


def statuses(connection: ConnectionConfig) -> list[Status]:
    return [path.status for path in connection.paths]


def test_the_text_for_the_peer_is_that_of_the_c_program() -> None:
    """To the octet, with the states of now and without the key."""
    text = connection_text(SAMPLE, [Status.DOWN], CMD_PORT)
    assert text == SAVED
    assert SAMPLE.auth_key not in text and SAMPLE.auth_key[:32] not in text


def test_a_text_that_would_be_too_long_is_packed_tight() -> None:
    """The same sections, keys and values without blanks and headings, still beginning with a comment."""
    many = replace(SAMPLE, paths=SAMPLE.paths * 4)
    long, short = (connection_text(many, statuses(many), CMD_PORT, limit) for limit in (None, 1524))
    assert len(long) > 1524 > len(short) and short[:5] == ";;;;;"
    assert connection_text(many, statuses(many), CMD_PORT, len(long)) == long
    one, other = (read_text(text, Path("x")) for text in (long, short))
    assert not one.problems and not other.problems
    values = [
        {name: {key: entry.value for key, entry in section.entries.items()} for name, section in ini.sections.items()}
        for ini in (one, other)
    ]
    assert values[0] == values[1]


def test_a_new_file_has_what_a_peer_does_not_get(tmp_path: Path) -> None:
    """The key, cmd_default, the ports of flow mapping; nobody else may read it."""
    path = tmp_path / "peer_10_0_0_3.conf"
    assert save(path, SAMPLE, [Status.OK], CMD_PORT)
    text = path.read_text()
    for line in (
        f"auth_key         = {SAMPLE.auth_key}",
        "cmd_default      = 1",
        "bind_to_device   = 0",
        "tcp_dst          = 80 443 8000-8002",
    ):
        assert f"\n{line}\n" in text
    assert "private_ipaddr" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path) == replace(SAMPLE, file=path)


def test_a_file_that_says_it_already_is_not_touched(tmp_path: Path) -> None:
    """No new file, no new time (only that of access may be another: it was read)."""
    path = tmp_path / "host_b.conf"
    path.write_text(CONNECTION)
    before = path.stat()
    connection = load(path)
    assert not save(path, connection, statuses(connection), CMD_PORT)
    after = path.stat()
    assert path.read_text() == CONNECTION
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_only_the_lines_that_differ_change(tmp_path: Path) -> None:
    """Comments, order, spelling, blanks and unknown keys stay; a value is changed in its place."""
    path = tmp_path / "host_b.conf"
    own_way = "STATUS =   up   ; as it was\nmy_key = 7 # mine"
    text = CONNECTION.replace("status         = 0\n\n[path_1]", f"{own_way}\n\n[path_1]")
    path.write_text(text)
    connection = load(path)
    assert save(path, connection, [Status.MANUAL_DOWN, Status.OK], CMD_PORT)
    assert path.read_text() == text.replace("=   up   ; as", "=   131   ; as")
    assert save(path, connection, [Status.OK, Status.OK], CMD_PORT)
    assert path.read_text() == text.replace("=   up   ; as", "=   0   ; as")


def test_what_is_missing_is_added_only_if_its_default_is_not_meant(tmp_path: Path) -> None:
    """At the end of its section, before what comes after it."""
    path = tmp_path / "host_b.conf"
    path.write_text(CONNECTION)
    connection = load(path)
    second = replace(connection.paths[1], weight_in=5, ports=PortMap(udp_dst=frozenset({53})))
    save(path, replace(connection, paths=(connection.paths[0], second)), statuses(connection), CMD_PORT)
    old, new = CONNECTION.splitlines(), path.read_text().splitlines()
    assert [line for line in new if line not in old] == ["weight_in        = 5", "udp_dst          = 53"]
    assert new.index("weight_in        = 5") == old.index("##### NETWORKS #####") - 1


def test_a_value_over_several_lines_is_changed_as_one(tmp_path: Path) -> None:
    """A backslash joins lines; what remains is one."""
    path = tmp_path / "host_b.conf"
    path.write_text(CONNECTION.replace("name           = MPT", "name = \\\n  'MPT' ; the \\\n name\n;"))
    save(path, replace(load(path), name="other"), [Status.OK] * 2, CMD_PORT)
    assert load(path).name == "other"
    assert "other ; the  name\n" in path.read_text()


def test_paths_and_networks_come_and_go(tmp_path: Path) -> None:
    """Removed sections become comments, new sections are written at the end."""
    path = tmp_path / "host_b.conf"
    path.write_text(CONNECTION)
    connection = load(path)
    fewer = replace(connection, paths=connection.paths[:1], networks=())
    save(path, fewer, [Status.OK], CMD_PORT)
    assert load(path) == replace(fewer, file=path)
    assert "; remote_ipaddr  = 10.2.2.3\n" in path.read_text()
    save(path, connection, [Status.OK] * 2, CMD_PORT)
    assert load(path) == connection


def test_line_ends_and_a_missing_last_one_stay(tmp_path: Path) -> None:
    """A file written elsewhere keeps its carriage returns."""
    path = tmp_path / "host_b.conf"
    path.write_bytes(CONNECTION.rstrip().replace("\n", "\r\n").encode())
    connection = load(path)
    changed_one = replace(connection, reorder_window=9, networks=(*connection.networks, *SAMPLE.networks))
    save(path, changed_one, [Status.OK] * 2, CMD_PORT)
    data = path.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") and load(path) == changed_one


def test_mode_and_link_stay(tmp_path: Path) -> None:
    """A file that others may read remains so, and a symbolic link still is one."""
    path, link = tmp_path / "real.conf", tmp_path / "link.conf"
    path.write_text(CONNECTION)
    path.chmod(0o640)
    link.symlink_to(path)
    save(link, replace(load(path), reorder_window=7), [Status.OK] * 2, CMD_PORT)
    assert link.is_symlink() and load(path).reorder_window == 7
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.conf", "real.conf"]


def test_a_file_with_errors_is_left_to_its_owner(tmp_path: Path) -> None:
    """Somebody is in the midst of changing it."""
    path = tmp_path / "host_b.conf"
    connection = replace(SAMPLE, file=path)
    path.write_text(changed(CONNECTION, "connection", local_port="x"))
    with pytest.raises(ConfigurationErrors, match="local_port"):
        save(path, connection, [Status.OK], CMD_PORT)
    assert "local_port = x" in path.read_text()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """With the name of the file; nothing is left behind."""
    with pytest.raises(ConfigError, match=r"gone/x\.conf: cannot be saved"):
        save(tmp_path / "gone" / "x.conf", SAMPLE, [Status.OK], CMD_PORT)


@pytest.mark.parametrize("name", ["a#b", "a;b", "'a", '"a', "a'b\"c", "a\\", "#'", '#"', "=", "[x]"])
def test_a_name_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    """Whatever would end a value, or join lines, is quoted."""
    for text in (None, CONNECTION):
        path = tmp_path / "x.conf"
        if text is not None:
            path.write_text(text)
        save(path, replace(SAMPLE, name=name), [Status.OK], CMD_PORT)
        assert load(path).name == name


# ---- every connection -----------------------------------------------------------------------------------------------

_addresses = st.integers(0x0B000001, 0x0BFFFFFF).map(IPv4Address)
_ports = st.frozensets(st.integers(1, 65535), max_size=6)
_times = st.one_of(
    st.just((0.0, 0.0)),
    st.tuples(
        st.floats(0.01, 255).map(lambda value: round(value, 3)),
        st.floats(0.01, 65535).map(lambda value: round(value, 3)),
    ),
)
_letters = st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["C", "Z"])
_words = st.text(_letters, min_size=1, max_size=20)


@st.composite
def _path(draw: st.DrawFn, number: int) -> PathConfig:
    keepalive, dead = draw(_times)
    own = st.integers(0x2C00000, 0x2FFFFFF).map(lambda value: IPv4Address(value * 4 + number))  # of no other path
    return PathConfig(
        interface_name=f"eth{number}",
        ip_ver=4,
        public_ipaddr=draw(own),
        remote_ipaddr=draw(own),
        gateway_ipaddr=draw(st.one_of(_addresses, st.just(unspecified(4)))),
        keepalive_time=keepalive,
        dead_time=dead,
        private_ipaddr=draw(st.one_of(st.none(), st.just(unspecified(4)), own)),
        weight_out=draw(st.integers(1, 10_000)),
        weight_in=draw(st.integers(1, 10_000)),
        cmd_default=number == 1,
        status=draw(st.sampled_from(Status)),
        bind_to_device=draw(st.booleans()),
        ports=draw(st.one_of(st.just(PortMap()), st.builds(PortMap, _ports, _ports, _ports, _ports)))
        if number == 0
        else PortMap(),
    )


@st.composite
def _connection(draw: st.DrawFn) -> ConnectionConfig:
    networks = st.tuples(_addresses, st.integers(0, 32)).map(lambda pair: ip_network(pair, strict=False))
    return ConnectionConfig(
        name=draw(_words.filter(lambda word: not {"'", '"'} <= set(word))),
        ip_ver=4,
        ip_local=ip_address("10.0.0.2"),
        local_port=draw(st.integers(1, 60455)),
        ip_remote=draw(_addresses),
        remote_port=draw(st.integers(0, 65534)),
        remote_cmd_port=draw(st.integers(1, 65534)),
        paths=tuple(draw(_path(number)) for number in range(draw(st.integers(1, 4)))),
        networks=tuple(draw(st.lists(st.builds(NetworkConfig, st.just(4), networks, networks), max_size=3))),
        permission=Permission(draw(st.integers(0, 3))),
        status=draw(st.sampled_from(Status)),
        reorder_window=draw(st.integers(0, 10_000)),
        max_buffdelay_msec=draw(st.integers(1, 60_000)),
        auth_type=draw(st.sampled_from(AuthType)),
        auth_key=draw(st.sampled_from(["0" * 64, "k # 'x", 'a;"b', "\\"])),
    )


@given(_connection(), _connection())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_saved_is_loaded(tmp_path: Path, first: ConnectionConfig, second: ConnectionConfig) -> None:
    """As a new file, and over the file of any other connection, whose comments survive."""
    path = tmp_path / "x.conf"
    path.unlink(missing_ok=True)
    for connection in (first, second):
        save(path, connection, statuses(connection), CMD_PORT)
        assert load(path) == replace(connection, file=path)
        assert path.read_text().startswith(";;;;;;;####")
    assert file_text(first, statuses(first), CMD_PORT).count("[path_") == len(first.paths)

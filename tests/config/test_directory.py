"""A whole directory: where it is, what it loads, and what must agree between its sections and files."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest

from mpt.config.directory import load_connection, load_directory
from mpt.config.location import find_directory
from mpt.config.parser import ConfigurationErrors, Problem
from mpt.errors import ConfigError
from mpt.model import GeneralConfig, Status, unspecified
from tests.config.files import (
    CONNECTION,
    CREATE_CLIENT,
    CREATE_TEMPLATE,
    INTERFACE,
    changed,
    line_of,
    without,
    write,
)

CONF = Path(__file__).parents[2] / "conf"
SAMPLES = [".", "samples/host_b", "samples/guide/host_a", "samples/guide/host_b"]
TWO_TUNNELS = INTERFACE.replace("tunnel_num      = 1", "tunnel_num = 2") + (
    "\n[tun_1]\nname = tun1\nipv4_addr = 10.0.1.2/24\n"
)
HEX_64 = "00112233445566778899AABBCCDDEEFFA0A1A2A3A4A5A6A7A8A9AAABACADAEAF"


def errors(directory: Path) -> tuple[Problem, ...]:
    """What is wrong in a directory."""
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(directory)
    return caught.value.problems


def another(**values: str | None) -> str:
    """Return the guide's connection without its networks, with these keys changed."""
    return without(without(connection(network_count="0", **values), "net_0"), "net_1")


def connection(**values: str | None) -> str:
    """The guide's connection file with keys of [connection] changed."""
    return changed(CONNECTION, "connection", **values)


# ---- where it is ------------------------------------------------------------------------------------------------


def test_the_directory_is_searched_in_order(tmp_path: Path) -> None:
    """--config, then $MPT_CONFIG_DIR, then ./conf, then /etc/mpt."""
    for name in ("explicit", "environment", "conf", "etc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "interface.conf").touch()
    environ = {"MPT_CONFIG_DIR": str(tmp_path / "environment")}
    system = tmp_path / "etc"
    assert find_directory("explicit", environ, tmp_path, system) == tmp_path / "explicit"
    assert find_directory(None, environ, tmp_path, system) == tmp_path / "environment"
    assert find_directory(None, {}, tmp_path, system) == tmp_path / "conf"
    assert find_directory(None, {"MPT_CONFIG_DIR": ""}, tmp_path / "etc", system) == system


def test_a_directory_that_was_named_is_the_one_that_is_meant(tmp_path: Path) -> None:
    """A wrong --config or $MPT_CONFIG_DIR is an error, even if ./conf would do."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "interface.conf").touch()
    with pytest.raises(ConfigError, match="--config nowhere"):
        find_directory("nowhere", {}, tmp_path)
    with pytest.raises(ConfigError, match=r"\$MPT_CONFIG_DIR nowhere"):
        find_directory(None, {"MPT_CONFIG_DIR": "nowhere"}, tmp_path)


def test_no_directory_is_an_error_that_lists_where_it_was_sought(tmp_path: Path) -> None:
    """The message names each directory that was tried."""
    with pytest.raises(ConfigError) as caught:
        find_directory(None, {}, tmp_path, tmp_path / "etc")
    assert f"{tmp_path}/conf and {tmp_path}/etc" in str(caught.value)


# ---- what loads -------------------------------------------------------------------------------------------------


def test_the_guides_files_load_as_printed(tmp_path: Path) -> None:
    """Configurations 1 and 2 of the guide load with neither error nor warning."""
    loaded = load_directory(write(tmp_path))
    assert loaded.warnings == ()
    config = loaded.config
    assert config.general == GeneralConfig(1, accept_remote=True, cmdport_local=60456, cmd_timeout=25.0)
    (only,) = config.connections
    assert config.tunnel_of(only).name == "tun0"
    assert [str(path.remote_ipaddr) for path in only.paths] == ["10.1.1.3", "10.2.2.3"]
    assert [path.cmd_default for path in only.paths] == [True, False]
    assert [path.dead_time for path in only.paths] == [11.0, 11.0]
    assert [str(network.destination) for network in only.networks] == ["21.1.1.0/24", "22.1.1.0/24"]
    assert only.max_buffdelay_msec == 200
    assert only.file == tmp_path / "connections" / "host_b.conf"


def test_the_guides_create_example_loads(tmp_path: Path) -> None:
    """The client of guide 4.7 knows no remote port yet."""
    loaded = load_directory(write(tmp_path, connections={"client.conf": CREATE_CLIENT}))
    (only,) = loaded.config.connections
    assert only.remote_port == 0
    assert [path.status for path in only.paths] == [Status.DOWN, Status.DOWN]
    assert only.paths[0].cmd_default
    assert only.paths[0].private_ipaddr == unspecified(4)


def test_with_an_unknown_remote_port_a_path_needs_no_remote_address(tmp_path: Path) -> None:
    """The remote address of the command path is enough for `mpt create` (guide 4.7)."""
    text = changed(CREATE_CLIENT, "path_1", remote_ipaddr=None)
    (only,) = load_directory(write(tmp_path, connections={"client.conf": text})).config.connections
    assert only.paths[1].remote_ipaddr == unspecified(4)
    assert only.paths[0].remote_ipaddr == IPv4Address("10.1.1.3")


def test_the_guides_template_loads_by_itself_but_is_no_connection(tmp_path: Path) -> None:
    """conf.template may leave out what only the peer knows (guide 4.7), and only *.conf files are connections."""
    interface = INTERFACE.replace("10.0.0.2", "10.0.0.3")
    files = {"conf.template": CREATE_TEMPLATE, "old.conf.disabled": "rubbish", ".hidden.conf": "rubbish"}
    loaded = load_directory(write(tmp_path, interface, files))
    assert loaded.config.connections == ()
    template, warnings = load_connection(
        tmp_path / "connections" / "conf.template", loaded.config.general, loaded.config.tunnels
    )
    assert warnings == ()
    assert (template.ip_remote, template.remote_port) == (unspecified(4), 0)
    assert [path.weight_out for path in template.paths] == [1, 1]


def test_a_status_page_for_everybody_is_warned_of(tmp_path: Path) -> None:
    """At the loopback and at a unix socket nobody else sees it."""
    for place in ("127.0.0.1:9400", "[::1]:9400", "unix:/run/mpt/status.sock"):
        interface = changed(INTERFACE, "general", status_listen=place)
        assert load_directory(write(tmp_path, interface)).warnings == (), place
    for place in ("0.0.0.0:9400", "[::]:9400", "192.168.1.1:9400"):
        (warning,) = load_directory(write(tmp_path, changed(INTERFACE, "general", status_listen=place))).warnings
        assert f"shows the status to everybody who reaches {place}: 127.0.0.1:9400" in warning


@pytest.mark.parametrize("host", SAMPLES)
def test_the_samples_load_without_a_warning(host: str) -> None:
    """Every sample directory can be used as it is."""
    assert load_directory(CONF / host).warnings == ()


@pytest.mark.parametrize("host", SAMPLES)
def test_what_the_samples_have_in_comments_is_the_default(host: str, tmp_path: Path) -> None:
    """The keys that stand behind a semicolon can be used as well, and change nothing as they are."""
    (connection,) = (CONF / host / "connections").glob("*.conf")
    texts = [file.read_text() for file in (CONF / host / "interface.conf", connection)]
    used = [re.sub(r"^;(?=\w+ *=)", "", text, flags=re.MULTILINE) for text in texts]
    for key, file in [("data_plane", 0), ("gso", 0), ("tun_offload", 0), ("dscp", 1), ("ecn", 1)]:
        assert re.search(rf"^{key} *=", used[file], re.MULTILINE)
    plain = load_directory(write(tmp_path, texts[0], {connection.name: texts[1]}))
    assert load_directory(write(tmp_path, used[0], {connection.name: used[1]})) == plain


@pytest.mark.parametrize("host", SAMPLES[:2])
def test_the_samples_cannot_hurt(host: str) -> None:
    """Private addresses only, no network routed into the tunnel, packets in order, and nobody creates connections."""
    config = load_directory(CONF / host).config
    (connection,) = config.connections
    assert not config.general.accept_remote
    assert connection.networks == ()
    assert connection.reorder_window == 1000
    addresses = [connection.ip_local, connection.ip_remote, config.tunnels[0].ipv4_addr, config.tunnels[0].ipv6_addr]
    for path in connection.paths:
        addresses += [path.public_ipaddr, path.remote_ipaddr, path.gateway_ipaddr]
    private = [ip_network(each) for each in ("10.0.0.0/8", "192.168.0.0/16", "fd00::/8")]
    for address in addresses:
        assert address is not None
        plain = ip_address(str(address).partition("/")[0])
        assert any(plain in network for network in private), address


@pytest.mark.parametrize(("host_a", "host_b"), [SAMPLES[:2], SAMPLES[2:]])
def test_the_samples_of_two_hosts_are_mirrors(host_a: str, host_b: str) -> None:
    """The local addresses of one host are the peer's at the other."""
    here, there = load_directory(CONF / host_a).config, load_directory(CONF / host_b).config
    own, peer = here.connections[0], there.connections[0]
    assert (own.ip_local, own.ip_remote) == (peer.ip_remote, peer.ip_local)
    assert (own.local_port, own.remote_port) == (peer.remote_port, peer.local_port)
    assert [(path.public_ipaddr, path.remote_ipaddr, path.weight_out) for path in own.paths] == [
        (path.remote_ipaddr, path.public_ipaddr, path.weight_in) for path in peer.paths
    ]
    assert [(net.source, net.destination) for net in own.networks] == [
        (net.destination, net.source) for net in peer.networks
    ]


def test_the_guides_samples_say_what_the_guide_says(tmp_path: Path) -> None:
    """Host A's are its configurations 1 and 2."""
    guide, here = load_directory(write(tmp_path)).config, load_directory(CONF / SAMPLES[2]).config
    assert (here.general, here.tunnels) == (guide.general, guide.tunnels)
    assert here.connections[0].paths == guide.connections[0].paths
    assert here.connections[0].networks == guide.connections[0].networks


@pytest.mark.parametrize("missing", [False, True])
def test_no_connection_at_all_is_a_warning(missing: bool, tmp_path: Path) -> None:
    """A server may wait for peers that create their connections."""
    write(tmp_path, connections={})
    if missing:
        (tmp_path / "connections").rmdir()
    loaded = load_directory(tmp_path)
    assert loaded.config.connections == ()
    assert len(loaded.warnings) == 1
    assert "there is no connection" in loaded.warnings[0]


def test_connections_that_cannot_be_listed_are_an_error(tmp_path: Path) -> None:
    """A file where the directory should be."""
    (tmp_path / "interface.conf").write_text(INTERFACE)
    (tmp_path / "connections").touch()
    assert "cannot be read: Not a directory" in str(errors(tmp_path)[0])


def test_without_a_number_the_tunnels_are_counted(tmp_path: Path) -> None:
    """An absent tunnel_num stands for as many sections as there are."""
    interface = changed(TWO_TUNNELS, "general", tunnel_num=None)
    config = load_directory(write(tmp_path, interface)).config
    assert config.general.tunnel_num == 2
    assert [tunnel.name for tunnel in config.tunnels] == ["tun0", "tun1"]


def test_there_are_not_more_tunnels_than_can_be_counted(tmp_path: Path) -> None:
    """Without tunnel_num too, a tunnel that would not be read is an error."""
    more = [f"[tun_{number}]\nname = tun{number}\nipv4_addr = 10.1.{number}.1\n" for number in range(1, 21)]
    interface = changed(INTERFACE, "general", tunnel_num=None) + "".join(more)
    (only,) = errors(write(tmp_path, interface))
    assert "[tun_20] is not counted" in str(only)


# ---- all at once ------------------------------------------------------------------------------------------------


def test_all_errors_of_a_directory_come_at_once(tmp_path: Path) -> None:
    """One exception lists the errors of all files in the order of their lines, one to a line."""
    interface = INTERFACE.replace("60456", "0").replace("10.0.0.2/24", "10.0.0.2/99").replace("[tun_0]", "?\n[tun_0]")
    first = CONNECTION.replace("weight_out     = 1", "weight_out     = 0").replace("10.2.2.3", "fe80::1")
    second = connection(ip_ver="5", path_count="3") + "\nnonsense\n"
    write(tmp_path, interface, {"a.conf": first, "b.conf": second})
    problems = errors(tmp_path)
    assert [(problem.file.name, problem.key) for problem in problems] == [
        ("interface.conf", "cmdport_local"),
        ("interface.conf", ""),
        ("interface.conf", "ipv4_addr"),
        ("a.conf", "weight_out"),
        ("a.conf", "remote_ipaddr"),
        ("a.conf", "weight_out"),
        ("b.conf", "ip_ver"),
        ("b.conf", "path_count"),
        ("b.conf", ""),
    ]
    text = str(ConfigurationErrors(problems))
    assert text.startswith("9 errors:\n")
    assert all(f"\n  {problem}" in text for problem in problems)


def test_wrong_tunnels_do_not_make_connections_wrong(tmp_path: Path) -> None:
    """While interface.conf has errors nothing is compared with it."""
    (only,) = errors(write(tmp_path, INTERFACE.replace("10.0.0.2/24", "10.0.0/24")))
    assert only.key == "ipv4_addr"


def test_a_missing_section_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Of a section that is missing the keys are not complained of one by one."""
    assert [str(problem) for problem in errors(write(tmp_path, without(INTERFACE, "general")))] == [
        f"{tmp_path}/interface.conf: [general] is missing: write a line '[general]' and its keys below it"
    ]
    assert "[tun_0] is missing" in str(errors(write(tmp_path, "[general]\n"))[0])
    (only,) = errors(write(tmp_path, connections={"a.conf": without(CONNECTION, "connection")}))
    assert "[connection] is missing" in str(only)


def test_an_empty_interface_file_is_an_error(tmp_path: Path) -> None:
    """Both sections are missing."""
    assert len(errors(write(tmp_path, ""))) == 2


@pytest.mark.parametrize("section", ["path_0", "path_1", "net_0", "net_1"])
def test_a_section_that_is_counted_but_missing_is_named(section: str, tmp_path: Path) -> None:
    """path_count and network_count must agree with the sections."""
    text = without(CONNECTION, section)
    (only,) = errors(write(tmp_path, connections={"a.conf": text}))
    count = "path_count" if section.startswith("path") else "network_count"
    assert (only.key, only.value, only.line) == (count, "2", line_of(text, "connection", count))
    assert only.message.startswith(f"[{section}] is missing")


@pytest.mark.parametrize(("section", "count"), [("path_2", "path_count"), ("net_7", "network_count")])
def test_a_section_too_many_is_named(section: str, count: str, tmp_path: Path) -> None:
    """A section that is not counted is most likely a forgotten count."""
    copied = CONNECTION[CONNECTION.index("[net_1]" if section.startswith("net") else "[path_1]") :].split("\n\n")[0]
    text = f"{CONNECTION}\n[{section}]\n" + copied.partition("\n")[2].replace("10.2.2", "10.3.3") + "\n"
    (only,) = errors(write(tmp_path, connections={"a.conf": text}))
    assert only.key == count
    assert f"[{section}] is not counted" in only.message


# ---- what must agree in a file ------------------------------------------------------------------------------------


def test_a_foreign_ip_local_is_told_the_tunnels_addresses(tmp_path: Path) -> None:
    """The error lists the possible meanings."""
    (only,) = errors(write(tmp_path, TWO_TUNNELS, {"a.conf": connection(ip_local="10.0.0.7")}))
    assert only.value == "10.0.0.7"
    assert "10.0.0.2 (tun0), fec0::2 (tun0), 10.0.1.2 (tun1)" in only.message


def test_the_peer_is_not_this_host(tmp_path: Path) -> None:
    """ip_remote is no address of any of our tunnels."""
    (only,) = errors(write(tmp_path, TWO_TUNNELS, {"a.conf": connection(ip_remote="10.0.1.2")}))
    assert (only.key, only.value) == ("ip_remote", "10.0.1.2")


def test_a_sha256_connection_needs_its_key(tmp_path: Path) -> None:
    """auth_type 2 without auth_key is an error with an example."""
    (only,) = errors(write(tmp_path, connections={"a.conf": connection(auth_type="2", auth_key=None)}))
    assert only.key == "auth_key"
    assert "64 hexadecimal digits" in only.message


@pytest.mark.parametrize("key", ["S3CRET", "S3CRET" + "0" * 58])
def test_a_bad_key_warns_and_is_never_shown(key: str, tmp_path: Path) -> None:
    """An auth_key that is not 64 hexadecimal digits works, with a warning that does not show it."""
    loaded = load_directory(write(tmp_path, connections={"a.conf": connection(auth_type="2", auth_key=key)}))
    assert loaded.config.connections[0].auth_key == key
    (warning,) = loaded.warnings
    assert "auth_key = '(hidden)'" in warning
    assert "S3CRET" not in warning


def test_a_good_key_does_not_warn(tmp_path: Path) -> None:
    """64 hexadecimal digits are what SHA-256 asks for (guide table 3); they show in no repr either."""
    text = connection(auth_type="2", auth_key=HEX_64)
    loaded = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert loaded.warnings == ()
    assert HEX_64 not in repr(loaded)


def test_the_public_address_may_be_the_private_one(tmp_path: Path) -> None:
    """`public_ipaddr = private_ipaddr`, the word, gives the value of that key."""
    text = changed(CONNECTION, "path_0", public_ipaddr="private_ipaddr", private_ipaddr="192.168.1.2")
    path = load_directory(write(tmp_path, connections={"a.conf": text})).config.connections[0].paths[0]
    assert path.public_ipaddr == path.private_ipaddr == IPv4Address("192.168.1.2")


def test_an_ipv6_path_may_ask_to_find_everything_out(tmp_path: Path) -> None:
    """0.0.0.0 and :: mean the same on a path of either version."""
    text = changed(
        CONNECTION,
        "path_0",
        ip_ver="6",
        public_ipaddr="::",
        private_ipaddr="0.0.0.0",
        gw_ipaddr="0.0.0.0",
        remote_ipaddr="2001:db8::3",
    )
    path = load_directory(write(tmp_path, connections={"a.conf": text})).config.connections[0].paths[0]
    assert path.public_ipaddr == path.private_ipaddr == path.gateway_ipaddr == unspecified(6)


@pytest.mark.parametrize(
    ("keepalive", "dead", "expected", "warns"),
    [
        ("5", None, 15.0, False),
        ("0.1", "0.3", 0.3, False),
        (None, None, 0.0, False),
        ("0", "0", 0.0, False),
        ("5", "0", 0.0, False),
        ("5", "5", 5.0, True),
        ("5", "0.5", 0.5, True),
        ("0", "11", 0.0, True),
        (None, "11", 0.0, True),
    ],
)
def test_the_dead_time_fits_the_keepalive_time(
    keepalive: str | None, dead: str | None, expected: float, warns: bool, tmp_path: Path
) -> None:
    """Three keepalives unless written; none without keepalives; a warning when it cannot be meant."""
    text = changed(CONNECTION, "path_0", keepalive_time=keepalive, dead_time=dead)
    loaded = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert loaded.config.connections[0].paths[0].dead_time == pytest.approx(expected)
    assert [warning for warning in loaded.warnings if "dead_time" in warning] == list(loaded.warnings)
    assert bool(loaded.warnings) is warns


def test_two_paths_are_not_the_same(tmp_path: Path) -> None:
    """Interface, local and remote address together are a path; two of them may be shared."""
    same = changed(CONNECTION, "path_1", interface_name="eth1", public_ipaddr="10.1.1.2", remote_ipaddr="10.1.1.3")
    (only,) = errors(write(tmp_path, connections={"a.conf": same}))
    assert (only.section, only.key) == ("path_1", "remote_ipaddr")
    assert "[path_0]" in only.message
    for shared in ("interface_name", "remote_ipaddr"):
        other = changed(same, "path_1", **{shared: {"interface_name": "eth2", "remote_ipaddr": "10.1.1.4"}[shared]})
        assert load_directory(write(tmp_path, connections={"a.conf": other})).warnings == ()


def test_a_port_is_mapped_to_one_path(tmp_path: Path) -> None:
    """The same port under the same key of two paths is an error; under another key it is not."""
    text = changed(CONNECTION, "path_0", tcp_dst="80 443", udp_src="53")
    (only,) = errors(write(tmp_path, connections={"a.conf": changed(text, "path_1", tcp_dst="400-500")}))
    assert (only.section, only.key, only.value) == ("path_1", "tcp_dst", "400-500")
    assert "port 443" in only.message
    assert load_directory(write(tmp_path, connections={"a.conf": changed(text, "path_1", tcp_src="80")})).warnings == ()


def test_one_path_is_the_default_of_commands(tmp_path: Path) -> None:
    """A second cmd_default is ignored with a warning."""
    loaded = load_directory(write(tmp_path, connections={"a.conf": changed(CONNECTION, "path_1", cmd_default="1")}))
    assert [path.cmd_default for path in loaded.config.connections[0].paths] == [True, False]
    assert "[path_0] is the default path already" in loaded.warnings[0]


def test_a_remote_address_of_ones_own_warns(tmp_path: Path) -> None:
    """It is the commonest slip in copying a file to the other host."""
    text = changed(CONNECTION, "path_1", remote_ipaddr="10.2.2.2")
    loaded = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert "own address" in loaded.warnings[0]


def test_host_bits_of_a_network_are_masked_with_a_warning(tmp_path: Path) -> None:
    """11.1.1.7/24 is read as 11.1.1.0/24."""
    text = changed(CONNECTION, "net_0", src_addr="11.1.1.7/24")
    loaded = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert loaded.config.connections[0].networks[0].source == IPv4Network("11.1.1.0/24")
    assert "read as 11.1.1.0/24" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("section", "written", "says"),
    [
        ("connection", "reorder_windw = 5", "is unknown and ignored: is 'reorder_window' meant?"),
        ("path_0", "interface = eth1", "is unknown and ignored: is 'interface_name' meant?"),
        ("path_1", "mtu = 1400", "is ignored here: it belongs into [tun_n]"),
        ("net_0", "local_port = 5", "is ignored here: it belongs into [connection]"),
        ("connection", "zzz = 5", "is unknown and ignored"),
    ],
)
def test_an_unknown_key_warns_with_the_nearest_known(section: str, written: str, says: str, tmp_path: Path) -> None:
    """A slip of the pen does not go unnoticed."""
    text = CONNECTION.replace(f"[{section}]\n", f"[{section}]\n{written}\n")
    (warning,) = load_directory(write(tmp_path, connections={"a.conf": text})).warnings
    line = line_of(text, section) + 1
    assert warning == f"{tmp_path}/connections/a.conf:{line}: [{section}] {written.partition(' =')[0]} {says}"


@pytest.mark.parametrize(
    ("section", "near"), [("paths_0", "path_0"), ("Conection", "connection"), ("zzz", ""), ("net_01", "net_0")]
)
def test_an_unknown_section_warns_with_the_nearest_known(section: str, near: str, tmp_path: Path) -> None:
    """So does a section that nobody reads."""
    (warning,) = load_directory(write(tmp_path, connections={"a.conf": f"{CONNECTION}\n[{section}]\n"})).warnings
    assert "is unknown and ignored" in warning
    assert (f"is [{near}] meant?" in warning) is bool(near)


# ---- what must agree between files --------------------------------------------------------------------------------


def test_names_and_address_pairs_are_unique(tmp_path: Path) -> None:
    """Two connections share neither their name nor their pair of addresses."""
    write(tmp_path, connections={"a.conf": CONNECTION, "b.conf": CONNECTION})
    problems = errors(tmp_path)
    assert [(problem.file.name, problem.key) for problem in problems] == [("b.conf", "name"), ("b.conf", "ip_remote")]
    assert all("a.conf" in problem.message for problem in problems)


def test_connections_of_one_tunnel_may_share_their_sockets(tmp_path: Path) -> None:
    """A server serves all its clients on one port."""
    write(tmp_path, connections={"a.conf": CONNECTION, "b.conf": another(name="b", ip_remote="10.0.0.4")})
    assert len(load_directory(tmp_path).config.connections) == 2


def test_connections_of_two_tunnels_do_not_share_a_socket(tmp_path: Path) -> None:
    """A socket belongs to one tunnel."""
    other = {"name": "b", "ip_local": "10.0.1.2", "ip_remote": "10.0.1.3"}
    write(tmp_path, TWO_TUNNELS, {"a.conf": CONNECTION, "b.conf": connection(**other)})
    problems = errors(tmp_path)
    assert [(problem.section, problem.key, problem.value) for problem in problems] == [
        ("path_0", "interface_name", "eth1"),
        ("path_1", "interface_name", "eth2"),
    ]
    assert "tun0" in problems[0].message
    write(tmp_path, TWO_TUNNELS, {"a.conf": CONNECTION, "b.conf": connection(**other, local_port="23457")})
    assert load_directory(tmp_path).warnings == ()


def test_tunnels_share_neither_name_nor_address(tmp_path: Path) -> None:
    """No two tunnels have one interface."""
    interface = TWO_TUNNELS.replace("tun1", "tun0").replace("10.0.1.2", "10.0.0.2")
    assert [(problem.section, problem.key) for problem in errors(write(tmp_path, interface))] == [
        ("tun_1", "name"),
        ("tun_1", "ipv4_addr"),
    ]


def test_a_tunnel_needs_an_address(tmp_path: Path) -> None:
    """One of the two is enough."""
    for key in ("ipv4_addr", "ipv6_addr"):
        one = changed(INTERFACE, "tun_0", **{key: None})
        assert load_directory(write(tmp_path, one, {})).config.tunnels
    (only,) = errors(write(tmp_path, changed(INTERFACE, "tun_0", ipv4_addr=None, ipv6_addr=None), {}))
    assert "is missing: write for example 'ipv4_addr = " in only.message


def test_an_ipv4_tunnel_may_be_small(tmp_path: Path) -> None:
    """Only IPv6 needs 1280 octets (RFC 8200 section 5)."""
    interface = changed(INTERFACE, "tun_0", mtu="576", ipv6_addr=None)
    assert load_directory(write(tmp_path, interface)).config.tunnels[0].mtu == 576


@pytest.mark.parametrize(
    ("mtu", "version", "warns"), [(1464, 4, False), (1465, 4, True), (1444, 6, False), (1445, 6, True)]
)
def test_an_mtu_too_large_for_the_paths_warns(mtu: int, version: int, warns: bool, tmp_path: Path) -> None:
    """1464 fits 1500 octets over IPv4, 1444 over IPv6."""
    text = CONNECTION
    if version == 6:
        text = changed(
            text, "path_0", ip_ver="6", public_ipaddr="2001:db8::2", gw_ipaddr="fe80::1", remote_ipaddr="2001:db8::3"
        )
    loaded = load_directory(write(tmp_path, changed(INTERFACE, "tun_0", mtu=str(mtu)), {"a.conf": text}))
    assert bool(loaded.warnings) is warns
    pattern = re.compile(r"interface\.conf:\d+: \[tun_0\] mtu = '\d+': should be at most")
    assert all(map(pattern.search, loaded.warnings))


# ---- one file by itself -----------------------------------------------------------------------------------------


def test_one_file_is_loaded_against_the_connections_that_run(tmp_path: Path) -> None:
    """A reloaded file must not take the things of another connection."""
    config = load_directory(write(tmp_path)).config
    new = tmp_path / "connections" / "new.conf"
    new.write_text(CONNECTION)
    with pytest.raises(ConfigurationErrors, match=r"new\.conf:\d+: .*host_b\.conf"):
        load_connection(new, config.general, config.tunnels, config.connections)
    loaded, warnings = load_connection(new, config.general, config.tunnels)
    assert (loaded.name, warnings) == ("MPT_connection_10.0.0.2", ())


def test_one_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Its name is in the message."""
    with pytest.raises(ConfigurationErrors, match=r"nowhere\.conf: cannot be read: No such file"):
        load_connection(tmp_path / "nowhere.conf", GeneralConfig(), ())


def test_a_path_that_is_bound_to_its_interface_and_one_that_is_not_share_no_address(tmp_path: Path) -> None:
    """Within a file as between files: the kernel refuses the second socket."""
    one_address = changed(CONNECTION, "path_1", public_ipaddr="10.1.1.2", bind_to_device="0")
    write(tmp_path, connections={"a.conf": one_address})
    (problem,) = errors(tmp_path)
    assert (problem.section, problem.key) == ("path_1", "bind_to_device")
    assert "[path_0]" in problem.message
    unbound = changed(another(name="b", ip_remote="10.0.0.4"), "path_0", bind_to_device="0")
    write(tmp_path, connections={"a.conf": CONNECTION, "b.conf": unbound})
    (problem,) = errors(tmp_path)
    assert (problem.section, problem.key) == ("path_0", "bind_to_device")
    assert "a.conf" in problem.message


def test_unbound_paths_may_share_one_address_if_their_peers_differ(tmp_path: Path) -> None:
    """Nothing else would tell them apart: which interface it is decides the routing table."""
    text = changed(CONNECTION, "path_0", bind_to_device="0")
    text = changed(text, "path_1", public_ipaddr="10.1.1.2", bind_to_device="0")
    write(tmp_path, connections={"a.conf": text})
    assert len(load_directory(tmp_path).config.connections) == 1
    write(tmp_path, connections={"a.conf": changed(text, "path_1", remote_ipaddr="10.1.1.3")})
    (problem,) = errors(tmp_path)
    assert (problem.section, problem.key) == ("path_1", "remote_ipaddr")
    assert "the same path as [path_0]: local and remote address are equal" in problem.message

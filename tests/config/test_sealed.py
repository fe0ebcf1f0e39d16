"""Sealed connections: what their files may leave out and may have more than plain ones, and that all of it survives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpt.config.directory import load_directory
from mpt.config.parser import ConfigurationErrors
from mpt.config.writer import save
from mpt.model import ClassConfig, ConnectionConfig, Permission, Quota, Status
from mpt.values import remotes, text_of
from tests.config import files
from tests.config.files import CONNECTION, OTHER_PEER_KEY, PEER_KEY, PUBLIC_KEY, changed, line_of, without, write
from tests.config.test_roundtrip import survivor

INTERFACE = """\
[tun_0]
name = tun0
mtu = auto
ipv4_addr = 10.0.0.2/24

[general]
"""
CLIENT = f"""\
[connection]
name = home
peer_key = {PEER_KEY}
ip_local = 10.0.0.2
ip_remote = 10.0.0.1

[path_0]
interface_name = eth0
remote_ipaddr = vpn.example

[path_1]
interface_name = wwan0
remote_ipaddr = 2001:db8::1 vpn.example 192.0.2.1
"""
SERVER = f"""\
[connection]
name = laptop
peer_key = {PEER_KEY}
ip_local = 10.0.0.2
ip_remote = 10.0.0.1

[path_0]
interface_name = eth0
"""


def loaded(directory: Path, text: str = CLIENT) -> ConnectionConfig:
    """Return the only connection of a directory without warnings."""
    result = load_directory(write(directory, INTERFACE, {"home.conf": text}))
    assert result.warnings == ()
    return result.config.connections[0]


def problems(directory: Path, text: str) -> list[tuple[str, str, int]]:
    """Return section, key and line of each error, none of which is longer than a line."""
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(write(directory, INTERFACE, {"home.conf": text}))
    assert all("\n" not in str(problem) for problem in caught.value.problems)
    return [(problem.section, problem.key, problem.line) for problem in caught.value.problems]


def test_ten_lines_are_enough(tmp_path: Path) -> None:
    """Everything that has one sensible value has it."""
    connection = loaded(tmp_path)
    assert connection.is_sealed and text_of(connection.peer_keys) == PEER_KEY
    assert (connection.permission, connection.status) == (Permission.SEND | Permission.RECEIVE, Status.OK)
    assert (connection.ip_ver, connection.local_port, connection.remote_port) == (4, 4754, 4754)
    assert connection.remote_cmd_port == 0
    assert (connection.order, connection.mss_clamp, connection.require_pq) == ("flow", "auto", False)
    assert (connection.reorder_window, connection.max_buffdelay_msec) == (2000, 300)
    first, second = connection.paths
    assert (first.keepalive_time, first.dead_time, first.weight_out, first.status) == (15, 45, 1, Status.OK)
    assert first.remote_names == ("vpn.example",) and first.remote_addresses == ()
    assert all(each.is_unspecified for each in (first.public_ipaddr, first.gateway_ipaddr, first.remote_ipaddr))
    assert first.any_version and first.ip_ver == 4
    assert second.remote_addresses == (ip_address("2001:db8::1"), ip_address("192.0.2.1"))
    assert second.remote_names == ("vpn.example",)
    assert second.remote_ipaddr == ip_address("2001:db8::1") and second.ip_ver == 6


def test_a_responder_knows_no_address_of_its_peer(tmp_path: Path) -> None:
    """Nor is it missed."""
    (path,) = loaded(tmp_path, SERVER).paths
    assert path.remote_ipaddr.is_unspecified and path.remote_names == path.remote_addresses == ()


def test_a_plain_connection_has_none_of_it(tmp_path: Path) -> None:
    """Its keys are as mandatory as ever, and each has one address."""
    (connection,) = load_directory(write(tmp_path)).config.connections
    assert not connection.is_sealed
    assert (connection.order, connection.mss_clamp, connection.peer_keys) == ("connection", "off", ())
    assert all(path.remote_addresses == path.remote_names == () for path in connection.paths)
    assert not any(path.any_version for path in connection.paths)
    (tmp_path / "connections" / "host_b.conf").unlink()
    plain = CLIENT.replace("peer_key", ";peer_key")
    missing = {key for _section, key, _line in problems(tmp_path, plain)}
    assert {"permission", "ip_ver", "local_port", "path_count", "status", "auth_type", "remote_ipaddr"} <= missing
    assert {"public_ipaddr", "gateway_ipaddr", "weight_out", "remote_cmd_port", "network_count"} <= missing


def test_the_guides_file_becomes_sealed_by_one_line(tmp_path: Path) -> None:
    """Its other keys keep their values; the key of the commands is not used, which a warning says."""
    text = changed(CONNECTION, "connection", peer_key=PEER_KEY, auth_key=None)
    result = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert result.config.connections[0].is_sealed
    assert result.config.connections[0].paths[0].keepalive_time == 5
    assert [warning for warning in result.warnings if "mtu" not in warning] == []
    for more, key in (({"auth_type": "2"}, "auth_type"), ({"auth_key": "secret"}, "auth_key")):
        result = load_directory(write(tmp_path, connections={"a.conf": changed(text, "connection", **more)}))
        (warning,) = (each for each in result.warnings if "mtu" not in each)
        assert f"[connection] {key}" in warning and "is not used" in warning and "secret" not in warning


def test_keys_that_only_a_sealed_connection_has_are_told(tmp_path: Path) -> None:
    """On a plain one they change nothing."""
    for key, value in (("require_pq", "1"), ("ciphers", "aes-128-gcm"), ("order", "flow")):
        text = changed(CONNECTION, "connection", **{key: value})
        (warning,) = load_directory(write(tmp_path, connections={"a.conf": text})).warnings
        assert f"{key} = '{value}': is ignored: only a connection with a peer_key has it" in warning


CYCLE = changed(CLIENT, "connection", scheduler="cycle")
ADAPTIVE = changed(CLIENT, "connection", scheduler="adaptive")
VOICE = """
[Class  Voice]
class    = realtime
protocol = udp
ports    = 5060
copies   = 2

[class backup]
class = bulk
dscp  = EF LE
"""


def test_an_adaptive_connection_has_costs_quotas_and_classes(tmp_path: Path) -> None:
    """Its defaults are free lines without a quota, and no class."""
    connection = loaded(tmp_path, ADAPTIVE)
    assert connection.is_adaptive and (connection.delay_budget, connection.classes) == (110, ())
    assert [(path.cost, path.quota) for path in connection.paths] == [("free", None)] * 2
    text = changed(ADAPTIVE, "path_1", cost="metered", quota="20 GB/month") + VOICE
    connection = loaded(tmp_path, changed(text, "connection", delay_budget="50"))
    assert connection.delay_budget == 50
    assert (connection.paths[1].cost, connection.paths[1].quota) == ("metered", Quota(20 * 10**9, "month"))
    assert connection.classes == (
        ClassConfig("Voice", True, protocol=17, ports=frozenset({5060}), copies=2),
        ClassConfig("backup", False, dscps=frozenset({46, 1})),
    )


def test_what_only_an_adaptive_connection_has_is_told(tmp_path: Path) -> None:
    """On a sealed one with the cycle, and on a plain one, it changes nothing."""
    for base, interface in ((CYCLE, INTERFACE), (CONNECTION, files.INTERFACE)):
        for place, more in (
            ("connection", {"delay_budget": "50"}),
            ("path_1", {"cost": "backup"}),
            ("path_1", {"quota": "1 GB/day"}),
        ):
            text = changed(base, place, **more)
            warnings = load_directory(write(tmp_path, interface, {"home.conf": text})).warnings
            (warning,) = (each for each in warnings if "mtu" not in each)
            assert f"[{place}] {next(iter(more))} = " in warning and "scheduler = adaptive has it" in warning
            (tmp_path / "connections" / "home.conf").unlink()
    warnings = load_directory(write(tmp_path, INTERFACE, {"home.conf": CYCLE + VOICE})).warnings
    assert len(warnings) == 2 and "[class  voice] is ignored" in warnings[0]


@pytest.mark.parametrize(
    ("weights", "scheduler", "expected"),
    [
        (("1", "1"), None, "adaptive"),
        (("7", "7"), None, "adaptive"),
        ((None, None), None, "adaptive"),
        (("1", "2"), None, "cycle"),
        (("2", None), None, "cycle"),
        (("1", "2"), "adaptive", "adaptive"),
        (("1", "1"), "cycle", "cycle"),
    ],
)
def test_different_weights_of_a_sealed_connection_are_taken_at_their_word(
    weights: tuple[str | None, str | None], scheduler: str | None, expected: str, tmp_path: Path
) -> None:
    """Unless its file names a scheduler; without different weights it is adaptive."""
    text = CLIENT
    for number, weight in enumerate(weights):
        text = changed(text, f"path_{number}", weight_out=weight)
    assert loaded(tmp_path, changed(text, "connection", scheduler=scheduler)).scheduler == expected


def test_a_plain_connection_cannot_be_adaptive(tmp_path: Path) -> None:
    """The error says what it needs."""
    text = changed(CONNECTION, "connection", scheduler="adaptive")
    with pytest.raises(ConfigurationErrors, match=r"scheduler = 'adaptive': must be cycle: only .* peer_key"):
        load_directory(write(tmp_path, connections={"a.conf": text}))


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("class = realtime\n", ""),
        ("class = realtime\nprotocol = icmp\nports = 80\n", "ports"),
        ("class = bulk\ndscp = EF\ncopies = 2\n", "copies"),
    ],
)
def test_a_class_that_makes_no_sense_is_an_error(lines: str, key: str, tmp_path: Path) -> None:
    """One without a condition would be every packet's."""
    text = ADAPTIVE + f"\n[class x]\n{lines}"
    assert problems(tmp_path, text) == [("class x", key, line_of(text, "class x", key))]


def test_a_class_has_a_name_of_one_word_and_there_are_not_too_many(tmp_path: Path) -> None:
    """The status shows them."""
    text = ADAPTIVE + "\n[class a b]\nclass = bulk\ndscp = EF\n"
    assert problems(tmp_path, text) == [("class a b", "", line_of(text, "class a b"))]
    text = ADAPTIVE + "".join(f"\n[class {number}]\nclass = bulk\ndscp = EF\n" for number in range(33))
    assert problems(tmp_path, text) == [("class 32", "", line_of(text, "class 32"))]


@pytest.mark.parametrize("header", ["[class]", "[class ]", "[CLASS]"])
def test_a_class_without_a_name_is_an_error(header: str, tmp_path: Path) -> None:
    """It is not ignored: its operator takes it for written."""
    text = ADAPTIVE + f"\n{header}\nclass = realtime\ndscp = EF\n"
    with pytest.raises(ConfigurationErrors) as caught:
        loaded(tmp_path, text)
    line = text.count("\n") - 2
    assert f"home.conf:{line}: [class] has no name: write for example [class voice]" in str(caught.value)
    assert len(caught.value.problems) == 1 and not caught.value.warnings


def test_two_classes_have_two_names(tmp_path: Path) -> None:
    """Upper and lower case, and blanks, make no other name."""
    text = ADAPTIVE + "\n[class voice]\nclass = bulk\ndscp = EF\n[class  VOICE]\nclass = bulk\ndscp = 0\n"
    assert problems(tmp_path, text) == [("class  voice", "", line_of(text, "class  VOICE"))]


def test_classes_are_saved(tmp_path: Path) -> None:
    """To a new file, and to an old one, where only what changed is written and what is gone becomes a comment."""
    connection = loaded(tmp_path, ADAPTIVE + VOICE)
    assert connection.file is not None
    statuses = [path.status for path in connection.paths]
    assert not save(connection.file, connection, statuses, 65050)
    voice, _backup = connection.classes
    fewer = replace(connection, classes=(replace(voice, copies=1), ClassConfig("games", True, frozenset({40}))))
    assert save(connection.file, fewer, statuses, 65050)
    text = connection.file.read_text()
    assert "copies   = 1" in text and "; [class backup]" in text and "[class games]" in text
    assert replace(loaded(tmp_path, text), file=None) == replace(fewer, file=None)
    connection.file.unlink()
    assert save(connection.file, connection, statuses, 65050)
    assert load_directory(tmp_path).config.connections == (connection,)


def test_the_clients_of_a_server_have_the_classes_of_its_template(tmp_path: Path) -> None:
    """They have one line for all of it."""
    template = without(changed(ADAPTIVE, "connection", name=None, peer_key=None, ip_remote=None), "path_1") + VOICE
    clients = f"[client a]\npeer_key = {PEER_KEY}\nip_remote = 10.0.0.7\n"
    write(tmp_path, INTERFACE, {"clients.conf": clients, "conf.template": changed(template, "path_0", cost="metered")})
    (client,) = load_directory(tmp_path).config.connections
    assert client.is_adaptive and len(client.classes) == 2 and client.paths[0].cost == "metered"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("path_0", "remote_ipaddr", "10.0.0"),
        ("path_0", "remote_ipaddr", "10.0.0.256"),
        ("path_0", "remote_ipaddr", "vpn.example,192.0.2.1"),
        ("path_0", "remote_ipaddr", "0.0.0.0 192.0.2.1"),
        ("path_0", "remote_ipaddr", "224.0.0.1"),
        ("path_0", "remote_ipaddr", " ".join(f"192.0.2.{number}" for number in range(9))),
        ("path_0", "ip_ver", "5"),
        ("connection", "ip_remote", "fd00::1"),
        ("connection", "path_count", "1"),
        ("connection", "order", "none"),
        ("path_1", "interface_name", "tun0"),
    ],
)
def test_a_bad_value_is_one_error(section: str, key: str, value: str, tmp_path: Path) -> None:
    """It names section, key and line."""
    text = changed(CLIENT, section, **{key: value})
    assert problems(tmp_path, text) == [(section, key, line_of(text, section, key))]


@pytest.mark.parametrize("version", ["4", "6"])
def test_a_path_with_a_version_has_no_address_of_the_other(version: str, tmp_path: Path) -> None:
    """Whoever wants both writes none."""
    text = changed(CLIENT, "path_1", ip_ver=version)
    assert problems(tmp_path, text) == [("path_1", "remote_ipaddr", line_of(text, "path_1", "remote_ipaddr"))]
    text = changed(CLIENT, "path_0", ip_ver=version)
    path = loaded(tmp_path, text).paths[0]
    assert path.ip_ver == path.public_ipaddr.version == path.remote_ipaddr.version == int(version)
    assert not path.any_version


def test_the_addresses_of_this_host_are_of_one_version(tmp_path: Path) -> None:
    """Its version is the path's, and the first remote address of it is the path's first."""
    text = changed(CLIENT, "path_1", gateway_ipaddr="192.0.2.254")
    path = loaded(tmp_path, text).paths[1]
    assert (path.ip_ver, path.any_version, path.remote_ipaddr) == (4, True, ip_address("192.0.2.1"))
    assert len(path.remote_addresses) == 2
    text = changed(text, "path_1", public_ipaddr="2001:db8::2")
    assert problems(tmp_path, text) == [("path_1", "gateway_ipaddr", line_of(text, "path_1", "gateway_ipaddr"))]


def test_the_same_path_twice_is_an_error(tmp_path: Path) -> None:
    """Also if its peer is a name; paths to a peer that is not known may be on one interface."""
    text = CLIENT.replace("wwan0", "eth0").replace("2001:db8::1 vpn.example 192.0.2.1", "VPN.example")
    assert problems(tmp_path, text) == [("path_1", "remote_ipaddr", line_of(text, "path_1", "remote_ipaddr"))]
    assert len(loaded(tmp_path, SERVER + "\n[path_1]\ninterface_name = eth0\nweight_out = 3\n").paths) == 2


def test_two_files_for_one_pair_of_tunnel_addresses_are_an_error(tmp_path: Path) -> None:
    """With the same key as with another."""
    for key in (PEER_KEY, OTHER_PEER_KEY):
        other = CLIENT.replace("name = home", "name = other", 1).replace(PEER_KEY, key)
        with pytest.raises(ConfigurationErrors, match=r"\[connection\] ip_remote .* stand in .*a.conf too"):
            load_directory(write(tmp_path, INTERFACE, {"a.conf": CLIENT, "b.conf": other}))


def test_a_connection_without_a_path_is_an_error(tmp_path: Path) -> None:
    """None is counted, so the count cannot be wrong."""
    assert problems(tmp_path, CLIENT.partition("[path_0]")[0]) == [("", "", 0)]


def test_networks_need_no_version(tmp_path: Path) -> None:
    """It is the version of the source."""
    text = CLIENT + "\n[net_0]\nsrc_addr = fd00:7::/64\ndst_addr = ::/0\n"
    (network,) = loaded(tmp_path, text).networks
    assert network.ip_ver == 6
    text = text.replace("::/0", "0.0.0.0/0")
    assert problems(tmp_path, text) == [("net_0", "dst_addr", line_of(text, "net_0", "dst_addr"))]


def test_mtu_auto_survives_and_a_large_one_is_told(tmp_path: Path) -> None:
    """Until the paths are measured it is the smallest of IPv6; the envelope takes 34 octets more than plain GRE."""
    assert loaded(tmp_path)
    (tunnel,) = load_directory(tmp_path).config.tunnels
    assert (tunnel.mtu, tunnel.mtu_auto) == (1280, True)
    for mtu, warns in ((1410, False), (1411, True)):
        interface = INTERFACE.replace("auto", str(mtu))
        warnings = load_directory(write(tmp_path, interface, {"home.conf": CLIENT})).warnings
        assert bool(warnings) is warns


def test_mtu_auto_without_a_sealed_connection_is_told(tmp_path: Path) -> None:
    """Nothing would ever change it; clients may still come to an empty tunnel."""
    interface = INTERFACE.replace("[general]", "[general]\ncmdport_local = 60456")
    text = changed(changed(CONNECTION, "connection", network_count="0"), "connection", ip_local="10.0.0.2")
    text = without(without(text, "net_0"), "net_1")
    (warning,) = load_directory(write(tmp_path, interface, {"home.conf": text})).warnings
    assert "mtu = 'auto': is 1280" in warning


# ---- what is saved ---------------------------------------------------------------------------------------------------


def test_a_sealed_connection_is_saved_in_as_few_lines(tmp_path: Path) -> None:
    """A new file has no key that follows from others."""
    write(tmp_path, INTERFACE, {"home.conf": CLIENT})
    first, again = survivor(tmp_path)
    assert first == again
    lines = (tmp_path / "connections" / "home.conf").read_text().split("\n")
    entries = [line for line in lines if "=" in line]
    assert len(entries) == CLIENT.count(" = ")


def test_an_unchanged_file_is_not_written(tmp_path: Path) -> None:
    """What the file leaves out is not added."""
    for text in (CLIENT, SERVER, changed(CLIENT, "path_1", remote_ipaddr="0.0.0.0")):
        connection = loaded(tmp_path, text)
        assert connection.file is not None
        assert not save(connection.file, connection, [path.status for path in connection.paths], 65050)


ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "vpn.example", "a-b.example", "localhost"]
KEYS = {
    "connection": {
        "peer_key": [PEER_KEY, f"{PEER_KEY} {OTHER_PEER_KEY}"],
        "require_pq": ["0", "1"],
        "ciphers": ["aes-128-gcm", "aes-256-gcm chacha20-poly1305"],
        "order": ["flow", "connection"],
        "mss_clamp": ["auto", "off"],
        "permission": ["0", "3"],
        "ip_ver": ["4"],
        "local_port": ["4754", "5000"],
        "remote_port": ["0", "4754", "5000"],
        "remote_cmd_port": ["65050"],
        "path_count": ["2"],
        "network_count": ["0"],
        "status": ["0", "131"],
        "reorder_window": ["0", "2000", "50"],
        "max_buffdelay_msec": ["0", "100", "300"],
        "auth_type": ["0", "2"],
    },
    "path_0": {
        "public_ipaddr": ["0.0.0.0", "::"],
        "private_ipaddr": ["0.0.0.0"],
        "gateway_ipaddr": ["0.0.0.0"],
        "keepalive_time": ["0", "15", "1"],
        "dead_time": ["0", "45", "3"],
        "weight_out": ["1", "5"],
        "status": ["0", "128", "131"],
    },
}
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        (section, key): st.sampled_from(values) for section, keys in KEYS.items() for key, values in keys.items()
    },
)


@given(
    chosen=CHOICES,
    remote=st.none() | st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=6),
    version=st.sampled_from([None, 4, 6]),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_key_survives(
    tmp_path: Path, chosen: dict[tuple[str, str], str], remote: list[str] | None, version: int | None
) -> None:
    """Load, save and load: to a new file, and to the old one, which is left as it is."""
    if version is not None and remote is not None:
        remote = [each for each in remote if each[0].isalpha() or (":" in each) is (version == 6)] or None
    text = changed(CLIENT, "path_0", remote_ipaddr=" ".join(remote) if remote else None)
    text = changed(text, "path_0", ip_ver=str(version) if version else None)
    for (section, key), value in chosen.items():
        text = changed(text, section, **{key: value})
    first = load_directory(write(tmp_path, INTERFACE, {"home.conf": text})).config
    (connection,) = first.connections
    assert connection.file is not None
    assert not save(connection.file, connection, [path.status for path in connection.paths], 65050)
    assert survivor(tmp_path) == (first, first)


@given(words=st.lists(st.sampled_from([*ADDRESSES, "VPN.example", "vpn.example."]), min_size=1, max_size=8))
def test_remotes_are_read_back_as_they_were(words: list[str]) -> None:
    """Addresses stand first, then names; each once."""
    found = remotes(" ".join(words))
    assert found is not None and remotes(text_of(found)) == found
    assert len(set(found)) == len(found)


def test_the_own_public_key_of_the_tests_is_no_peers() -> None:
    """The samples of these tests are three keys."""
    assert len({PUBLIC_KEY, PEER_KEY, OTHER_PEER_KEY}) == 3

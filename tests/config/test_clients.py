"""clients.conf: what a client has of its own, what it has of the template, and where its errors are told."""

from __future__ import annotations

import gc
import hashlib
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpt.config.directory import Loaded, load_connection, load_directory, load_file
from mpt.config.identity import load_identity
from mpt.config.parser import ConfigurationErrors, Problem, Section
from mpt.model import ConnectionConfig
from mpt.values import networks, text_of
from tests.config.files import CREATE_TEMPLATE, OTHER_PEER_KEY, PEER_KEY, PUBLIC_KEY, changed, line_of, write

INTERFACE = """\
[general]
[tun_0]
name = tun0
mtu = auto
ipv4_addr = 10.0.0.1/16
"""
TEMPLATE = """\
[connection]
ip_local = 10.0.0.1
reorder_window = 500

[path_0]
interface_name = eth0
keepalive_time = 20
"""
CLIENTS = f"""\
[client Laptop]
peer_key = {PEER_KEY}
ip_remote = 10.0.0.2

[client branch]
peer_key = {OTHER_PEER_KEY}
ip_remote = 10.0.0.3
networks = 192.168.7.0/24 fd00:7::/64
"""


def written(directory: Path, clients: str = CLIENTS, template: str = TEMPLATE, **files: str) -> Path:
    connections = {"clients.conf": clients, "conf.template": template}
    return write(directory, INTERFACE, {**connections, **{f"{name}.conf": text for name, text in files.items()}})


def loaded(directory: Path, *texts: str, **files: str) -> Loaded:
    return load_directory(written(directory, *texts, **files))


def problem(directory: Path, *texts: str, **files: str) -> Problem:
    """Return the only error, which is one line."""
    with pytest.raises(ConfigurationErrors) as caught:
        loaded(directory, *texts, **files)
    (found,) = caught.value.problems
    assert "\n" not in str(found)
    return found


def test_a_client_has_its_own_and_everything_else_of_the_template(tmp_path: Path) -> None:
    """Its name keeps its capitals."""
    result = loaded(tmp_path)
    laptop, branch = result.config.connections
    assert result.warnings == ()
    assert (laptop.name, laptop.ip_remote, text_of(laptop.peer_keys)) == ("Laptop", ip_address("10.0.0.2"), PEER_KEY)
    for each in (laptop, branch):
        assert each.is_sealed and each.reorder_window == 500 and each.order == "flow"
        assert each.paths[0].keepalive_time == 20 and each.paths[0].dead_time == 60
        assert each.file == tmp_path / "connections" / "clients.conf"
        assert each.template == tmp_path / "connections" / "conf.template"
        assert each.place == (each.file, each.name)
    assert result.config.identity is not None


def test_a_client_sends_from_its_addresses_to_everywhere(tmp_path: Path) -> None:
    """From its tunnel address and its networks."""
    _laptop, branch = loaded(tmp_path).config.connections
    assert [each.destination for each in branch.networks] == [
        ip_network("10.0.0.3/32"),
        ip_network("192.168.7.0/24"),
        ip_network("fd00:7::/64"),
    ]
    assert [str(each.source) for each in branch.networks] == ["0.0.0.0/0", "0.0.0.0/0", "::/0"]


def test_a_template_of_the_guide_will_do(tmp_path: Path) -> None:
    """What only a plain connection needs is told once, and not used."""
    template = changed(CREATE_TEMPLATE, "connection", ip_local="10.0.0.1")
    result = loaded(tmp_path, CLIENTS, template)
    assert [each.is_sealed for each in result.config.connections] == [True, True]
    (warning,) = (each for each in result.warnings if "auth_" in each)
    assert "conf.template" in warning and "is not used" in warning


def test_a_client_without_a_key_is_not_there_yet(tmp_path: Path) -> None:
    """A warning says what brings it; its address is kept for it."""
    text = CLIENTS.replace(f"peer_key = {PEER_KEY}\n", "")
    result = loaded(tmp_path, text)
    assert [each.name for each in result.config.connections] == ["branch"]
    (warning,) = result.warnings
    assert "clients.conf:1: [client laptop]" in warning and "`mpt client add Laptop --key KEY`" in warning
    assert problem(tmp_path, text.replace("10.0.0.3", "10.0.0.2")).key == "ip_remote"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peer_key", "abc"),
        ("peer_key", PUBLIC_KEY),
        ("ip_remote", "0.0.0.0"),
        ("ip_remote", "10.0.0.1"),
        ("ip_remote", "10.0.0.2"),
        ("ip_remote", "fd00::2"),
        ("ip_remote", "10.0.0.3/24"),
        ("networks", "192.168.7.1/24"),
        ("networks", "192.168.7.0"),
        ("networks", "192.168.7.0/24,fd00:7::/64"),
        ("networks", "224.0.0.0/4"),
        ("networks", "10.0.0.2/32"),
        ("networks", " ".join(f"192.168.{number}.0/24" for number in range(21))),
    ],
)
def test_a_bad_value_names_file_line_and_key(key: str, value: str, tmp_path: Path) -> None:
    """Also one that another client has taken, or this host."""
    text = changed(CLIENTS, "client branch", **{key: value})
    found = problem(tmp_path, text)
    assert (found.file.name, found.section, found.key) == ("clients.conf", "client branch", key)
    assert found.line == line_of(text, "client branch", key)


def test_an_error_of_the_template_is_told_once(tmp_path: Path) -> None:
    """In the template's own words, however many clients there are."""
    found = problem(tmp_path, CLIENTS, TEMPLATE.replace("20", "300"))
    assert (found.file.name, found.section, found.key) == ("conf.template", "path_0", "keepalive_time")
    found = problem(tmp_path, CLIENTS, TEMPLATE.replace("ip_local = 10.0.0.1", ""))
    assert (found.file.name, found.key) == ("conf.template", "ip_local")


def test_without_a_template_there_are_no_clients(tmp_path: Path) -> None:
    """The error names the file that is missing."""
    written(tmp_path)
    (tmp_path / "connections" / "conf.template").unlink()
    with pytest.raises(ConfigurationErrors, match=r"clients.conf: needs .*conf.template") as caught:
        load_directory(tmp_path)
    assert len(caught.value.problems) == 1


def test_a_missing_address_is_one_error(tmp_path: Path) -> None:
    """Nobody can guess it; `mpt client add` picks one."""
    found = problem(tmp_path, CLIENTS.replace("ip_remote = 10.0.0.3\n", ""))
    assert (found.section, found.key, found.line) == ("client branch", "ip_remote", 5)


def test_what_another_file_has_taken_is_told_of_the_client(tmp_path: Path) -> None:
    """A name, a pair of tunnel addresses, a network."""
    other = TEMPLATE.replace("[connection]", f"[connection]\nname = other\npeer_key = {PEER_KEY}\nip_remote = 10.0.9.9")
    network = "[net_0]\nsrc_addr = 10.0.0.0/8\ndst_addr = 192.168.7.0/24\n"
    assert problem(tmp_path, other=other.replace("other", "branch")).section == "client branch"
    assert problem(tmp_path, other=other.replace("10.0.9.9", "10.0.0.3")).key == "ip_remote"
    found = problem(tmp_path, other=f"{other}\n{network}")
    assert found.key == "networks" and "other.conf" in found.message


def test_one_key_for_two_clients_is_told(tmp_path: Path) -> None:
    """It may be meant, but most probably the wrong line was copied."""
    (warning,) = loaded(tmp_path, CLIENTS.replace(OTHER_PEER_KEY, PEER_KEY)).warnings
    assert "[client branch] peer_key" in warning and "is the key of [client Laptop] too" in warning


def test_other_sections_are_told_and_ignored(tmp_path: Path) -> None:
    """So is a second section of a client in another spelling."""
    warnings = loaded(tmp_path, f"{CLIENTS}[clint x]\n[client]\n[CLIENT laptop]\nnetwork = 10.9.0.0/24\n").warnings
    assert [" ".join(each.split()[1:3]) for each in warnings][:2] == ["[clint x]", "[client] is"]
    assert "both are read as one section" in warnings[2] and "is 'networks' meant?" in warnings[3]


def test_a_clients_file_of_another_kind_is_a_connection_as_before(tmp_path: Path) -> None:
    """Somebody may have called a connection so."""
    text = f"{TEMPLATE.replace('[connection]', f'[connection]{chr(10)}name = x{chr(10)}peer_key = {PEER_KEY}')}"
    (connection,) = loaded(tmp_path, text.replace("ip_local", "ip_remote = 10.0.0.2\nip_local")).config.connections
    assert (connection.name, connection.template) == ("x", None)


def test_the_files_of_clients_are_loaded_by_themselves(tmp_path: Path) -> None:
    """For a reload of them: against what runs beside them, and against the own key."""
    config = loaded(tmp_path).config
    path = tmp_path / "connections" / "clients.conf"
    assert load_file(path, config.general, config.tunnels) == (config.connections, ())
    with pytest.raises(ConfigurationErrors, match=r"is used in .* too"):
        load_file(path, config.general, config.tunnels, config.connections[:1])
    path.write_text(CLIENTS.replace(PEER_KEY, PUBLIC_KEY))
    with pytest.raises(ConfigurationErrors, match="is this host's own public key"):
        load_file(path, config.general, config.tunnels, (), load_identity(tmp_path / "private.key"))


def test_a_sealed_template_makes_no_plain_connection(tmp_path: Path) -> None:
    """A peer's create finds no template in it, for it lacks what the guide asks for."""
    config = loaded(tmp_path).config
    with pytest.raises(ConfigurationErrors, match="permission is missing"):
        load_connection(tmp_path / "connections" / "conf.template", config.general, config.tunnels)


def test_a_thousand_clients_are_all_there(tmp_path: Path) -> None:
    """Each is itself."""
    sections = [
        f"[client c{number}]\npeer_key = {text_of(hashlib.sha256(str(number).encode()).digest())}\n"
        f"ip_remote = 10.0.{number // 250 + 1}.{number % 250 + 1}\n"
        for number in range(2, 1002)
    ]
    connections = loaded(tmp_path, "".join(sections)).config.connections
    assert len({each.name for each in connections}) == len({each.ip_remote for each in connections}) == 1000
    assert all(isinstance(each, ConnectionConfig) for each in connections)


NETWORKS = st.ip_addresses().flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(
        lambda length: ip_network(f"{address}/{length}", strict=False)
    )
)


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1, max_size=64),
    address=st.ip_addresses(v=4, network="10.0.0.4/30"),
    found=st.lists(NETWORKS.filter(lambda each: not each.is_multicast and each.version == 6), max_size=4),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_client_is_itself_or_refused(tmp_path: Path, name: str, address: object, found: list[object]) -> None:
    """Whatever its name is, it is never another client."""
    more = f"networks = {text_of(tuple(found))}\n" if found else ""
    text = f"{CLIENTS}[client {name}]\npeer_key = {PEER_KEY}\nip_remote = {address}\n{more}"
    try:
        connections = loaded(tmp_path, text).config.connections
    except ConfigurationErrors:
        return
    assert [each.name for each in connections[:2]] == ["Laptop", "branch"]
    if len(connections) == 3:
        assert connections[2].name == name.strip()
        assert {each.destination for each in connections[2].networks[1:]} == set(found)


@given(found=st.lists(NETWORKS.filter(lambda each: not each.is_multicast), min_size=1, max_size=20))
def test_networks_are_read_back_as_they_were(found: list[object]) -> None:
    """Each once, in their order."""
    assert networks(text_of(tuple(found))) == tuple(dict.fromkeys(found))


def test_nothing_that_was_read_is_left_for_the_garbage_collector(tmp_path: Path) -> None:
    """A server has a thousand sections: what is not used any more goes at once."""
    gc.collect()
    gc.disable()
    try:
        config = loaded(tmp_path).config
        load_file(tmp_path / "connections" / "clients.conf", config.general, config.tunnels)
        assert not any(isinstance(each, Section) for each in gc.get_objects())
    finally:
        gc.enable()

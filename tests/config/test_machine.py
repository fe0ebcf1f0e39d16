"""The check's warnings: a configuration does not fit this machine, or lacks something that is easily forgotten."""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path

import pytest

from mpt.config.directory import load_directory
from mpt.config.parser import ConfigurationErrors
from mpt.model import Interface
from tests.config.files import CONNECTION, changed, line_of, without, write


def interface(name: str, *addresses: str) -> Interface:
    return Interface(name, 7, True, True, 1500, tuple(map(ip_interface, addresses)))


LO = interface("lo", "127.0.0.1/8")
HERE = {"lo": LO, "eth1": interface("eth1", "10.1.1.2/24"), "eth2": interface("eth2", "10.2.2.2/24", "fe80::2/64")}


def warnings(directory: Path, text: str, here: dict[str, Interface] | None = None) -> list[str]:
    result = load_directory(write(directory, connections={"a.conf": text}), HERE if here is None else here)
    return [warning.removeprefix(f"{directory}/connections/a.conf:") for warning in result.warnings]


def test_what_fits_is_no_warning(tmp_path: Path) -> None:
    """Interfaces and addresses are there, or are to be found out."""
    assert warnings(tmp_path, CONNECTION) == []
    text = changed(CONNECTION, "path_0", public_ipaddr="203.0.113.9", private_ipaddr="0.0.0.0")
    assert warnings(tmp_path, text) == []
    assert warnings(tmp_path, changed(CONNECTION, "path_0", public_ipaddr="0.0.0.0")) == []


@pytest.mark.parametrize(
    ("name", "says"), [("eht1", ": is 'eth1' meant?"), ("wlan0", ""), ("ETH2", ": is 'eth2' meant?")]
)
def test_an_interface_that_is_not_there_is_named(name: str, says: str, tmp_path: Path) -> None:
    """The warning names the probable interface, or lists the existing ones."""
    text = changed(CONNECTION, "path_1", interface_name=name)
    line = line_of(text, "path_1", "interface_name")
    expected = (
        f"{line}: [path_1] interface_name = '{name}': is no interface of this host now; there are eth1, eth2{says}"
    )
    assert warnings(tmp_path, text) == [expected]


def test_on_a_host_without_interfaces_nothing_is_proposed(tmp_path: Path) -> None:
    """There is only lo."""
    (one, two) = warnings(tmp_path, CONNECTION, {"lo": LO})
    assert "is no interface of this host now; there is none but lo" in one
    assert "eth2" in two


def test_the_interface_of_a_tunnel_is_not_proposed(tmp_path: Path) -> None:
    """It is there while the daemon runs, and no path can use it."""
    text = changed(CONNECTION, "path_1", interface_name="tun1")
    (only,) = warnings(tmp_path, text, HERE | {"tun0": interface("tun0", "10.0.0.2/24")})
    assert only.endswith("is no interface of this host now; there are eth1, eth2")


def test_of_many_interfaces_some_are_named(tmp_path: Path) -> None:
    """A host may have hundreds."""
    many = {f"port{number:03}": interface(f"port{number:03}") for number in range(600)}
    (one, _) = warnings(tmp_path, CONNECTION, {"lo": LO, **many})
    assert one.endswith("there are port000, port001, port002, port003, port004, port005, port006, port007 and 592 more")


def test_a_local_address_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The warning lists the interface's addresses, or names the interface that has the address."""
    text = changed(CONNECTION, "path_1", public_ipaddr="10.2.2.20")
    (only,) = warnings(tmp_path, text)
    assert "[path_1] public_ipaddr = '10.2.2.20': is not on eth2 now: eth2 has 10.2.2.2. Behind NAT" in only
    (only,) = warnings(tmp_path, changed(CONNECTION, "path_1", private_ipaddr="10.2.2.20"))
    assert "[path_1] private_ipaddr = '10.2.2.20': is not on eth2 now: eth2 has 10.2.2.2" in only
    (only,) = warnings(tmp_path, changed(CONNECTION, "path_1", public_ipaddr="10.1.1.2"))
    assert "is not on eth2 now: it is on eth1" in only
    (only,) = warnings(tmp_path, CONNECTION, {**HERE, "eth2": interface("eth2", "fe80::2/64")})
    assert "is not on eth2 now: eth2 has no IPv4 address" in only


def test_a_path_that_is_not_bound_may_have_an_address_of_another_interface(tmp_path: Path) -> None:
    """Of any, but it must be there."""
    other = changed(CONNECTION, "path_1", private_ipaddr="127.0.0.1", bind_to_device="0")
    assert warnings(tmp_path, other) == []
    assert len(warnings(tmp_path, changed(other, "path_1", private_ipaddr="127.0.0.9"))) == 1


def test_without_interfaces_nobody_asks(tmp_path: Path) -> None:
    """A reload does not look at the machine: the paths themselves do."""
    text = changed(CONNECTION, "path_1", interface_name="eht2")
    assert load_directory(write(tmp_path, connections={"a.conf": text})).warnings == ()


def test_a_forgotten_remote_port_warns(tmp_path: Path) -> None:
    """Written as 0, or empty as in the guide's example, it is meant."""
    (only,) = warnings(tmp_path, changed(CONNECTION, "connection", remote_port=None))
    assert "[connection] remote_port is missing: this host sends nothing until `mpt create`" in only
    assert "'remote_port = 4754'" in only
    for meant in ("0", ""):
        assert warnings(tmp_path, changed(CONNECTION, "connection", remote_port=meant)) == []


def test_two_lines_to_one_address_want_bound_sockets(tmp_path: Path) -> None:
    """The routing table knows one way to an address only."""
    text = changed(CONNECTION, "path_1", remote_ipaddr="10.1.1.3", bind_to_device="0")
    (only,) = warnings(tmp_path, text)
    assert "[path_1] bind_to_device = '0': should be 1 in [path_0] and [path_1]: both lead to 10.1.1.3" in only
    assert warnings(tmp_path, changed(text, "path_1", bind_to_device="1")) == []


# ---- slips of the pen that an error must not hide -------------------------------------------------------------------


def complaint(directory: Path, text: str) -> str:
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(write(directory, connections={"a.conf": text}))
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("section", "key", "slip"),
    [("path_1", "weight_out", "wieght_out"), ("connection", "local_port", "localport"), ("path_0", "status", "staus")],
)
def test_a_misspelt_mandatory_key_is_found(section: str, key: str, slip: str, tmp_path: Path) -> None:
    """The error of the missing key names the line with the slip."""
    text = changed(CONNECTION, section, **{key: None, slip: "1"})
    line = line_of(text, section, slip)
    assert f"[{section}] {key} is missing: is {slip!r} in line {line} meant? Else write for" in complaint(
        tmp_path, text
    )


def test_a_misspelt_other_spelling_is_found(tmp_path: Path) -> None:
    """The guide's samples write gw_ipaddr for gateway_ipaddr."""
    text = CONNECTION.replace("gw_ipaddr      = 10.2.2.2", "gw_ipadr = 10.2.2.2")
    assert "gateway_ipaddr is missing: is 'gw_ipadr' in line" in complaint(tmp_path, text)


def test_a_misspelt_section_is_found(tmp_path: Path) -> None:
    """That of the connection, and one of those with numbers."""
    text = CONNECTION.replace("[path_1]", "[path1]")
    line = text.split("\n").index("[path1]") + 1
    assert f"[path_1] is missing (is [path1] in line {line} meant?): write it" in complaint(tmp_path, text)
    text = without(without(CONNECTION, "net_0"), "net_1").replace("[connection]", "[conection]")
    text = without(without(text, "path_0"), "path_1")
    assert "[connection] is missing: is [conection] in line 2 meant? Else write a line" in complaint(tmp_path, text)


def test_warnings_come_with_the_errors(tmp_path: Path) -> None:
    """A misspelt key that may be absent is no error, and one elsewhere does not hide it."""
    text = changed(CONNECTION, "connection", reorder_windw="5", local_port="x")
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(write(tmp_path, connections={"a.conf": text}))
    assert "is 'reorder_window' meant?" in caught.value.warnings[0]

"""`mpt check`: what it prints, and its exit status. The judgements are in tests/config/test_semantics.py."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from mpt.cli.check import check, command_ports, facts_here
from mpt.cli.main import main
from mpt.config.semantics import check_directory
from mpt.facts import Target
from mpt.host.probe import try_ports
from tests.config.files import changed, write
from tests.config.test_semantics import CONNECTION, INTERFACE, host


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the daemon of this machine is found by a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPT_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("MPT_CONTROL_SOCKET", str(tmp_path / "none"))


def test_what_fits_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 0."""
    write(tmp_path, INTERFACE, {"home.conf": CONNECTION})
    assert check([], lambda config: host()) == 0
    assert capsys.readouterr().out == f"{tmp_path}: 1 tunnel(s), 1 connection(s): nothing is wrong\n"


def test_warnings_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are a failure only if that is asked for."""
    write(tmp_path, INTERFACE, {"home.conf": changed(CONNECTION, "net_0", dst_addr="21.1.1.0/24")})
    assert check([str(tmp_path)], lambda config: host()) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("connections/home.conf:") and "warning: [net_0] dst_addr = 21.1.1.0/24" in printed[0]
    assert printed[-1].endswith("1 connection(s): 1 warning")
    assert check(["--strict"], lambda config: host()) == 1


def test_errors_are_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, and the warnings too, are in the JSON."""
    text = changed(changed(CONNECTION, "connection", status="maybe"), "net_0", src_addr="21.1.1.0/33")
    write(tmp_path, INTERFACE, {"home.conf": text})
    assert main(["check", "--json", "--offline"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mpt.check/1" and document["directory"] == str(tmp_path)
    assert [(each["severity"], each["key"]) for each in document["findings"]] == [
        ("error", "status"),
        ("error", "src_addr"),
    ]
    assert set(document["findings"][0]) == {
        *("severity", "file", "line", "section", "key", "value", "message", "remedy"),
    }
    assert main(["check", "--offline"]) == 1
    assert "2 errors; mptsrv does not start with it" in capsys.readouterr().out


def test_without_a_configuration_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As mptsrv says it."""
    assert main(["check"]) == 1
    assert "there is no interface.conf in" in capsys.readouterr().err


def test_this_host_is_looked_at(tmp_path: Path) -> None:
    """Its loopback interface and its UDP sockets are seen, by root with their owner; no daemon answers."""
    write(tmp_path, INTERFACE, {"home.conf": changed(CONNECTION, "path_0", interface_name="lo")})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        facts = facts_here(check_directory(tmp_path)[0])
        assert facts is not None and facts.daemon == 0 and facts.kernel > (4, 0)
        found = [each for each in facts.udp_sockets or () if each.port == ours.getsockname()[1]]
    assert found and found[0].program in ("", "python", "python3", "pytest")
    assert str(facts.interfaces["lo"].addresses[0]) == "127.0.0.1/8"
    assert facts.sysctls["net.ipv4.ip_forward"] in "01"


def test_the_command_ports_of_plain_peers_are_tried(tmp_path: Path) -> None:
    """Over the path, if this host has its interface and its address."""
    write(tmp_path, INTERFACE, {"home.conf": changed(CONNECTION, "path_1", public_ipaddr="10.2.2.9")})
    assert list(command_ports(check_directory(tmp_path)[0], host())) == [
        Target("eth1", ip_address("10.1.1.2"), ip_address("10.1.1.3"), 60456),
        Target("eth2", None, ip_address("192.0.2.10"), 60456),
    ]


def test_a_port_where_nobody_listens_is_seen() -> None:
    """A host that answers so is asked once; a program that listens, or drops everything, is silent."""
    here = ip_address("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((str(here), 0))
        closed = gone.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((str(here), 0))
        listens = listening.getsockname()[1]
        targets = [Target("", here, here, port) for port in (closed, listens)]
        assert try_ports(targets, 0.05) == {(here, closed): "nobody listens there", (here, listens): ""}
    assert try_ports([Target("none0", here, here, 9)], 0.05)[here, 9] == "there is no such interface"

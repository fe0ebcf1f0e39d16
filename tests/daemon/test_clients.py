"""Clients come, change and go by a reload, and no other connection notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mpt.config.directory import load_directory
from mpt.config.identity import make_identity
from mpt.daemon import slices
from mpt.model import ConnectionConfig
from tests.config import files
from tests.daemon.stage import KEEPALIVE_IN, PACKET, Run, Stage

TEMPLATE = """\
[connection]
ip_local = 10.0.0.2
[path_0]
interface_name = eth1
"""
A = f"[client a]\npeer_key = {files.PEER_KEY}\nip_remote = 10.0.0.11\n"
B = f"[client b]\npeer_key = {files.OTHER_PEER_KEY}\nip_remote = 10.0.0.12\n"
C = f"[client c]\npeer_key = {files.PEER_KEY}\nip_remote = 10.0.0.13\nnetworks = 192.168.7.0/24\n"


@pytest.fixture
def server(run: Run, tmp_path: Path) -> Callable[..., Stage]:
    """A server whose clients.conf has these sections; the guide's connection runs beside them."""

    def start(*clients: str) -> Stage:
        interface = files.changed(files.INTERFACE, "general", control_socket="/nowhere/a.sock")
        interface = files.changed(interface, "tun_0", mtu="1400")
        connections = {"c.conf": files.CONNECTION, "conf.template": TEMPLATE}
        files.write(tmp_path, interface, {**connections, **({"clients.conf": "".join(clients)} if clients else {})})
        return run(config=load_directory(tmp_path).config)

    return start


def write(directory: Path, *clients: str) -> None:
    (directory / "connections" / "clients.conf").write_text("".join(clients))


def running(stage: Stage) -> dict[str, object]:
    return {each.config.name: each for each in stage.root.runs.connections() if each.config.template is not None}


def configured(stage: Stage) -> list[ConnectionConfig]:
    return [each.config for each in stage.root.runs.connections() if each.config.template is not None]


@pytest.mark.parametrize("command", ["reload", "reload clients.conf"])
def test_a_reload_takes_clients_in_and_out(command: str, server: Callable[..., Stage], tmp_path: Path) -> None:
    """One is changed, one is gone, one is new; the others are the very same objects."""
    stage = server(A, B)
    before = running(stage)
    kept = stage.root.runs.connections()[0]
    write(tmp_path, A, C)
    unchanged = 2 if command == "reload" else 1
    first, *warnings = stage.ask(command).text.split("\n")
    assert (first, len(warnings)) == (f"new: c; gone: b; {unchanged} unchanged", 1)  # the warning: A and C have one key
    assert running(stage).keys() == {"a", "c"}
    assert running(stage)["a"] is before["a"] and stage.root.runs.connections()[0] is kept
    write(tmp_path, A.replace("ip_remote", "networks = 10.7.0.0/16\nip_remote"))
    assert stage.ask(command).text == f"changed: a; gone: c; {unchanged - 1} unchanged"
    assert stage.ask(command).text == f"{unchanged} unchanged"
    assert configured(stage) == [each for each in load_directory(tmp_path).config.connections if each.template]


def slow_clock(stage: Stage) -> None:
    """From now on each look at the clock of the reload finds that a slice is over."""

    def now() -> float:
        stage.reactor.rightNow += slices.SLICE
        return stage.reactor.seconds()

    operations = stage.root.operations
    operations._machine = replace(operations._machine, now=now)


@pytest.mark.parametrize("command", ["reload", "reload clients.conf"])
def test_packets_pass_while_the_files_are_read(command: str, server: Callable[..., Stage], tmp_path: Path) -> None:
    """Everything else goes on, also what changes connections: then the files are read once more."""
    stage = server(A, B)
    stage.receive(1, KEEPALIVE_IN)
    slow_clock(stage)
    write(tmp_path, A, C)
    asked = stage.ask(command)
    stage.clear()
    for _ in range(4):
        stage.tun.inject(PACKET)
        stage.reactor.read_all()
        stage.reactor.advance(slices.SLICE)
        assert len(stage.sent("eth1") + stage.sent("eth2")) == 1 and asked.reply is None
    assert running(stage).keys() == {"a", "b"}
    write(tmp_path, A)
    assert stage.ask("delete c.conf").text.startswith("deleted: ")
    turns = 0
    while asked.reply is None:
        stage.reactor.advance(slices.SLICE)
        turns += 1
    assert asked.text == "gone: b; 1 unchanged" and turns > 6
    assert running(stage).keys() == {"a"} == {each.config.name for each in stage.root.runs.connections()}


def test_two_reloads_at_once_end_with_the_newest_files(server: Callable[..., Stage], tmp_path: Path) -> None:
    """The one that has begun earlier takes nothing back."""
    stage = server(A)
    slow_clock(stage)
    write(tmp_path, A, B)
    first = stage.ask("reload")
    for _ in range(3):
        stage.reactor.advance(slices.SLICE)
    write(tmp_path, C)
    second = stage.ask("reload clients.conf")
    for _ in range(200):
        stage.reactor.advance(slices.SLICE)
    assert first.reply is not None and second.reply is not None and first.reply.ok and second.reply.ok
    assert running(stage).keys() == {"c"}


def test_what_does_not_change_is_the_same_row(server: Callable[..., Stage], tmp_path: Path) -> None:
    """So a table of a thousand clients, of which one is new, costs little."""
    stage = server(A, B)
    before = {row.key: row for row in stage.root.runs.tunnels[0]._tables._rows()}
    write(tmp_path, A, B, C)
    stage.ask("reload")
    stage.reactor.advance(0)
    after = {row.key: row for row in stage.root.runs.tunnels[0]._tables._rows()}
    assert after.keys() == before.keys() | {"c"}
    assert all(after[key] is before[key] for key in before)


def test_the_routes_follow_the_clients(server: Callable[..., Stage], tmp_path: Path) -> None:
    """One for each tunnel address, one for each network."""
    stage = server(A)
    write(tmp_path, C)
    stage.ask("reload")
    stage.reactor.advance(0)
    routes = [str(each.destination) for each in stage.netlink.routes if each.interface == "tun0"]
    assert {"10.0.0.13/32", "192.168.7.0/24"} <= set(routes)
    assert "10.0.0.11/32" not in routes and len(routes) == len(set(routes))


def test_a_client_may_take_the_address_of_one_that_goes(server: Callable[..., Stage], tmp_path: Path) -> None:
    """Renamed or followed by another that was there before."""
    stage = server(A, B)
    write(tmp_path, B, A.replace("client a", "client renamed"))
    assert stage.ask("reload clients.conf").text == "changed: renamed; 1 unchanged"
    write(tmp_path, B.replace("10.0.0.12", "10.0.0.11"))
    assert stage.ask("reload clients.conf").text == "changed: b; gone: renamed; 0 unchanged"
    assert [str(each.ip_remote) for each in configured(stage)] == ["10.0.0.11"]


def test_a_bad_section_changes_nothing(server: Callable[..., Stage], tmp_path: Path) -> None:
    """Nor does a file that is away: its clients run on."""
    stage = server(A, B)
    before = running(stage)
    write(tmp_path, A, C, B.replace("10.0.0.12", "10.0.0.13"))
    assert "[client b] ip_remote" in stage.ask("reload").text
    (tmp_path / "connections" / "clients.conf").unlink()
    assert stage.ask("reload").text == "1 unchanged"
    assert running(stage) == before


def test_what_the_host_refuses_changes_nothing(server: Callable[..., Stage], tmp_path: Path) -> None:
    """A client that would be gone is there again."""
    stage = server(A, B)
    before = {each.name for each in configured(stage)}
    write(tmp_path, A, C.replace("10.0.0.13", "10.0.0.3"))  # the tunnel address of the guide's peer
    assert stage.ask("reload clients.conf").reply.code != 0  # type: ignore[union-attr]
    assert {each.name for each in configured(stage)} == before


def test_the_key_pair_is_read_with_the_first_sealed_connection(server: Callable[..., Stage], tmp_path: Path) -> None:
    """From then on nobody reads our memory. The key pair stays; another one takes another start."""
    stage = server()
    settings = stage.root.runs.settings
    assert settings.identity is None
    key = tmp_path / "private.key"
    key.chmod(0o644)
    write(tmp_path, A)
    for command in ("reload", "reload clients.conf"):
        assert "is open to others" in stage.ask(command).text
        assert settings.identity is None and configured(stage) == []
    assert stage.system.is_dumpable
    key.chmod(0o600)
    assert stage.ask("reload clients.conf").text == "new: a; 0 unchanged"
    identity = settings.identity
    assert identity is not None and identity.public_text == files.PUBLIC_KEY
    assert not stage.system.is_dumpable
    key.unlink()
    make_identity(key)
    assert "has another key than at the start" in stage.ask("reload").text
    assert settings.identity == identity


def test_clients_are_written_by_nobody_else(server: Callable[..., Stage], tmp_path: Path) -> None:
    """Not by mpt save, whatever has changed at run time."""
    stage = server(A, B)
    stage.ask("path down 10.1.1.2 10.1.1.3")
    assert stage.ask("save").text == "saved: c.conf"
    assert "mpt client" in stage.ask("save clients.conf").text
    assert (tmp_path / "connections" / "clients.conf").read_text() == A + B
    assert stage.ask("delete clients.conf").text.startswith("deleted: a, b; the file is now clients.conf.disabled")
    assert configured(stage) == []
    assert stage.ask("reload").text == "1 unchanged"

"""A connection whose file says that it is down ([connection] status 131 or 255) is loaded and does nothing."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from mpt.config.directory import load_directory
from mpt.model import NetworkConfig, Status
from tests.config.files import CONNECTION, INTERFACE, changed, write
from tests.daemon.stage import PACKET, Run, connection

EVERYTHING = NetworkConfig(4, ip_network("10.0.0.0/8"), ip_network("0.0.0.0/0"))
DOWN = [Status.MANUAL_DOWN, Status.DISABLED]


@pytest.mark.parametrize("status", DOWN)
def test_a_connection_that_is_down_has_no_sockets_and_no_routes_and_sends_nothing(run: Run, status: Status) -> None:
    """The connection stays down at the start, and when interfaces come and go."""
    stage = run(connection(status=status, networks=(EVERYTHING,)))
    stage.netlink.set_link("eth1", False)
    stage.network_changed()
    stage.netlink.set_link("eth1", True)
    stage.network_changed()
    stage.reactor.advance(5)
    assert stage.statuses() == ["MANUAL_DOWN", "MANUAL_DOWN"]
    assert stage.data_sockets == []
    assert stage.netlink.routes == stage.routes_before


@pytest.mark.parametrize("status", [Status.OK, Status.DOWN, Status.INTERFACE_DOWN, Status.ADDRESS_DOWN])
def test_any_other_status_leaves_it_up(run: Run, status: Status) -> None:
    """The C program writes passing states into the file; the daemon finds them out by itself."""
    assert run(connection(status=status)).statuses() == ["OK", "OK"]


def test_it_attracts_no_packets(run: Run) -> None:
    """Packets for its addresses and networks have no connection."""
    stage = run(connection(status=Status.DISABLED, networks=(EVERYTHING,)))
    stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert stage.datapath.counters().egress_dropped == {"no_connection": 1}


def test_a_path_of_it_cannot_be_taken_up(run: Run) -> None:
    """The answer names the status and what to do, and nothing has changed."""
    stage = run(connection(status=Status.DISABLED))
    said = stage.ask("path up 10.1.1.2 10.1.1.3").text
    assert "c is down, as its file says: [connection] status = 255; write 0 and reload it" in said
    assert stage.statuses() == ["MANUAL_DOWN", "MANUAL_DOWN"]


def test_it_is_not_created_at_the_peer(run: Run, tmp_path: Path) -> None:
    """The answer tells the reason."""
    interface = changed(INTERFACE, "general", control_socket="/nowhere/a.sock")
    write(tmp_path, interface, {"c.conf": changed(CONNECTION, "connection", status="131")})
    said = run(config=load_directory(tmp_path).config).ask("create c.conf").text
    assert "is down, as its file says: [connection] status = 131" in said


def test_a_reload_takes_it_up_and_down(run: Run, tmp_path: Path) -> None:
    """All its paths start, whatever the earlier run had; a save in between does not change its file."""
    interface = changed(INTERFACE, "general", control_socket="/nowhere/a.sock")
    down = changed(CONNECTION, "connection", status="255")
    file = write(tmp_path, interface, {"c.conf": CONNECTION}) / "connections" / "c.conf"
    stage = run(config=load_directory(tmp_path).config)
    name = stage.root.runs.connections()[0].config.name
    for text, statuses in ((down, ["MANUAL_DOWN"] * 2), (CONNECTION, ["OK"] * 2), (down, ["MANUAL_DOWN"] * 2)):
        file.write_text(text)
        assert stage.ask("reload").text == f"changed: {name}; 0 unchanged"
        assert stage.statuses(name) == statuses
        assert stage.ask("save").text == "nothing has changed since the files were written"
        assert file.read_text() == text

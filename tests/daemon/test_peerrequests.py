"""What the daemon answers to peers, and what it does for them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mpt.config.directory import load_connection, load_directory
from mpt.control.admission import LOG_LINES
from mpt.control.responder import ConnectionCreate, PathStatusChange
from mpt.daemon import peerrequests
from mpt.daemon.peerrequests import PEERS_AGE, PeerRequests, Template
from mpt.model import AuthType, Config, unspecified
from mpt.wire import command
from mpt.wire.command import Message, Result
from tests.config import files
from tests.daemon.pair import mirrored
from tests.daemon.sealedpair import A_KEYS, a_side, general, identity
from tests.daemon.stage import LOCAL, REMOTE, TUNNEL, Run, Stage, connection, path

ASKED_BY = (ip_address("10.1.1.2"), 60456)


@pytest.fixture
def host_b(run: Run, tmp_path: Path) -> Callable[..., Stage]:
    """Host B with a template, that has no connection unless some are named."""

    def start(**connections: str) -> Stage:
        interface = files.changed(mirrored(files.INTERFACE), "general", control_socket="/nowhere/b.sock")
        files.write(tmp_path, interface, {f"{name}.conf": text for name, text in connections.items()})
        (tmp_path / "connections" / "conf.template").write_text(files.CREATE_TEMPLATE)
        return run(config=load_directory(tmp_path).config, host=3)

    return start


def requests(stage: Stage) -> PeerRequests:
    """Return the part under test, on what runs at `stage`."""
    return PeerRequests(stage.machine, stage.root.runs)


def create(stage: Stage, sender: str = "10.0.0.2", limit: int = 1500) -> tuple[int, str]:
    """Ask as host A does, with its connection file for the text."""
    own = files.CREATE_CLIENT.replace("10.0.0.2", sender)
    own = files.changed(own, "connection", remote_port="65060", local_cmd_port="60456", auth_key=None)
    return requests(stage).create(ConnectionCreate(";;;;;;\n" + own, ip_address(sender), ASKED_BY, limit))


def test_a_create_starts_the_connection_and_answers_with_it(host_b: Callable[..., Stage]) -> None:
    """The answer is the text of the new connection, with the public addresses for the peer."""
    stage = host_b()
    result, text = create(stage)
    assert result == Result.DONE
    (made,) = stage.root.runs.connections()
    assert made.running and made.config.tunnel_pair == (REMOTE, LOCAL)
    assert text.startswith(";;;;;;;") and "10.1.1.3" in text and "auth_key" not in text
    assert not (stage.root.runs.connections_directory / "peer_10_0_0_2.conf").exists(), "only save writes it"


def test_an_answer_that_would_be_too_long_for_a_c_client_is_written_compactly(host_b: Callable[..., Stage]) -> None:
    """A C client reads as many octets as it has sent; the same keys fit without blanks."""
    stage = host_b()
    (_, pretty), (_, compact) = create(stage), create(stage, "10.0.0.7", limit=700)
    assert "name             = " in pretty and len(pretty) > 1000
    assert "name=" in compact and len(compact) < len(pretty) - 300


def test_a_name_that_is_taken_gets_the_peers_address_behind_it(host_b: Callable[..., Stage]) -> None:
    """Two peers may call their connections alike."""
    stage = host_b()
    assert [create(stage, sender)[0] for sender in ("10.0.0.2", "10.0.0.7")] == [Result.DONE] * 2
    first, second = (each.config.name for each in stage.root.runs.connections())
    assert first != second and second.endswith("10.0.0.7")


def test_what_does_not_fit_is_refused_and_nothing_is_started(host_b: Callable[..., Stage]) -> None:
    """Nonsense, somebody else's address, other paths than the template has."""
    stage = host_b()
    peers = requests(stage)
    nonsense = ConnectionCreate(";;;;;;\n[[[", LOCAL, ASKED_BY, 1500)
    foreign = ConnectionCreate(";;;;;;\n" + files.CREATE_CLIENT, ip_address("10.0.0.8"), ASKED_BY, 1500)
    assert peers.create(nonsense)[0] == peers.create(foreign)[0] == Result.NO_CONNECTION
    assert stage.root.runs.connections() == []


def test_a_socket_that_is_refused_refuses_the_create(host_b: Callable[..., Stage]) -> None:
    """Nothing stays of the connection, and the peer may try again."""
    stage = host_b()
    stage.system.fail("bind", errno.EADDRINUSE)
    assert create(stage) == (Result.NO_PATH, "")
    assert stage.root.runs.connections() == [] and stage.data_sockets == []
    assert create(stage)[0] == Result.DONE


def test_a_template_that_has_changed_is_read_anew(host_b: Callable[..., Stage], tmp_path: Path) -> None:
    """An operator who mends it need not restart the daemon."""
    stage = host_b()
    template = tmp_path / "connections" / "conf.template"
    peers = requests(stage)
    assert peers.create_key() == "A0A1A2A3A4A5A6A7A8A9B0B1B2B3B4B5B6B7B8B9C0C1C2C3C4C5C6C7C8C9D1D2"
    good = template.read_text()
    template.write_text("[connection]\nname = x\n")
    assert peers.create_key() is None and create(stage) == (Result.NO_CONNECTION, "")
    template.unlink()
    assert peers.create_key() is None and create(stage) == (Result.NO_CONNECTION, "")
    template.write_text(good)
    assert create(stage)[0] == Result.DONE


@pytest.mark.parametrize("text", [files.CREATE_TEMPLATE, "[connection]\nname = x\n"], ids=["good", "bad"])
def test_a_template_that_has_not_changed_is_read_once(
    host_b: Callable[..., Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str], text: str
) -> None:
    """Anybody may send creates, thousands a second: none of them costs a file, and a bad one is logged once."""
    stage = host_b()
    (tmp_path / "connections" / "conf.template").write_text(text)
    reads: list[Path] = []

    def load(path: Path, *arguments: Any) -> Any:
        reads.append(path)
        return load_connection(path, *arguments)

    monkeypatch.setattr(peerrequests, "load_connection", load)
    before = len(logged)
    unsigned = command.encode(Message(command.CREATE, 0, 1, 4, LOCAL, REMOTE, bytes(4), AuthType.SHA256))
    for _ in range(5000):
        stage.command_socket.deliver(unsigned, ("::ffff:192.0.2.77", 60456, 0, 0))
        stage.reactor.read_all()
        stage.reactor.advance(0.0002)
    assert len(reads) == 1 and len(logged) - before == (text != files.CREATE_TEMPLATE)
    assert stage.root.peer_control.counters["too_many"] > 4900
    assert len(stage.command_socket.take_sent()) < 100


def test_a_host_with_sealed_connections_only_answers_nobody(run: Run) -> None:
    """Its peers speak inside them. With a plain connection beside them, or accept_remote, it answers in a second."""
    unsigned = command.encode(Message(command.CREATE, 0, 1, 4, LOCAL, REMOTE, bytes(4), AuthType.SHA256))

    def answers_of(stage: Stage) -> int:
        stage.reactor.pass_time(1.1 * PEERS_AGE)
        stage.command_socket.take_sent()
        stage.command_socket.deliver(unsigned, ("::ffff:192.0.2.77", 60456, 0, 0))
        stage.reactor.read_all()
        return len(stage.command_socket.take_sent())

    stage = run(config=Config(Path("conf"), general("a"), (TUNNEL,), (a_side(),), identity(A_KEYS)))
    assert answers_of(stage) == 0
    assert stage.root.peer_control.counters == {"no_plain_connection": 1}
    settings = stage.root.runs.settings
    settings.general = replace(settings.general, accept_remote=True)
    assert answers_of(stage) == 1
    settings.general = replace(settings.general, accept_remote=False)
    stage.root.runs.add(connection(path(2), name="plain", ip_remote=ip_address("10.0.0.9")))
    assert answers_of(stage) == 1


def test_a_host_that_reloads_other_settings_checks_the_template_against_them(host_b: Callable[..., Stage]) -> None:
    """The file is the same, but interface.conf has changed."""
    stage = host_b()
    template = Template(stage.root.runs.connections_directory / "conf.template")
    general = stage.root.runs.settings.general
    assert template.config(general, (stage.root.runs.tunnels[0].config,)) is not None
    assert template.config(general, ()) is None


def test_a_create_may_not_claim_what_this_host_needs(host_b: Callable[..., Stage], logged: list[str]) -> None:
    """An address outside of the tunnel, or one that an interface has: refused, no route, and the log says why."""
    stage = host_b()
    stage.netlink.add_interface("eth9", "10.0.0.77/32")
    for address in ("1.1.1.1", "10.0.0.77"):
        assert create(stage, address) == (Result.NO_CONNECTION, "")
        assert any(f"{address} cannot be a peer" in text for text in logged)
    assert stage.root.runs.connections() == []
    assert create(stage, "10.0.0.78")[0] == Result.DONE
    before, peers = len(logged), requests(stage)
    nonsense = ConnectionCreate(";;;;;;\n[[[", LOCAL, ASKED_BY, 1500)
    assert {peers.create(nonsense)[0] for _ in range(1000)} == {Result.NO_CONNECTION}
    assert len(logged) - before == LOG_LINES.burst, "whoever has the key does not fill the log either"


def test_a_peer_speaks_of_the_paths_of_its_own_connection_only(run: Run) -> None:
    """A report on other paths changes nothing, and is acknowledged, as the C program does."""
    stage = run(connection())
    peers = requests(stage)
    (running,) = stage.root.runs.connections()
    own, peer = ip_address("10.1.1.2"), ip_address("10.1.1.3")
    assert peers.path_status(PathStatusChange(running.config, own, peer, False)) == Result.DONE
    assert [each.name for each in running.statuses()] == ["DOWN", "OK"]
    assert peers.path_status(PathStatusChange(running.config, own, ip_address("10.9.9.9"), False)) == Result.DONE
    assert [each.name for each in running.statuses()] == ["DOWN", "OK"]
    stage.ask("restart")
    gone = connection(ip_remote=ip_address("10.0.0.77"))
    assert peers.path_status(PathStatusChange(gone, own, peer, True)) == Result.NO_CONNECTION


HOME = connection(
    *(
        path(
            number, public_ipaddr=unspecified(4), private_ipaddr=unspecified(4), remote_ipaddr=ip_address("192.0.2.10")
        )
        for number in (1, 2)
    )
)


def test_a_report_that_could_mean_either_of_two_lines_means_neither(run: Run) -> None:
    """A home router with two lines to one server, whose public addresses nobody has written down."""
    stage = run(HOME)
    (running,) = stage.root.runs.connections()
    down = PathStatusChange(running.config, ip_address("203.0.113.2"), ip_address("192.0.2.10"), False)
    assert requests(stage).path_status(down) == Result.DONE
    assert [each.name for each in running.statuses()] == ["OK", "OK"]
    assert running.found_addresses() == {}


def test_a_report_that_names_an_address_that_was_found_means_that_line(run: Run) -> None:
    """The address comes from the resolver of one line."""
    stage = run(HOME)
    (running,) = stage.root.runs.connections()
    running.learn_address(1, ip_address("203.0.113.2"))
    down = PathStatusChange(running.config, ip_address("203.0.113.2"), ip_address("192.0.2.10"), False)
    assert requests(stage).path_status(down) == Result.DONE
    assert [each.name for each in running.statuses()] == ["OK", "DOWN"]


def test_the_peers_are_known_by_their_outer_addresses(run: Run) -> None:
    """A new peer is known within a second."""
    stage = run(connection())
    peers = requests(stage)
    assert peers.is_peer(ip_address("10.1.1.3")) and not peers.is_peer(ip_address("10.1.1.2"))
    stage.root.runs.remove(stage.root.runs.connections()[0])
    stage.reactor.advance(PEERS_AGE)
    assert not peers.is_peer(ip_address("10.1.1.3"))

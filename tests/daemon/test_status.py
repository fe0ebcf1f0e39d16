"""`mpt show status` of a running daemon."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from mpt.model import Status
from tests.daemon.stage import KEEPALIVE_IN, PACKET, REPLY, Run, Stage, connection, path


def shown(stage: Stage) -> list[str]:
    """Return the word for every path of the first connection."""
    return [each.status for each in stage.root.operations.status().connections[0].paths]


def reasons(stage: Stage) -> list[str | None]:
    """Return why every path of the first connection is not up."""
    return [each.reason for each in stage.root.operations.status().connections[0].paths]


def test_it_counts_what_went_over_each_path(run: Run) -> None:
    """Inner packets and their octets; the tunnel's sum agrees."""
    stage = run()
    stage.clear()
    for _ in range(3):
        stage.tun.inject(PACKET)
    stage.reactor.read_all()
    stage.receive(2, bytes.fromhex("00000800") + REPLY)
    document = stage.root.operations.status()
    (tunnel,), (shown,) = document.tunnels, document.connections
    assert tunnel.packets_read == sum(each.packets_sent for each in shown.paths) == 3
    assert sum(each.bytes_sent for each in shown.paths) == 3 * len(PACKET)
    assert [(each.packets_received, each.bytes_received) for each in shown.paths] == [(0, 0), (1, len(REPLY))]
    assert tunnel.packets_delivered == 1


def test_it_tells_the_age_of_keepalives_and_who_says_that_a_path_is_down(run: Run) -> None:
    """Ours is one thing, the peer's word another."""
    stage = run()
    stage.receive(1, KEEPALIVE_IN)
    stage.receive(2, KEEPALIVE_IN)
    stage.reactor.pass_time(0.5)
    stage.root.runs.connections()[0].peer_says(0, False)
    stage.ask("path down 10.2.2.2 10.2.2.3")
    first, second = stage.root.operations.status().connections[0].paths
    assert (first.status, first.peer_says_down) == ("down", True)
    assert (second.status, second.peer_says_down) == ("manual down", False)
    assert first.keepalive_age is not None and 0.4 < first.keepalive_age < 0.6


def test_a_path_waits_until_its_peer_was_heard(run: Run) -> None:
    """No path is "up" before, and none is counted as one that works; packets flow all the same."""
    stage = run(connection(path(1), path(2, keepalive_time=0.0)))
    assert shown(stage) == ["waiting", "waiting"]
    assert "0 of 2 paths work" in stage.ask("show status").text
    stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert sum(each.packets_sent for each in stage.root.operations.status().connections[0].paths) == 1
    stage.receive(1, KEEPALIVE_IN)
    assert shown(stage) == ["up", "waiting"]
    stage.receive(2, bytes.fromhex("00000800") + REPLY)
    assert shown(stage) == ["up", "up"]
    stage.reactor.pass_time(3.5)
    assert shown(stage) == ["down", "up"]


def test_without_a_peer_a_path_waits_for_its_dead_time_and_without_keepalives_for_ever(run: Run) -> None:
    """A daemon alone claims nothing."""
    stage = run(connection(path(1), path(2, keepalive_time=0.0)))
    stage.reactor.pass_time(3.5)
    assert shown(stage) == ["down", "waiting"]
    stage.reactor.pass_time(100.0, step=1.0)
    assert shown(stage) == ["down", "waiting"]


def test_it_says_why_a_path_is_not_up(run: Run) -> None:
    """The reason of the path itself, or of its connection; none for one that is up."""
    stage = run(connection(path(1), path(2)))
    stage.receive(1, KEEPALIVE_IN)
    stage.ask("path down 10.2.2.2 10.2.2.3")
    assert reasons(stage) == [None, "taken down by hand"]
    stage.system.fail("bind", errno.EADDRINUSE, errno.EADDRINUSE)
    stage.netlink.remove_interface("eth1")
    stage.network_changed()
    assert reasons(stage)[0] == "the interface is down or gone"
    stage.netlink.add_interface("eth1", "10.1.1.2/24")
    stage.network_changed()
    assert "in use by another program" in (reasons(stage)[0] or "")
    unknown = run(connection(path(1, remote_ipaddr=ip_address("0.0.0.0")), path(2, keepalive_time=0.0), remote_port=0))
    unknown.reactor.pass_time(3.5)
    assert reasons(unknown) == ["the peer is not known yet: its remote_ipaddr or remote_port is open"] * 2
    down = run(connection(path(1), status=Status.MANUAL_DOWN))
    assert reasons(down) == ["the connection is down, as its file says"]


def test_it_names_the_file_the_addresses_and_never_the_key(run: Run) -> None:
    """A path without its interface has no local address; the words and the document say the same."""
    stage = run(
        connection(
            path(1, public_ipaddr=ip_address("0.0.0.0")),
            replace(path(2), interface_name="wwan0"),
            file=Path("conf/connections/c.conf"),
            auth_key="a secret",
        )
    )
    reply = stage.ask("show status").reply
    assert reply is not None and reply.data is not None
    (shown,) = reply.data["connections"]
    assert shown["file"] == "c.conf"
    assert [(each["local_address"], each["public_address"]) for each in shown["paths"]] == [
        ("10.1.1.2", "10.1.1.2"),
        ("-", "10.2.2.2"),
    ]
    assert "secret" not in str(reply.data) + reply.text
    assert "interface down" in reply.text


def test_it_tells_the_data_path_of_each_tunnel(run: Run) -> None:
    """By the word of the configuration, in the document and in the text."""
    stage = run()
    (tunnel,) = stage.root.operations.status().tunnels
    assert (tunnel.data_plane, tunnel.offloads) == ("python", [])
    assert "python data path, offloads: none" in stage.ask("show status").text


def test_it_tells_why_command_datagrams_were_refused(run: Run) -> None:
    """By reason, once there are some."""
    stage = run()
    stage.command_socket.deliver(b"\xa7nonsense", ("::ffff:10.1.1.3", 60456, 0, 0))
    stage.reactor.read_all()
    document = stage.root.operations.status()
    assert document.control_dropped == {"command_short": 1}
    assert "command_short" in stage.ask("show status").text


def test_the_uptime_counts_from_the_start(run: Run) -> None:
    """Not from when the machine was started."""
    stage = run()
    stage.stop()
    stage.reactor.advance(100.0)
    stage.start()
    assert stage.root.operations.status().uptime < 1.0

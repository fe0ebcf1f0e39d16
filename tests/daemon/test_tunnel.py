"""One tunnel: its interface goes and comes back, one bad connection is left out, refused sockets are tried again."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import ip_address

import pytest

from mpt.daemon.connection import Connection
from mpt.daemon.tunnel import RETRY_REFUSED
from mpt.data.events import Message
from mpt.data.pathtable import ConnectionRow, Table
from mpt.model import Interface
from tests.daemon.logged import logged
from tests.daemon.stage import KEEPALIVE_IN, LOCAL, PACKET, REMOTE, REPLY, Run, Stage, connection, path

OTHER = ip_address("10.0.0.9")


def take_tun_away(stage: Stage) -> None:
    """Do ``ip link delete tun0``, and let the reactor see the error condition of its descriptor."""
    stage.system.tuns.pop("tun0").close()
    stage.netlink.remove_interface("tun0")
    readable = stage.root.runs.tunnels[0]._readable
    assert readable is not None
    stage.reactor.removeReader(readable)
    readable.connectionLost(None)
    stage.network_changed()


def flows(stage: Stage, packet: bytes = PACKET) -> bool:
    """Return whether a packet of the host leaves over a path."""
    stage.clear()
    stage.tun.inject(packet)
    stage.reactor.read_all()
    return packet in [datagram[4:] for each in stage.data_sockets for datagram, _, _ in each.take_sent()]


def test_a_tunnel_interface_that_is_removed_is_made_again(run: Run) -> None:
    """With its addresses and routes; packets flow, the same connections run."""
    stage = run()
    before = stage.netlink.snapshot()["tun0"], sorted(map(str, stage.netlink.routes))
    connections = stage.root.runs.connections()
    with logged() as log:
        take_tun_away(stage)
    assert log.of("error") == ["the tunnel interface tun0 was removed: it is made again"]
    after = stage.netlink.snapshot()["tun0"], sorted(map(str, stage.netlink.routes))
    assert (after[0].addresses, after[0].up, after[1]) == (before[0].addresses, True, before[1])
    assert stage.root.runs.connections() == connections
    assert flows(stage) and stage.lost == []


def test_a_tunnel_interface_that_cannot_be_made_again_is_lost(run: Run) -> None:
    """The daemon ends then, with a status of failure."""
    stage = run()
    stage.system.fail("ioctl", errno.EPERM)
    with logged() as log:
        take_tun_away(stage)
    assert stage.lost == ["tun0"]
    assert log.of("critical") == [
        "tun0 cannot be made again: no privilege to create the interface tun0: run as root or with CAP_NET_ADMIN"
    ]


def test_a_connection_whose_row_cannot_be_made_takes_no_other_with_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is left out, which is logged once; it joins when its row can be made."""
    good = Connection.row

    def row(self: Connection, mtu: int) -> ConnectionRow:
        if self.config.name == "bad":
            raise ValueError("a bug")
        return good(self, mtu)

    stage = run()
    monkeypatch.setattr(Connection, "row", row)
    with logged() as log:
        stage.root.runs.add(connection(name="bad", ip_remote=OTHER, local_port=5000))
        for _ in range(3):
            stage.reactor.advance(0)
            stage.netlink.set_carrier("eth1", False)
            stage.network_changed()
            stage.netlink.set_carrier("eth1", True)
            stage.network_changed()
    assert log.of("critical") == ["bad: a bug keeps this connection from carrying packets"]
    assert flows(stage)
    to_bad = PACKET.replace(LOCAL.packed + REMOTE.packed, LOCAL.packed + OTHER.packed)
    assert not flows(stage, to_bad)
    monkeypatch.setattr(Connection, "row", good)
    stage.netlink.set_carrier("eth1", False)
    stage.network_changed()
    assert flows(stage, to_bad)


def test_a_bug_in_one_connections_control_keeps_no_others_message_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message of a wake-up reaches its connection; the bug is logged."""
    good = Connection.message_received

    def received(self: Connection, index: int, message: Message) -> None:
        if self.config.name == "bad":
            raise ValueError("a bug")
        good(self, index, message)

    stage = run()
    stage.root.runs.add(connection(name="bad", ip_remote=OTHER))
    stage.reactor.advance(0)
    monkeypatch.setattr(Connection, "message_received", received)
    (heard,) = (each for each in stage.root.runs.connections() if each.config.name == "c")
    assert heard.paths[0].heard_at is None
    with logged() as log:
        to_bad = KEEPALIVE_IN.replace(REMOTE.packed, OTHER.packed)
        stage.socket("eth1").deliver(to_bad, ("10.1.1.3", 23456))
        stage.receive(1, KEEPALIVE_IN)
    assert heard.paths[0].heard_at is not None
    assert len(log.of("critical")) == 1


def test_a_path_that_fails_needs_no_new_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that comes back: its share changes. A change of its socket brings a table."""
    stage = run()
    tables: list[object] = []
    datapath = stage.datapath
    set_table = datapath.set_table

    def set_and_note(table: Table, now: float) -> None:
        tables.append(table)
        set_table(table, now)

    monkeypatch.setattr(datapath, "set_table", set_and_note)
    stage.netlink.set_carrier("eth1", False)
    stage.network_changed()
    assert stage.statuses() == ["INTERFACE_DOWN", "OK"]
    stage.clear()
    for _ in range(3):
        stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert (len(stage.sent("eth1")), len(stage.sent("eth2"))) == (0, 3)
    stage.netlink.set_carrier("eth1", True)
    stage.network_changed()
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses() == ["OK", "OK"]
    assert tables == []
    (address,) = (each for each in stage.netlink.snapshot()["eth1"].addresses if each.version == 4)
    stage.netlink.delete_address("eth1", address)
    stage.network_changed()
    assert len(tables) == 1


def test_a_socket_that_is_refused_is_tried_again(run: Run) -> None:
    """Until it can be had; the log has it once. Another program had the port while the address was away."""
    stage = run(connection(path(1)))
    (address,) = (each for each in stage.netlink.snapshot()["eth1"].addresses if each.version == 4)
    stage.netlink.delete_address("eth1", address)
    stage.network_changed()
    stage.netlink.add_address("eth1", address)
    stage.system.fail("bind", *[errno.EADDRINUSE] * 3)
    with logged() as log:
        stage.network_changed()
        assert stage.statuses() == ["ADDRESS_DOWN"]
        stage.reactor.pass_time(3 * RETRY_REFUSED - 1, step=0.1)
        assert stage.statuses() == ["ADDRESS_DOWN"]
        stage.reactor.pass_time(2, step=0.1)
    assert stage.statuses() == ["DOWN"] and len(stage.data_sockets) == 1
    assert len(log.of("error")) == 1
    assert stage.sent("eth1"), "keepalives run"


def test_a_bug_in_one_connection_does_not_keep_changes_of_interfaces_from_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other connection learns of a pulled cable."""
    good = Connection.interfaces_changed

    def changed(self: Connection, interfaces: Mapping[str, Interface]) -> None:
        if self.config.name == "bad":
            raise ValueError("a bug")
        good(self, interfaces)

    bad = connection(name="bad", ip_remote=OTHER, local_port=5000)
    last = connection(name="last", ip_remote=ip_address("10.0.0.10"))
    stage = run(connection(), bad, last)
    monkeypatch.setattr(Connection, "interfaces_changed", changed)
    stage.netlink.set_carrier("eth1", False)
    with logged() as log:
        stage.network_changed()
    assert log.of("critical") == ["bad: a bug while interfaces change"]
    assert [stage.statuses(name) for name in ("c", "last")] == [["INTERFACE_DOWN", "OK"]] * 2


def test_a_table_that_is_refused_is_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile the data path has none, not the old one: its sockets may be closed."""
    stage = run(connection(path(1, keepalive_time=0.0, dead_time=0.0)))
    good, given = stage.datapath.set_table, []

    def refuse(table: Table, now: float) -> None:
        given.append(table)
        if table:
            raise MemoryError
        good(table, now)

    monkeypatch.setattr(stage.datapath, "set_table", refuse)
    with logged() as log:
        stage.root.runs.add(connection(name="other", ip_remote=OTHER, local_port=5000))
        stage.reactor.advance(0)
    assert [len(table) for table in given] == [2, 0]
    assert log.of("critical") == ["tun0: the data path refuses its table; no packet is carried"]
    assert not flows(stage)
    monkeypatch.setattr(stage.datapath, "set_table", good)
    stage.reactor.pass_time(RETRY_REFUSED + 1, step=0.1)
    assert flows(stage)


@pytest.mark.parametrize("over", ["tun", "a path"])
def test_the_send_buffers_are_looked_at_in_every_wake_up(run: Run, monkeypatch: pytest.MonkeyPatch, over: str) -> None:
    """The native data path reads the TUN in a wake-up of a socket, too: an upload that acknowledgements drive."""
    stage = run()
    looks: list[float] = []
    monkeypatch.setattr(stage.root.runs.tunnels[0]._queues, "sent", looks.append)
    if over == "tun":
        stage.tun.inject(PACKET)
        stage.reactor.read_all()
    else:
        stage.receive(1, bytes.fromhex("00000800") + REPLY)
    assert looks == [stage.reactor.seconds()]

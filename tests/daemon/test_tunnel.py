"""One tunnel: its interface goes and comes back, one bad connection is left out, refused sockets are tried again."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest

from mpt.daemon.connection import Connection
from mpt.daemon.tunnel import RETRY_REFUSED
from mpt.data.pathtable import ConnectionRow
from tests.daemon.logged import logged
from tests.daemon.stage import LOCAL, PACKET, REMOTE, Run, Stage, connection, path

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
    """Whether a packet of the host leaves over a path."""
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
    """The daemon ends then, and not as if it had been asked to."""
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
    """It is left out, which is logged once; it joins when it is mended."""
    good = Connection.row

    def row(self: Connection) -> ConnectionRow:
        if self.config.name == "bad":
            raise ValueError("a bug")
        return good(self)

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

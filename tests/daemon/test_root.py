"""The whole daemon: it starts completely or not at all, and stops without a trace."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address

import pytest

from mpt.errors import HostError
from mpt.local.statustext import start_text
from mpt.model import TunnelConfig
from tests.daemon.logged import logged
from tests.daemon.stage import GENERAL, LOCAL, PACKET, REMOTE, REPLY, TUNNEL, Run, connection


def sequenced(number: int) -> bytes:
    return bytes.fromhex("10000800") + number.to_bytes(4, "big") + REPLY


def test_the_start_is_announced_once_with_the_guides_block(run: Run) -> None:
    """The foreground daemon prints the guide's block (guide 3)."""
    stage = run()
    assert stage.ready == 1
    assert start_text(GENERAL, [(TUNNEL, "/dev/net/tun", 7)]) == (
        "Tunnel information:\n"
        "Tunnel interface : tun0\n"
        "Tunnel device    : /dev/net/tun\n"
        "Tunnel file desc.: 7\n"
        "Tunnel ipv4 addr.: 10.0.0.2/24\n"
        "Tunnel ipv6 addr.: fec0::2/64\n"
        "CMD server port number : 65050\n"
        "CMD client port number : 65050\n"
        "Global server      : 0\n"
    )


def test_the_tunnel_has_its_addresses_mtu_and_queue(run: Run) -> None:
    """The tunnel is as in interface.conf."""
    stage = run()
    interface = stage.netlink.snapshot()["tun0"]
    assert (interface.up, interface.mtu, stage.netlink.queue_lengths["tun0"]) == (True, 1440, 1500)
    assert [str(address) for address in interface.addresses] == ["10.0.0.2/24", "fec0::2/64"]


@pytest.mark.parametrize(
    ("call", "number"), [("open", errno.ENOENT), ("ioctl", errno.EPERM), ("bind", errno.EADDRINUSE)]
)
def test_a_start_that_fails_leaves_nothing_behind_and_says_why(run: Run, call: str, number: int) -> None:
    """No TUN, no socket, no route, no timer: the fixture looks."""
    stage = run()
    stage.stop()
    stage.system.fail(call, number)
    stage.start()
    assert [type(error) for error in stage.refused] == [HostError]
    assert stage.ready == 1
    assert stage.reactor.getDelayedCalls() == [] and stage.reactor.readers == []


@pytest.mark.parametrize("call", ["open", "ioctl", "socket"])
def test_a_start_that_meets_a_bug_leaves_nothing_behind(run: Run, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception ends the start."""
    stage = run()
    stage.stop()

    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(stage.system, call, broken)
    stage.start()
    assert [str(error) for error in stage.refused] == ["a bug"]
    assert stage.ready == 1
    assert stage.reactor.getDelayedCalls() == [] and stage.reactor.readers == []


def test_a_second_tunnel_that_fails_takes_the_first_down(run: Run) -> None:
    """A start that fails leaves nothing behind."""
    second = TunnelConfig("tun0", 1440, IPv4Interface("10.9.0.2/24"))
    stage = run(connection(), connection(name="d", ip_local=ip_address("10.9.0.2")), tunnels=(TUNNEL, second))
    assert len(stage.refused) == 1
    assert "tun0" in str(stage.refused[0])


def test_packets_flow_through_two_tunnels(run: Run) -> None:
    """Each tunnel has its own device and data path."""
    second = TunnelConfig("tun1", 1440, IPv4Interface("10.9.0.2/24"))
    other = connection(name="d", ip_local=ip_address("10.9.0.2"), ip_remote=ip_address("10.9.0.3"), local_port=5000)
    stage = run(connection(), other, tunnels=(TUNNEL, second))
    stage.clear()
    packet = PACKET.replace(LOCAL.packed + REMOTE.packed, other.ip_local.packed + other.ip_remote.packed)
    stage.system.tuns["tun1"].inject(packet)
    stage.tun.inject(PACKET)
    stage.reactor.read_all()
    sent = {each.bound[1]: each.sent for each in stage.system.sockets if each.sent}
    inner = {port: [datagram[4:] for datagram, _ in out] for port, out in sent.items()}
    assert inner == {23456: [PACKET], 5000: [packet]}


def test_the_flush_loop_runs_only_while_something_is_held(run: Run) -> None:
    """A gap starts it, the deadline delivers, and it ends."""
    stage = run(connection(reorder_window=100, max_buffdelay_msec=200))
    idle = len(stage.reactor.getDelayedCalls())
    stage.receive(1, sequenced(0))
    stage.receive(1, sequenced(2))
    assert stage.tun.delivered() == [REPLY]
    assert len(stage.reactor.getDelayedCalls()) == idle + 1
    stage.reactor.pass_time(0.19)
    assert stage.tun.delivered() == []
    stage.reactor.pass_time(0.02)
    assert stage.tun.delivered() == [REPLY]
    assert len(stage.reactor.getDelayedCalls()) == idle


def test_stopping_delivers_what_is_held(run: Run) -> None:
    """Held packets are delivered at the end."""
    stage = run(connection(reorder_window=100))
    stage.receive(1, sequenced(0))
    stage.receive(1, sequenced(2))
    datapath = stage.datapath
    assert datapath.counters().packets_held == 1
    stage.stop()
    assert datapath.counters().packets_delivered == 2


def test_a_tunnel_that_was_switched_off_and_on_gets_back_what_the_kernel_took(run: Run) -> None:
    """ip link set tun0 down; ip link set tun0 up."""
    stage = run()
    before = stage.netlink.snapshot()["tun0"], sorted(map(str, stage.netlink.routes))
    stage.netlink.set_link("tun0", False)
    stage.network_changed()
    stage.netlink.set_link("tun0", True)
    stage.network_changed()
    after = stage.netlink.snapshot()["tun0"], sorted(map(str, stage.netlink.routes))
    assert set(after[0].addresses) == set(before[0].addresses)
    assert after[1] == before[1]


def test_an_address_that_another_program_takes_is_put_back_with_its_routes(run: Run) -> None:
    """ip address flush dev tun0: the log tells it once an address. One that the operator has taken stays away."""
    stage = run()
    before = set(stage.netlink.snapshot()["tun0"].addresses), sorted(map(str, stage.netlink.routes))
    with logged() as log:
        for _ in range(3):
            for address in TUNNEL.addresses:
                stage.netlink.delete_address("tun0", address)
            stage.network_changed()
            after = set(stage.netlink.snapshot()["tun0"].addresses), sorted(map(str, stage.netlink.routes))
            assert after == before
    assert sorted(line.partition(": it is put back")[0] for line in log.of("warn")) == [
        f"another program has taken {address} from tun0" for address in TUNNEL.addresses
    ]
    stage.ask("address del fec0::2/64 dev tun0")
    stage.netlink.delete_address("tun0", TUNNEL.addresses[0])
    stage.network_changed()
    assert stage.netlink.snapshot()["tun0"].addresses == TUNNEL.addresses[:1]
    stage.ask("address add fec0::2/64 dev tun0")
    stage.netlink.delete_address("tun0", TUNNEL.addresses[1])
    stage.network_changed()
    assert set(stage.netlink.snapshot()["tun0"].addresses) == before[0]


def test_it_can_start_again_after_a_stop(run: Run) -> None:
    """A stopped daemon can start again."""
    stage = run(replace(connection(), reorder_window=10))
    stage.stop()
    stage.start()
    assert stage.ready == 2
    assert stage.statuses() == ["OK", "OK"]

"""A path: keepalives out, life signs in, and what becomes of it when its interface does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, ip_address

import pytest

from mpt.model import Status
from tests.daemon.logged import logged
from tests.daemon.stage import KEEPALIVE_IN, KEEPALIVE_OUT, PACKET, Run, Stage, connection, path


def test_a_keepalive_is_sent_at_once_and_then_every_keepalive_time(run: Run) -> None:
    """The first goes out at the start, one more each second."""
    stage = run()
    assert stage.sent("eth1") == [KEEPALIVE_OUT]
    stage.reactor.pass_time(3.05)
    assert stage.sent("eth1") == [KEEPALIVE_OUT] * 3
    assert stage.sent("eth2") == [KEEPALIVE_OUT] * 4


def test_keepalives_go_to_the_peers_address_and_port(run: Run) -> None:
    """They leave by the data socket, to where data goes."""
    stage = run()
    assert stage.socket("eth1").sent == [(KEEPALIVE_OUT, ("10.1.1.3", 23456))]


def test_a_silent_path_dies_after_the_dead_time_and_a_keepalive_revives_it(run: Run) -> None:
    """At 3 s without a keepalive it is down, carries nothing, and one keepalive brings it back."""
    stage = run()
    for _ in range(4):
        stage.receive(2, KEEPALIVE_IN)
        stage.reactor.pass_time(0.74)
    assert stage.statuses() == ["OK", "OK"]
    stage.reactor.pass_time(0.06)
    assert stage.statuses() == ["DOWN", "OK"]
    stage.clear()
    for _ in range(4):
        stage.tun.inject(PACKET)
    stage.reactor.read_all()
    assert stage.sent("eth1") == []
    assert len(stage.sent("eth2")) == 4
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses() == ["OK", "OK"]


def test_a_daemon_that_stood_still_reads_before_it_calls_a_path_dead(run: Run) -> None:
    """A machine that slept, or had no time for us: the keepalives of the peer wait in the socket. Without any the path
    is dead."""
    stage = run()
    stage.receive(1, KEEPALIVE_IN)
    stage.receive(2, KEEPALIVE_IN)
    stage.socket("eth1").deliver(KEEPALIVE_IN, ("10.1.1.3", 23456))
    with logged() as log:
        stage.reactor.stand_still(60.0)
    assert stage.statuses() == ["OK", "DOWN"]
    assert not [line for line in log if "path_0" in line]
    stage.reactor.stand_still(3.1)
    assert stage.statuses() == ["DOWN", "DOWN"]


def test_a_revived_path_answers_at_once(run: Run) -> None:
    """The other end is up after a round trip, not after its keepalive time."""
    stage = run()
    stage.reactor.pass_time(3.5)
    assert stage.statuses() == ["DOWN", "DOWN"]
    stage.sent("eth1")
    stage.receive(1, KEEPALIVE_IN)
    assert stage.sent("eth1") == [KEEPALIVE_OUT]
    stage.receive(1, KEEPALIVE_IN)
    assert stage.sent("eth1") == []


def test_a_path_that_starts_down_waits_for_a_keepalive_and_sends_its_own(run: Run) -> None:
    """status = 128 in the file."""
    stage = run(connection(path(1, status=Status.DOWN), path(2)))
    assert stage.statuses() == ["DOWN", "OK"]
    assert stage.sent("eth1") == [KEEPALIVE_OUT]
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses() == ["OK", "OK"]


def test_without_keepalive_time_nothing_is_sent_and_nothing_dies(run: Run) -> None:
    """keepalive_time = 0 switches the mechanism off."""
    stage = run(connection(path(1, keepalive_time=0.0), path(2, keepalive_time=0.0)))
    stage.reactor.pass_time(20.0, step=1.0)
    assert stage.statuses() == ["OK", "OK"]
    assert stage.sent("eth1") == []


def test_a_keepalive_that_cannot_be_sent_raises_nothing_and_the_next_one_is_tried(run: Run) -> None:
    """Errors such as ENETUNREACH and ENOBUFS pass. A full socket (EAGAIN) is asked once more at once."""
    stage = run()
    stage.clear()
    stage.system.fail("sendto", errno.ENETUNREACH, errno.ENOBUFS, errno.ECONNREFUSED, errno.EAGAIN, errno.EAGAIN)
    stage.reactor.pass_time(3.5)
    assert len(stage.sent("eth1") + stage.sent("eth2")) == 2


def test_carrier_loss_takes_a_path_down_at_once_and_it_returns_with_the_peers_keepalive(run: Run) -> None:
    """No waiting for dead_time; after the return the peer must be heard first."""
    stage = run()
    stage.netlink.set_carrier("eth1", False)
    stage.network_changed()
    assert stage.statuses() == ["INTERFACE_DOWN", "OK"]
    stage.sent("eth1")
    stage.reactor.pass_time(2.0)
    assert stage.sent("eth1") == []
    stage.netlink.set_carrier("eth1", True)
    stage.network_changed()
    assert stage.statuses()[0] == "DOWN"
    assert stage.sent("eth1") == [KEEPALIVE_OUT]
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses()[0] == "OK"


def test_carrier_that_returns_without_keepalives_is_enough(run: Run) -> None:
    """Without keepalives a returned carrier is enough."""
    stage = run(connection(path(1, keepalive_time=0.0), path(2)))
    stage.netlink.set_carrier("eth1", False)
    stage.network_changed()
    stage.netlink.set_carrier("eth1", True)
    stage.network_changed()
    assert stage.statuses() == ["OK", "OK"]


def test_an_interface_that_is_made_anew_gets_a_new_socket(run: Run) -> None:
    """A USB modem that comes back under its old name has another index; the old socket would be deaf."""
    stage = run()
    before = stage.socket("eth1")
    stage.netlink.remove_interface("eth1")
    stage.network_changed()
    assert stage.statuses() == ["INTERFACE_DOWN", "OK"]
    assert [each.interface for each in stage.data_sockets] == ["eth2"]
    stage.netlink.add_interface("eth1", "10.1.1.2/24")
    stage.network_changed()
    assert stage.socket("eth1") is not before
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses() == ["OK", "OK"]


@contextmanager
def started(stage: Stage) -> Iterator[None]:
    """Run a stage whose machine is not the usual one."""
    stage.start()
    yield
    stage.stop()


def test_a_removed_address_takes_the_path_down_until_it_is_back(run: Run) -> None:
    """The socket goes and comes with the address that it is bound to."""
    stage = run()
    address = stage.netlink.snapshot()["eth1"].addresses[0]
    stage.netlink.delete_address("eth1", address)
    stage.network_changed()
    assert stage.statuses() == ["ADDRESS_DOWN", "OK"]
    stage.netlink.add_address("eth1", address)
    stage.network_changed()
    stage.receive(1, KEEPALIVE_IN)
    assert stage.statuses() == ["OK", "OK"]


def test_a_path_without_a_fixed_address_follows_that_of_its_interface(run: Run) -> None:
    """private_ipaddr = 0.0.0.0: the socket is bound to whatever DHCP gives."""
    stage = run(connection(path(1, private_ipaddr=ip_address("0.0.0.0")), path(2)))
    assert stage.socket("eth1").bound == ("10.1.1.2", 23456)
    stage.netlink.delete_address("eth1", stage.netlink.snapshot()["eth1"].addresses[0])
    stage.netlink.add_interface("eth1", "192.0.2.7/24")
    stage.network_changed()
    assert stage.socket("eth1").bound == ("192.0.2.7", 23456)


def test_a_socket_that_is_refused_later_is_tried_again_at_the_next_change(run: Run) -> None:
    """At run time a refusal is a missing address, not the end of the daemon."""
    stage = run()
    stage.netlink.remove_interface("eth1")
    stage.network_changed()
    stage.system.fail("bind", errno.EADDRINUSE)
    stage.netlink.add_interface("eth1", "10.1.1.2/24")
    stage.network_changed()
    assert stage.statuses() == ["ADDRESS_DOWN", "OK"]
    stage.netlink.fire_event("eth2")
    stage.network_changed()
    assert stage.statuses() == ["DOWN", "OK"]


@pytest.mark.parametrize("bound", [True, False])
def test_bind_to_device_decides_whether_the_socket_is_bound_to_its_interface(run: Run, bound: bool) -> None:
    """bind_to_device = 0 leaves the way to the routing table."""
    stage = run(connection(path(1, bind_to_device=bound)))
    assert [each.interface for each in stage.data_sockets] == ["eth1" if bound else None]


def both_have(stage: Stage) -> Stage:
    """One more address, on both interfaces."""
    for name in ("eth1", "eth2"):
        stage.netlink.add_address(name, IPv4Interface("10.9.9.2/32"))
    return stage


ONE_ADDRESS = {"private_ipaddr": ip_address("10.9.9.2")}


def test_unbound_paths_at_one_address_share_a_socket(run: Run) -> None:
    """Two uplinks, one address, bind_to_device = 0: the peers tell the paths apart. An interface that is made anew does
    not concern the socket."""
    paths = [path(number, bind_to_device=False, **ONE_ADDRESS) for number in (1, 2)]
    stage = both_have(Stage(connection(*paths)))
    with started(stage):
        (socket,) = [each for each in stage.data_sockets if each.bound[0] == "10.9.9.2"]
        assert socket.bound == ("10.9.9.2", 23456)
        for number in (1, 2):
            socket.deliver(KEEPALIVE_IN, (f"10.{number}.{number}.3", 23456))
        stage.reactor.read_all()
        stage.reactor.pass_time(2.5)
        assert stage.statuses() == ["OK", "OK"]
        stage.netlink.remove_interface("eth2")
        stage.network_changed()
        assert stage.statuses() == ["OK", "INTERFACE_DOWN"]
        assert socket in stage.data_sockets


def test_our_own_socket_in_the_way_is_not_called_another_program(run: Run) -> None:
    """A path that is bound to its interface and one that is not cannot have the same address and port."""
    paths = [path(1, bind_to_device=True, **ONE_ADDRESS), path(2, bind_to_device=False, **ONE_ADDRESS)]
    stage = both_have(Stage(connection(*paths)))
    with started(stage):
        assert [str(error) for error in stage.refused] == [
            "UDP port 23456 at 10.9.9.2 is in use by another path of ours, path_0 of c: "
            "give both the same bind_to_device"
        ]


def test_data_keeps_a_path_alive_whose_keepalives_are_lost(run: Run) -> None:
    """A full queue drops keepalives, too; data over the path shows that it works."""
    stage = run()
    reply = bytes.fromhex("00000800") + PACKET[:12] + PACKET[16:20] + PACKET[12:16] + PACKET[20:]
    for _ in range(10):
        stage.receive(1, reply)
        stage.reactor.pass_time(1.0)
    assert stage.statuses() == ["OK", "DOWN"]


def test_the_keepalives_of_all_paths_leave_together(run: Run) -> None:
    """From the times at which they arrive the peer sees how the delays differ, also after a path has joined late."""
    stage = run()
    stage.netlink.set_carrier("eth2", False)
    stage.network_changed()
    stage.reactor.pass_time(0.37)
    stage.netlink.set_carrier("eth2", True)
    stage.network_changed()
    stage.clear()
    sent: dict[str, list[int]] = {"eth1": [], "eth2": []}
    for step in range(300):
        stage.reactor.advance(0.01)
        for name, steps in sent.items():
            steps += [step] * len(stage.sent(name))
    assert sent["eth1"] == sent["eth2"] and len(sent["eth1"]) == 3


def test_an_answer_to_a_reviving_keepalive_does_not_put_the_paths_out_of_step(run: Run) -> None:
    """The answer is an additional keepalive."""
    stage = run()
    stage.reactor.pass_time(3.4)
    stage.receive(1, KEEPALIVE_IN)
    stage.clear()
    stage.reactor.pass_time(0.5, step=0.5)
    stage.reactor.pass_time(0.2, step=0.2)
    assert stage.sent("eth1") == stage.sent("eth2") == [KEEPALIVE_OUT]

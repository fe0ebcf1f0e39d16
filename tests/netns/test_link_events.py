"""Interfaces, addresses and daemons come and go; the kernel's word is enough, no dead time has to pass."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Link, Shape
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import DATA_PORT, Daemon, Description, Tunnel
from tests.netns.support import answers, figure_3, on_every_data_plane, status_count, udp_sockets, wait_until
from tests.netns.support import no_traceback as no_traceback

A, B = "10.0.0.1", "10.0.0.2"  # inside the tunnel
ETH_P_IP = 0x0800


def datagram_from(host: Host, interface: str, source: str, timeout: float = 2.0) -> bool:
    """Whether a datagram from UDP `source`, data port, arrives at `interface` of `host`."""
    wanted = socket.inet_aton(source)
    with host.call(socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as sniffer:
        sniffer.bind((interface, ETH_P_IP))
        sniffer.settimeout(timeout)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            packet = sniffer.recv(2000)
            if packet[12:16] == wanted and struct.unpack_from("!H", packet, 20) == (DATA_PORT,):
                return True
    return False


def rate(link: Link, seconds: float = 0.3) -> float:
    """What `link` carries from a to b now, in Mbit/s."""
    before, started = link.carried_bytes()[0], time.monotonic()
    time.sleep(seconds)
    return (link.carried_bytes()[0] - before) * 8e-6 / (time.monotonic() - started)


@on_every_data_plane
def test_a_link_event_does_not_wait_for_the_dead_time(lab: Lab) -> None:
    """With a dead time of 11 s a pulled cable takes the path down at both ends as soon as the kernel tells, no ping is
    lost from then on, and the path is back soon after the cable."""
    a, _, links = figure_3(lab)
    tunnel = Tunnel(Description(links, keepalive=5, dead=11), lab.directory)
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    links[0].pull()
    down = wait_until(lambda: all(status_count(each, 0, "interface down") for each in tunnel.daemons), "down", 1)
    assert None not in ping(a, B, count=10, interval=0.01)
    links[0].plug()
    up = wait_until(lambda: all(status_count(each, 0, "up") for each in tunnel.daemons), "up", 2)
    assert None not in ping(a, B, count=10, interval=0.01)
    print(f"\ncarrier, dead time 11 s: down after {down:.2f} s, up after {up:.2f} s")


@on_every_data_plane
def test_an_address_is_removed_and_returns(lab: Lab) -> None:
    """A path whose local address is removed is down within a second and up again when the address returns."""
    a, _, links = figure_3(lab)
    daemon, _ = Tunnel(Description(links, keepalive=0.2, dead=11), lab.directory).daemons
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    a.ip("address delete 10.1.1.2/24 dev eth1")
    down = wait_until(lambda: status_count(daemon, 0, "address down"), "path_0 without its address", 1)
    assert f"10.1.1.2%eth1:{DATA_PORT}" not in udp_sockets(a)
    a.ip("address add 10.1.1.2/24 dev eth1")
    up = wait_until(lambda: status_count(daemon, 0, "up"), "path_0 up", 1)
    assert None not in ping(a, B, count=20, interval=0.01)
    print(f"\naddress: down after {down:.2f} s, up after {up:.2f} s")


@on_every_data_plane
def test_an_interface_disappears_and_is_made_anew(lab: Lab) -> None:
    """An interface that is unplugged and returns, as a USB modem's does, carries its half of the same stream again."""
    a, b, links = figure_3(lab, Shape(rate_mbit=50), Shape(rate_mbit=50))
    extra = {"path_0": ["dead_time = 0.3"]}
    daemon, _ = Tunnel(Description(links, reorder_window=1000, extra=extra), lab.directory).daemons
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    transfer = Transfer(a, b, B, seconds=5, warmup=0.5)
    time.sleep(1.5)
    links[0].remove_interface("a")
    wait_until(lambda: status_count(daemon, 0, "interface down"), "path_0 down", 1)
    time.sleep(0.5)
    links[0].return_interface("a")
    b.ip("neighbor flush dev eth1")  # it has another hardware address now, which Linux takes in only after a second
    up = wait_until(lambda: status_count(daemon, 0, "up"), "path_0 up", 2)
    full = wait_until(lambda: rate(links[0]) > 45, "path_0 full again", 3)
    result = transfer.finish()
    print(f"\nnew interface: up after {up:.2f} s, full after {full:.2f}; longest gap {result.longest_gap:.3f} s")
    assert result.verified
    assert result.longest_gap < 0.5
    assert f"10.1.1.2%eth1:{DATA_PORT}" in udp_sockets(a)


@on_every_data_plane
def test_the_address_of_a_path_changes(lab: Lab) -> None:
    """With private_ipaddr = 0.0.0.0 a path follows the address of its interface: its socket is made anew, datagrams
    leave from the new address, and with the old one back the tunnel is whole again."""
    a, b, links = figure_3(lab)
    extra = {"path_0": ["private_ipaddr = 0.0.0.0", "dead_time = 0.3"]}
    daemon, _ = Tunnel(Description(links, extra=extra), lab.directory).daemons
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    assert f"10.1.1.2%eth1:{DATA_PORT}" in udp_sockets(a)
    a.ip("address delete 10.1.1.2/24 dev eth1", "address add 10.1.1.20/24 dev eth1")
    wait_until(lambda: f"10.1.1.20%eth1:{DATA_PORT}" in udp_sockets(a), "the new socket", 1)
    assert f"10.1.1.2%eth1:{DATA_PORT}" not in udp_sockets(a)
    assert datagram_from(b, "eth1", "10.1.1.20")
    wait_until(lambda: status_count(daemon, 0, "down"), "path_0 down: the peer does not know this address", 2)
    assert None not in ping(a, B, count=10, interval=0.01)
    a.ip("address delete 10.1.1.20/24 dev eth1", "address add 10.1.1.2/24 dev eth1")
    wait_until(lambda: status_count(daemon, 0, "up"), "path_0 up", 2)
    assert f"10.1.1.2%eth1:{DATA_PORT}" in udp_sockets(a)


@on_every_data_plane
@pytest.mark.parametrize("killed", ["a", "b"])
def test_a_daemon_that_was_killed_starts_again(lab: Lab, killed: str) -> None:
    """When one daemon dies by SIGKILL and is started again, a ping every 0.1 s with a reorder window of 1000 is
    answered again within a second of its start, though its sequence numbers begin anew; the other daemon is not
    touched."""
    a, _, links = figure_3(lab)
    tunnel = Tunnel(Description(links, dead=0.3, reorder_window=1000), lab.directory)
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    ping(a, B, count=30, interval=0.1, timeout=0.3)  # sequence numbers well beyond those after a restart
    victim = tunnel.daemons["ab".index(killed)]
    victim.process.kill()
    for _ in range(5):
        assert not answers(a, B, timeout=0.1)
        time.sleep(0.05)
    again = Daemon(victim.host, victim.directory)
    again.wait_until_ready()
    seconds = wait_until(lambda: answers(a, B, timeout=0.1), "an answer after the restart", 1)
    print(f"\n{killed} killed: answers {seconds:.2f} s after the restart")
    wait_until(lambda: ping(a, B, count=10, interval=0.1, timeout=0.3).count(None) == 0, "ten answers in a row", 3)

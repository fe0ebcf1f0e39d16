"""A tunnel interface, on the fake and on the kernel's device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface

import pytest

from mpt.errors import HostError
from mpt.host.sockets import open_data_socket
from mpt.host.tun import Tun, open_tun
from mpt.model import TunnelConfig
from tests.host.machines import Machine, udp_packet

CONFIG = TunnelConfig(
    name="tun0", mtu=1440, ipv4_addr=IPv4Interface("10.0.0.2/24"), ipv6_addr=IPv6Interface("fec0::2/64")
)

OpenTunnel = Callable[[TunnelConfig], Tun]


@pytest.fixture
def open_tunnel(machine: Machine) -> Iterator[OpenTunnel]:
    opened: list[Tun] = []

    def open_one(config: TunnelConfig = CONFIG) -> Tun:
        opened.append(open_tun(config, machine.system, machine.netlink))
        return opened[-1]

    yield open_one
    for tun in opened:
        tun.close()


def test_the_interface_is_as_configured(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A new tunnel is up, with the MTU and exactly the addresses of the configuration, no fe80:: beside them."""
    tun = open_tunnel(CONFIG)
    interface = machine.netlink.snapshot()["tun0"]
    assert (tun.name, tun.device) == ("tun0", "/dev/net/tun")
    assert (interface.up, interface.carrier, interface.mtu) == (True, True, 1440)
    assert interface.addresses == (CONFIG.ipv4_addr, CONFIG.ipv6_addr)


def test_an_address_may_be_missing(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A tunnel with IPv4 alone has no IPv6 address, and the other way round."""
    open_tunnel(replace(CONFIG, ipv6_addr=None))
    open_tunnel(replace(CONFIG, name="tun1", ipv4_addr=None))
    assert machine.netlink.snapshot()["tun0"].addresses == (CONFIG.ipv4_addr,)
    assert machine.netlink.snapshot()["tun1"].addresses == (CONFIG.ipv6_addr,)


def test_the_ipv6_address_is_usable_at_once(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A socket can be bound to the tunnel's IPv6 address as soon as the tunnel is open."""
    open_tunnel(CONFIG)
    open_data_socket(IPv6Address("fec0::2"), 0, None, machine.system).close()


def test_a_new_tunnel_is_silent(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A read from a tunnel into which nobody sent anything would block, and says so."""
    tun = open_tunnel(CONFIG)
    with pytest.raises(BlockingIOError):
        machine.system.read(tun.fd, 2000)


@pytest.mark.parametrize(("destination", "version"), [("10.0.0.3", 4), ("fec0::3", 6)])
def test_one_read_gives_one_packet(machine: Machine, open_tunnel: OpenTunnel, destination: str, version: int) -> None:
    """Packets that the host sends to the tunnel's network are read whole, one at a time, in order."""
    tun = open_tunnel(CONFIG)
    machine.send_into_tunnel(tun, destination, b"first")
    machine.send_into_tunnel(tun, destination, b"second")
    packets = [machine.system.read(tun.fd, 2000), machine.system.read(tun.fd, 2000)]
    assert [packet[0] >> 4 for packet in packets] == [version, version]
    assert packets[0].endswith(b"first") and packets[1].endswith(b"second")


def test_a_written_packet_reaches_the_host(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """An IP packet written to the tunnel arrives at the socket that it is addressed to."""
    tun = open_tunnel(CONFIG)
    assert machine.receive_from_tunnel(tun, udp_packet("10.0.0.3", "10.0.0.2", b"payload")) == b"payload"


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 40, b"\xff" * 40])
def test_only_ip_packets_can_be_written(machine: Machine, open_tunnel: OpenTunnel, garbage: bytes) -> None:
    """Bytes that are no IP packet are refused with EINVAL."""
    tun = open_tunnel(CONFIG)
    with pytest.raises(OSError, match="Invalid argument"):
        machine.system.write(tun.fd, garbage)


def test_nothing_can_be_written_while_it_is_down(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A tunnel that the operator switched off refuses packets with EIO."""
    tun = open_tunnel(CONFIG)
    machine.netlink.set_link("tun0", up=False)
    with pytest.raises(OSError, match="Input/output error"):
        machine.system.write(tun.fd, udp_packet("10.0.0.3", "10.0.0.2", b"payload"))


def test_close_removes_the_interface(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A closed tunnel is gone, closing it again does nothing, and its name is free for the next."""
    tun = open_tunnel(CONFIG)
    tun.close()
    tun.close()
    assert "tun0" not in machine.netlink.snapshot()
    open_tunnel(CONFIG)


def test_the_kernel_completes_a_pattern(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A name with %d gets the first free number, and the tunnel knows which."""
    open_tunnel(CONFIG)
    assert open_tunnel(TunnelConfig(name="tun%d", ipv4_addr=IPv4Interface("10.0.1.2/24"))).name == "tun1"


def test_a_tunnel_in_use_is_refused(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """A name that another program's tunnel has is refused, and that tunnel stays."""
    open_tunnel(CONFIG)
    with pytest.raises(HostError, match="tun0 is in use by another program"):
        open_tunnel(CONFIG)
    assert machine.netlink.snapshot()["tun0"].up


def test_the_name_of_another_interface_is_refused(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """The name of an interface that is no tunnel is refused."""
    machine.add_interface("eth1")
    with pytest.raises(HostError, match="there is an interface eth1 already"):
        open_tunnel(replace(CONFIG, name="eth1"))


@pytest.mark.parametrize("mtu", [67, 65536])
def test_a_bad_mtu_is_refused(machine: Machine, open_tunnel: OpenTunnel, mtu: int) -> None:
    """An MTU that the kernel does not take is named, and no interface stays behind."""
    with pytest.raises(HostError, match=f"MTU of {mtu} for tun0"):
        open_tunnel(replace(CONFIG, mtu=mtu))
    assert "tun0" not in machine.netlink.snapshot()


def test_ipv6_needs_its_mtu(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """An IPv6 address on a tunnel with an MTU below 1280 is refused with the reason, and no interface stays behind."""
    with pytest.raises(HostError, match="fec0::2/64 on tun0: IPv6 needs an MTU of 1280"):
        open_tunnel(replace(CONFIG, mtu=1279))
    assert "tun0" not in machine.netlink.snapshot()


def test_ipv6_switched_off_is_said(machine: Machine, open_tunnel: OpenTunnel) -> None:
    """Where the operator disabled IPv6, the sysctl is named, and no interface stays behind."""
    machine.disable_ipv6()
    with pytest.raises(HostError, match=r"net\.ipv6\.conf\.tun0\.disable_ipv6 = 1"):
        open_tunnel(CONFIG)
    assert "tun0" not in machine.netlink.snapshot()
    open_tunnel(replace(CONFIG, ipv6_addr=None))

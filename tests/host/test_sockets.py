"""What the data sockets do beyond the contract: refusals that only a script can bring, and the real kernel's part."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address, ip_network

import pytest

from mpt.errors import HostError
from mpt.host.sockets import (
    BUFFER_SIZE,
    IP_MTU_DISCOVER,
    IP_PMTUDISC_OMIT,
    SO_RCVBUFFORCE,
    allow_fragments,
    open_data_socket,
)
from mpt.host.udp import SO_SNDBUFFORCE, UDP_SEGMENT
from mpt.model import Route
from mpt.testing.netlink import FakeNetlink
from mpt.testing.system import FakeSystem
from tests.host.machines import PATIENCE, real_machine, run

ADDRESS = ip_address("10.1.1.2")


@pytest.fixture
def system() -> FakeSystem:
    netlink = FakeNetlink()
    netlink.add_interface("eth1", "10.1.1.2/24", "fd01::2/64")
    return FakeSystem(netlink)


@pytest.mark.parametrize(
    ("call", "errors", "text"),
    [
        ("socket", [errno.EAFNOSUPPORT], "cannot open a UDP socket for IPv4: Address family not supported"),
        ("setsockopt", [None, None, errno.EPERM], "no privilege to bind a socket to the interface eth1: .*CAP_NET_RAW"),
        ("setsockopt", [None, None, errno.EIO], "cannot bind a socket to the interface eth1: Input/output error"),
        ("bind", [errno.EACCES], "no privilege for UDP port 23456"),
        ("bind", [errno.EIO], "cannot use UDP port 23456 at 10.1.1.2: Input/output error"),
    ],
)
def test_the_reason_is_said(system: FakeSystem, call: str, errors: list[int | None], text: str) -> None:
    """Each refusal of the kernel becomes a sentence that says what to do, and nothing stays open."""
    system.fail(call, *errors)
    with pytest.raises(HostError, match=text):
        open_data_socket(ADDRESS, 23456, "eth1", system)
    assert system.sockets == []


def test_buffers_are_as_large_as_allowed(system: FakeSystem) -> None:
    """Without the privilege to force large buffers, the socket asks for them."""
    system.fail("setsockopt", errno.EPERM, None, errno.EPERM)
    open_data_socket(ADDRESS, 23456, None, system).close()
    system.fail("setsockopt", errno.EPERM)
    with open_data_socket(ADDRESS, 23456, None, system) as data_socket:
        options = system.sockets[0].options
        assert data_socket is system.sockets[0]
    assert options[socket.SOL_SOCKET, socket.SO_RCVBUF] == BUFFER_SIZE
    assert options[socket.SOL_SOCKET, SO_SNDBUFFORCE] == BUFFER_SIZE
    assert (socket.SOL_SOCKET, SO_RCVBUFFORCE) not in options


@pytest.mark.netns
def test_the_kernel_gives_the_buffers() -> None:
    """As root the buffers have their full size, whatever sysctl net.core.rmem_max says."""
    with real_machine(), open_data_socket(ip_address("127.0.0.1"), 0, "lo") as data_socket:
        assert data_socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * BUFFER_SIZE
        assert data_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 2 * BUFFER_SIZE


@pytest.mark.netns
@pytest.mark.parametrize(
    ("peer", "own"),
    [
        ("192.0.2.1", {"eth1": "10.1.1.2", "eth2": "10.2.2.2"}),
        ("2001:db8::1", {"eth1": "fd01::2", "eth2": "fd02::2"}),
    ],
)
def test_two_paths_lead_to_one_peer(peer: str, own: dict[str, str]) -> None:
    """Datagrams to one address leave over the interface that their socket is bound to, one metric for each route."""
    with real_machine() as machine:
        watchers = {}
        for metric, (name, address) in enumerate(own.items(), start=1):
            machine.add_interface(name, f"{address}/24" if "." in address else f"{address}/64")
            gateway = ip_address(address) + 7
            run("ip", "neigh", "add", str(gateway), "lladdr", "02:00:00:00:00:07", "dev", name)
            machine.netlink.add_route(Route(ip_network(peer), name, gateway, metric))
            watchers[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL
            watchers[name].bind((f"{name}-far", 0x0003))
            watchers[name].settimeout(PATIENCE)
        for name, address in own.items():
            with open_data_socket(ip_address(address), 23456, name) as data_socket:
                data_socket.sendto(name.encode(), (peer, 23456))
        for name, watcher in watchers.items():
            with watcher:
                while not (frame := watcher.recv(2000)).endswith((b"eth1", b"eth2")):
                    pass  # the kernel's own neighbour and multicast chatter
                assert frame.endswith(name.encode())


def test_no_datagram_has_the_bit_that_forbids_fragments(system: FakeSystem) -> None:
    """Neither single datagrams nor datagrams of a run have it; IPv6 has no such bit."""
    for address, expected in ((ADDRESS, IP_PMTUDISC_OMIT), (ip_address("fd01::2"), None)):
        with open_data_socket(address, 23456, "eth1", system):
            assert system.sockets[-1].options.get((socket.IPPROTO_IP, IP_MTU_DISCOVER)) == expected


@pytest.mark.netns
def test_a_socket_that_forbids_fragments_sends_whole_datagrams() -> None:
    """What fits the link has the bit that forbids fragments, also when it is cut from a run; more is refused."""
    largest = {4: 1500 - 28, 6: 1500 - 48}
    with real_machine() as machine:
        machine.add_interface("eth1", "10.1.1.2/24", "fd01::2/64")
        run("ip", "neigh", "add", "10.1.1.3", "lladdr", "02:00:00:00:00:07", "dev", "eth1")
        run("ip", "neigh", "add", "fd01::3", "lladdr", "02:00:00:00:00:07", "dev", "eth1")
        run("ethtool", "-K", "eth1", "tx-udp-segmentation", "off")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as watcher:  # ETH_P_ALL
            watcher.bind(("eth1-far", 0x0003))
            watcher.settimeout(PATIENCE)
            for version, own, peer in ((4, "10.1.1.2", "10.1.1.3"), (6, "fd01::2", "fd01::3")):
                with open_data_socket(ip_address(own), 23456, "eth1") as data_socket:
                    allow_fragments(data_socket, version, False)
                    with pytest.raises(OSError, match="Message too long"):
                        data_socket.sendto(bytes(largest[version] + 1), (peer, 23456))
                    data_socket.sendto(bytes(largest[version]), (peer, 23456))
                    run_of = [(socket.IPPROTO_UDP, UDP_SEGMENT, (700).to_bytes(2, "little"))]
                    data_socket.sendmsg([bytes(1400)], run_of, 0, (peer, 23456))
                    allow_fragments(data_socket, version, True)
                    data_socket.sendto(bytes(largest[version] + 1), (peer, 23456))
                sizes: list[int] = []
                while len(sizes) < 3:
                    frame = watcher.recv(2000)
                    if (
                        frame[12:14] == {4: b"\x08\x00", 6: b"\x86\xdd"}[version]
                        and frame[-1] == 0
                        and len(frame) > 600
                    ):
                        sizes.append(len(frame) - 14)
                        assert version == 6 or frame[20] == 0x40  # do not fragment
                assert sizes == [1500, 700 + 1500 - largest[version], 700 + 1500 - largest[version]]

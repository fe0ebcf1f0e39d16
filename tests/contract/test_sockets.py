"""The sockets of the paths, on the fake and on the kernel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from mpt.errors import HostError
from mpt.host.sockets import open_data_socket
from tests.host.machines import Machine

OpenSocket = Callable[..., socket.socket]


@pytest.fixture
def open_socket(machine: Machine) -> Iterator[OpenSocket]:
    """Opens data sockets on a machine with eth1 and eth2, and closes them afterwards."""
    machine.add_interface("eth1", "10.1.1.2/24", "fd01::2/64", "fe80::2/64")
    machine.add_interface("eth2", "10.2.2.2/24")
    opened: list[socket.socket] = []

    def open_one(address: str, port: int = 23456, interface: str | None = None) -> socket.socket:
        opened.append(open_data_socket(ip_address(address), port, interface, machine.system))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.mark.parametrize(("address", "family"), [("10.1.1.2", socket.AF_INET), ("fd01::2", socket.AF_INET6)])
@pytest.mark.parametrize("interface", ["eth1", None])
def test_a_socket_has_its_address(
    open_socket: OpenSocket, address: str, family: socket.AddressFamily, interface: str | None
) -> None:
    """A data socket is bound to the address and port asked for and does not block."""
    data_socket = open_socket(address, 23456, interface)
    assert data_socket.family == family
    assert data_socket.getsockname()[:2] == (address, 23456)
    with pytest.raises(BlockingIOError):
        data_socket.recvfrom(2000)


@pytest.mark.parametrize(
    ("address", "tells"),
    [("10.1.1.2", (socket.IPPROTO_IP, socket.IP_RECVTOS)), ("fd01::2", (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS))],
)
def test_a_socket_tells_the_marks(open_socket: OpenSocket, address: str, tells: tuple[int, int]) -> None:
    """A received datagram comes with its TOS octet or traffic class, for ECN."""
    assert open_socket(address, 23456).getsockopt(*tells) == 1


def test_port_0_is_any_port(open_socket: OpenSocket) -> None:
    """Port 0 gives a free port, each time another."""
    ports = {open_socket("10.1.1.2", 0).getsockname()[1] for _ in range(3)}
    assert len(ports) == 3 and 0 not in ports


def test_each_address_has_its_ports(open_socket: OpenSocket) -> None:
    """One port can be used at several addresses, and on IPv4 and IPv6 apart (also at ``::``)."""
    open_socket("10.1.1.2")
    open_socket("10.2.2.2")
    open_socket("::")


@pytest.mark.parametrize("interface", ["eth1", None])
def test_a_port_in_use_is_said(open_socket: OpenSocket, interface: str | None) -> None:
    """A second daemon on the same port fails, and the text says what to do."""
    open_socket("10.1.1.2", 23456, interface)
    with pytest.raises(
        HostError, match=r"UDP port 23456 at 10\.1\.1\.2 is in use by another program: stop it or change"
    ):
        open_socket("10.1.1.2", 23456, interface)


def test_a_closed_port_is_free(open_socket: OpenSocket) -> None:
    """A port can be opened again as soon as it is closed."""
    open_socket("10.1.1.2").close()
    open_socket("10.1.1.2")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_foreign_address_is_said(open_socket: OpenSocket, address: str) -> None:
    """An address that this machine does not have is refused by name."""
    with pytest.raises(HostError, match=f"{address} is not an address of eth1"):
        open_socket(address, 23456, "eth1")
    with pytest.raises(HostError, match=f"{address} is not an address of this machine"):
        open_socket(address)


@pytest.mark.parametrize("address", ["10.1.1.2", "fd01::2", "fe80::2"])
def test_a_missing_interface_is_said(open_socket: OpenSocket, address: str) -> None:
    """An interface that does not exist is refused by name."""
    with pytest.raises(HostError, match="there is no interface eth9"):
        open_socket(address, 23456, "eth9")


def test_a_link_local_address_needs_its_interface(open_socket: OpenSocket) -> None:
    """An fe80:: address is bound with its interface's index, from the binding or from the address itself."""
    index = open_socket("fe80::2", 1001, "eth1").getsockname()[3]
    assert open_socket("fe80::2%eth1", 1002).getsockname()[3] == index > 0
    with pytest.raises(HostError, match="needs an interface"):
        open_socket("fe80::2", 1003)

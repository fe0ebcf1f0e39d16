"""Which interfaces a new configuration may use."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from mpt.cli.interfaces import Line, chosen, default_interfaces, ipv6_addresses, lines

ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t00000000\t010011AC\t0003\t0\t0\t100\t00000080\t0\t0\t0
eth2\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
ZERO = "0" * 32
IPV6_ROUTE = f"""\
fd000000000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth3
{ZERO} 00 {ZERO} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     wwan0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 02 40 00 80     eth0
fe8000000000000000fc00fffe000001 02 40 20 80     eth0
20010db8000000000000000000000010 02 40 00 80     eth0
"""
ETH0, ETH1 = (Line(name, (), name == "eth0") for name in ("eth0", "eth1"))


def test_default_routes_are_found() -> None:
    """Of both versions; half of the Internet is no default route, nor is a way to nowhere."""
    assert default_interfaces(ROUTE, IPV6_ROUTE) == {"eth0", "wwan0"}
    assert default_interfaces("", "") == set()


def test_global_addresses_are_found() -> None:
    """In the kernel's order."""
    assert ipv6_addresses(IF_INET6) == {"eth0": [ip_interface("fd00::2/64"), ip_interface("2001:db8::10/64")]}


def test_this_machine_is_looked_at() -> None:
    """The loopback interface is none of them."""
    found = lines()
    assert "lo" not in {line.name for line in found}
    assert all(address.version in (4, 6) for line in found for address in line.addresses)


def test_lines_are_chosen() -> None:
    """Those that are named, in that order; all; those with a default route; the only one."""
    assert chosen("eth1,eth0,eth1", False, [ETH0, ETH1]) == [ETH1, ETH0]
    assert chosen(None, True, [ETH0, ETH1]) == [ETH0, ETH1]
    assert chosen(None, False, [ETH0, ETH1]) == [ETH0]
    assert chosen(None, False, [ETH1]) == [ETH1]


@pytest.mark.parametrize(
    ("wanted", "found", "message"),
    [
        ("eth9", [ETH0], "no such interface that is up; there are eth0"),
        (",", [ETH0], "needs the names"),
        (None, [ETH1, Line("eth2", (), False)], "name it with --paths; there are eth1, eth2"),
        (None, [], "there is none that is up"),
    ],
)
def test_what_cannot_be_chosen_is_told(wanted: str | None, found: list[Line], message: str) -> None:
    """With what there is."""
    with pytest.raises(ValueError, match=message):
        chosen(wanted, False, found)

"""A line is narrower than the tunnel, and nobody tells: its routers fragment, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from tests.netns.support import LIVELY, answers, at_least, edit, on_every_data_plane, samples, start, stream, wait_until
from tests.netns.support import no_traceback as no_traceback

PEER = "10.0.0.3"
NARROW = 1300
LARGEST = 1440 - 28  # octets in a ping that fills the tunnel's MTU
HEADERS = {4: 28, 6: 48}  # octets of IP and UDP outside
GRAIN = 8  # octets by which what is found may be too small
OUTSIDE_IPV6 = [
    (r"^(\w+_ipaddr .*= )10\.(\d)\.(\d)\.(\d)$", r"\1fd0\2:\3::\4"),
    (r"^(interface_name = \w+\nip_ver\s*=) 4", r"\1 6"),
]
ENOUGH = 30.0  # Mbit/s; it was 0.1


def behind_routers(lab: Lab) -> tuple[Host, Host]:
    """Host a, and host b behind two routers; the line from the first to host b is narrow, and ICMP errors are lost."""
    a, b = lab.host("a"), lab.host("b")
    for number, mtu in ((1, NARROW), (2, 1500)):
        router = lab.host(f"r{number}", forwarding=True)
        near = [(f"10.{number}.{number}.2/24", f"10.{number}.{number}.1/24")]
        far = [(f"10.{number}.9.1/24", f"10.{number}.9.3/24")]
        lab.link(a, router, near + [(ipv6(one), ipv6(other)) for one, other in near])
        lab.link(router, b, far + [(ipv6(one), ipv6(other)) for one, other in far], mtu=mtu)
        for family, error in (("ip", "icmp type destination-unreachable"), ("ip6", "icmpv6 type packet-too-big")):
            router.run(["nft", "add", "table", family, "mute"])
            router.run(["nft", f"add chain {family} mute out {{ type filter hook output priority 0; }}"])
            router.run(["nft", f"add rule {family} mute out {error} drop"])
    return a, b


def ipv6(address: str) -> str:
    """Return the IPv6 address with prefix that stands beside an IPv4 one."""
    return re.sub(r"10\.(\d)\.(\d)\.(\d)/24", r"fd0\1:\2::\3/64", address)


@on_every_data_plane
def test_full_size_packets_pass_a_narrow_line(lab: Lab) -> None:
    """Singly and in runs, over both paths."""
    a, b = behind_routers(lab)
    start(*configured(lab, a, b))
    wait_until(lambda: answers(a, PEER), "an answer through the tunnel")
    assert None not in ping(a, PEER, count=20, interval=0.02, timeout=0.5, size=LARGEST)
    assert_transfer(a, b)


@pytest.mark.parametrize("outside", [4, 6])
def test_probes_find_the_size_of_a_line_that_loses_fragments(lab: Lab, outside: int) -> None:
    """Both ends find it, the log names it, and large packets go over the other line; no IPv6 router cuts a packet."""
    a, b = behind_routers(lab)
    for host in (b, next(host for host in lab.hosts if host.name == "r1")):  # before the kernel joins them
        for family, fragment in (("ip", "ip frag-off & 0x3fff != 0"), ("ip6", "exthdr frag exists")):
            host.run(["nft", "add", "table", family, "lossy"])
            host.run(["nft", f"add chain {family} lossy in {{ type filter hook prerouting priority -450; }}"])
            host.run(["nft", f"add rule {family} lossy in {fragment} drop"])
    hosts = configured(lab, a, b, (r"^\[connection\]$", "[connection]\nsize_probe = 1"))
    for _, directory in hosts if outside == 6 else ():
        edit(directory, *OUTSIDE_IPV6)
    daemons = start(*hosts)
    found = re.compile(r"path_0 of .*: datagrams of more than (\d+) octets are lost on the way")
    wait_until(lambda: all(found.search(daemon.process.output()) for daemon in daemons), "the size of the line", 25)
    for daemon in daemons:
        (size,) = found.findall(daemon.process.output())
        assert 0 <= NARROW - HEADERS[outside] - int(size) <= GRAIN
        assert "path_1 of" not in "".join(re.findall(r".*octets are lost on the way.*", daemon.process.output()))
    assert None not in ping(a, PEER, count=20, interval=0.02, size=LARGEST)
    assert_transfer(a, b)


def configured(lab: Lab, a: Host, b: Host, *changes: tuple[str, str]) -> list[tuple[Host, Path]]:
    """Return both hosts with the guide's samples for the routers between them, and `changes`."""
    conf_a, conf_b = (samples(lab, side, *LIVELY, *changes) for side in ("a", "b"))
    edit(conf_a, (r"^(remote_ipaddr .*= 10\.\d)\.\d\.3", r"\1.9.3"), (r"^(gw_ipaddr .*= 10\.(\d)\.\d)\.\d", r"\1.1"))
    edit(
        conf_b,
        (r"^(public_ipaddr .*= 10\.\d)\.\d\.3", r"\1.9.3"),
        (r"^(gw_ipaddr .*= 10\.\d)\.\d\.\d", r"\1.9.1"),
    )
    return [(a, conf_a), (b, conf_b)]


def assert_transfer(a: Host, b: Host) -> None:
    rate = at_least(ENOUGH, lambda: stream(a, b, PEER, seconds=1, warmup=0.5))
    print(f"\none of two lines carries {NARROW} octets: TCP {rate:.0f} Mbit/s")

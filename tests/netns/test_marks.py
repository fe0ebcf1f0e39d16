"""DSCP and ECN on real links: what a datagram shows of its packet, and congestion marks from the way (RFC 6040)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.tunnel import DATA_PORT
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support import on_every_data_plane, wait_until
from tests.netns.support_control import B, Site, guide_hosts
from tests.netns.test_wire import capture, wait_until_written

EF = 46 << 2
ECT_0, CE = 2, 3
COUNT = 10
TOLD = "packets with ECN fields that no honest path makes"


def sites(lab: Lab, outer: int, *lines: str) -> tuple[Site, Site]:
    """Two paths and one connection with these lines in its file."""
    a, b, _ = guide_hosts(lab, outer=outer, extra={"connection": lines})
    return a, b


def send(a: Host, octet: int) -> None:
    """Pings with this TOS octet, whether they are answered or not."""
    a.run(["ping", "-c", str(COUNT), "-i", "0.01", "-W", "0.2", "-Q", str(octet), B], check=False)


def marks(host: Host, file: Path, requests: bool = True) -> Counter[str]:
    """The TOS octets of the pings to B in a capture, the outer one first; else of everything that has no ping in it."""
    names = ["-e", "ip.dsfield", "-e", "ipv6.tclass"]
    wanted = f"icmp.type == 8 && ip.dst == {B}" if requests else "udp && !icmp && !icmpv6"
    argv = ["tshark", "-r", str(file), "-d", f"udp.port=={DATA_PORT},gre", "-Y", wanted, "-T", "fields", *names]
    told = host.run(argv)
    return Counter(" ".join(line.replace(",", " ").split()) for line in told.splitlines())


def congest(host: Host) -> None:
    """Mark whatever datagram of the tunnel arrives at `host` as a congested router does."""
    for family, header in (("ip", "ip"), ("ip6", "ip6")):
        host.run(["nft", "add", "table", family, "router"])
        host.run(["nft", f"add chain {family} router way {{ type filter hook prerouting priority -300; }}"])
        host.run(["nft", f"add rule {family} router way udp dport {DATA_PORT} {header} ecn set ce"])


@on_every_data_plane
@pytest.mark.parametrize("outer", [4, 6])
def test_a_datagram_shows_what_is_configured(lab: Lab, outer: int) -> None:
    """With copy and normal all of the packet's octet; a fixed DSCP for everything, keepalives too."""
    a, b = sites(lab, outer, "dscp = copy", "ecn = normal")
    tcpdump = capture(b.host, "eth1", lab.directory / "copy.pcap")
    send(a.host, EF | ECT_0)
    wait_until_written(tcpdump)
    assert set(marks(b.host, lab.directory / "copy.pcap")) == {shown(outer, EF | ECT_0, EF | ECT_0)}


@on_every_data_plane
@pytest.mark.parametrize("outer", [4, 6])
def test_a_fixed_dscp_is_that_of_everything(lab: Lab, outer: int) -> None:
    """Keepalives too; towards a peer that does not look at it the outer ECN field says Not-ECT."""
    a, b = sites(lab, outer, "dscp = CS1")
    tcpdump = capture(b.host, "eth1", lab.directory / "fixed.pcap")
    send(a.host, EF | ECT_0)
    wait_until_written(tcpdump)
    assert set(marks(b.host, lab.directory / "fixed.pcap")) == {shown(outer, 8 << 2, EF | ECT_0)}
    keepalives = marks(b.host, lab.directory / "fixed.pcap", requests=False)
    assert {line.split()[0] for line in keepalives} == {shown(outer, 8 << 2)}


@on_every_data_plane
@pytest.mark.parametrize("outer", [4, 6])
def test_congestion_on_the_way_is_told_to_who_understands_it(lab: Lab, outer: int) -> None:
    """A mark gets into a packet whose sender knows ECN; one whose sender does not is dropped, counted, and told of."""
    a, b = sites(lab, outer, "ecn = normal")
    congest(b.host)
    tcpdump = capture(b.host, "tun0", lab.directory / "inside.pcap")
    send(a.host, EF | ECT_0)
    wait_until_written(tcpdump)
    assert marks(b.host, lab.directory / "inside.pcap") == {f"0x{EF | CE:02x}": COUNT}
    assert ping(a.host, B, count=3, timeout=0.2) == [None] * 3
    (inside,) = b.status()["tunnels"]
    assert inside["ingress_dropped"]["ecn_not_ect"] == inside["ecn_unexpected"] == 3
    wait_until(lambda: TOLD in b.daemon.process.output(), "a line of the log")
    assert b.daemon.process.output().count(TOLD) == 1


def shown(outer: int, *octets: int) -> str:
    """As tshark prints the outer octet, and the inner one of IPv4 behind it."""
    digits = [f"0x{octet:02x}" for octet in octets]
    if outer == 6:  # the field of IPv4 comes first, and tclass has more digits
        digits = [*digits[1:], f"0x{octets[0]:08x}"]
    return " ".join(digits)

"""Site to site (guide 2.6.3.3): networks behind both hosts reach each other through the tunnel, up to the whole
Internet."""

from __future__ import annotations

import socket

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import (
    LIVELY,
    answers,
    edit,
    figure_3,
    ip_json,
    on_every_data_plane,
    samples,
    start,
    start_samples,
    wait_until,
    wait_until_heard,
)
from tests.netns.support import no_traceback as no_traceback

INTERNET = "8.8.8.8"  # what the Internet of these tests answers as


def site(lab: Lab, gateway: Host, name: str, addresses: list[tuple[str, str]]) -> Host:
    """A host in a network behind `gateway`; `addresses` are pairs of its own (with prefix) and the gateway's."""
    host = lab.host(name)
    lab.link(host, gateway, addresses, interfaces=(None, f"to_{name}"))
    host.ip(f"route add default via {addresses[0][1].partition('/')[0]}")
    return host


@on_every_data_plane
def test_the_networks_of_the_sample_files_reach_each_other(lab: Lab) -> None:
    """With the guide's sample files 11.1.1.0/24 behind host A and 21.1.1.0/24 behind host B exchange a TCP stream over
    both paths, every byte right; the second pair of networks works too, and an address outside them is not carried."""
    a, b, links = figure_3(lab, forwarding=True)
    left = site(lab, a, "left", [("11.1.1.10/24", "11.1.1.1/24"), ("11.9.9.10/24", "11.9.9.1/24")])
    right = site(lab, b, "right", [("21.1.1.10/24", "21.1.1.1/24")])
    left_2 = site(lab, a, "left2", [("12.1.1.10/24", "12.1.1.1/24")])
    right_2 = site(lab, b, "right2", [("22.1.1.10/24", "22.1.1.1/24")])
    start_samples(lab, a, b)

    assert None not in ping(left, "21.1.1.10", count=5, interval=0.01)
    assert None not in ping(right_2, "12.1.1.10", count=5, interval=0.01)
    before = [link.carried_bytes()[0] for link in links]
    result = Transfer(left, right, "21.1.1.10", seconds=1, warmup=0.5).finish()
    carried = [link.carried_bytes()[0] - start for link, start in zip(links, before, strict=True)]
    print(f"\nsite to site: {result.mbit:.0f} Mbit/s, {[count // 1000 for count in carried]} kB over the paths")
    assert result.verified
    assert min(carried) > 0.4 * sum(carried)

    left.ip("route replace 21.1.1.0/24 via 11.9.9.1 src 11.9.9.10")
    assert not answers(left, "21.1.1.10", timeout=0.3)
    assert answers(left_2, "22.1.1.10")


@on_every_data_plane
def test_ipv6_networks_reach_each_other(lab: Lab) -> None:
    """Two IPv6 networks behind the hosts exchange a TCP stream, every byte right, through a tunnel over IPv4 paths."""
    a, b, links = figure_3(lab, forwarding=True)
    left = site(lab, a, "left", [("2001:db8:11::10/64", "2001:db8:11::1/64")])
    right = site(lab, b, "right", [("2001:db8:21::10/64", "2001:db8:21::1/64")])
    networks = [("2001:db8:11::/64", "2001:db8:21::/64")]
    Tunnel(Description(links, None, ("fec0::2/64", "fec0::3/64"), networks=networks), lab.directory)
    wait_until(lambda: answers(left, "2001:db8:21::10"), "an answer from site to site")
    result = Transfer(left, right, "2001:db8:21::10", seconds=1, warmup=0.5).finish()
    print(f"\nIPv6 site to site: {result.mbit:.0f} Mbit/s")
    assert result.verified


@on_every_data_plane
@pytest.mark.parametrize("gateway", ["", "via a router"])
def test_the_whole_internet_through_the_tunnel(lab: Lab, gateway: str) -> None:
    """With 0.0.0.0/0 as destination everything of host A's goes through the tunnel, while the paths themselves, even
    those that run over its default route, stay outside; when it ends the old default route is in use again."""
    client, server = lab.host("a"), lab.host("b", forwarding=True)
    changes = [*LIVELY, (r"(?s)^\[net_0\].*\Z", ""), (r"^network_count.*", "network_count = 1")]
    if gateway:
        provider = lab.host("provider", forwarding=True)
        for n in (1, 2):
            lab.link(client, provider, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.1/24")])
            lab.link(provider, server, [(f"10.3{n}.0.1/24", f"10.3{n}.0.3/24")])
        client.ip("route add default via 10.1.1.1")
        server.ip("route add 10.1.1.0/24 via 10.31.0.1", "route add 10.2.2.0/24 via 10.32.0.1")
    else:
        for n in (1, 2):
            lab.link(client, server, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.3/24")])
    internet = lab.host("internet")
    lab.link(server, internet, [("192.0.2.1/24", "192.0.2.2/24")])
    internet.ip(f"address add {INTERNET}/32 dev lo", "route add default via 192.0.2.1")  # the return route
    server.ip(f"route add {INTERNET} via 192.0.2.2")

    conf_a, conf_b = samples(lab, "a", *changes), samples(lab, "b", *changes)
    for directory, whole in ((conf_a, ("10.0.0.2/32", "0.0.0.0/0")), (conf_b, ("0.0.0.0/0", "10.0.0.2/32"))):
        (file,) = (directory / "connections").glob("*.conf")
        file.write_text(file.read_text() + f"\n[net_0]\nip_ver = 4\nsrc_addr = {whole[0]}\ndst_addr = {whole[1]}\n")
    if gateway:
        for n in (1, 2):
            edit(conf_a, (rf"= 10\.{n}\.{n}\.3$", f"= 10.3{n}.0.3"))
            edit(conf_a, (rf"^gw_ipaddr.*10\.{n}\.{n}\.2$", f"gw_ipaddr = 10.{n}.{n}.1"))
            edit(conf_b, (rf"^(public_ipaddr.*) 10\.{n}\.{n}\.3$", rf"\1 10.3{n}.0.3"))
            edit(conf_b, (rf"^gw_ipaddr.*10\.{n}\.{n}\.3$", f"gw_ipaddr = 10.3{n}.0.1"))
    routes_before = client.run(["ip", "route", "show"])
    daemon, other = start((client, conf_a), (server, conf_b))

    wait_until_heard(daemon, other)
    said = daemon.process.output().count("DOWN")
    wait_until(lambda: answers(client, INTERNET), "an answer from the Internet")
    server.sysctl({"net/ipv4/ip_forward": "0"})  # the only way there is through the server
    assert not answers(client, INTERNET, timeout=0.3)
    server.sysctl({"net/ipv4/ip_forward": "1"})
    result = Transfer(client, internet, INTERNET, seconds=2, warmup=0.5).finish()
    print(f"\nto the Internet {gateway}: {result.mbit:.0f} Mbit/s, longest gap {result.longest_gap:.3f} s")
    assert result.verified
    assert result.longest_gap < 0.5  # in more than the dead time: keepalives and datagrams still go outside
    assert "Traceback" not in daemon.process.errors()
    assert daemon.process.output().count("DOWN") == said

    (route,) = ip_json(client, "route", "get", INTERNET)
    assert (route["dev"], route["prefsrc"]) == ("tun0", "10.0.0.2")
    daemon.stop()
    assert client.run(["ip", "route", "show"]) == routes_before


@on_every_data_plane
def test_the_ipv6_internet_through_the_tunnel(lab: Lab) -> None:
    """With ::/0 as destination IPv6 traffic to anywhere goes through the tunnel whose paths are IPv6 themselves."""
    a, b, links = figure_3(lab, forwarding=True)
    internet = lab.host("internet")
    lab.link(b, internet, [("2001:db8::1/64", "2001:db8::2/64")])
    internet.ip("address add 2606:4700::1111/128 dev lo", "route add default via 2001:db8::1")
    b.ip("route add 2606:4700::/32 via 2001:db8::2")
    whole = [("fec0::2/128", "::/0")]
    Tunnel(Description(links, None, ("fec0::2/64", "fec0::3/64"), outer=6, networks=whole), lab.directory)
    wait_until(lambda: answers(a, "2606:4700::1111"), "an answer from the Internet")
    with a.call(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect(("2606:4700::1111", 9))
        assert probe.getsockname()[0] == "fec0::2"

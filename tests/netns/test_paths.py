"""Which sockets, routes and addresses the paths use (guide 2.6.3.2), and which packets go over which path."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Link
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import DATA_PORT, Daemon, Description, Tunnel
from tests.netns.support import (
    LIVELY,
    answers,
    edit,
    figure_3,
    ip_json,
    keys,
    no_path_falls,
    on_every_data_plane,
    samples,
    start,
    start_samples,
    status_count,
    udp_sockets,
    wait_until,
)
from tests.netns.support import no_traceback as no_traceback

VPS = "203.0.113.3"
NO_NETWORKS = [(r"^network_count.*", "network_count = 0"), (r"(?s)^\[net_0\].*\Z", "")]
CLIENT_HOSTS, TUNNELS = 5, 20  # that makes the hundred

ANSWER_WITH_ITS_ADDRESS = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("ready", flush=True)
while True:
    query, client = server.recvfrom(512)
    answer = query[:2] + bytes.fromhex("818000010001000000000000")[:10] + query[12:query.index(0, 12) + 5]
    server.sendto(answer + bytes.fromhex("c00c0001000100000000 0004") + socket.inet_aton(client[0]), client)
"""


def two_providers(lab: Lab) -> tuple[Host, Host, list[Link]]:
    """Host a with an interface to each of two providers (one router here), and host b behind them at one address."""
    a, b, internet = lab.host("a"), lab.host("b"), lab.host("internet", forwarding=True)
    links = [lab.link(a, internet, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.1/24")]) for n in (1, 2)]
    lab.link(internet, b, [("203.0.113.1/24", f"{VPS}/24")])
    b.ip("route add default via 203.0.113.1")
    return a, b, links


def configure_for_providers(lab: Lab, *changes: tuple[str, str]) -> tuple[Path, Path]:
    """The samples for hosts of `two_providers`; `changes` are for host a."""
    conf_a, conf_b = samples(lab, "a", *LIVELY, *NO_NETWORKS), samples(lab, "b", *LIVELY, *NO_NETWORKS)
    edit(conf_a, *keys({"remote_ipaddr": VPS}), (r"^(gw_ipaddr .*= 10\.(\d)\.\d)\.2", r"\1.1"), *changes)
    edit(conf_b, *keys({"interface_name": "eth1", "public_ipaddr": VPS, "gw_ipaddr": "203.0.113.1"}))
    return conf_a, conf_b


def carried(links: list[Link], work: Transfer) -> list[int]:
    """How many bytes each of `links` carried from its a to its b until the end of `work`."""
    before = [link.carried_bytes()[0] for link in links]
    assert work.finish().verified
    return [link.carried_bytes()[0] - start for link, start in zip(links, before, strict=True)]


@on_every_data_plane
def test_two_paths_to_one_address(lab: Lab) -> None:
    """Two interfaces of one host reach the same address of its peer, each over its own provider, and share the load."""
    a, b, links = two_providers(lab)
    conf_a, conf_b = configure_for_providers(lab)
    start((a, conf_a), (b, conf_b))
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel")
    loads = carried(links, Transfer(a, b, "10.0.0.3", seconds=0.5, warmup=0.2))
    print(f"\ntwo paths to one address: {[load // 1000 for load in loads]} kB")
    assert min(loads) > 0.4 * sum(loads)
    routes = ip_json(a, "route", "show", VPS)
    assert {(route["gateway"], route["dev"]) for route in routes} == {("10.1.1.1", "eth1"), ("10.2.2.1", "eth2")}
    assert udp_sockets(b).count(f"{VPS}%eth1:23456") == 1


@on_every_data_plane
def test_everything_0_0_0_0_is_found_out(lab: Lab) -> None:
    """With 0.0.0.0 as private, public and gateway address a host finds its interfaces' addresses and their gateways,
    learns its public address from the DNS server that was configured, and carries traffic over both paths."""
    a, b, links = two_providers(lab)
    a.ip("route add default via 10.1.1.1 metric 100", "route add default via 10.2.2.1 metric 200")
    changes = keys({"gw_ipaddr": "0.0.0.0"})
    changes += [(r"^public_ipaddr.*", "public_ipaddr = 0.0.0.0\nprivate_ipaddr = 0.0.0.0")]
    changes += [(r"^\[general\]$", f"[general]\npublic_address_resolver = {VPS}")]
    conf_a, conf_b = configure_for_providers(lab, *changes)
    b.start([sys.executable, "-c", ANSWER_WITH_ITS_ADDRESS]).wait_for_output("ready", 10)
    daemon, _ = start((a, conf_a), (b, conf_b))
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel")
    assert {f"10.{n}.{n}.2%eth{n}:23456" for n in (1, 2)} <= set(udp_sockets(a))
    loads = carried(links, Transfer(a, b, "10.0.0.3", seconds=0.3, warmup=0.2))
    assert min(loads) > 0.4 * sum(loads)
    told = re.compile(r"the public address of path_\d .* is 10\.1\.1\.2$", re.MULTILINE)
    wait_until(lambda: told.search(daemon.process.output()), "the public address")


@on_every_data_plane
def test_an_existing_route_is_no_error_and_stays(lab: Lab) -> None:
    """Routes to the peer that were there before, even the very one that the daemon would add, are neither an error nor
    removed when it ends."""
    a, b, _ = figure_3(lab)
    index = next(each["ifindex"] for each in ip_json(a, "link", "show", "dev", "eth1"))
    a.ip(
        f"route add 10.1.1.3 dev eth1 proto static scope link metric {4754 + int(str(index))}",
        "route add 10.2.2.3 dev eth2 src 10.2.2.2",
    )
    before = a.run(["ip", "route", "show"])
    daemon, _ = start_samples(lab, a, b)
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel")
    assert "error" not in daemon.process.output()
    daemon.stop()
    assert a.run(["ip", "route", "show"]) == before


@on_every_data_plane
def test_paths_that_are_not_bound_to_their_interface(lab: Lab) -> None:
    """With bind_to_device = 0 the sockets belong to no interface, and both paths carry traffic."""
    a, b, links = figure_3(lab)
    Tunnel(Description(links, extra={f"path_{n}": ["bind_to_device = 0"] for n in (0, 1)}), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2"), "an answer through the tunnel")
    assert {f"10.{n}.{n}.2:{DATA_PORT}" for n in (1, 2)} <= set(udp_sockets(a))
    loads = carried(links, Transfer(a, b, "10.0.0.2", seconds=0.3, warmup=0.2))
    assert min(loads) > 0.4 * sum(loads)


@on_every_data_plane
def test_flow_mapping(lab: Lab) -> None:
    """TCP to port 5201, which is mapped to path_1, goes over that path alone; other ports use both; when path_1 is
    down the mapped port takes the other."""
    a, b, links = figure_3(lab)
    tunnel = Tunnel(Description(links, dead=1.0, extra={"path_1": ["tcp_dst = 5201"]}), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2"), "an answer through the tunnel")
    mapped = carried(links, Transfer(a, b, "10.0.0.2", port=5201, seconds=0.3, warmup=0.2))
    free = carried(links, Transfer(a, b, "10.0.0.2", port=5202, seconds=0.3, warmup=0.2))
    links[1].black_hole()
    wait_until(lambda: all(status_count(daemon, 1, "down") for daemon in tunnel.daemons), "path_1 down")
    fallen_back = carried(links, Transfer(a, b, "10.0.0.2", port=5201, seconds=0.3, warmup=0.2))
    print(
        f"\nkB over the paths: mapped {[n // 1000 for n in mapped]}, free {[n // 1000 for n in free]}, "
        f"path_1 down {[n // 1000 for n in fallen_back]}"
    )
    assert mapped[0] < 10_000 < 1_000_000 < mapped[1]  # path_0 has its keepalives
    assert min(free) > 0.4 * sum(free)
    assert fallen_back[0] > 1_000_000


@on_every_data_plane
def test_a_hundred_connections_on_one_port(lab: Lab) -> None:
    """A server with a hundred connections of two paths each has two data sockets, and every one of them carries a
    ping."""
    server, router = lab.host("server"), lab.host("router", forwarding=True)
    for n in (1, 2):
        lab.link(router, server, [(f"10.{n}.0.254/24", f"10.{n}.0.1/24")])
    started = time.monotonic()
    daemons = [Daemon(server, server_configuration(lab))]
    clients = []
    for h in range(CLIENT_HOSTS):
        clients.append(lab.host(f"clients{h}"))
        lab.link(router, clients[h], [(f"10.9.{h}.254/24", f"10.9.{h}.1/24")])
        clients[h].ip(*(f"address add 10.9.{h}.{i}/24 dev eth1" for i in range(2, TUNNELS + 1)))
        daemons.append(Daemon(clients[h], client_configuration(lab, h)))
    for daemon in daemons:
        daemon.wait_until_ready()
    ready = time.monotonic()
    addresses = [f"10.0.{h}.{i}" for h in range(CLIENT_HOSTS) for i in range(1, TUNNELS + 1)]
    for h, host in enumerate(clients):  # an answer must leave by the tunnel that it is from
        host.ip(*(f"rule add from 10.0.{h}.{i} table {i}" for i in range(1, TUNNELS + 1)))
        host.ip(*(f"route add 10.0.255.1 dev tun{i} table {i}" for i in range(1, TUNNELS + 1)))
    wait_until(lambda: answers(server, addresses[-1]), "an answer of the last connection")
    silent = [address for address in addresses if None in ping(server, address, count=2, interval=0.0)]
    print(
        f"\n{len(addresses)} connections: all ready after {ready - started:.1f} s, two pings over each in "
        f"{time.monotonic() - ready:.1f} s, server {daemons[0].process.memory().resident / 1e6:.0f} MB"
    )
    assert silent == []
    data_sockets = [each for each in udp_sockets(server) if each.endswith(f":{DATA_PORT}")]
    assert sorted(data_sockets) == [f"10.1.0.1%eth1:{DATA_PORT}", f"10.2.0.1%eth2:{DATA_PORT}"]


def server_configuration(lab: Lab) -> Path:
    """10.0.255.1 with a connection to each tunnel of each client host, over both of the server's interfaces."""
    directory = lab.directory / "server"
    (directory / "connections").mkdir(parents=True)
    (directory / "interface.conf").write_text(
        "[general]\ntunnel_num = 1\ncmdport_local = 60456\n[tun_0]\nname = tun0\nipv4_addr = 10.0.255.1/16\n"
    )
    for h in range(CLIENT_HOSTS):
        for i in range(1, TUNNELS + 1):
            paths = [(f"eth{n}", f"10.{n}.0.1", f"10.{n}.0.254", f"10.9.{h}.{i}") for n in (1, 2)]
            text = connection(f"c{h}_{i}", "10.0.255.1", f"10.0.{h}.{i}", paths)
            (directory / "connections" / f"{h}-{i}.conf").write_text(text)
    return directory


def client_configuration(lab: Lab, h: int) -> Path:
    """Tunnels 10.0.h.1, 10.0.h.2 … with a connection each to the server, over its one interface to both of the
    server's."""
    directory = lab.directory / f"clients{h}"
    (directory / "connections").mkdir(parents=True)
    numbers = range(1, TUNNELS + 1)
    tunnels = "".join(f"[tun_{i - 1}]\nname = tun{i}\nipv4_addr = 10.0.{h}.{i}/32\n" for i in numbers)
    (directory / "interface.conf").write_text(f"[general]\ntunnel_num = {TUNNELS}\ncmdport_local = 60456\n{tunnels}")
    for i in numbers:
        paths = [("eth1", f"10.9.{h}.{i}", f"10.9.{h}.254", f"10.{n}.0.1") for n in (1, 2)]
        text = connection(f"c{h}_{i}", f"10.0.{h}.{i}", "10.0.255.1", paths)
        (directory / "connections" / f"{i}.conf").write_text(text)
    return directory


def connection(name: str, local: str, remote: str, paths: list[tuple[str, str, str, str]]) -> str:
    """A connection file with a path for each (interface, own address, gateway, peer's address)."""
    return "\n".join(
        [
            f"[connection]\nname = {name}\npermission = 0\nip_ver = 4\nip_local = {local}\nip_remote = {remote}",
            f"local_port = {DATA_PORT}\nremote_port = {DATA_PORT}\nremote_cmd_port = 60456\nauth_type = 0",
            f"path_count = {len(paths)}\nnetwork_count = 0\nstatus = 0\nreorder_window = 100",
            *(
                f"[path_{n}]\ninterface_name = {interface}\nip_ver = 4\npublic_ipaddr = {own}\ngw_ipaddr = {gateway}\n"
                f"remote_ipaddr = {peer}\nkeepalive_time = 2\nweight_out = 1\nstatus = 0"
                for n, (interface, own, gateway, peer) in enumerate(paths)
            ),
            "",
        ]
    )


@on_every_data_plane
def test_link_local_peers(lab: Lab) -> None:
    """Two cables whose ends have the same link-local addresses: the interface of a path tells which is meant. Each
    keepalive gets to its path, and no path falls silent."""
    a, b = lab.host("a"), lab.host("b")
    links = [lab.link(a, b, [("fe80::2/64", "fe80::3/64")]) for _ in range(2)]
    tunnel = Tunnel(Description(links, outer=6, dead=1.0, reorder_window=100), lab.directory)
    with no_path_falls(*tunnel.daemons):
        assert None not in ping(a, "10.0.0.2", count=20, interval=0.01)
        time.sleep(1.2)  # longer than the dead time

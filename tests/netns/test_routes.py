"""Gateways and routes that change while the daemon runs, and what is left of daemons that were killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.tunnel import Daemon
from tests.netns.support import (
    answers,
    ip_json,
    keys,
    no_path_falls,
    start,
    status_count,
    status_of,
    udp_sockets,
    wait_until,
)
from tests.netns.support import no_traceback as no_traceback
from tests.netns.test_paths import VPS, configure_for_providers, two_providers

OURS = range(150, 158)  # the rtm_protocols of mpt
FOUND_OUT = keys({"gw_ipaddr": "0.0.0.0"})


def routes_of_mpt(host: Host) -> list[tuple[str, str, str | None]]:
    """Destination, interface and gateway of the routes that daemons on `host` have added."""
    found = [*ip_json(host, "route", "show"), *ip_json(host, "-6", "route", "show")]
    return [
        (str(each["dst"]), str(each["dev"]), str(each["gateway"]) if "gateway" in each else None)
        for each in found
        if str(each.get("protocol")) in map(str, OURS)
    ]


def to_vps(host: Host) -> list[str | None]:
    """The gateways of the routes to the VPS over eth1."""
    return [
        gateway for destination, interface, gateway in routes_of_mpt(host) if (destination, interface) == (VPS, "eth1")
    ]


def paths(daemon: Daemon) -> list[dict[str, Any]]:
    """The paths of the daemon's connection, as its status shows them."""
    found: list[dict[str, Any]] = status_of(daemon)["connections"][0]["paths"]
    return found


def no_route(daemon: Daemon) -> list[str | None]:
    """What the status says of missing routes, path by path."""
    return [path["no_route"] for path in paths(daemon)]


def is_up(daemon: Daemon, index: int = 0) -> bool:
    """Whether the peer is heard over a path, and it is used."""
    return bool(paths(daemon)[index]["status"] == "up")


def strict_line(lab: Lab) -> tuple[Host, Host, Host, Daemon]:
    """Host a, its provider's router, host b, and a's daemon, which has to find out its gateways. As on a real line, the
    router answers for its own addresses only: a route on the link itself leads nowhere."""
    a, b, links = two_providers(lab)
    router = links[0].b.host
    router.sysctl({"net/ipv4/conf/all/arp_ignore": "1"})
    a.ip("route add default via 10.2.2.1 dev eth2 metric 200")
    conf_a, conf_b = configure_for_providers(lab, *FOUND_OUT)
    daemon, _ = start((a, conf_a), (b, conf_b))
    return a, router, b, daemon


@pytest.mark.parametrize("later", [0.05, 0.3, 2.5])
def test_a_default_route_that_comes_after_the_address(lab: Lab, later: float) -> None:
    """DHCP: the address, and some time after it the default route. The path is up within a second of that; until then
    there is no route, and log and status say why."""
    a, _, _, daemon = strict_line(lab)
    a.ip("address del 10.1.1.2/24 dev eth1")
    wait_until(lambda: status_count(daemon, 0, "address down"), "the lost address")
    script = (
        f"ip address add 10.1.1.2/24 dev eth1; sleep {later}; ip route add default via 10.1.1.1 dev eth1 metric 100"
    )
    lease = a.start(["sh", "-c", script])
    if later > 1:
        wait_until(lambda: no_route(daemon)[0] is not None, "the reason in the status", 2)
        assert no_route(daemon)[0] == "eth1 has no IPv4 default route and gw_ipaddr names no gateway"
        assert to_vps(a) == []
    assert lease.wait(10) == 0
    took = wait_until(lambda: is_up(daemon), "path_0 up", 2)
    print(f"\nthe default route {later} s after the address: up {took:.2f} s after it")
    wait_until(lambda: to_vps(a) == ["10.1.1.1"], "our route", 1)
    assert re.search(r"path_0 of .*: the gateway is now 10\.1\.1\.1", daemon.process.output())
    assert no_route(daemon) == [None, None]


def test_a_gateway_that_is_replaced(lab: Lab) -> None:
    """The provider's router has another address, and the lease says so: nothing but the default route changes."""
    a, router, _, daemon = strict_line(lab)
    a.ip("route add default via 10.1.1.1 dev eth1 metric 100")
    wait_until(lambda: is_up(daemon), "path_0 up")
    router.ip("address del 10.1.1.1/24 dev eth1", "address add 10.1.1.254/24 dev eth1")
    a.ip("neighbour flush dev eth1")  # it has another link address, too
    wait_until(lambda: not is_up(daemon), "path_0 down, as b tells")  # what b sends arrives all the time
    a.ip("route replace default via 10.1.1.254 dev eth1 metric 100")
    took = wait_until(lambda: is_up(daemon), "path_0 up again", 2)
    print(f"\nanother gateway: up {took:.2f} s after it")
    wait_until(lambda: to_vps(a) == ["10.1.1.254"], "our route", 1)
    assert "the gateway is now 10.1.1.254" in daemon.process.output()


def test_a_gateway_that_goes(lab: Lab) -> None:
    """An interface without a default route has no route of ours either; the other path goes on."""
    a, _, _, daemon = strict_line(lab)
    a.ip("route add default via 10.1.1.1 dev eth1 metric 100")
    wait_until(lambda: to_vps(a) == ["10.1.1.1"], "the route")
    a.ip("route del default via 10.1.1.1 dev eth1 metric 100")
    wait_until(lambda: to_vps(a) == [], "no route", 1)
    assert no_route(daemon) == ["eth1 has no IPv4 default route and gw_ipaddr names no gateway", None]
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel")


def test_an_ipv6_router_that_is_heard_later(lab: Lab) -> None:
    """IPv6: a static address, and the default route, with a link-local gateway, comes with a router advertisement."""
    a, b, router = lab.host("a"), lab.host("b"), lab.host("router", forwarding=True)
    lab.link(a, router, [("2001:db8:1::2/64", "fe80::1/64")])
    lab.link(router, b, [("2001:db8:2::1/64", "2001:db8:2::3/64")])
    router.ip("route add 2001:db8:1::/64 dev eth1")
    b.ip("route add default via 2001:db8:2::1")
    near = ("2001:db8:1::2", "0.0.0.0", "2001:db8:2::3")
    far = ("2001:db8:2::3", "2001:db8:2::1", "2001:db8:1::2")
    conf = [write_site(lab, "a", 1, "10.0.0.2", "10.0.0.3", near), write_site(lab, "b", 1, "10.0.0.3", "10.0.0.2", far)]
    daemon, _ = start((a, conf[0]), (b, conf[1]))
    assert no_route(daemon) == ["eth1 has no IPv6 default route and gw_ipaddr names no gateway"]
    a.ip("route add default via fe80::1 dev eth1 proto ra metric 1024")
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel", 3)
    expected = ("2001:db8:2::3", "eth1", "fe80::1")
    wait_until(lambda: expected in routes_of_mpt(a), "our route, which the bound socket has not waited for", 1)


def test_routes_that_another_program_flushes(lab: Lab) -> None:
    """All of ours, at once and one by one, are back within a second."""
    a, _, _, _ = strict_line(lab)
    a.ip("route add default via 10.1.1.1 dev eth1 metric 100")
    wait_until(lambda: to_vps(a) == ["10.1.1.1"], "the route")
    before = sorted(routes_of_mpt(a), key=str)
    assert len(before) == 3
    (protocol,) = {str(each["protocol"]) for each in ip_json(a, "route", "show", VPS)}
    a.ip(f"route flush proto {protocol}")
    wait_until(lambda: sorted(routes_of_mpt(a), key=str) == before, "our routes again", 1)
    a.ip(f"route del {VPS} dev eth1")
    wait_until(lambda: sorted(routes_of_mpt(a), key=str) == before, "our route again", 1)


def test_thousands_of_routes_over_another_cable(lab: Lab) -> None:
    """On a host with 3,000 routes over a cable, addresses come and go there and on a line of ours, and the cable goes
    down and up: no path notices, and the daemon hardly works.

    It takes some 0.02 s of CPU; a daemon that decodes every route after an event takes ten times as much.
    """
    a, b, _ = two_providers(lab)
    other = lab.host("other")
    lab.link(a, other, [("10.9.9.2/24", "10.9.9.3/24")])
    conf_a, conf_b = configure_for_providers(lab)
    daemons = start((a, conf_a), (b, conf_b))
    routes = [f"route add 172.{16 + n // 1000}.{n // 250 % 4}.{n % 250} via 10.9.9.3 dev eth3" for n in range(3000)]
    with no_path_falls(*daemons):
        cpu = daemons[0].process.cpu_seconds()
        for _ in range(3):
            a.ip(*routes)
            for change, interface in product(("add", "del"), ("eth1", "eth3")):
                a.ip(f"address {change} 10.77.0.1/32 dev {interface}")
                time.sleep(0.05)  # so that the daemon looks once for each
            a.ip("link set eth3 down")  # which takes the routes away
            a.ip("link set eth3 up")
        cpu = daemons[0].process.cpu_seconds() - cpu
    print(f"\nthree times 3,000 routes: {cpu:.2f} s of CPU")
    assert cpu < 0.1


# --- daemons that were killed ---

KILL_AT_EVERY_STEP = """
import os, signal, sys
import mpt.daemon.tap, pyroute2, twisted.scripts.twistd  # once for all starts
from mpt.daemon.main import main

def start(step, ready):
    count = 0
    def count_steps(event, arguments):  # of what the start does to the kernel
        nonlocal count
        if event in ("socket.bind", "socket.sendto", "socket.sendmsg", "fcntl.ioctl"):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count_steps)
    return main(["--config", sys.argv[1], "--ready-fd", str(ready)])

assert "twisted.internet.reactor" not in sys.modules
step, code = 0, -signal.SIGKILL
while code == -signal.SIGKILL:
    step += 1
    reader, writer = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        os.close(reader)
        os._exit(start(step, writer))
    os.close(writer)
    if os.read(reader, 100):  # all of its steps are done
        os.kill(daemon, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1])
    os.close(reader)
    print("step", step, "ended with", code, flush=True)
"""


def write_site(lab: Lab, name: str, number: int, local: str, remote: str, *paths: tuple[str, str, str]) -> Path:
    """A configuration directory with the tunnel `number` of a host, and a connection whose paths, over eth1, eth2 …,
    have these (own address, gateway, peer's address)."""
    directory = lab.directory / f"conf-{name}"
    (directory / "connections").mkdir(parents=True)
    (directory / "interface.conf").write_text(
        f"[general]\ntunnel_num = 1\ncmdport_local = 6045{number}\ncontrol_socket = {directory}/socket\n"
        f"[tun_0]\nname = tun{number}\nipv4_addr = {local}/24\n"
    )
    lines = [
        f"[connection]\nname = {name}\npermission = 0\nip_ver = 4\nip_local = {local}\nip_remote = {remote}",
        f"local_port = 475{number}\nremote_port = 475{number}\nremote_cmd_port = 6045{number}\nauth_type = 0",
        f"path_count = {len(paths)}\nnetwork_count = 0\nstatus = 0",
    ]
    for n, (own, gateway, peer) in enumerate(paths):
        lines.append(
            f"[path_{n}]\ninterface_name = eth{n + 1}\nip_ver = {6 if ':' in own else 4}\npublic_ipaddr = {own}\n"
            f"gw_ipaddr = {gateway}\nremote_ipaddr = {peer}\nkeepalive_time = 0.1\ndead_time = 0.3\nweight_out = 1\n"
            "status = 0"
        )
    (directory / "connections" / "c.conf").write_text("\n".join(lines) + "\n")
    return directory


def everything(host: Host) -> tuple[list[tuple[str, str, str | None]], list[str], list[str], list[str]]:
    """What a daemon may leave behind on `host`: routes, tunnel interfaces, sockets, processes."""
    interfaces = [
        str(each["ifname"]) for each in ip_json(host, "link", "show") if str(each["ifname"]).startswith("tun")
    ]
    listening = [line.split()[4] for line in host.run(["ss", "-Hxl"]).splitlines() if "mpt" in line]
    running = subprocess.run(["ip", "netns", "pids", host.namespace], check=True, capture_output=True, text=True)
    return routes_of_mpt(host), interfaces, [*udp_sockets(host), *listening], running.stdout.split()


def test_a_start_that_is_killed_at_any_step_leaves_nothing_in_the_end(lab: Lab) -> None:
    """SIGKILL at each step of a start that others could notice, one start after the other: what they leave is gone
    after the next clean stop. Another daemon on the host, which was killed once as well, keeps its routes meanwhile."""
    a, router = lab.host("a"), lab.host("router", forwarding=True)
    for n in (1, 2):
        lab.link(a, router, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.1/24")])
    paths = [(f"10.{n}.{n}.2", f"10.{n}.{n}.1", VPS) for n in (1, 2)]
    conf = write_site(lab, "victim", 1, "10.0.0.2", "10.0.0.3", *paths)
    neighbour_paths = [(f"10.{n}.{n}.2", f"10.{n}.{n}.1", "198.51.100.7") for n in (1, 2)]
    neighbour_conf = write_site(lab, "neighbour", 2, "10.0.9.2", "10.0.9.3", *neighbour_paths)
    clean = everything(a)
    for ending in (signal.SIGKILL, None):
        (neighbour,) = start((a, neighbour_conf))
        if ending is not None:
            neighbour.process.kill()
    before = everything(a)
    assert len(before[0]) == 3
    starts = a.start([sys.executable, "-P", "-c", KILL_AT_EVERY_STEP, str(conf)])
    left: set[tuple[str, str, str | None]] = set()
    while starts.running:
        left.update(set(routes_of_mpt(a)) - set(before[0]))
    steps = re.findall(r"step \d+ ended with (-?\d+)", starts.output())
    print(f"\n{len(steps) - 1} steps; routes that were seen on the way: {len(left)}")
    assert len(steps) > 20 and steps[-1] in ("0", str(-signal.SIGTERM)), starts.complaint()
    assert {(VPS, "eth1", "10.1.1.1"), (VPS, "eth2", "10.2.2.1")} <= left
    assert everything(a) == before
    neighbour.stop()
    assert everything(a) == clean

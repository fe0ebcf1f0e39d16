"""A home router with two lines to one server address, whose public addresses nobody has written down."""

from __future__ import annotations

import sys
import time

from mpt.lab.lab import Lab
from mpt.lab.links import Link, Shape
from mpt.lab.ping import ping
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support import start, wait_until
from tests.netns.support_control import DEAD, A, B, Site, settle

SERVER = "192.0.2.10"
KEEPALIVE = 0.15

INTERFACE = """
[general]
tunnel_num = 1
accept_remote = 0
cmdport_local = 60456
cmd_timeout = 25
{resolver}
[tun_0]
name = tun0
mtu = 1440
ipv4_addr = {own}/24
"""
HEAD = """
[connection]
name = lines
permission = 3
ip_ver = 4
ip_local = {own}
local_port = 23456
ip_remote = {peer}
remote_port = 23456
remote_cmd_port = 60456
path_count = 2
network_count = 0
reorder_window = 0
max_buffdelay_msec = 100
status = 0
auth_type = 0
"""
PATH = """
[path_{index}]
interface_name = {interface}
ip_ver = 4
public_ipaddr = {public}
gw_ipaddr = {gateway}
remote_ipaddr = {remote}
keepalive_time = {keepalive}
dead_time = {dead}
weight_out = 1
weight_in = 1
cmd_default = {default}
status = 0
"""
# A name server that tells everybody his own address, as myip.opendns.com does: it turns the question into its answer
NAME_SERVER = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("{SERVER}", 53))
    print("ready", flush=True)
    while True:
        query, sender = server.recvfrom(512)
        answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + socket.inet_aton(sender[0])
        server.sendto(query[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + query[12:] + answer, sender)
"""


def lines(lab: Lab, resolver: str = "") -> tuple[Site, Site, list[Link]]:
    """Home and the server, their daemons running, all paths up, and home's two lines.

    home  eth1 10.1.1.2 ──── 10.1.1.1 provider 192.0.2.1 ──── 192.0.2.10 eth1  server
          eth2 10.2.2.2 ──── 10.2.2.1
    """
    home, server, provider = lab.host("home"), lab.host("server"), lab.host("provider", forwarding=True)
    shape = Shape(rate_mbit=100)
    both = [lab.link(home, provider, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.1/24")], shape) for n in (1, 2)]
    lab.link(provider, server, [("192.0.2.1/24", f"{SERVER}/24")])
    home.ip("route add default via 10.1.1.1", "route add default via 10.2.2.1 metric 100")  # one for each line
    server.ip("route add default via 192.0.2.1")
    if resolver:
        script = lab.directory / "nameserver.py"
        script.write_text(NAME_SERVER)
        server.start([sys.executable, str(script)]).wait_for_output("ready", 5)
    directories = []
    for host, own, peer in ((home, A, B), (server, B, A)):
        directory = lab.directory / host.name
        (directory / "connections").mkdir(parents=True)
        asked = f"public_address_resolver = {resolver}" if resolver and host is home else ""
        (directory / "interface.conf").write_text(INTERFACE.format(own=own, resolver=asked))
        text = HEAD.format(own=own, peer=peer)
        for index, n in enumerate((1, 2)):
            ends = {"interface": f"eth{n}", "public": "0.0.0.0", "gateway": f"10.{n}.{n}.1", "remote": SERVER}
            if host is server:
                ends = {"interface": "eth1", "public": SERVER, "gateway": "192.0.2.1", "remote": f"10.{n}.{n}.2"}
            text += PATH.format(index=index, keepalive=KEEPALIVE, dead=DEAD, default=int(index == 0), **ends)
        (directory / "connections" / "lines.conf").write_text(text)
        directories.append(directory)
    daemons = start((home, directories[0]), (server, directories[1]))
    site_a = Site(home, directories[0], daemons[0])
    site_b = Site(server, directories[1], daemons[1])
    settle(site_a, site_b)
    return site_a, site_b, both


def test_a_pulled_cable_takes_one_line_down_and_not_both(lab: Lab) -> None:
    """The server reports the dead line; home cannot know which of its lines is meant, so it believes neither. After the
    dead time nothing is lost: 100 of 100 pings, also while the report is repeated."""
    home, server, (_, second) = lines(lab)
    second.pull()
    settle(home, paths=["up", "interface down"])
    settle(server, paths=["up", "down"])
    time.sleep(1.0)  # the report has come
    assert None not in ping(home.host, B, count=100, interval=0.12)  # longer than a report is repeated
    assert home.paths() == ["up", "interface down"]
    assert [path["peer_says_down"] for path in home.status()["connections"][0]["paths"]] == [False, False]
    second.plug()
    settle(home, server, timeout=10)


def test_each_line_asks_for_its_own_address_and_is_reported_by_it(lab: Lab) -> None:
    """The resolver is asked over each line. Then a line that fails in one direction only is taken down at home by the
    server's word, and the other one carries everything."""
    home, server, (_, second) = lines(lab, resolver=SERVER)

    def public() -> list[str]:
        return [path["public_address"] for path in home.status()["connections"][0]["paths"]]

    wait_until(lambda: public() == ["10.1.1.2", "10.2.2.2"], "both addresses")
    assert home.daemon.process.output().count("the public address of path_") == 2
    second.black_hole("ab")
    settle(home, server, paths=["up", "down"])
    assert [path["peer_says_down"] for path in home.status()["connections"][0]["paths"]] == [False, True]
    assert None not in ping(home.host, B, count=50, interval=0.02)
    second.restore("ab")
    settle(home, server, timeout=10)

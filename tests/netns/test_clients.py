"""A server and its clients: each sends from its own addresses only, and one that comes or goes disturbs no other."""

from __future__ import annotations

import re
import threading

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.process import python
from mpt.lab.tunnel import Daemon
from tests.netns.support import answers, start, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import Site

ADDRESSES = ("10.1.1.2", "10.2.2.2")  # of the server, on the cable of each client


def mpt(lab: Lab, host: Host, *words: str) -> str:
    """Run `mpt` with the configuration of `host`; return what it prints."""
    process = host.start(
        [*python("mpt.cli.main"), *words], variables={"MPT_CONFIG_DIR": str(lab.directory / host.name)}
    )
    assert process.wait(20) == 0, process.complaint()
    return process.output()


def joined(lab: Lab, server: Host, client: Host, address: str, *words: str) -> Daemon:
    """Let a host join the server, as people do it; return its daemon."""
    text = re.findall(r"mpt join (\S+)", mpt(lab, server, "client", "add", client.name, "--server", address, *words))
    command = re.findall(r"mpt (client add \S+ --key \S+)", mpt(lab, client, "join", text[0]))
    mpt(lab, server, *command[0].split())
    (daemon,) = start((client, lab.directory / client.name))
    return daemon


def served(lab: Lab) -> tuple[Site, Host, Host]:
    """Return a server and two hosts, each on a cable of its own; the first has joined the server."""
    server, first, second = (lab.host(name, forwarding=name == "server") for name in ("server", "first", "second"))
    for client, own in zip((first, second), ADDRESSES, strict=True):
        lab.link(server, client, [(f"{own}/24", f"{own[:-1]}3/24")])
    mpt(lab, server, "client", "add", "first", "--paths", "eth1,eth2", "--server", ADDRESSES[0])
    (daemon,) = start((server, lab.directory / "server"))
    joined(lab, server, first, ADDRESSES[0])
    wait_until(lambda: answers(first, "10.77.0.1"), "the first reaches the server")
    return Site(server, lab.directory / "server", daemon), first, second


def test_clients_come_and_go(lab: Lab) -> None:
    """They reach the server and each other, and the server what is behind them; a forged source is dropped."""
    site, first, second = served(lab)
    server = site.host
    times: list[float | None] = []
    pinging = threading.Thread(target=lambda: times.extend(ping(first, "10.77.0.1", count=100, interval=0.02)))
    pinging.start()
    joined(lab, server, second, ADDRESSES[1], "--networks", "192.168.7.0/24")
    wait_until(lambda: answers(second, "10.77.0.1"), "the second reaches the server")
    pinging.join()
    assert times.count(None) == 0

    second.ip("address add 192.168.7.1/24 dev lo", "address add 192.168.9.1/24 dev lo")
    server.run(["ip", "route", "add", "192.168.9.0/24", "dev", "tun0"])
    assert answers(first, "10.77.0.3")
    assert answers(server, "192.168.7.1") and not answers(server, "192.168.9.1")

    def dropped() -> int:
        return int(site.status()["tunnels"][0]["ingress_dropped"].get("inner_source", 0))

    before = dropped()
    file = lab.directory / "second" / "connections" / "10.2.2.2.conf"
    file.write_text(file.read_text().replace("192.168.7.0/24", "192.168.0.0/16"))  # as a forger would have it
    mpt(lab, second, "reload")
    wait_until(lambda: answers(second, "10.77.0.1"), "the second reaches the server again")
    second.run(["ip", "route", "replace", "10.77.0.1", "dev", "tun0", "src", "192.168.9.1"])
    assert not answers(second, "10.77.0.1")
    assert dropped() > before

    mpt(lab, server, "client", "remove", "second")
    assert not answers(server, "192.168.7.1") and answers(first, "10.77.0.1")
    assert [each["name"] for each in site.status()["connections"]] == ["first"]

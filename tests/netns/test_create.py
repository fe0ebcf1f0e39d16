"""Guide 4.7: one host makes its connection's pair at the other, from the two files that are printed there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from tests.config.files import CREATE_CLIENT, CREATE_TEMPLATE
from tests.netns.support import answers, start, udp_sockets
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import A, B, Site, change, settle, value_of

FILE = "config_file.conf"  # the guide's name
KEY = "A0A1A2A3A4A5A6A7A8A9B0B1B2B3B4B5B6B7B8B9C0C1C2C3C4C5C6C7C8C9D1D2"
BUILT_IN_KEY = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF"

INTERFACE = """
[general]
tunnel_num      = 1
; Accept remote new connection request
accept_remote   = 1
cmdport_local   = 60456
cmd_timeout     = 25

[tun_0]
name            = tun0
mtu             = 1440
ipv4_addr       = {address}/24
"""


def create_hosts(lab: Lab, client: str = CREATE_CLIENT, template: str = CREATE_TEMPLATE) -> tuple[Site, Site]:
    """Hosts a and b of figure 3 whose networks have the gateways of the guide's example, a router; both daemons run.

    a  eth1 10.1.1.2 ──┐ br1 10.1.1.1 ┌── 10.1.1.3 eth1  b
       eth2 10.2.2.2 ──┤ br2 10.2.2.1 ├── 10.2.2.3 eth2
                       └──── router ──┘
    """
    a, b, router = lab.host("a"), lab.host("b"), lab.host("router", forwarding=True)
    for n in (1, 2):
        router.ip(f"link add br{n} type bridge", f"link set br{n} up", f"address add 10.{n}.{n}.1/24 dev br{n}")
    for host, number in ((a, 2), (b, 3)):
        for n in (1, 2):
            port = f"{host.name}{n}"
            link = lab.link(host, router, interfaces=(None, port))
            host.ip(f"address add 10.{n}.{n}.{number}/24 dev {link.a.interface}")
            router.ip(f"link set {port} master br{n}")
    directories = [lab.directory / "conf-a", lab.directory / "conf-b"]
    for directory, address in zip(directories, (A, B), strict=True):
        (directory / "connections").mkdir(parents=True)
        (directory / "interface.conf").write_text(INTERFACE.format(address=address))
    (directories[0] / "connections" / FILE).write_text(client)
    (directories[1] / "connections" / "conf.template").write_text(template)
    hosts: list[Host] = [a, b]
    daemons = start(*zip(hosts, directories, strict=True))
    site_a, site_b = (Site(*each) for each in zip(hosts, directories, daemons, strict=True))
    return site_a, site_b


def test_4_7_mpt_create(lab: Lab) -> None:
    """From the guide's two files: the paths are down, ``mpt create config_file.conf`` brings them up at both ends with
    the settings crossed over, ``mpt save`` keeps it, and restarted daemons have all of it again."""
    a, b = create_hosts(lab)
    assert a.paths() == ["down", "down"]
    assert b.status()["connections"] == []
    assert not answers(a.host, B, timeout=0.2)

    said = a.done("create", FILE)
    assert "MPT_connection_10.0.0.2 is created at 10.1.1.3" in said
    up = settle(a, b, timeout=3)
    assert None not in ping(a.host, B, count=20, interval=0.01)
    assert None not in ping(b.host, A, count=20, interval=0.01)
    (ours,), (theirs,) = a.status()["connections"], b.status()["connections"]
    assert (ours["remote_port"], theirs["remote_port"]) == (65060, 65060)
    assert [(path["weight_out"], path["weight_in"]) for path in ours["paths"]] == [(100, 70), (80, 50)]
    assert [(path["weight_out"], path["weight_in"]) for path in theirs["paths"]] == [(70, 100), (50, 80)]
    assert [path["remote_address"] for path in theirs["paths"]] == ["10.1.1.2", "10.2.2.2"]
    assert [(path["keepalive_time"], path["dead_time"]) for path in theirs["paths"]] == [(3, 11), (3, 11)]
    assert theirs["name"] == "MPT_connection_10.0.0.2"
    assert Transfer(a.host, b.host, B, seconds=0.5, warmup=0.2).finish().verified
    assert "Connection already exists (error code:5)" in a.refused("create", FILE)
    assert a.paths() == b.paths() == ["up", "up"]
    assert answers(a.host, B)

    assert sorted(path.name for path in b.connections.iterdir()) == ["conf.template"]
    assert FILE in a.done("save")
    assert "peer_10_0_0_2.conf" in b.done("save")
    saved = b.connections / "peer_10_0_0_2.conf"
    assert value_of(a.connections / FILE, "connection", "remote_port") == "65060"
    assert value_of(a.connections / FILE, "connection", "auth_key") == value_of(saved, "connection", "auth_key") == KEY
    assert value_of(saved, "path_0", "cmd_default") == "1"
    assert saved.stat().st_mode & 0o077 == 0
    for site in (a, b):
        assert "nothing has changed" in site.done("save")
        assert "1 unchanged" in site.done("reload")
    for site in (a, b):
        site.restart_daemon()
    again = settle(a, b, timeout=6)
    assert answers(a.host, B)
    assert answers(b.host, A)
    assert a.paths() == b.paths() == ["up", "up"]
    (restarted,) = b.status()["connections"]
    unchanging = ("name", "remote_address", "local_port", "remote_port", "permission", "reorder_window", "file")
    assert [restarted[key] for key in unchanging] == [theirs[key] for key in unchanging]
    print(f"\ncreate: up at both ends after {up:.2f} s, after the restart {again:.2f} s")


def test_4_7_only_the_first_path_knows_the_remote_address(lab: Lab) -> None:
    """It is enough to write remote_ipaddr for the path that the create goes over; what happens to the other one
    afterwards is told of like in any connection."""
    text = CREATE_CLIENT.replace("remote_ipaddr       = 10.2.2.3\n", "remote_ipaddr       = 0.0.0.0\n")
    a, b = create_hosts(lab, text)
    a.done("create", FILE)
    settle(a, b, timeout=3)
    assert [path["remote_address"] for path in a.status()["connections"][0]["paths"]] == ["10.1.1.3", "10.2.2.3"]
    assert None not in ping(a.host, B, count=20, interval=0.01)

    assert "the peer knows" in b.done("path", "down", "10.2.2.3", "10.2.2.2")
    settle(b, paths=["up", "manual down"], timeout=2)
    settle(a, paths=["up", "down"], timeout=2)
    assert "the peer knows" in b.done("path", "up", "10.2.2.3", "10.2.2.2")
    settle(a, b, timeout=4)


@pytest.fixture
def refusing(lab: Lab) -> tuple[Site, Site]:
    return create_hosts(lab)


def assert_nothing_was_created(b: Site) -> None:
    assert b.status()["connections"] == []
    assert not [each for each in udp_sockets(b.host) if each.endswith(":65060")]


def test_4_7_create_is_refused(refusing: tuple[Site, Site]) -> None:
    """A wrong key, a missing template and accept_remote = 0 are refused with a reason and code 1, nothing is
    made at the peer, and once that is mended the same command succeeds."""
    a, b = refusing
    template = b.connections / "conf.template"
    general = b.directory / "interface.conf"

    change(a.connections / FILE, "B0B1B2", "000000")
    a.done("reload", FILE)
    assert "authentication failed" in a.refused("create", FILE)
    assert_nothing_was_created(b)
    change(a.connections / FILE, "A9000000", "A9B0B1B2")
    a.done("reload", FILE)

    template.rename(template.with_name("aside"))
    assert "does not permit it" in a.refused("create", FILE)
    assert_nothing_was_created(b)
    template.with_name("aside").rename(template)

    change(general, r"^accept_remote .*", "accept_remote = 0")
    b.done("reload")
    assert "accept_remote" in a.refused("create", FILE)
    assert_nothing_was_created(b)
    change(general, r"^accept_remote .*", "accept_remote = 1")
    b.done("reload")

    change(a.connections / FILE, r"^permission .*", "permission = 2")
    a.done("reload", FILE)
    assert "permission" in a.refused("create", FILE)
    change(a.connections / FILE, r"^permission .*", "permission = 3")
    a.done("reload", FILE)
    assert "Config file not found: nothing.conf" in a.refused("create", "nothing.conf")

    a.done("create", FILE)
    settle(a, b, timeout=3)


def test_4_7_the_built_in_key(lab: Lab) -> None:
    """The key that is built into every MPT program is refused at either end, with the reason, until both ends say
    allow_default_key = 1."""
    keyless = CREATE_CLIENT.replace(f"auth_key            = {KEY}\n", "")
    built_in = CREATE_TEMPLATE.replace(KEY, BUILT_IN_KEY)
    a, b = create_hosts(lab, keyless, built_in)
    said = a.refused("create", FILE)
    assert "allow_default_key = 1" in said
    assert "auth_key" in said
    assert_nothing_was_created(b)
    for site in (a, b):
        assert_nothing_was_created(b)
        change(site.directory / "interface.conf", r"^cmd_timeout", "allow_default_key = 1\ncmd_timeout")
        site.done("reload")
        if site is a:
            assert "authentication failed" in a.refused("create", FILE)
    a.done("create", FILE)
    settle(a, b, timeout=3)
    assert answers(a.host, B)


def test_4_7_the_peer_is_late(lab: Lab) -> None:
    """With nobody at the other end ``mpt create`` says so after its retries, well within cmd_timeout, and what was
    configured stays as it was. A connection that is
    restarted or deleted while its create is under way is not touched by the answer, which says so."""
    a, b = create_hosts(lab)
    b.daemon.stop()
    started = time.monotonic()
    assert "did not answer" in a.refused("create", FILE)
    assert time.monotonic() - started < 8
    assert a.paths() == ["down", "down"]
    for meanwhile in (["restart"], ["delete", FILE]):
        with ThreadPoolExecutor(1) as pool:
            creating = pool.submit(a.refused, "create", FILE)
            time.sleep(0.7)
            a.done(*meanwhile)
            b.restart_daemon()
            assert "was deleted or started anew meanwhile" in creating.result()
        b.daemon.stop()  # it has not saved what it created
    b.restart_daemon()
    (a.connections / f"{FILE}.disabled").rename(a.connections / FILE)
    assert "created at 10.1.1.3" in a.done("create", FILE)  # which loads the file
    settle(a, b, timeout=3)
    assert answers(a.host, B)

"""Every command of guide chapter 4, typed as it is printed there, on two daemons; `create` (4.7) is in test_create."""

from __future__ import annotations

import json
import socket
import time
from functools import partial
from pathlib import Path

import pytest

from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import DATA_PORT
from mpt.local.status import SCHEMA
from tests.netns.support import answers, ip_json, udp_sockets, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import (
    B6,
    CONNECTION,
    DEAD,
    PATH_0,
    A,
    B,
    Sniffer,
    change,
    client_of_nobody,
    guide_hosts,
    mpt_on,
    settle,
    value_of,
)

SLOW = Shape(rate_mbit=20)


def addresses(host: object, interface: str) -> set[str]:
    """The addresses of an interface, with their prefixes."""
    (found,) = ip_json(host, "address", "show", "dev", interface)  # type: ignore[arg-type]
    return {f"{each['local']}/{each['prefixlen']}" for each in found["addr_info"]}  # type: ignore[attr-defined]


def is_up(host: object, interface: str) -> bool:
    (found,) = ip_json(host, "link", "show", "dev", interface)  # type: ignore[arg-type]
    return "UP" in found["flags"]  # type: ignore[operator]


def test_4_sending_commands_to_the_server(lab: Lab) -> None:
    """``mpt`` without a command, and a command without its words, tell the syntax with no daemon running; a command
    then says that there is no daemon, with code 3."""
    a = lab.host("a")
    bare = mpt_on(a)
    assert bare.output.startswith("Usage: mpt [-6] [-port_number] mpt_command mpt_args")
    for command in ("address", "interface", "reload", "restart", "delete", "save", "create", "path", "show"):
        assert f"mpt {command}"[:7] in bare.output
    assert "addr[ess] {add | del} IP_ADDRESS[/PREF_LEN] dev INTERFACE" in mpt_on(a, "address").output
    assert "Default prefix length: 24 for IPv4, 64 for IPv6" in mpt_on(a, "address").output
    assert "int[erface] INTERFACE {up | down}" in mpt_on(a, "interface").output
    nobody_there = mpt_on(a, "show", "status")
    assert nobody_there.code == 3
    assert "is mptsrv running?" in nobody_there.errors
    assert mpt_on(a, "fly").code == 2


def test_4_1_mpt_address(lab: Lab) -> None:
    """Adds and deletes addresses of both versions, with the guide's default prefixes; that a path has lost its address
    and has got it back is known at both ends."""
    a, b, _ = guide_hosts(lab)
    assert "10.9.9.9/24 added to eth1" in a.done("address", "add", "10.9.9.9", "dev", "eth1")
    a.done("addr", "add", "fd09::9", "dev", "eth2")
    a.done("addr", "add", "10.8.8.8/30", "dev", "eth1")
    assert {"10.9.9.9/24", "10.8.8.8/30"} <= addresses(a.host, "eth1")
    assert "fd09::9/64" in addresses(a.host, "eth2")
    assert "was already on eth1" in a.done("addr", "add", "10.9.9.9", "dev", "eth1")
    for text, interface in (("10.9.9.9", "eth1"), ("fd09::9/64", "eth2"), ("10.8.8.8/30", "eth1")):
        a.done("addr", "del", text, "dev", interface)
    assert "was not on eth1" in a.done("addr", "del", "10.9.9.9", "dev", "eth1")
    assert not {"10.9.9.9/24", "10.8.8.8/30"} & addresses(a.host, "eth1")
    assert "fd09::9/64" not in addresses(a.host, "eth2")

    assert "eth7" in a.refused("addr", "add", "10.9.9.9", "dev", "eth7")
    a.refused("addr", "add", "10.9.9", "dev", "eth1", code=2)

    a.done("addr", "del", "10.1.1.2", "dev", "eth1")
    settle(a, paths=["address down", "up"], timeout=DEAD)
    settle(b, paths=["down", "up"])
    assert None not in ping(a.host, B, count=10, interval=0.01)
    a.done("addr", "add", "10.1.1.2", "dev", "eth1")
    settle(a, b)
    assert None not in ping(a.host, B, count=10, interval=0.01)


def test_4_1_the_address_of_the_tunnel(lab: Lab) -> None:
    """The tunnel's own address may be taken away and given back: its prefix and the routes from it come with it. If
    another program takes it, it is put back."""
    a, _, _ = guide_hosts(lab, networks=[("11.1.1.0/24", "21.1.1.0/24")])
    before = a.host.run(["ip", "route"])
    assert "21.1.1.0/24 dev tun0" in before
    a.done("addr", "del", A, "dev", "tun0")
    assert f"src {A.partition('/')[0]}" not in a.host.run(["ip", "route"])
    a.done("addr", "add", A, "dev", "tun0")

    def is_as_before() -> bool:
        return sorted(a.host.run(["ip", "route"]).splitlines()) == sorted(before.splitlines())

    wait_until(is_as_before, "all routes again", 1)
    assert answers(a.host, B)
    a.host.ip("address flush dev tun0")
    wait_until(is_as_before, "the address and all routes again", 1)
    assert answers(a.host, B)


def test_4_2_mpt_interface(lab: Lab) -> None:
    """Takes the link down, its paths are down at once at both ends though the dead time is 11 s, and traffic goes on;
    ``mpt int eth1 up`` brings link, path, addresses and routes back."""
    a, b, _ = guide_hosts(lab, keepalive=0.5, dead=11)
    before = a.host.run(["ip", "route"])
    assert "eth1 is down; path_0 of lab_ipv4 is interface down" in a.done("int", "eth1", "down")
    assert not is_up(a.host, "eth1")
    settle(a, paths=["interface down", "up"], timeout=1)
    told = settle(b, paths=["down", "up"], timeout=3)
    assert None not in ping(a.host, B, count=20, interval=0.01)
    a.done("int", "eth1", "up")
    a.done("int", "eth2", "up")
    assert is_up(a.host, "eth1")
    back = settle(a, b)
    assert a.host.run(["ip", "route"]) == before
    assert None not in ping(a.host, B, count=20, interval=0.01)
    assert "no path uses it" in a.done("interface", "lo", "up")
    assert "eth7" in a.refused("int", "eth7", "up")
    print(f"\ninterface: the peer showed it after {told:.2f} s, both up again after {back:.2f} s")


def test_4_2_an_interface_with_ipv6_paths(lab: Lab) -> None:
    """Linux forgets the IPv6 addresses of a link that goes down; ``mpt int eth1 up`` brings back those of the paths."""
    a, b, _ = guide_hosts(lab, outer=6)
    a.done("int", "eth1", "down")
    settle(a, paths=["interface down", "up"])
    assert "fd01::2/64" not in addresses(a.host, "eth1")
    a.done("int", "eth1", "up")
    settle(a, b)
    assert {"fd01::2/64", "10.1.1.2/24"} <= addresses(a.host, "eth1")
    assert None not in ping(a.host, B, count=10, interval=0.01)
    assert "the peer knows" in a.done("path", "down", "fd02::2", "fd02::3")
    settle(a, paths=["up", "manual down"])
    settle(b, paths=["up", "down"])


def test_4_3_mpt_reload(lab: Lab) -> None:
    """Takes in a changed and a new file while an open stream of the connection that did not change loses nothing: its
    sequence numbers go on. A connection whose file is gone stays."""
    a, b, _ = guide_hosts(lab, SLOW, SLOW, ipv6=True)
    other = a.connections / "ipv6.conf"
    assert "2 unchanged" in a.done("reload")
    transfer = Transfer(a.host, b.host, B, seconds=3, warmup=0.2)
    with Sniffer(b.host, "eth1", "eth2") as sniffer:
        change(other, r"^(weight_out\s*)=.*", r"\1= 7")
        assert "changed: lab_ipv6; 1 unchanged" in a.done("reload")
        for weight in range(2, 6):
            change(other, r"^(weight_out\s*)=.*", rf"\1= {weight}")
            assert "changed: lab_ipv6; 0 unchanged" in a.done("reload", "ipv6.conf")
            a.done("reload", CONNECTION)
        time.sleep(0.3)
    result = transfer.finish()
    print(f"\nreload: {result.mbit:.0f} Mbit/s, longest gap {result.longest_gap:.3f} s")
    assert result.verified
    assert result.longest_gap < 0.3
    sniffer.assert_untouched(500)
    assert [path["weight_out"] for path in a.status()["connections"][1]["paths"]] == [5, 5]
    wait_until(lambda: answers(a.host, B6), "an answer over the changed connection")

    other.unlink()
    assert "1 unchanged" in a.done("reload")
    assert len(a.status()["connections"]) == 2
    assert "Config file not found" in a.refused("reload", "ipv6.conf")


def test_4_3_reload_of_a_new_file_by_its_name(lab: Lab) -> None:
    """A file that was not there at the start is loaded by ``mpt reload FILE``, at both ends, and carries packets."""
    a, b, _ = guide_hosts(lab, ipv6=True)
    for site in (a, b):
        site.done("delete", "ipv6.conf")
        (site.connections / "ipv6.conf.disabled").rename(site.connections / "new.conf")
    assert not answers(a.host, B6, timeout=0.2)
    assert "1 unchanged" in a.done("reload", CONNECTION)
    assert not answers(a.host, B6, timeout=0.2)
    assert "new: lab_ipv6" in a.done("reload", "new.conf")
    assert "new: lab_ipv6; 1 unchanged" in b.done("reload")
    wait_until(lambda: answers(a.host, B6), "an answer over the new connection")


@pytest.mark.parametrize("way", ["mpt reload", "mpt reload connection.conf", "SIGHUP"])
def test_4_3_reload_of_a_bad_file(lab: Lab, way: str) -> None:
    """Nothing is changed, not even by the good files, and the errors are told with file, line, section and key."""
    a, _, _ = guide_hosts(lab, ipv6=True)
    before = a.status()["connections"]
    change(a.connections / "ipv6.conf", r"^(weight_out\s*)=.*", r"\1= 3")
    file = a.connections / CONNECTION
    change(file, r"^(weight_out\s*)=.*", r"\1= heavy", count=1)
    line = 1 + file.read_text().splitlines().index("weight_out       = heavy")
    if way == "SIGHUP":
        a.daemon.process.signal(1)
        wait_until(lambda: "heavy" in a.daemon.process.output(), "the errors in the log")
        said = a.daemon.process.output()
    else:
        said = a.refused(*way.split()[1:])
    assert f"{CONNECTION}:{line}" in said
    assert "[path_0] weight_out" in said
    assert [each["paths"][0]["weight_out"] for each in a.status()["connections"]] == [1, 1]
    assert [each["name"] for each in a.status()["connections"]] == [each["name"] for each in before]
    assert answers(a.host, B)


def test_4_3_reload_of_interface_conf(lab: Lab) -> None:
    """Of interface.conf what can be changed at run time is; a change of the tunnel is refused with the way out."""
    a, _, _ = guide_hosts(lab)
    change(a.directory / "interface.conf", r"^accept_remote.*", "accept_remote = 0")
    assert a.status()["accept_remote"] is True
    a.done("reload")
    assert a.status()["accept_remote"] is False
    change(a.directory / "interface.conf", r"^\[tun_0\]$", "[tun_0]\nmtu = 1400")
    assert "restart of mptsrv" in a.refused("reload")


def test_4_3_reload_of_files_that_swap_names(lab: Lab) -> None:
    """Two connections whose files have each the name of the other now: the reload says what to do, and both go on."""
    a, _, _ = guide_hosts(lab, ipv6=True)
    change(a.connections / CONNECTION, r"^(name\s*)=.*", r"\1= lab_ipv6")
    change(a.connections / "ipv6.conf", r"^(name\s*)=.*", r"\1= lab_ipv4")
    assert "the connection lab_ipv6 runs already" in a.refused("reload")
    assert {each["name"] for each in a.status()["connections"]} == {"lab_ipv4", "lab_ipv6"}
    for address in (B, B6):
        wait_until(partial(answers, a.host, address), f"an answer of {address}")


def test_4_3_reload_of_a_port_in_use(lab: Lab) -> None:
    """A change that the host refuses is told, and the connection goes on as it was."""
    a, _, _ = guide_hosts(lab)
    with a.host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("10.1.1.2", 5000))
        change(a.connections / CONNECTION, r"^(local_port\s*)=.*", r"\1= 5000")
        for words in (["reload"], ["reload", CONNECTION]):
            assert "UDP port 5000 at 10.1.1.2 is in use" in a.refused(*words)
            wait_until(lambda: answers(a.host, B), "an answer")
    assert "changed: lab_ipv4" in a.done("reload")


def test_4_4_mpt_restart(lab: Lab) -> None:
    """Stops and starts the connections without reading their files; an open stream survives, and a path that was taken
    down by hand stays down."""
    a, b, _ = guide_hosts(lab, SLOW, SLOW, ipv6=True)
    a.done("path", "down", *PATH_0)
    change(a.connections / CONNECTION, r"^(weight_out\s*)=.*", r"\1= 9")
    transfer = Transfer(a.host, b.host, B, seconds=3, warmup=0.2)
    assert "restarted: lab_ipv4, lab_ipv6" in a.done("restart")
    said = a.done("restart", CONNECTION)
    assert "lab_ipv4" in said and "lab_ipv6" not in said
    wait_until(lambda: answers(a.host, B), "an answer after the restart")
    result = transfer.finish()
    print(f"\nrestart: longest gap {result.longest_gap:.3f} s")
    assert result.verified
    connections = a.status()["connections"]
    assert [path["status"] for path in connections[0]["paths"]] == ["manual down", "up"]
    assert [path["weight_out"] for path in connections[0]["paths"]] == [1, 1]
    a.done("path", "up", *PATH_0)
    settle(a, b)
    assert "Config file not found" in a.refused("restart", "nothing.conf")


def test_4_5_mpt_delete(lab: Lab) -> None:
    """Ends the connection of the file: sockets and routes are gone, the file has its new name and is not loaded again;
    the other connection does not notice."""
    a, b, _ = guide_hosts(lab, SLOW, SLOW, ipv6=True)
    transfer = Transfer(a.host, b.host, B6, seconds=2, warmup=0.2)
    with Sniffer(b.host, "eth1", "eth2", port=DATA_PORT + 2) as sniffer:
        assert "the file is now connection.conf.disabled" in a.done("delete", CONNECTION)
        time.sleep(0.5)
    assert sorted(path.name for path in a.connections.iterdir()) == ["connection.conf.disabled", "ipv6.conf"]
    assert not [each for each in udp_sockets(a.host) if each.endswith(f":{DATA_PORT}")]
    assert B not in a.host.run(["ip", "route"])
    assert not answers(a.host, B, timeout=0.2)
    assert transfer.finish().verified
    sniffer.assert_untouched(100)
    assert "1 unchanged" in a.done("reload")
    assert [each["file"] for each in a.status()["connections"]] == ["ipv6.conf"]
    assert "Config file not found: connection.conf" in a.refused("delete", CONNECTION)
    a.refused("delete", "../interface.conf", code=2)
    a.restart_daemon()
    assert [each["file"] for each in a.status()["connections"]] == ["ipv6.conf"]
    (a.connections / "connection.conf.disabled").rename(a.connections / CONNECTION)
    a.done("reload", CONNECTION)
    wait_until(lambda: answers(a.host, B), "an answer over the connection that is back")


def test_4_6_mpt_save(lab: Lab) -> None:
    """Writes what was changed at run time and nothing else: comments, unknown keys, the key and the mode of the file
    stay. A daemon that starts from it is as before."""
    secret = "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF"
    lines = ["; kept by hand", f"auth_key = {secret}", "unheard_of = 17"]
    a, b, _ = guide_hosts(lab, extra={"connection": lines, "path_0": ["cmd_default = 1"]})
    file = a.connections / CONNECTION
    file.chmod(0o640)
    assert "nothing has changed" in a.done("save")
    before = file.read_text()
    a.done("path", "down", *PATH_0)
    assert f"saved: {CONNECTION}" in a.done("save")
    assert [
        (old, new) for old, new in zip(before.splitlines(), file.read_text().splitlines(), strict=True) if old != new
    ] == [("status           = 0", "status           = 131")]
    assert value_of(file, "path_0", "status") == "131"
    assert file.stat().st_mode & 0o7777 == 0o640
    assert sorted(path.name for path in a.connections.iterdir()) == [CONNECTION]
    assert "1 unchanged" in a.done("reload")
    a.restart_daemon()
    settle(a, paths=["manual down", "up"])
    settle(b, paths=["down", "up"])
    a.done("path", "up", *PATH_0)
    a.done("save", CONNECTION)
    assert file.read_text() == before
    settle(a, b)
    assert "Config file not found" in a.refused("save", "nothing.conf")


def test_mpt_path(lab: Lab) -> None:
    """Down by hand a path carries nothing, both ends show it down, and no keepalive revives it; up it is back."""
    a, b, _ = guide_hosts(lab, dead=1.0)
    assert "path_0 of lab_ipv4 is manual down; the peer knows" in a.done("path", "down", *PATH_0)
    settle(a, paths=["manual down", "up"], timeout=1)
    settle(b, paths=["down", "up"], timeout=1)
    assert b.status()["connections"][0]["paths"][0]["peer_says_down"] is True
    assert "down (peer)" in b.done("show", "status")
    with Sniffer(b.host, "eth1", "eth2") as sniffer:
        assert None not in ping(a.host, B, count=20, interval=0.01)
        assert None not in ping(b.host, A, count=20, interval=0.01)
        time.sleep(1.8)  # longer than the dead time
    assert sniffer.datagrams["eth1"] == 0  # not even keepalives
    assert sniffer.datagrams["eth2"] >= 40
    assert a.status()["connections"][0]["paths"][0]["keepalive_age"] < 1.0  # those of b still come
    assert a.paths() == ["manual down", "up"]
    assert b.paths() == ["down", "up"]
    assert "the peer knows" in a.done("path", "up", *PATH_0)
    settle(a, b, timeout=2)
    assert "there are: 10.1.1.2 10.1.1.3, 10.2.2.2 10.2.2.3" in a.refused("path", "down", "10.1.1.2", "10.2.2.3")
    a.refused("path", "down", "10.1.1.2", code=2)


def test_mpt_show_status(lab: Lab) -> None:
    """Shows tunnels, connections, paths and counters as text and as a document; after traffic the paths have shared
    it."""
    a, _, _ = guide_hosts(lab)
    assert None not in ping(a.host, B, count=20, interval=0.01)
    text = a.done("show", "status")
    for part in (
        "tun0: 10.0.0.2/24, mtu 1440",
        "lab_ipv4 (connection.conf): 2 of 2 paths work",
        "10.0.0.2 to 10.0.0.3 on tun0, plain",
        "path_0",
        "eth2",
        "10.2.2.3",
    ):
        assert part in text
    document = json.loads(a.done("--json", "show", "status"))
    assert document["schema"] == SCHEMA
    sent = [path["packets_sent"] for path in document["connections"][0]["paths"]]
    assert min(sent) >= 10
    assert document["pid"] == a.daemon.process.pid


@pytest.mark.parametrize("way", [["-60456"], ["-6", "-60456"]])
def test_the_same_commands_over_udp(lab: Lab, way: list[str]) -> None:
    """``mpt -60456`` and ``mpt -6 -60456`` do the same over the loopback, with the same codes."""
    a, b, _ = guide_hosts(lab)
    assert "2 of 2 paths work" in a.done(*way, "show", "status")
    a.done(*way, "path", "down", *PATH_0)
    settle(a, paths=["manual down", "up"], timeout=1)
    a.done(*way, "save", CONNECTION)
    assert value_of(a.connections / CONNECTION, "path_0", "status") == "131"
    a.done(*way, "path", "up", *PATH_0)
    a.done(*way, "int", "eth2", "down")
    settle(a, paths=["up", "interface down"])
    a.done(*way, "int", "eth2", "up")
    settle(a, b)
    a.done(*way, "addr", "add", "10.9.9.9", "dev", "eth1")
    assert "10.9.9.9/24" in addresses(a.host, "eth1")
    for command in ("save", "reload", "restart"):
        a.done(*way, command)
    assert "Config file not found" in a.refused(*way, "reload", "nothing.conf")
    assert "unsuccessful" in a.refused(*way, "path", "down", "10.1.1.2", "10.7.7.7")
    a.done(*way, "delete", CONNECTION)
    assert a.status()["connections"] == []
    assert "no daemon" in a.refused("-60999", "show", "status", code=3)


def test_somebody_who_is_not_root_may_look_but_not_touch(lab: Lab) -> None:
    """A user who is neither root nor in the socket's group sees the status, over the unix socket and over UDP;
    everything that changes something ends with code 5 and changes nothing."""
    a, b, _ = guide_hosts(lab)
    client = client_of_nobody(lab, a.host)
    changes = [
        "path down 10.1.1.2 10.1.1.3",
        "int eth1 down",
        "addr add 10.9.9.9 dev eth1",
        "reload",
        "restart",
        "save",
        f"delete {CONNECTION}",
        f"create {CONNECTION}",
    ]
    for way, commands in (([], changes), (["-60456"], changes[:3]), (["-6", "-60456"], changes[3:])):
        looked = client(*way, "show", "status")
        assert looked.code == 0, looked
        assert "2 of 2 paths work" in looked.output
        for command in commands:
            touched = client(*way, *command.split())
            assert touched.code == 5, (way, command, touched)
            assert "not permitted" in touched.errors
    assert is_up(a.host, "eth1")
    assert "10.9.9.9/24" not in addresses(a.host, "eth1")
    assert [path.name for path in a.connections.iterdir()] == [CONNECTION]
    assert a.paths() == b.paths() == ["up", "up"]


def test_sighup_reloads(lab: Lab) -> None:
    """SIGHUP does what ``mpt reload`` does and says so in the log."""
    a, _, _ = guide_hosts(lab)
    change(a.connections / CONNECTION, r"^(weight_out\s*)=.*", r"\1= 4")
    a.daemon.process.signal(1)
    wait_until(lambda: "changed: lab_ipv4" in a.daemon.process.output(), "the word of it in the log")
    assert [path["weight_out"] for path in a.status()["connections"][0]["paths"]] == [4, 4]
    wait_until(lambda: answers(a.host, B), "an answer")


def test_sigterm_stops_cleanly(lab: Lab) -> None:
    """SIGTERM ends the daemon at once; tunnel, routes and sockets are gone, what others made is still there, and no
    file of the control socket is left."""
    a, _, _ = guide_hosts(lab)
    a.host.ip("route add 10.77.0.0/16 via 10.1.1.3")
    own = Path(a.control_socket)
    assert own.is_socket()
    started = time.monotonic()
    assert a.daemon.stop() in (0, -15)
    assert time.monotonic() - started < 2
    assert "tun0" not in a.host.interfaces()
    assert udp_sockets(a.host) == []
    assert "10.77.0.0/16" in a.host.run(["ip", "route"])
    assert B not in a.host.run(["ip", "route"])
    assert not own.exists()
    assert a.mpt("show", "status").code == 3

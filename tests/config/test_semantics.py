"""What `mpt check` finds in a configuration that mptsrv would take: each judgement, and what it leaves alone."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from mpt.config.findings import ERROR, NOTE, WARNING, Finding
from mpt.config.semantics import check_directory
from mpt.facts import HostFacts, UdpSocket
from mpt.model import Interface, Route
from tests.config.files import PEER_KEY, changed, line_of, write

SAMPLES = Path(__file__).parents[2] / "conf"
INTERFACE = """\
[general]
cmdport_local = 60456

[tun_0]
name = tun0
mtu = 1440
ipv4_addr = 10.0.0.2/24
"""
AUTO = INTERFACE.replace("1440", "auto")
CONNECTION = """\
[connection]
name = home
permission = 3
ip_ver = 4
ip_local = 10.0.0.2
local_port = 4754
ip_remote = 10.0.0.3
remote_port = 4754
remote_cmd_port = 60456
path_count = 2
network_count = 1
status = 0
reorder_window = 1000
auth_type = 0

[path_0]
interface_name = eth1
ip_ver = 4
public_ipaddr = 10.1.1.2
gateway_ipaddr = 10.1.1.2
remote_ipaddr = 10.1.1.3
keepalive_time = 0.5
weight_out = 1
status = 0

[path_1]
interface_name = eth2
ip_ver = 4
public_ipaddr = 10.2.2.2
gateway_ipaddr = 10.2.2.1
remote_ipaddr = 192.0.2.10
keepalive_time = 0.5
weight_out = 1
status = 0

[net_0]
ip_ver = 4
src_addr = 192.168.71.0/24
dst_addr = 192.168.72.0/24
"""
SEALED = f"""\
[connection]
name = vps
peer_key = {PEER_KEY}
ip_local = 10.0.0.2
ip_remote = 10.0.0.3

[path_0]
interface_name = eth1
remote_ipaddr = 192.0.2.10
"""


def line(name: str, *addresses: str, **more: Any) -> Interface:
    usual: dict[str, Any] = {"index": 7, "up": True, "carrier": True, "mtu": 1500}
    return Interface(name, addresses=tuple(map(ip_interface, addresses)), **{**usual, **more})


def host(*lines: Interface, **more: Any) -> HostFacts:
    """A host with these lines instead of those of the same name."""
    usual = [line("lo", "127.0.0.1/8"), line("eth1", "10.1.1.2/24"), line("eth2", "10.2.2.2/24")]
    return HostFacts({each.name: each for each in (*usual, *lines)}, **more)


def default(name: str, version: int = 4, gateway: str | None = None) -> dict[tuple[str, int], Route]:
    destination = ip_network("0.0.0.0/0" if version == 4 else "::/0")
    return {(name, version): Route(destination, name, ip_address(gateway) if gateway else None)}


def findings(
    directory: Path, text: str = CONNECTION, interface: str = INTERFACE, on: HostFacts | None = None
) -> list[Finding]:
    write(directory, interface, {"home.conf": text})
    return check_directory(directory, on or host())[1]


def told(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.severity, each.problem.section, each.problem.key) for each in found]


def test_what_fits_is_not_complained_of(tmp_path: Path) -> None:
    """Neither by itself nor on the host, in a plain and in a sealed connection."""
    assert findings(tmp_path) == []
    assert findings(tmp_path, SEALED, AUTO, on=host(default_routes=default("eth1", gateway="10.1.1.1"))) == []


OWN = UdpSocket(ip_address("10.1.1.2"), 4754, 77, "named")
ANY_COMMAND = UdpSocket(ip_address("0.0.0.0"), 60456, 78, "dnsmasq")

# For each judgement: the section that changes and its keys, the host, and severity, section, key, words and remedy
TABLE: list[tuple[str, str, dict[str, str | None], HostFacts, tuple[str, str, str, str, str]]] = [
    (
        "public source",
        "net_0",
        {"src_addr": "11.1.1.0/24"},
        host(),
        (WARNING, "net_0", "src_addr", "is public address space", "192.168.0.0/16"),
    ),
    (
        "public destination",
        "net_0",
        {"dst_addr": "21.1.1.0/24"},
        host(),
        (WARNING, "net_0", "dst_addr", "is public address space", "192.168.0.0/16"),
    ),
    (
        "commands alone are authenticated",
        "connection",
        {"auth_type": "1"},
        host(),
        (NOTE, "connection", "auth_type", "protects the control commands only", "peer_key = "),
    ),
    (
        "no keepalives",
        "path_1",
        {"keepalive_time": "0"},
        host(),
        (WARNING, "path_1", "keepalive_time", "nobody notices", "keepalive_time = 0.5"),
    ),
    (
        "no window",
        "connection",
        {"reorder_window": "0"},
        host(),
        (NOTE, "connection", "reorder_window", "overtake each other", "reorder_window = 1000"),
    ),
    (
        "window against rate and delay",
        "connection",
        {"reorder_window": "1000"},
        host(speeds={"eth1": 100, "eth2": 300}),
        (NOTE, "connection", "reorder_window", "holds what 112 Mbit/s bring", "reorder_window = 3572"),
    ),
    (
        "command port of the peer",
        "connection",
        {"remote_cmd_port": "4754"},
        host(),
        (WARNING, "connection", "remote_cmd_port", "is remote_port, too", "cmdport_local"),
    ),
    (
        "nobody at the command port",
        "connection",
        {},
        host(probed={(ip_address("10.1.1.3"), 60456): "nobody listens there"}),
        (WARNING, "connection", "remote_cmd_port", "10.1.1.3, the peer of [path_0]", "start mptsrv there"),
    ),
    (
        "line switched off",
        "connection",
        {},
        host(line("eth2", "10.2.2.2/24", up=False)),
        (WARNING, "path_1", "interface_name", "is switched off", "ip link set eth2 up"),
    ),
    (
        "no carrier",
        "connection",
        {},
        host(line("eth2", "10.2.2.2/24", carrier=False)),
        (NOTE, "path_1", "interface_name", "no carrier", ""),
    ),
    (
        "gateway elsewhere",
        "path_1",
        {"gateway_ipaddr": "10.3.3.1"},
        host(default_routes=default("eth2", gateway="10.2.2.254")),
        (WARNING, "path_1", "gateway_ipaddr", "is not on the link of eth2, which has 10.2.2.0/24", "10.2.2.254"),
    ),
    (
        "peer not on the link",
        "path_1",
        {"gateway_ipaddr": "10.2.2.2"},
        host(),
        (WARNING, "path_1", "gateway_ipaddr", "says that the peer is on the link", "the router of that line"),
    ),
    (
        "no default route",
        "path_1",
        {"gateway_ipaddr": "0.0.0.0"},
        host(),
        (WARNING, "path_1", "gateway_ipaddr", "eth2 has no IPv4 default route", "the router of that line"),
    ),
    (
        "data port taken",
        "connection",
        {},
        host(udp_sockets=(OWN,)),
        (WARNING, "connection", "local_port", "of [path_0] is in use by named (process 77)", "ss -lunp sport = :4754"),
    ),
    (
        "all IPv4, IPv6 beside it",
        "net_0",
        {"dst_addr": "0.0.0.0/0"},
        host(default_routes=default("eth1", 6, "fe80::1")),
        (WARNING, "net_0", "dst_addr", "IPv6 goes beside it", "dst_addr = ::/0"),
    ),
    (
        "network of the peer on our line",
        "net_0",
        {"dst_addr": "10.2.2.0/24"},
        host(),
        (WARNING, "net_0", "dst_addr", "is on the link of eth2 (10.2.2.2/24)", "behind the peer only"),
    ),
    (
        "command port taken",
        "general",
        {},
        host(udp_sockets=(ANY_COMMAND,)),
        (WARNING, "general", "cmdport_local", "in use by dnsmasq (process 78)", "cmdport_local = "),
    ),
    (
        "a data path that was not built",
        "general",
        {"data_plane": "native"},
        host(has_native=False),
        (ERROR, "general", "data_plane", "was not built", "data_plane = auto"),
    ),
    (
        "MTU of a line",
        "tun_0",
        {},
        host(line("eth2", "10.2.2.2/24", mtu=1430)),
        (WARNING, "tun_0", "mtu", "too large for eth2, whose MTU is 1430", "mtu = 1394"),
    ),
    (
        "tunnel in the network of a line",
        "tun_0",
        {"ipv4_addr": "10.0.0.2/24"},
        host(line("eth0", "10.0.0.77/8"), line("eth3", "10.77.0.1/16")),
        (WARNING, "tun_0", "ipv4_addr", "overlaps the network of eth0, 10.0.0.0/8", "192.168.77.1/24"),
    ),
    (
        "site-local tunnel",
        "tun_0",
        {"ipv6_addr": "fec0::2/64"},
        host(),
        (NOTE, "tun_0", "ipv6_addr", "RFC 3879", "ipv6_addr = fd00::2/64"),
    ),
    (
        "nothing but an old peer",
        "connection",
        {"remote_port": None},
        host(),
        (WARNING, "connection", "remote_port", "this host sends nothing until", ""),
    ),
    (
        "an interface that is not there",
        "path_1",
        {"interface_name": "eth9"},
        host(),
        (WARNING, "path_1", "interface_name", "is no interface of this host now; there are eth1, eth2", ""),
    ),
    (
        "an address that is not there",
        "path_1",
        {"public_ipaddr": "10.2.2.9"},
        host(),
        (WARNING, "path_1", "public_ipaddr", "is not on eth2 now: eth2 has 10.2.2.2", ""),
    ),
    (
        "no number",
        "connection",
        {"local_port": "many"},
        host(),
        (ERROR, "connection", "local_port", "must be", ""),
    ),
]


@pytest.mark.parametrize(
    ("section", "keys", "on", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_each_fault_is_found_with_its_place_and_its_remedy(
    section: str,
    keys: dict[str, str | None],
    on: HostFacts,
    expected: tuple[str, str, str, str, str],
    tmp_path: Path,
) -> None:
    """One finding for it, at its line, with the key as it is written and what to write instead."""
    in_interface = section in ("general", "tun_0")
    interface = changed(INTERFACE, section, **keys) if in_interface else INTERFACE
    text = CONNECTION if in_interface else changed(CONNECTION, section, **keys)
    severity, place, key, words, remedy = expected
    matching = [each for each in findings(tmp_path, text, interface, on) if each.problem.key == key]
    found = matching[0]
    assert (found.severity, found.problem.section) == (severity, place) and len(matching) <= 2
    assert words in found.problem.message and remedy in found.remedy
    where = interface if place in ("general", "tun_0") else text
    written = f"\n{key} = " in where
    assert found.problem.line == line_of(where, place, key if written and keys.get(key, "") is not None else "")


def test_every_judgement_is_drawn() -> None:
    """No judgement is without a row above."""
    from mpt.config import semantics

    judgements = {*semantics.BY_ITSELF, *semantics.ON_THIS_HOST}
    assert len(judgements) == 12 and len(TABLE) >= len(judgements) + 4


def test_our_own_daemon_does_not_stand_in_its_way(tmp_path: Path) -> None:
    """Its sockets are there because it runs; sockets whose owner we cannot see may be its own."""
    sockets = OWN.address, OWN.port
    mine = UdpSocket(*sockets, 500, "mptsrv")
    hidden = UdpSocket(*sockets)
    assert findings(tmp_path, on=host(udp_sockets=(mine, hidden), daemon=500)) == []
    assert told(findings(tmp_path, on=host(udp_sockets=(hidden,)))) == [(WARNING, "connection", "local_port")]
    other = UdpSocket(ip_address("10.9.9.9"), 4754, 77, "named")
    assert findings(tmp_path, on=host(udp_sockets=(other,))) == []


def test_ipv6_in_the_tunnel_does_not_leak(tmp_path: Path) -> None:
    """Nor does it where the host has no IPv6."""
    text = changed(CONNECTION, "net_0", dst_addr="0.0.0.0/0")
    both = text.replace("network_count = 1", "network_count = 2")
    both += "\n[net_1]\nip_ver = 6\nsrc_addr = fd00::2/128\ndst_addr = ::/0\n"
    assert findings(tmp_path, both, on=host(default_routes=default("eth1", 6, "fe80::1"))) == []
    assert findings(tmp_path, text, on=host()) == []


def test_what_holds_for_all_clients_is_said_once(tmp_path: Path) -> None:
    """At the template."""
    template = (
        SEALED.replace("name = vps\n", "").replace(f"peer_key = {PEER_KEY}\n", "").replace("ip_remote = 10.0.0.3\n", "")
    )
    clients = f"[client one]\npeer_key = {PEER_KEY}\nip_remote = 10.0.0.3\n\n"
    clients += "[client two]\npeer_key = JUO5L/EJVRFHatyDadtt3JM2ZaEZeN2hQE7hBmypVZ0=\nip_remote = 10.0.0.4\n"
    write(tmp_path, AUTO, {"clients.conf": clients, "conf.template": template})
    on = host(line("eth1", "10.1.1.2/24", up=False), default_routes=default("eth1", gateway="10.1.1.1"))
    (only,) = check_directory(tmp_path, on)[1]
    assert only.problem.file.name == "conf.template" and only.problem.message == "is switched off"


def test_a_secret_is_in_no_finding(tmp_path: Path) -> None:
    """Neither in the text nor in the JSON of an error about it."""
    text = changed(CONNECTION, "connection", auth_type="2", auth_key="Kangaroo")
    found = findings(tmp_path, text)
    assert "auth_key" in {each.problem.key for each in found}
    assert not any("Kangaroo" in each.text() + str(each.as_json()) for each in found)


def test_a_finding_fits_a_terminal(tmp_path: Path) -> None:
    """80 columns, but for words that are longer."""
    text = changed(CONNECTION, "net_0", dst_addr="21.1.1.0/24")
    (only,) = findings(tmp_path, text)
    first, *rest = only.text().split("\n")
    assert first == f"{tmp_path}/connections/home.conf:{only.problem.line}: warning: [net_0] dst_addr = 21.1.1.0/24"
    assert max(map(len, rest)) <= 80 and rest[-1].startswith("    -> a private network")


@pytest.mark.parametrize("sample", [".", "samples/host_b"])
def test_the_samples_can_hurt_nobody(sample: str) -> None:
    """No network is somebody else's, no peer creates connections, and packets are put back in order."""
    config, found = check_directory(SAMPLES / sample)
    assert [each.text() for each in found] == []
    assert not config.general.accept_remote and all(each.reorder_window == 1000 for each in config.connections)
    assert all(tunnel.ipv6_addr in ip_network("fd00::/8") for tunnel in config.tunnels if tunnel.ipv6_addr)


def test_the_samples_of_the_guide_are_the_guides() -> None:
    """Their networks are those of other people, and the check says so."""
    _config, found = check_directory(SAMPLES / "samples" / "guide" / "host_a")
    assert sum("public address space" in each.problem.message for each in found) == 4

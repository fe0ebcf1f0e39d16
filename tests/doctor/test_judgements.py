"""What `mpt doctor` finds: each finding is drawn from a case that has its fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mpt.config.directory import load_directory
from mpt.config.findings import ERROR
from mpt.config.findings import Finding as CheckFinding
from mpt.config.parser import Problem
from mpt.config.semantics import check_directory
from mpt.doctor.findings import FAULT, GOOD, NOTE, WARNING, Finding, text
from mpt.doctor.judgements import JUDGEMENTS, SOCKET_BUFFER, Case, judge
from mpt.facts import HostFacts, UdpSocket
from mpt.host.sockets import BUFFER_SIZE
from mpt.local.statustext import PLAIN
from mpt.model import Config, Interface
from tests.config.files import PEER_KEY, changed, write
from tests.config.test_semantics import AUTO, CONNECTION, INTERFACE, SEALED, host, line
from tests.local.test_status import DOCUMENT

SYSCTLS = {
    "net.core.rmem_max": "8388608",
    "net.core.wmem_max": "8388608",
    "net.ipv4.conf.all.rp_filter": "2",
    "net.ipv4.conf.eth1.rp_filter": "1",
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.disable_ipv6": "0",
}
HOST = host(sysctls=SYSCTLS, kernel=(6, 12))
PEER = ip_address("10.1.1.3")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


def config(directory: Path, connection: str = CONNECTION, interface: str = INTERFACE) -> Config:
    for old in (directory / "connections").glob("*"):
        old.unlink()
    return load_directory(write(directory, interface, {"home.conf": connection})).config


def on(**sysctls: str) -> HostFacts:
    """The host with these sysctls; __ stands for a dot."""
    return replace(HOST, sysctls={**SYSCTLS, **{name.replace("__", "."): value for name, value in sysctls.items()}})


def checked(*severities: str) -> list[CheckFinding]:
    """What `mpt check` has found."""
    problem = Problem(Path("home.conf"), 1, "path_0", "gw_ipaddr", "10.0.0.1", "is not on the link")
    return [CheckFinding(each, problem) for each in severities]


def private(name: str, address: str) -> HostFacts:
    return host(line(name, address), sysctls=SYSCTLS)


def tunnels(**changes: Any) -> Any:
    return replace(DOCUMENT, connections=[], tunnels=[replace(DOCUMENT.tunnels[0], **changes)])


def cases(directory: Path) -> Iterator[tuple[Case, str, str, str, str]]:
    """Yield each case with the severity, topic, words and command of the finding that it must draw."""
    plain = config(directory)
    through = changed(CONNECTION, "net_0", src_addr="192.168.1.0/24")
    yield Case(replace(HOST, is_root=False)), NOTE, "rights", "run by root", ""
    yield Case(replace(HOST, kernel=(4, 19))), WARNING, "kernel", "Linux 4.19 does not join", ""
    yield Case(replace(HOST, kernel=(6, 1))), NOTE, "kernel", "Linux 6.1 cuts TCP", ""
    yield Case(HOST), GOOD, "kernel", "Linux 6.12", ""
    yield (
        Case(replace(HOST, tun_device="No such file or directory")),
        FAULT,
        "tun",
        "--device /dev/net/tun",
        "modprobe tun",
    )
    yield Case(replace(HOST, tun_device="Operation not permitted")), FAULT, "tun", "Operation not permitted", ""
    yield Case(replace(HOST, tun_device="Permission denied", is_root=False)), NOTE, "tun", "Permission denied", ""
    yield Case(HOST), GOOD, "tun", "can be opened", ""
    yield (
        Case(replace(HOST, has_native=False)),
        WARNING,
        "data path",
        "was not built",
        "MPT_BUILD_NATIVE=yes pip install",
    )
    python = config(directory, interface=changed(INTERFACE, "general", data_plane="python"))
    yield Case(HOST, python), NOTE, "data path", "data_plane = python in interface.conf", ""
    yield Case(HOST, status=tunnels(data_plane="python")), NOTE, "data path", "mpt logs", ""
    yield Case(HOST), GOOD, "data path", "native", ""
    refused = tunnels(data_plane="native", offloads=["vnet_hdr"])
    yield Case(HOST, status=refused), WARNING, "offloads", "without udp_segment", "mpt logs | grep -i offload"
    off = config(directory, interface=changed(INTERFACE, "general", gso="off"))
    yield Case(HOST, off, refused), NOTE, "offloads", "interface.conf has gso = off", ""
    whole = tunnels(data_plane="native", offloads=["udp_segment", "vnet_hdr"])
    yield Case(HOST, status=whole), GOOD, "offloads", "udp_segment, vnet_hdr", ""
    small = on(net__core__rmem_max="212992")
    yield Case(small), NOTE, "buffers", "net.core.rmem_max: below", "sysctl -w net.core.rmem_max=4194304"
    dropping = replace(HOST, daemon=9, udp_sockets=(UdpSocket(PEER, 4754, 9, "mptsrv", 12),))
    yield Case(dropping), WARNING, "buffers", "dropped 12 datagrams at 10.1.1.3 port 4754", ""
    strict = on(net__ipv4__conf__all__rp_filter="1")
    yield Case(strict, plain), WARNING, "rp_filter", "eth1, eth2", "sysctl -w net.ipv4.conf.all.rp_filter=2"
    yield Case(HOST, plain), GOOD, "rp_filter", "on each line", ""
    with_ipv6 = config(directory, interface=INTERFACE + "ipv6_addr = fd00::2/64\n")
    without = on(net__ipv6__conf__all__disable_ipv6="1")
    yield Case(without, with_ipv6), FAULT, "IPv6", "fd00::2/64", "sysctl -w net.ipv6.conf.all.disable_ipv6=0"
    still = on(net__ipv4__ip_forward="0")
    sites = config(directory, through)
    yield Case(still, sites), WARNING, "forwarding", "192.168.1.0/24", "sysctl -w net.ipv4.ip_forward=1"
    yield Case(HOST, sites), GOOD, "forwarding", "IPv4 is forwarded", ""
    full = on(net__netfilter__nf_conntrack_count="990", net__netfilter__nf_conntrack_max="1000")
    yield Case(full), WARNING, "conntrack", "990 of 1000", "sysctl -w net.netfilter.nf_conntrack_max=2000"
    yield Case(HOST), NOTE, "configuration", "there is none yet", "mpt init"
    yield (
        Case(HOST, plain, checked=checked("error", "error")),
        FAULT,
        "configuration",
        "2 error(s)",
        "mpt check",
    )
    yield Case(HOST, plain, checked=checked("warning", "note")), WARNING, "configuration", "1 warning(s)", "mpt check"
    yield Case(HOST, plain, checked=checked()), GOOD, "configuration", "nothing wrong", ""
    yield Case(HOST), NOTE, "daemon", "no mptsrv answers", "systemctl start mpt"
    yield Case(HOST, status=DOCUMENT), FAULT, "daemon", "path_1 of", ""
    yield Case(HOST, status=whole), GOOD, "daemon", "all of its paths work", ""
    near = changed(CONNECTION, "path_0", remote_ipaddr="9.9.9.9", gateway_ipaddr="10.1.1.1")
    behind = config(directory, near)
    rule = "nft add rule ip nat prerouting udp dport { 4754, 60456 } dnat to 10.1.1.2"
    yield Case(HOST, behind), WARNING, "NAT", "must forward UDP 4754, 60456 to 10.1.1.2", rule
    providers = config(directory, changed(near, "path_0", public_ipaddr="9.8.7.6", private_ipaddr="100.64.1.2"))
    yield Case(private("eth1", "100.64.1.2/24"), providers), FAULT, "NAT", "of the provider", "mpt genkey"
    sealed = SEALED.replace("192.0.2.10", "9.9.9.9")
    kept = config(directory, sealed, AUTO)
    yield Case(HOST, kept), GOOD, "NAT", "keepalives keep it open", ""
    lazy = config(directory, changed(sealed, "path_0", keepalive_time="120"), AUTO)
    yield Case(HOST, lazy), WARNING, "NAT", "keepalive_time = 15 below", "mpt reload home.conf"
    closed = {(PEER, 4754): "nobody listens there"}
    yield Case(HOST, plain, ports=closed), FAULT, "peer", "UDP port 4754 (data)", "udp dport 4754 accept"
    closed = {(PEER, 60456): "nobody listens there"}
    yield Case(HOST, plain, ports=closed), FAULT, "peer", "UDP port 60456 (commands)", "udp dport 60456 accept"
    yield Case(HOST, plain, ports={(PEER, 4754): ""}), NOTE, "peer", "silent", ""
    ours = replace(DOCUMENT, connections=[replace(DOCUMENT.connections[0], remote_port=4754)])
    yield Case(HOST, plain, ours, ports={(PEER, 4754): ""}), GOOD, "peer", "heard", ""
    two = config(directory, SEALED.replace("192.0.2.10", "10.1.1.3 fd01::3"), AUTO)
    unused = {(PEER, 4754): "", (ip_address("fd01::3"), 4754): "nobody listens there"}
    yield Case(HOST, two, ours, ports=unused), NOTE, "peer", "fd01::3, UDP port 4754 (data): nobody listens there", ""
    yield Case(HOST, plain, path_mtus={("eth1", PEER): None}), NOTE, "MTU", "answers no ping", ""
    yield Case(HOST, plain, path_mtus={("eth1", PEER): 1430}), WARNING, "MTU", "write mtu = 1394", "mtu = 1394/' "
    yield Case(HOST, plain, path_mtus={("eth1", PEER): 1500}), GOOD, "MTU", "1500 octets to 10.1.1.3", ""
    yield Case(HOST, kept, path_mtus={("eth1", ip_address("9.9.9.9")): 1400}), GOOD, "MTU", "1400 octets", ""


def test_each_finding_is_drawn(directory: Path) -> None:
    """By its case, with its severity, its words and the command that mends it; none of a judgement is left out."""
    drawn = set()
    for case, severity, topic, words, command in cases(directory):
        found = [each for each in judge(case) if each.topic == topic and words in each.message]
        assert found, (topic, words, [each.message for each in judge(case) if each.topic == topic])
        assert found[0].severity == severity, found[0]
        assert command in found[0].command and bool(command) == bool(found[0].command), found[0]
        drawn.add((topic, severity))
    assert len({topic for topic, _severity in drawn}) == len(JUDGEMENTS)


def test_the_buffers_are_those_that_sockets_get() -> None:
    """A pure judgement does not import the sockets, so the size stands twice."""
    assert SOCKET_BUFFER == BUFFER_SIZE


def test_nothing_is_concluded_from_what_is_not_known() -> None:
    """A host of which nothing is known has no fault."""
    unknown = HostFacts({"eth1": Interface("eth1", 2, True, True, 1500, (ip_interface("10.1.1.2/24"),))})
    assert {each.severity for each in judge(Case(unknown))} <= {NOTE, GOOD}


def test_a_server_forwards_only_for_clients_with_networks(directory: Path) -> None:
    """The tunnel address of a client is reached without."""
    still = on(net__ipv4__ip_forward="0")
    for network, expected in (("10.0.0.3/32", False), ("192.168.7.0/24", True)):
        text_ = changed(CONNECTION, "net_0", src_addr="0.0.0.0/0", dst_addr=network)
        assert any(each.topic == "forwarding" for each in judge(Case(still, config(directory, text_)))) is expected
    assert ip_network("192.168.7.0/24").prefixlen == 24


VALUES = ("", "0", "x", "::", "10.1.1.2", "2001:db8::1", "0.0.0.0/0", "auto", "tun0", "999999", PEER_KEY)


def broken(text_: str, chance: Random) -> str:
    """Some lines are gone, doubled, or have another value."""
    lines = text_.split("\n")
    for _ in range(chance.randint(0, 4)):
        place = chance.randrange(len(lines))
        key, equals, _value = lines[place].partition("=")
        lines[place : place + 1] = chance.choice(
            ([], [lines[place]] * 2, [f"{key}= {chance.choice(VALUES)}"] if equals else [])
        )
        lines = lines or [""]
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_wrong_is_judged_as_far_as_it_goes(seed: int, directory: Path) -> None:
    """Neither `mpt check` nor `mpt doctor` ends over a configuration with errors."""
    chance = Random(seed)
    mtus = {("eth1", PEER): 1400}
    errors = 0
    for _ in range(60):
        interface = broken(chance.choice((INTERFACE, AUTO)), chance)
        write(directory, interface, {"home.conf": broken(chance.choice((CONNECTION, SEALED)), chance)})
        config_, found = check_directory(directory, HOST)
        errors += any(each.severity == ERROR for each in found)
        assert all(each.text() and each.as_json() for each in found)
        judge(Case(HOST, config_, path_mtus=mtus, ports={(PEER, 4754): ""}, checked=found))
    assert 10 < errors < 60


def test_findings_fit_a_terminal(directory: Path) -> None:
    """80 columns; commands stand on lines of their own, to be copied."""
    for case, *_ in cases(directory):
        for printed in text(judge(case), PLAIN).splitlines():
            assert len(printed) <= 80 or "# " in printed, printed
    assert text([Finding(FAULT, "tun", "no", "modprobe tun\nls")], PLAIN).splitlines() == [
        "!! tun           no",
        "                 # modprobe tun",
        "                 # ls",
    ]

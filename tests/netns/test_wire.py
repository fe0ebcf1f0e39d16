"""What stands on the wire, as tshark reads it and as the C program sends it (RFC 8086, RFC 2890)."""

from __future__ import annotations

import re
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from mpt.lab import offloads
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from mpt.lab.process import Process
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import DATA_PORT, Description, Tunnel
from mpt.model import MAX_REORDER_WINDOW
from tests.netns.support import answers, figure_3, keys, on_every_data_plane, samples, start, wait_until
from tests.netns.support import no_traceback as no_traceback

FIELDS = (
    "udp.dstport",
    "udp.srcport",
    "udp.checksum",
    "udp.checksum.status",
    "udp.length",
    "gre.flags_and_version",
    "gre.proto",
    "gre.sequence_number",
    "frame.protocols",
    "tcp.checksum",
    "tcp.checksum.status",
    "_ws.malformed",
)
IP = {4: "ip", 6: "ipv6"}  # as tshark calls them
GOOD = "1"  # tshark's checksum status
SEQUENCED, PLAIN = "0x1000", "0x0000"
KEEPALIVE_LENGTH = str(8 + 44)  # as the UDP header counts
STANDING = 1.0  # seconds in which the counts of a capture do not change
INTERVAL = 0.5  # seconds between keepalives, long beside the delays of a busy machine


def capture(host: Host, interface: str, file: Path) -> Process:
    """Write everything on `interface` to `file` until the end of the lab; return the program that does so."""
    tcpdump = host.start(["tcpdump", "--immediate-mode", "-Z", "root", "-U", "-i", interface, "-w", str(file)])
    wait_until(lambda: "listening on" in tcpdump.errors(), "tcpdump")
    return tcpdump


def wait_until_written(*captures: Process) -> None:
    """Wait until the files have everything that came until now, as tcpdump's own counts tell (SIGUSR1).

    The kernel also counts what came before tcpdump took packets, and tcpdump does not. So counts that differ, but stay
    the same are good as well.
    """
    for tcpdump in captures:
        counts: list[tuple[str, str]] = []
        changed = [time.monotonic()]

        def is_written(
            tcpdump: Process = tcpdump, counts: list[tuple[str, str]] = counts, changed: list[float] = changed
        ) -> bool:
            asked, before = len(counts), counts[-1:]
            tcpdump.signal(signal.SIGUSR1)
            pattern = r"(\d+) packets? captured, (\d+) packets? received by filter"
            wait_until(lambda: len(re.findall(pattern, tcpdump.errors())) > asked, "tcpdump's counts")
            counts[:] = re.findall(pattern, tcpdump.errors())
            if counts[-1:] != before:
                changed[:] = [time.monotonic()]
            captured, received = counts[-1]
            return captured == received or time.monotonic() - changed[0] > STANDING

        wait_until(is_written, "the capture")


def decode(host: Host, file: Path) -> list[dict[str, list[str]]]:
    """The datagrams of a capture, the values of FIELDS in each."""
    argv = ["tshark", "-r", str(file), "-Y", "udp && !icmp && !icmpv6.type", "-T", "fields", "-E", "separator=;"]
    for port in (DATA_PORT, DATA_PORT + 2):
        argv += ["-d", f"udp.port=={port},gre"]
    argv += ["-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "ip.defragment:FALSE"]
    for field in FIELDS:
        argv += ["-e", field]
    lines = host.run(argv).splitlines()
    return [
        {name: value.split(",") if value else [] for name, value in zip(FIELDS, line.split(";"), strict=True)}
        for line in lines
    ]


@on_every_data_plane
@pytest.mark.parametrize("outside", [4, 6])
def test_tshark_reads_every_datagram(lab: Lab, outside: int) -> None:
    """tshark decodes GRE version 0 with the protocol type of the packet inside, right UDP checksums outside and TCP
    checksums inside, and finds nothing malformed."""
    a, b, links = figure_3(lab, Shape(rate_mbit=10), Shape(rate_mbit=10))
    files, captures = [], []
    for link in links:
        for end in (link.a, link.b):  # or the capture lacks the checksums
            end.host.call(offloads.switch, end.interface, offloads.CHECKSUM, False)
        files.append(lab.directory / f"{link.a.interface}.pcap")
        captures.append(capture(a, link.a.interface, files[-1]))
    addresses = ("10.0.0.1/24", "10.0.0.2/24"), ("fec0::1/64", "fec0::2/64")
    Tunnel(Description(links, *addresses, outer=outside, reorder_window=1000), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2") and answers(a, "fec0::2"), "an answer through the tunnel")
    assert None not in ping(a, "10.0.0.2", count=5, interval=0.01) + ping(a, "fec0::2", count=5, interval=0.01)
    for address in ("10.0.0.2", "fec0::2"):
        Transfer(a, b, address, seconds=0.2, warmup=0.1).finish()
    wait_until_written(*captures)

    by_path = [[row for row in decode(a, file) if row["gre.proto"]] for file in files]
    rows = by_path[0] + by_path[1]
    malformed = [row for row in rows if row["_ws.malformed"]]
    assert [row for row in malformed if row["udp.length"] != [KEEPALIVE_LENGTH]] == []  # a keepalive is no IP packet
    assert {row["udp.checksum.status"][0] for row in rows} == {GOOD}
    assert "0x0000" not in {row["udp.checksum"][0] for row in rows}
    for version, protocol, port in ((4, "0x0800", str(DATA_PORT)), (6, "0x86dd", str(DATA_PORT + 2))):
        mine = [row for row in rows if row["udp.dstport"][0] == port]
        assert {row["udp.srcport"][0] for row in mine} == {port}
        keepalives = [row for row in mine if row["gre.flags_and_version"] == [PLAIN]]
        packets = [row for row in mine if row["gre.flags_and_version"] == [SEQUENCED]]
        assert len(keepalives) + len(packets) == len(mine)
        assert {row["udp.length"][0] for row in keepalives} == {KEEPALIVE_LENGTH}
        assert {row["gre.proto"][0] for row in mine} == {protocol}
        layers = f"eth:ethertype:{IP[outside]}:udp:gre:{IP[version]}:"
        assert all(row["frame.protocols"][0].startswith(layers) for row in packets)
        tcp = {(row["tcp.checksum.status"][0], row["tcp.checksum"][0]) for row in packets if row["tcp.checksum"]}
        assert len(tcp) > 50  # different ones
        # Linux may write 0xffff for 0, the same number (skb_checksum_help); tshark wants 0 for TCP
        assert {status for status, checksum in tcp if checksum != "0xffff"} == {GOOD}
    print(f"\nIPv{outside}: {len(by_path[0])} + {len(by_path[1])} datagrams decoded")


@on_every_data_plane
@pytest.mark.parametrize("outside", [4, 6])
def test_sequence_numbers_run_over_both_paths(lab: Lab, outside: int) -> None:
    """The sequence numbers of each direction, both paths together, are 0, 1, 2 and so on, and each path has a half."""
    a, _, links = figure_3(lab)
    files = [lab.directory / f"{link.a.interface}.pcap" for link in links]
    captures = [capture(a, link.a.interface, file) for link, file in zip(links, files, strict=True)]
    Tunnel(Description(links, outer=outside, reorder_window=MAX_REORDER_WINDOW), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2"), "an answer through the tunnel")
    assert None not in ping(a, "10.0.0.2", count=50, interval=0.005)
    wait_until_written(*captures)
    version = "ip.src" if outside == 4 else "ipv6.src"
    by_path = []
    for file in files:
        lines = a.run(
            [
                "tshark",
                "-r",
                str(file),
                "-d",
                f"udp.port=={DATA_PORT},gre",
                "-Y",
                "gre.sequence_number",
                "-T",
                "fields",
                "-e",
                version,
                "-e",
                "gre.sequence_number",
                "-E",
                "occurrence=f",
            ]
        ).splitlines()
        by_path.append([(line.split("\t")[0], int(line.split("\t")[1])) for line in lines])
    for source in {source for source, _ in by_path[0] + by_path[1]}:
        # the two paths have addresses of their own; a direction is its last part
        end = source.rpartition(".")[2] if outside == 4 else source.rpartition(":")[2]
        numbers = [[n for s, n in path if s.endswith(end)] for path in by_path]
        assert sorted(numbers[0] + numbers[1]) == list(range(len(numbers[0]) + len(numbers[1])))
        assert abs(len(numbers[0]) - len(numbers[1])) <= 1
        assert all(path == sorted(path) for path in numbers)


@on_every_data_plane
@pytest.mark.parametrize("inside", [4, 6])
def test_keepalives_byte_for_byte(lab: Lab, inside: int) -> None:
    """A keepalive is the 44 octets that the C program sends, the first comes at once on every path, and then one comes
    each interval."""
    a, b, _ = figure_3(lab)
    changes = keys({"keepalive_time": INTERVAL, "dead_time": 5})
    if inside == 6:
        changes += [
            (r"^(\[connection\][^[]*\nip_ver\s*=) 4", r"\1 6"),
            (r"^(ip_local|ip_remote)(\s*=) 10\.0\.0\.(\d)", r"\1\2 fec0::\3"),
            (r"^network_count.*", "network_count = 0"),
            (r"(?s)^\[net_0\].*\Z", ""),
        ]
    inboxes = []
    for address in ("10.1.1.3", "10.2.2.3"):
        inboxes.append(b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        inboxes[-1].bind((address, 23456))
        inboxes[-1].settimeout(5)
    start((a, samples(lab, "a", *changes)))
    ready = time.monotonic()
    expected = {
        4: "00000800 a1000000 00040000 00000000000000000000ffff0a000002 00000000000000000000ffff0a000003",
        6: "000086dd a1000000 00060000 fec00000000000000000000000000002 fec00000000000000000000000000003",
    }[inside]
    times = []
    for inbox in inboxes:
        with inbox:
            assert inbox.recvfrom(2000) == (bytes.fromhex(expected), (inbox.getsockname()[0][:-1] + "2", 23456))
            assert time.monotonic() - ready < INTERVAL * 0.9
    with b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind(("10.1.1.3", 23456))
        inbox.settimeout(5)
        for _ in range(5):
            assert inbox.recv(2000) == bytes.fromhex(expected)
            times.append(time.monotonic())
    assert median(later - earlier for earlier, later in pairwise(times)) == pytest.approx(INTERVAL, rel=0.1)

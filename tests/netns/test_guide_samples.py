"""The configuration files of the guide's host A and host B (figure 3), as they ship in conf/, carry real traffic."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
from itertools import product
from pathlib import Path

import pytest

from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.process import python
from tests.netns.support import (
    DATA_PLANES,
    answers,
    at_least,
    figure_3,
    interface_state,
    ip_json,
    iperf3,
    samples,
    start,
    start_samples,
    udp_sockets,
    wait_until,
)
from tests.netns.support import no_traceback as no_traceback

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOWNLOAD = 100_000_000  # bytes
INSIDE = {4: "10.0.0.3", 6: "fec0::3"}  # host B
OUTSIDE_IPV6 = [
    (r"10\.([1-9])\.\1\.(\d)$", r"fd0\1::\2"),
    (r"^(interface_name = \w+\nip_ver\s*=) 4", r"\1 6"),
]
INSIDE_IPV6 = [
    (r"^(\[connection\][^[]*\nip_ver\s*=) 4", r"\1 6"),
    (r"^(ip_local|ip_remote)(\s*=) 10\.0\.0\.(\d)", r"\1\2 fec0::\3"),
    (r"^network_count.*", "network_count = 0"),
    (r"(?s)^\[net_0\].*\Z", ""),
]


@pytest.fixture(scope="session")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 MB that nothing can compress or guess."""
    path = tmp_path_factory.mktemp("www") / "big"
    path.write_bytes(os.urandom(DOWNLOAD))
    return path


def sha256(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


@pytest.mark.parametrize(
    ("data_plane", "inside", "outside"),
    [*product(DATA_PLANES[:1], (4, 6), (4, 6)), *product(DATA_PLANES[1:], (4,), (4, 6))],
    indirect=["data_plane"],
)
def test_ping_iperf3_and_a_download(lab: Lab, big_file: Path, inside: int, outside: int) -> None:
    """Ping, iperf3 over TCP and UDP and a 100 MB HTTP download pass, with each IP version inside and outside."""
    a, b, _ = figure_3(lab)
    changes = (OUTSIDE_IPV6 if outside == 6 else []) + (INSIDE_IPV6 if inside == 6 else [])
    start_samples(lab, a, b, *changes)
    address = INSIDE[inside]
    before = a.interfaces()

    times = ping(a, address, count=10, interval=0.01)
    assert None not in times
    tcp = at_least(50, lambda: iperf3(a, b, address, "--bitrate", "100M", seconds=1))
    udp = at_least(19.5, lambda: iperf3(a, b, address, "--udp", "--bitrate", "20M", seconds=1))

    server = b.start(
        [sys.executable, "-u", "-m", "http.server", "8000", "--bind", address, "--directory", str(big_file.parent)]
    )
    server.wait_for_output("Serving HTTP", 10)
    copy = lab.directory / "copy"
    host = f"[{address}]" if inside == 6 else address
    a.run(["curl", "--silent", "--fail", "--output", str(copy), f"http://{host}:8000/big"])
    assert sha256(copy) == sha256(big_file)

    loads = [a.interfaces()[name][0] - before[name][0] for name in ("eth1", "eth2")]
    assert min(loads) > 0.4 * sum(loads) > 0.4 * DOWNLOAD  # both paths, a half each
    best = min(seconds or 9 for seconds in times)
    print(f"\nIPv{inside} in IPv{outside}: TCP {tcp:.0f} Mbit/s, UDP {udp:.1f}, ping {best * 1e3:.2f} ms")


def test_the_interface_is_as_configured_and_gone_afterwards(lab: Lab) -> None:
    """tun0 is up with its addresses, MTU and queue length; after SIGTERM it, its routes and sockets are gone and the
    physical interfaces as before."""
    a, b, _ = figure_3(lab)
    wait_until(lambda: interface_state(a).count("inet6 fe80:") == 2, "two new links with their link-local addresses")
    before, sockets = interface_state(a), udp_sockets(a)
    daemon, _ = start_samples(lab, a, b)

    (tun,) = ip_json(a, "address", "show", "dev", "tun0")
    assert tun["mtu"] == 1440
    assert tun["txqlen"] == 1500
    assert {"UP", "LOWER_UP", "POINTOPOINT"} <= set(tun["flags"])  # type: ignore[call-overload]
    assert [(each["local"], each["prefixlen"]) for each in tun["addr_info"]] == [  # type: ignore[attr-defined]
        ("10.0.0.2", 24),
        ("fec0::2", 64),
    ]
    routes = {route["dst"]: route["dev"] for route in ip_json(a, "route", "show", "type", "unicast")}
    assert routes["10.1.1.3"] == "eth1"
    assert routes["10.2.2.3"] == "eth2"
    assert [routes[net] for net in ("10.0.0.3", "21.1.1.0/24", "22.1.1.0/24")] == ["tun0"] * 3
    assert {"10.1.1.2%eth1:23456", "10.2.2.2%eth2:23456"} <= set(udp_sockets(a))

    assert daemon.stop() in (0, -signal.SIGTERM)
    assert interface_state(a) == before
    assert udp_sockets(a) == sockets


def test_the_information_block(lab: Lab) -> None:
    """On start the guide's "Tunnel information" block stands on the standard output."""
    a, b, _ = figure_3(lab)
    daemon, _ = start_samples(lab, a, b)
    block = daemon.process.output().partition("Tunnel information:\n")[2]
    values = dict(re.findall(r"^(.*?) *: (.*)$", block, re.MULTILINE))
    assert values["Tunnel interface"] == "tun0"
    assert values["Tunnel device"] == "/dev/net/tun"
    assert values["Tunnel ipv4 addr."] == "10.0.0.2/24"
    assert values["Tunnel ipv6 addr."] == "fec0::2/64"
    assert values["CMD server port number"] == "60456"
    assert values["Global server"] == "1"
    assert int(values["Tunnel file desc."]) > 2


@pytest.mark.parametrize("way", ["twistd -n mpt", "twistd -ny mpt.tac", "mptsrv"])
def test_other_ways_to_start_in_the_foreground(lab: Lab, way: str) -> None:
    """``twistd -n mpt``, ``twistd -ny mpt.tac`` and ``mptsrv`` run the same tunnel and end cleanly at SIGTERM."""
    a, b, _ = figure_3(lab)
    start((b, samples(lab, "b")))
    directory = str(samples(lab, "a"))
    argv = {
        "twistd -n mpt": [str(BIN / "twistd"), "--pidfile=", "-n", "mpt", "--config", directory],
        "twistd -ny mpt.tac": [
            "env",
            f"MPT_CONFIG_DIR={directory}",
            str(BIN / "twistd"),
            "--pidfile=",
            "-ny",
            str(CHECKOUT / "mpt.tac"),
        ],
        "mptsrv": [str(BIN / "mptsrv"), "--config", directory],
    }[way]
    process = a.start(argv)
    process.wait_for_output("Tunnel information", 10)
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel")
    process.stop()
    assert "tun0" not in a.interfaces()


@pytest.mark.parametrize("program", ["twistd mpt", "mptsrv -d"])
def test_in_the_background(lab: Lab, program: str) -> None:
    """``twistd mpt`` and ``mptsrv -d`` return, leave a process id in the pid file, run, and end at SIGTERM with
    everything removed."""
    a, b, _ = figure_3(lab)
    start((b, samples(lab, "b")))
    pidfile, logfile = lab.directory / "mpt.pid", lab.directory / "mpt.log"
    options = ["--pidfile", str(pidfile), "--logfile", str(logfile)]
    config = ["--config", str(samples(lab, "a"))]
    if program == "twistd mpt":
        a.run([str(BIN / "twistd"), *options, "mpt", *config], timeout=15)
    else:
        a.run([*python("mpt.daemon.main"), "-d", *options, *config], timeout=15)
    wait_until(lambda: answers(a, "10.0.0.3"), "an answer through the tunnel")
    pid = int(pidfile.read_text())
    assert "tun0" in a.interfaces()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end")
    assert "tun0" not in a.interfaces()
    assert not pidfile.exists()
    assert "Traceback" not in logfile.read_text()

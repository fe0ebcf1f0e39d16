"""What the whole-system tests share: the guide's figure 3 as a lab, daemons on it, and what a daemon may never say."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mpt.accel.choice import native_is_built
from mpt.cli.channel import ask_unix
from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3 as run_iperf3
from mpt.lab.iperf import result
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN, Link, Shape
from mpt.lab.namespaces import NETNS_DIRECTORY
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import Daemon
from mpt.local.sockets import control_sockets

CONF = Path(__file__).parents[2] / "conf"
GUIDE = CONF / "samples" / "guide"
SAMPLES = {"a": GUIDE / "host_a", "b": GUIDE / "host_b"}  # host A and host B of the guide's figure 3
COMPLAINTS = re.compile(r"Traceback|Unhandled|RuntimeWarning|never awaited")

# The data paths that there are, or the one that was asked for: MPT_DATA_PLANE=python scripts/test tests/netns
DATA_PLANES = ["native", "python"] if native_is_built() else ["python"]
if os.environ.get("MPT_DATA_PLANE", "auto") != "auto":
    DATA_PLANES = [os.environ["MPT_DATA_PLANE"]]
on_every_data_plane = pytest.mark.parametrize("data_plane", DATA_PLANES, indirect=True)


@pytest.fixture(autouse=True)
def no_traceback(lab: Lab) -> Iterator[None]:
    """At the end of every test no program of the lab has shown a traceback."""
    yield
    for process in (process for host in lab.hosts for process in host.processes):
        said = process.output() + process.errors()
        assert not COMPLAINTS.search(said), f"{process.argv}:\n{said[-4000:]}"


def figure_3(lab: Lab, *shapes: Shape, forwarding: bool = False) -> tuple[Host, Host, list[Link]]:
    """Hosts a and b, their eth1 and eth2 connected with each other (guide 2.6.1), with IPv4 and IPv6 addresses.

    More or fewer `shapes` than two make more or fewer interfaces; without any, two plain cables.
    """
    a, b = lab.host("a", forwarding=forwarding), lab.host("b", forwarding=forwarding)
    return a, b, lab.cables(a, b, shapes or (PLAIN, PLAIN))


def samples(lab: Lab, side: str, *changes: tuple[str, str]) -> Path:
    """Return a copy of the guide's sample files of host `side` with every (pattern, replacement) of `changes` made.

    Patterns are regular expressions in which ^ and $ stand at every line; one that matches nowhere is an error.
    """
    directory = lab.directory / f"conf-{side}"
    shutil.copytree(SAMPLES[side], directory)
    edit(directory, *changes)
    return directory


def edit(directory: Path, *changes: tuple[str, str]) -> None:
    """Make `changes`, as `samples` takes them, in the files of a configuration directory."""
    files = [directory / "interface.conf", *(directory / "connections").glob("*.conf")]
    for pattern, replacement in changes:
        count = 0
        for file in files:
            text, found = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE)
            file.write_text(text)
            count += found
        assert count, f"{pattern} is not in {directory}"


def keys(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Changes that give every occurrence of some keys a new value."""
    return [(rf"^{key}\s*=.*$", f"{key} = {value}") for key, value in values.items()]


LIVELY = keys({"keepalive_time": 0.1, "dead_time": 1.0, "reorder_window": 1000})  # for links of 100 Mbit/s


def start(*daemons: tuple[Host, Path]) -> list[Daemon]:
    """Start a daemon for every (host, configuration directory), at the same time, and wait until all are ready."""
    started = [Daemon(host, directory) for host, directory in daemons]
    for daemon in started:
        daemon.wait_until_ready()
    return started


def start_samples(lab: Lab, a: Host, b: Host, *changes: tuple[str, str]) -> list[Daemon]:
    """Start both daemons with the guide's samples after `changes`."""
    return start(*((host, samples(lab, side, *changes)) for host, side in ((a, "a"), (b, "b"))))


def answers(host: Host, address: str, timeout: float = 0.5) -> bool:
    """Return whether `address` answers one ping from `host`."""
    try:
        return ping(host, address, count=1, timeout=timeout) != [None]
    except OSError:  # there is not even a route
        return False


def wait_until(condition: Callable[[], object], what: str, timeout: float = 5.0) -> float:
    """Wait for `condition`; how many seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


def iperf3(client: Host, server: Host, address: str, *options: str, seconds: float = 3) -> float:
    """Return what an iperf3 server received from `client`, in Mbit/s, after 1 second of warm-up."""
    with run_iperf3(client, server, [address], "--json", "--time", str(seconds), "--omit", "1", *options) as (running,):
        end = result(running, 60)["end"]
    received = end["sum_received"] if "sum_received" in end else end["sum"]
    return float(received["bits_per_second"]) / 1e6


def stream(a: Host, b: Host, address: str, seconds: float = 6, warmup: float = 2) -> float:
    """Return the goodput of one TCP stream after `warmup` seconds, in Mbit/s; its octets are checked."""
    result = Transfer(a, b, address, seconds=seconds, warmup=warmup).finish()
    assert result.verified
    return result.mbit


def at_least(bound: float, measure: Callable[[], float]) -> float:
    """Return a throughput, measured a second time if the first was below `bound`: the machine is shared."""
    measured = measure()
    if measured < bound:
        print(f"(measured {measured:.1f}, once more)")
        measured = measure()
    assert measured >= bound
    return measured


def ip_json(host: Host, *arguments: str) -> list[dict[str, object]]:
    """Return the output of ``ip -json``, for example ``ip_json(host, "route", "show")``."""
    found: list[dict[str, object]] = json.loads(host.run(["ip", "-json", "-details", *arguments]) or "[]")
    return found


def interface_state(host: Host) -> str:
    """Addresses, link settings and routes of everything on `host`, without what just counts time."""
    lines = [host.run(["ip", *arguments]) for arguments in (["address"], ["route"], ["-6", "route"])]
    return re.sub(r"(valid_lft|preferred_lft|expires) \S+", "", "".join(lines))


def udp_sockets(host: Host) -> list[str]:
    """Return the local ends of the UDP sockets on `host`."""
    return [line.split()[3] for line in host.run(["ss", "-Hnua"]).splitlines()]


def status_of(daemon: Daemon) -> Mapping[str, Any]:
    """The document of ``mpt --json show status``, asked for without starting the client.

    The socket is the configuration directory's, if there is one, or else that of the network namespace.
    """
    own = daemon.directory / "socket"
    path = str(own) if own.exists() else control_sockets({}, NETNS_DIRECTORY / daemon.host.namespace)[0]
    reply = ask_unix(path, ["show", "status"], 10, print)
    assert reply.ok and reply.data is not None
    return reply.data


def wait_until_heard(*daemons: Daemon) -> None:
    """Wait until the peer is heard over every path of each of `daemons`, and all are up.

    Daemons that start at the same time may be ready seconds after each other: until then a path may well be down.
    """

    def statuses() -> list[str]:
        documents = [status_of(daemon) for daemon in daemons]
        return [path["status"] for each in documents for one in each["connections"] for path in one["paths"]]

    wait_until(lambda: set(statuses()) == {"up"}, "every peer heard over every path", 10)


@contextmanager
def no_path_falls(*daemons: Daemon, paths: tuple[int, ...] = (0, 1)) -> Iterator[None]:
    """While the block runs none of `paths` goes down at any of `daemons`, as their logs tell.

    The block begins when the peers are heard. The dead time must be so long that a busy machine can keep it: seconds.
    """
    wait_until_heard(*daemons)
    before = [[falls(daemon, path) for path in paths] for daemon in daemons]
    yield
    assert [[falls(daemon, path) for path in paths] for daemon in daemons] == before


def falls(daemon: Daemon, path: int) -> int:
    """Return how often `daemon` has said that path_`path` is down now, whatever the reason."""
    return sum(status_count(daemon, path, status) for status in ("down", "interface down", "address down"))


def status_count(daemon: Daemon, path: int, status: str) -> int:
    """Return how often `daemon` has said that path_`path` is `status` now."""
    return len(re.findall(rf"path_{path} of .* is {status}: ", daemon.process.output()))

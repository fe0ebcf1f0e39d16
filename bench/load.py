"""How soon the daemons answer while a TCP stream loads them fully: pings in the tunnel, keepalives, commands."""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Sequence
from math import ceil

from bench.asking import control_socket
from bench.measure import PING_INTERVAL, STREAM_END, Effort, Figures, ping_times, quantile, timed
from bench.variants import Stage
from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3, result

RAMP = 0.5  # seconds that the stream has to reach its rate
INTERFACE = "eth1"  # of the first path
COMMAND = b'{"mpt": 1, "id": 1, "command": ["show", "status"]}\n'  # docs/commands.md
COMMAND_INTERVAL, PATIENCE = 0.01, 10.0  # seconds: between two commands, and for the answer to one
# Of UDP over IPv4: the length of a keepalive, and its first octet after the GRE header (pcap-filter(7)).
IS_KEEPALIVE = f"udp[4:2] = {8 + 44} and udp[12] = 0xa1"


def under_load(stage: Stage, effort: Effort) -> Figures:
    """Measure, during a TCP stream from a to b, pings, then commands to a and b, and all the time the delay of their
    keepalives, in ms; and the stream itself in Mbit/s."""
    watches = [KeepaliveWatch(host) for host in (stage.a, stage.b)] if stage.daemons else []
    count = int(effort.seconds / PING_INTERVAL)
    seconds = ceil(RAMP + effort.seconds + 1 + effort.seconds)  # the pings may take a second longer
    with iperf3(stage.a, stage.b, [stage.address], *timed(seconds)) as (stream,):
        time.sleep(RAMP)
        started = time.time()
        times = ping_times(stage, count)
        asked = command_times([control_socket(daemon) for daemon in stage.daemons], effort.seconds)
        ended = time.time()
        end = result(stream, seconds + STREAM_END)["end"]["sum_received"]
    figures = {
        "load_ping_ms": quantile(times, 0.5),
        "load_ping_p99_ms": quantile(times, 0.99),
        "load_ping_max_ms": max(times),
    }
    for side, watch, answers in zip("ab", watches, asked, strict=False):
        figures[f"load_command_ms_{side}"] = quantile(answers, 0.5)
        figures[f"load_command_p99_ms_{side}"] = quantile(answers, 0.99)
        figures[f"load_command_max_ms_{side}"] = max(answers)
        sent = [at for at in watch.finish() if started <= at <= ended]
        figures[f"load_keepalive_late_ms_{side}"] = lateness(started, sent, ended, stage.variant.keepalive) * 1000
    return {**figures, "load_tcp_mbit": end["bits_per_second"] / 1e6}


def lateness(started: float, times: Sequence[float], ended: float, interval: float) -> float:
    """Return the largest delay of a keepalive: its time after the one before, less `interval`; all in seconds.

    `times` lie between `started` and `ended`; the time before the first and after the last of them counts, too.
    """
    return max(0.0, *(later - earlier - interval for earlier, later in itertools.pairwise([started, *times, ended])))


def command_times(sockets: Sequence[str], seconds: float) -> list[list[float]]:
    """Ask the daemons at these unix sockets in turn, for so many seconds; return the round-trip times of each in ms."""
    times: list[list[float]] = [[] for _ in sockets]
    end = time.monotonic() + seconds
    while sockets and time.monotonic() < end:
        for path, answers in zip(sockets, times, strict=True):
            time.sleep(COMMAND_INTERVAL)
            answers.append(ask_for_status(path) * 1000)
    return times


def ask_for_status(path: str) -> float:
    """Return the seconds from the connect to the answer to `show status`, as `mpt` asks it; HostError without one."""
    answer = b""
    began = time.monotonic()
    try:
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(PATIENCE)
            daemon.connect(path)
            daemon.sendall(COMMAND)
            while not answer.endswith(b"\n"):
                octets = daemon.recv(1 << 16)
                if not octets:
                    raise ConnectionAbortedError("it hung up")
                answer += octets
    except OSError as error:
        raise HostError(f"no answer to show status at {path}: {error}") from error
    took = time.monotonic() - began
    if not json.loads(answer)["ok"]:
        raise HostError(f"show status was refused at {path}: {answer.decode()}")
    return took


class KeepaliveWatch:
    """The kernel's times of the keepalives that leave a host over its first path, from now until `finish`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        argv = ["tcpdump", "--immediate-mode", "-Z", "root", "-l", "-n", "-q", "-tt", "-Q", "out", "-i", INTERFACE]
        self._tcpdump = host.start([*argv, IS_KEEPALIVE])
        self._tcpdump.wait_for_output("listening on", PATIENCE)

    def finish(self) -> list[float]:
        """Return the times, in seconds since the epoch; HostError if there were none."""
        self._host.end(self._tcpdump)
        times = times_of(self._tcpdump.output())
        if not times:
            raise HostError("not one keepalive was sent")
        return times


def times_of(said: str) -> list[float]:
    """Return the times of the packets in the output of tcpdump: each begins a line, and more lines may follow."""
    return [float(time) for time in re.findall(r"^\d+\.\d+", said, re.MULTILINE)]

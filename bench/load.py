"""How soon the daemons answer while a TCP stream takes all they have: pings in the tunnel, keepalives, commands."""

from __future__ import annotations

import ctypes
import itertools
import json
import socket
import struct
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from bench.measure import PING_INTERVAL, STREAM_END, Effort, Figures, ping_times, quantile, timed
from bench.variants import Stage
from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3, result
from mpt.lab.process import Process
from mpt.local.sockets import control_sockets

RAMP = 0.5  # seconds that the stream has to reach its rate
INTERFACE = "eth1"  # that of the first path
COMMAND = b'{"mpt": 1, "id": 1, "command": ["show", "status"]}\n'  # docs/commands.md
COMMAND_INTERVAL, PATIENCE = 0.01, 10.0  # seconds: between two commands, and for the answer to one

ETH_P_ALL = 0x0003  # linux/if_ether.h
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35  # asm-generic/socket.h
FRAME = 64  # bytes that are kept of each
IS_KEEPALIVE = (  # bpf(4): (code, jump if true, jump if false, value); a frame of Ethernet, IPv4 without options, UDP
    (0x28, 0, 0, 12),
    (0x15, 0, 7, 0x0800),  # IPv4
    (0x30, 0, 0, 23),
    (0x15, 0, 5, 17),  # UDP
    (0x28, 0, 0, 38),
    (0x15, 0, 3, 8 + 44),  # the UDP length of a keepalive
    (0x30, 0, 0, 46),
    (0x15, 0, 1, 0xA1),  # its first octet after the GRE header
    (0x06, 0, 0, FRAME),
    (0x06, 0, 0, 0),
)


def under_load(stage: Stage, effort: Effort) -> Figures:
    """During a TCP stream from a to b, in ms: pings, then commands to a and b; how late their keepalives were all the
    time; and the stream's Mbit/s."""
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
    """How much later than `interval` after the one before the latest keepalive came; all in seconds.

    `times` are those between `started` and `ended`; what is missing before the first and after the last of them counts.
    """
    return max(0.0, *(later - earlier - interval for earlier, later in itertools.pairwise([started, *times, ended])))


def command_times(sockets: Sequence[str], seconds: float) -> list[list[float]]:
    """For so long ask the daemons at these unix sockets one after the other: of each, the round-trip times in ms."""
    times: list[list[float]] = [[] for _ in sockets]
    end = time.monotonic() + seconds
    while sockets and time.monotonic() < end:
        for path, answers in zip(sockets, times, strict=True):
            time.sleep(COMMAND_INTERVAL)
            answers.append(ask_for_status(path) * 1000)
    return times


def ask_for_status(path: str) -> float:
    """Seconds from the connect until `show status` is answered, as for the program mpt; HostError without an answer."""
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


def control_socket(daemon: Process) -> str:
    """Where a daemon whose configuration names no unix socket takes commands."""
    return control_sockets({}, Path(f"/proc/{daemon.pid}/ns/net"))[0]


class KeepaliveWatch:
    """The kernel's times of the keepalives that leave a host over its first path, from now until `finish`."""

    def __init__(self, host: Host) -> None:
        self._socket: socket.socket = host.call(_tap)

    def finish(self) -> list[float]:
        """The times, in seconds since the epoch; HostError if there were none."""
        times = []
        with self._socket as tap:
            while True:
                try:
                    _, ancillary, _, address = tap.recvmsg(FRAME, socket.CMSG_SPACE(16))
                except BlockingIOError:
                    break
                if address[2] == socket.PACKET_OUTGOING:
                    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                    times.append(seconds + nanoseconds / 1e9)
        if not times:
            raise HostError("not one keepalive was sent")
        return times


def take_keepalives_only(tap: socket.socket) -> None:
    """Let the kernel drop every frame that comes to `tap` and holds no keepalive."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in IS_KEEPALIVE))
    program = struct.pack("HP", len(IS_KEEPALIVE), ctypes.addressof(code))
    tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _tap() -> socket.socket:
    """A packet socket that takes keepalives and the times of them; in the calling thread's namespace."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: nothing comes before the filter is there
    take_keepalives_only(tap)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.bind((INTERFACE, ETH_P_ALL))
    tap.setblocking(False)
    return tap

"""Keys are renewed under full load: no packet is lost, repeated or overtaken by it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3
from mpt.lab.lab import Lab
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support import on_every_data_plane, wait_until
from tests.netns.support_control import Site, change, settle
from tests.netns.support_sealed import HASTY, A, B, SealedHosts, keys_of

RENEWALS = 20
LONGEST = 20.0  # s
FIRST = 30  # packets, some more than small flows have at once
RUN = 64  # packets that the kernel may drop as one
PAUSE = 0.005  # s, between the bursts of numbered packets
BURST = {"native": 20, "python": 5}  # packets
NUMBERED_PORT = 5700
SO_RCVBUFFORCE = 33  # asm-generic/socket.h


class Numbered:
    """UDP packets with numbers from 0 on, from one host to `address` of another."""

    def __init__(self, sender: Host, receiver: Host, address: str) -> None:
        self.sent = 0
        self.repeated = 0
        self.overtaken = 0
        self._arrived: set[int] = set()
        self._newest = -1
        self._to = (address, NUMBERED_PORT)
        self._sender, self._receiver = (
            host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) for host in (sender, receiver)
        )
        self._receiver.bind(self._to)
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._receiver.setblocking(False)

    @property
    def lost(self) -> int:
        """Return how many have not arrived."""
        return self.sent - len(self._arrived)

    def send(self, count: int) -> None:
        """Send so many."""
        for _ in range(count):
            self._sender.sendto(self.sent.to_bytes(8, "big") + bytes(192), self._to)
            self.sent += 1

    def receive(self) -> bool:
        """Look at all that have arrived; return whether none is missing."""
        while True:
            try:
                number = int.from_bytes(self._receiver.recv(300)[:8], "big")
            except BlockingIOError:
                return not self.lost
            self.repeated += number in self._arrived
            self.overtaken += number < self._newest and number not in self._arrived
            self._arrived.add(number)
            self._newest = max(self._newest, number)

    def close(self) -> None:
        """Close both ends."""
        self._sender.close()
        self._receiver.close()


@contextmanager
def numbered(a: Host, b: Host) -> Iterator[Sequence[Numbered]]:
    """Numbered packets in both directions."""
    streams = Numbered(a, b, B), Numbered(b, a, A)
    try:
        yield streams
    finally:
        for each in streams:
            each.close()


def dropped_by_kernel(lab: Lab) -> int:
    """Return how many packets, or runs of them, full sockets and devices have dropped, on all hosts."""
    return sum(host.call(_dropped_here) for host in lab.hosts)


def _dropped_here() -> int:
    """Return the drops of the calling thread's namespace (proc(5), /proc/net)."""
    net = Path("/proc/thread-self/net")
    sockets = [line.split()[-1] for name in ("udp", "udp6") for line in (net / name).read_text().splitlines()[1:]]
    devices = [line.partition(":")[2].split() for line in (net / "dev").read_text().splitlines()[2:]]
    return sum(map(int, sockets)) + sum(int(fields[3]) + int(fields[11]) for fields in devices)


def renewals(site: Site) -> int:
    """Return how often there were new keys after the first ones: two lines of the key log for each session."""
    return (site.directory / "keys.log").read_text().count("\n") // 2 - 1


def unopened(sender: Site, receiver: Site) -> int:
    """Return how many inner packets `sender` has sealed and sent, some of them again, but `receiver` has not opened."""
    sent = [
        int(path["packets_sent"]) + int(path["adaptive"]["resent"]) + int(path["adaptive"]["copies"])
        for path in sender.status()["connections"][0]["paths"]
    ]
    opened = [int(path["packets_received"]) for path in receiver.status()["connections"][0]["paths"]]
    return sum(sent) - sum(opened)


@on_every_data_plane
def test_renewals_under_full_load(lab: Lab, data_plane: str) -> None:
    """Twenty, with a TCP stream at full speed beside numbered packets: what was sealed is opened, once and in order.

    What else the machine drops, because it is busy, is counted where it is dropped.
    """
    hosts = SealedHosts(lab)
    hosts.write()
    for directory in hosts.directories.values():
        change(directory / "interface.conf", r"^\[general\]", f"[general]\nkey_log = {directory / 'keys.log'}")
    a, b = hosts.start(program=HASTY)
    settle(a, b)
    with numbered(a.host, b.host) as streams:
        for stream in streams:
            stream.send(FIRST)  # alone: while a flow is small its packets have no order
        wait_until(lambda: all(stream.receive() for stream in streams), "the first packets")
        for stream in streams:
            stream.overtaken = 0
        with iperf3(a.host, b.host, [B], "--time", "60"):
            start, before = time.monotonic(), renewals(a)
            while renewals(a) < before + RENEWALS:
                assert time.monotonic() < start + LONGEST, f"only {renewals(a) - before} renewals"
                for stream in streams:
                    stream.send(BURST[data_plane])
                    stream.receive()
                time.sleep(PAUSE)
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not all(stream.receive() for stream in streams):
            time.sleep(PAUSE)
        dropped = dropped_by_kernel(lab)
        for sender, receiver, stream in ((a, b, streams[0]), (b, a, streams[1])):
            there = receiver.status()["tunnels"][0]["ingress_dropped"]
            here = sender.status()["tunnels"][0]["egress_dropped"]
            missing = unopened(sender, receiver)
            print(f"{stream.sent} sent, {stream.lost} lost; {missing} not opened; dropped: {dropped} {here} {there}")
            assert keys_of(sender)["renewal_failure"] is None
            assert not any(count for reason, count in there.items() if reason.startswith("seal"))
            assert here["no_session"] == 0
            assert 0 <= missing <= RUN * dropped
            packets = sum(count for reason, count in there.items() if not reason.startswith("handshake"))
            assert stream.lost <= RUN * dropped + sum(here.values()) + packets
            assert stream.repeated == stream.overtaken == 0

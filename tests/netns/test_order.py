"""What packets wait for: not for a backup line that carries next to nothing, and a mapped call for no other line."""

from __future__ import annotations

import socket
import time

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import answers, figure_3, on_every_data_plane, wait_until, wait_until_heard
from tests.netns.support import no_traceback as no_traceback

A, B, PORT = "10.0.0.1", "10.0.0.2", 5600
MAIN = Shape(rate_mbit=50, delay_ms=10, loss_percent=1)
BACKUP = Shape(rate_mbit=10, delay_ms=40)
WINDOW, MAX_BUFFDELAY = 1000, 200  # packets, ms
LONGEST = 50  # ms; the slow line takes 95
RATE, SECONDS, LEARNING = 1000, 3.0, 1.0  # packets a second, s


def tcp(a: Host, b: Host) -> float:
    """The goodput of one BBR stream, Mbit/s."""
    result = Transfer(a, b, B, seconds=4, warmup=2, congestion="bbr").finish()
    assert result.verified
    return result.mbit


def udp_latency(a: Host, b: Host, part: float, beside: int | None = None) -> float:
    """The one-way time in ms that `part` of small UDP packets to PORT do not exceed.

    With `beside` as many more go to this port at the same time.
    """
    with (
        a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender,
        b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((B, PORT))
        receiver.setblocking(False)
        found: list[float] = []
        start = time.monotonic()
        sent = 0
        while (now := time.monotonic()) < start + SECONDS + 0.5:
            while sent < min(now - start, SECONDS) * RATE:
                sender.sendto(repr(time.monotonic()).encode().ljust(200), (B, PORT))
                if beside is not None:
                    sender.sendto(bytes(200), (B, beside))
                sent += 1
            try:
                while True:
                    stamp = float(receiver.recv(300))
                    if stamp > start + LEARNING:
                        found.append((time.monotonic() - stamp) * 1000)
            except BlockingIOError:
                time.sleep(0.0005)
    assert len(found) > 0.9 * RATE * (SECONDS - LEARNING)
    return sorted(found)[int(part * len(found))]


@on_every_data_plane
def test_a_backup_line_costs_the_main_line_nothing(lab: Lab) -> None:
    """With it, one TCP stream has 0.8 of the rate that the main line has alone, or more, and UDP packets do not wait.

    How long they take to the millisecond, tests/data/test_backup_line.py says, and for other weights, too.
    """
    a, b, links = figure_3(lab, MAIN, BACKUP)
    tunnel = Tunnel(
        Description(links, weights=(10_000, 1), dead=1.0, reorder_window=WINDOW, max_buffdelay_msec=MAX_BUFFDELAY),
        lab.directory,
    )
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    latency, rate = udp_latency(a, b, 0.95), tcp(a, b)
    links[1].pull()
    wait_until(lambda: answers(a, B), "an answer over the main line")
    alone_latency, alone_rate = udp_latency(a, b, 0.95), tcp(a, b)
    if latency > alone_latency + MAX_BUFFDELAY / 4 or rate < 0.8 * alone_rate:  # once more: the machine is shared
        links[1].plug()
        wait_until_heard(*tunnel.daemons)
        latency, rate = udp_latency(a, b, 0.95), tcp(a, b)
    print(
        f"\nweights 10000:1, 1 % lost on the main line: TCP {rate:.1f} Mbit/s, alone {alone_rate:.1f}; "
        f"UDP p95 {latency:.1f} ms, alone {alone_latency:.1f}"
    )
    assert latency <= alone_latency + MAX_BUFFDELAY / 4
    assert rate >= 0.8 * alone_rate


@on_every_data_plane
def test_a_mapped_call_does_not_wait_for_a_slow_line(lab: Lab) -> None:
    """While other packets go over a fast and a slow line, and wait for the slow one, the call is as fast as its own."""
    a, b, links = figure_3(lab, Shape(delay_ms=5), Shape(delay_ms=95))
    extra = {"path_0": [f"udp_dst = {PORT}"]}
    Tunnel(
        Description(links, dead=1.0, reorder_window=WINDOW, max_buffdelay_msec=MAX_BUFFDELAY, extra=extra),
        lab.directory,
    )
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    latency = udp_latency(a, b, 0.5, beside=PORT + 1)
    if latency >= LONGEST:  # measured a second time: the machine is shared
        latency = udp_latency(a, b, 0.5, beside=PORT + 1)
    print(f"\na call over a line of 5 ms, beside one of 95 ms: {latency:.1f} ms")
    assert latency < LONGEST

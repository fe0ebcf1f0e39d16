"""Datagrams that nobody honest would send arrive at a data port while a stream runs, and the stream does not care."""

from __future__ import annotations

import random
import socket
import struct
import time
from ipaddress import ip_address

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import DATA_PORT, Description, Tunnel
from mpt.wire import gre
from mpt.wire.command import encode_keepalive
from tests.netns.support import answers, figure_3, no_path_falls, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback

A, B = "10.0.0.1", "10.0.0.2"  # inside the tunnel; a attacks b
DATAGRAMS, PAUSE = 20_000, 0.003  # pause in seconds after every 50, so that they last as long as the stream
GROWTH = 4e6  # bytes; it is usually less than one


def inner_packet(payload: bytes) -> bytes:
    """A UDP packet from a to b inside the tunnel, to the port that discards."""
    udp = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    return header + socket.inet_aton(A) + socket.inet_aton(B) + udp


def hostile_datagram(dice: random.Random) -> bytes:
    """Noise, or something honest with octets changed, cut off or added, its sequence number anywhere."""
    if dice.random() < 0.2:
        return dice.randbytes(dice.choice([0, 1, 3, 4, 7, 8, 28, 44, 200, 1400]))
    if dice.random() < 0.2:
        datagram = bytearray(encode_keepalive(4, ip_address(A), ip_address(B)))
    else:
        sequence = dice.choice([None, 0, dice.randrange(5000), dice.randrange(1 << 32), (1 << 32) - 1])
        datagram = bytearray(gre.encode(dice.choice([4, 6]), sequence) + inner_packet(dice.randbytes(20)))
    for _ in range(dice.choice([0, 1, 1, 2, 8])):
        datagram[dice.randrange(min(len(datagram), dice.choice([4, 12, 32])))] = dice.randrange(256)
    return bytes(datagram[: dice.randrange(len(datagram))] if dice.random() < 0.2 else datagram)


def attack(host: Host, source: str, seed: int) -> None:
    """Send all the hostile datagrams from `source` to the data port of b's first path."""
    dice = random.Random(seed)
    with host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.bind((source, 0))
        for number in range(DATAGRAMS):
            attacker.sendto(hostile_datagram(dice), ("10.1.1.3", DATA_PORT))
            if number % 50 == 49:
                time.sleep(PAUSE)


@on_every_data_plane
@pytest.mark.parametrize(("source", "window"), [("10.1.1.2", 1000), ("10.1.1.99", 0)])
def test_a_stream_under_hostile_datagrams(lab: Lab, source: str, window: int) -> None:
    """While 20,000 random and mutated datagrams come from the peer's own address, or from a stranger's, a TCP stream
    does not break and every byte is right; afterwards the paths work, and the daemons have not grown by 4 MB."""
    a, b, links = figure_3(lab, Shape(rate_mbit=100), Shape(rate_mbit=100))
    a.ip("address add 10.1.1.99/24 dev eth1")
    tunnel = Tunnel(Description(links, keepalive=0.5, dead=2, reorder_window=window), lab.directory)
    wait_until(lambda: answers(a, B), "an answer through the tunnel")
    with no_path_falls(*tunnel.daemons):
        before = [daemon.process.memory().resident for daemon in tunnel.daemons]
        transfer = Transfer(a, b, B, seconds=3, warmup=0.5)
        started = time.monotonic()
        attack(a, source, seed=8086)
        seconds = time.monotonic() - started
        result = transfer.finish()
        assert None not in ping(a, B, count=20, interval=0.01)
    after = [daemon.process.memory().resident for daemon in tunnel.daemons]
    grown = [now - earlier for now, earlier in zip(after, before, strict=True)]
    print(
        f"\n{DATAGRAMS} from {source} in {seconds:.1f} s, window {window}: {result.mbit:.0f} Mbit/s meanwhile, "
        f"longest gap {result.longest_gap:.2f} s, daemons +{', +'.join(f'{each / 1e6:.1f} MB' for each in grown)}"
    )
    assert result.verified
    assert max(grown) < GROWTH

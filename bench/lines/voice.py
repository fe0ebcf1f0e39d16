"""A voice stream: 50 UDP packets a second, each with its number and when it was sent, and who notes when they come.

    python -m bench.lines.voice receive 10.0.0.1 --seconds 10
    python -m bench.lines.voice send 10.0.0.1 --seconds 8

Both ends are on one machine, so that its monotonic clock tells the delay one way. The receiver writes ``ready``, and at
its end one JSON object.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass

from bench.measure import quantile

PORT = 5400
INTERVAL = 0.02  # seconds
OCTETS = 172  # of a packet: G.711 for 20 ms and RTP's header
HEADER = struct.Struct("!Qd")
EXPEDITED = 46 << 2  # TOS of DSCP EF (RFC 3246), what telephones set
LATE = 0.5  # seconds that the receiver waits longer than the sender sends


@dataclass(frozen=True)
class Heard:
    """Of `sent` packets so many were `lost` or came `twice`; delays one way in ms, quantiles of those that came."""

    sent: int
    lost: int
    twice: int
    least_ms: float
    median_ms: float
    p999_ms: float
    most_ms: float


def summary(delays: dict[int, float], twice: int, sent: int) -> Heard:
    """Return what was heard, from the delay in seconds of each packet that came, by its number."""
    times = [delay * 1000 for delay in delays.values()] or [float("inf")]
    middle, latest = quantile(times, 0.5), quantile(times, 0.999)
    return Heard(sent, sent - len(delays), twice, min(times), middle, latest, max(times))


def receive(address: str, seconds: float) -> Heard:
    """Note what comes for `seconds` after the first packet."""
    delays: dict[int, float] = {}
    twice, end = 0, time.monotonic() + 60
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind((address, PORT))
        inbox.settimeout(LATE)
        print("ready", flush=True)
        while (now := time.monotonic()) < end:
            try:
                number, sent_at = HEADER.unpack_from(inbox.recv(2048))
            except TimeoutError:
                continue
            if not delays:
                end = now + seconds + LATE
            twice += number in delays
            delays.setdefault(number, time.monotonic() - sent_at)
    return summary(delays, twice, max(delays, default=-1) + 1)


def send(address: str, seconds: float) -> None:
    """Send for `seconds`, each packet at its time."""
    padding = bytes(OCTETS - HEADER.size)
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        outbox.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED)
        outbox.connect((address, PORT))
        for number in range(round(seconds / INTERVAL)):
            time.sleep(max(began + number * INTERVAL - time.monotonic(), 0))
            try:
                outbox.send(HEADER.pack(number, time.monotonic()) + padding)
            except OSError:  # refused or unreachable: it counts as lost
                pass


def main() -> int:
    """Entry point of ``python -m bench.lines.voice``."""
    parser = argparse.ArgumentParser(prog="bench.lines.voice", description="one voice stream")
    parser.add_argument("role", choices=["receive", "send"])
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    if options.role == "receive":
        print(json.dumps(asdict(receive(options.address, options.seconds))), flush=True)
    else:
        send(options.address, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

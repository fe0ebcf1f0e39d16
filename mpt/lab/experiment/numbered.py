"""A UDP stream of numbered packets, and who notes which come, in which order and how late.

    python -m mpt.lab.experiment.numbered receive 10.0.0.3 --seconds 5
    python -m mpt.lab.experiment.numbered send 10.0.0.3 --seconds 5 --rate 90 --octets 1300

Both ends are on one machine, whose monotonic clock tells the delay one way. The receiver writes ``ready``, ten times a
second how many octets came, and at its end one result, as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import time
from dataclasses import asdict

from mpt.lab.experiment.reordering import order_of, percentiles

PORT = 5500
HEADER = struct.Struct("!Qd")  # number, when it was sent
TICK = 0.0005  # seconds between two looks at the clock
PROGRESS = 0.1  # seconds
LATE = 0.5  # seconds that the receiver waits after the last packet
PATIENCE = 20.0  # seconds until the first one
BUFFER = 4 << 20  # octets; a receiver that gets no CPU must not count as loss of the paths
SO_RCVBUFFORCE = 33  # asm-generic/socket.h


def send(address: str, seconds: float, mbit: float, octets: int) -> int:
    """Send for `seconds` at `mbit` of UDP payload, packets of `octets` payload. Return how many were sent."""
    per_second = mbit * 1e6 / 8 / octets
    padding = bytes(octets - HEADER.size)
    number = 0
    with socket.socket(_family(address), socket.SOCK_DGRAM) as outbox:
        outbox.connect((address, PORT))
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            due = int((now - began) * per_second) + 1
            while number < due:
                try:
                    outbox.send(HEADER.pack(number, time.monotonic()) + padding)
                except OSError:  # no buffer, refused: it counts as lost
                    pass
                number += 1
            time.sleep(TICK)
    return number


def receive(address: str, seconds: float) -> dict[str, object]:
    """Note what comes until nothing does; return the figures of the stream."""
    numbers: list[int] = []
    delays: list[float] = []
    seen: set[int] = set()
    twice = octets = 0
    first = last = 0.0
    with socket.socket(_family(address), socket.SOCK_DGRAM) as inbox:
        inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        inbox.bind((address, PORT))
        _say({"ready": {"port": PORT}})
        inbox.settimeout(PATIENCE)
        report = 0.0
        while True:
            try:
                data = inbox.recv(65535)
            except TimeoutError:
                break
            now = time.monotonic()
            number, sent = HEADER.unpack_from(data)
            if not seen:
                first = report = now
                inbox.settimeout(LATE)
            elif now > first + seconds + PATIENCE:
                break
            if number in seen:
                twice += 1
                continue
            seen.add(number)
            numbers.append(number)
            delays.append((now - sent) * 1000)
            octets += len(data)
            last = now
            if now >= report:
                _say({"progress": {"at": now, "bytes": octets}})
                report = now + PROGRESS
    order = order_of(numbers)
    return {
        "received": len(numbers),
        "twice": twice,
        "mbit": octets * 8e-6 / (last - first) if last > first else 0.0,
        **asdict(order),
        "delay_percentiles_ms": [round(value, 4) for value in percentiles(delays)],
    }


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _say(values: dict[str, object]) -> None:
    print(json.dumps(values), flush=True)


def main() -> int:
    """Entry point of ``python -m mpt.lab.experiment.numbered``."""
    parser = argparse.ArgumentParser(prog="mpt.lab.experiment.numbered", description="one stream of numbered packets")
    parser.add_argument("role", choices=["receive", "send"])
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=1.0, help="Mbit/s of UDP payload")
    parser.add_argument("--octets", type=int, default=1300, help="of UDP payload in a packet")
    options = parser.parse_args()
    if options.role == "receive":
        _say({"result": receive(options.address, options.seconds)})
    else:
        _say({"sent": send(options.address, options.seconds, options.rate, options.octets)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

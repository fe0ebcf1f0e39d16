"""A UDP stream of numbered packets: which of them come, in which order, and how late.

    python -m mpt.lab.numbered receive 10.0.0.3 --seconds 5
    python -m mpt.lab.numbered send 10.0.0.3 --seconds 5 --rate 90 --octets 1300

Both ends are on one machine, whose monotonic clock tells the delay one way. The receiver writes ``ready``, ten times a
second how many octets came, and at its end one result, as JSON lines. `Numbered` starts both and reads the lines.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.reordering import Order, order_of, percentiles, quantile
from mpt.lab.transfer import Progress

PORT = 5500
HEADER = struct.Struct("!Qd")  # number, when it was sent
TICK = 0.0005  # seconds between two looks at the clock
PROGRESS = 0.1  # seconds
LATE = 0.5  # seconds that the receiver waits longer than the sender sends
PATIENCE = 60.0  # seconds until the first packet
START_TIME = 20.0  # seconds that a program has to start
BUFFER = 4 << 20  # octets; a receiver that gets no CPU must not count as loss of the paths
SO_RCVBUFFORCE = 33  # asm-generic/socket.h


@dataclass(frozen=True)
class Received:
    """Of `sent` packets so many came, each counted once; `twice` more came again. `mbit` is payload, 10^6 bit/s.

    `delays` are percentiles in ms one way, 101 numbers, `late` is the 99.9th; of nothing they are empty and infinite.
    """

    sent: int
    received: int
    twice: int
    mbit: float
    order: Order
    delays: list[float]
    late: float


def send(address: str, seconds: float, mbit: float, octets: int, tos: int = 0) -> int:
    """Send for `seconds` at `mbit` of UDP payload, packets of `octets` payload. Return how many were sent."""
    per_second = mbit * 1e6 / 8 / octets
    padding = bytes(octets - HEADER.size)
    number = 0
    with socket.socket(_family(address), socket.SOCK_DGRAM) as outbox:
        if tos:
            outbox.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
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


def receive(address: str, seconds: float, late: float = LATE, patience: float = PATIENCE) -> dict[str, Any]:
    """Note what comes for `seconds` and `late` after the first packet; return the figures of the stream. All is over if
    none comes within `patience` seconds."""
    delays: dict[int, float] = {}  # in the order of arrival
    twice = octets = 0
    first = last = report = 0.0
    end = time.monotonic() + patience
    with socket.socket(_family(address), socket.SOCK_DGRAM) as inbox:
        inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        inbox.bind((address, PORT))
        inbox.settimeout(late)
        _say({"ready": {"port": PORT}})
        while time.monotonic() < end:
            try:
                data = inbox.recv(65535)
            except TimeoutError:
                continue
            now = time.monotonic()
            number, sent = HEADER.unpack_from(data)
            if not delays:
                first, end = now, now + seconds + late
            if number in delays:
                twice += 1
                continue
            delays[number] = (now - sent) * 1000
            octets += len(data)
            last = now
            if now >= report:
                _say({"progress": asdict(Progress(now, octets))})
                report = now + PROGRESS
    return {
        "received": len(delays),
        "twice": twice,
        "mbit": octets * 8e-6 / (last - first) if last > first else 0.0,
        "order": asdict(order_of(list(delays))),
        "delays": [round(delay, 4) for delay in percentiles(delays.values())],
        "late": quantile(delays.values(), 0.999) if delays else float("inf"),
    }


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _say(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


class Numbered:
    """A stream from `sender` to `address` of `receiver`, which runs at once, for `seconds`.

    It has `mbit` of UDP payload in packets of `octets` payload; `tos` is the octet with DSCP and ECN, IPv4 only.
    """

    def __init__(
        self, sender: Host, receiver: Host, address: str, *, seconds: float, mbit: float, octets: int, tos: int = 0
    ) -> None:
        self._seconds = seconds
        length = ["--seconds", str(seconds)]
        self._receiver = receiver.start_python("mpt.lab.numbered", "receive", address, *length)
        self._receiver.wait_for_output("ready", START_TIME)
        what = ["--rate", str(mbit), "--octets", str(octets), "--tos", str(tos)]
        self._sender = sender.start_python("mpt.lab.numbered", "send", address, *length, *what)

    @property
    def running(self) -> bool:
        """Return whether there is something to wait for: the receiver has not ended, and the sender did not fail."""
        return self._receiver.running and (self._sender.running or self._sender.returncode == 0)

    @property
    def progress(self) -> list[Progress]:
        """Return what had come, and when, so far."""
        lines = self._receiver.output().split("\n")[:-1]
        return [Progress(**told["progress"]) for line in lines if "progress" in (told := json.loads(line))]

    def finish(self) -> Received:
        """Wait for the end and return what came; HostError if a program fails."""
        try:
            codes = self._sender.wait(self._seconds + START_TIME), self._receiver.wait(START_TIME)
        finally:
            self._sender.stop()
            self._receiver.stop()
        if any(codes):
            raise HostError(f"the UDP stream failed:\n{self._sender.complaint()}\n{self._receiver.complaint()}")
        sent = json.loads(self._sender.output())["sent"]
        told = json.loads(self._receiver.output().splitlines()[-1])["result"]
        return Received(sent, **{**told, "order": Order(**told["order"])})


def main() -> int:
    """Entry point of ``python -m mpt.lab.numbered``."""
    parser = argparse.ArgumentParser(prog="mpt.lab.numbered", description="one stream of numbered packets")
    parser.add_argument("role", choices=["receive", "send"])
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=1.0, help="Mbit/s of UDP payload")
    parser.add_argument("--octets", type=int, default=1300, help="of UDP payload in a packet")
    parser.add_argument("--tos", type=int, default=0, help="the octet with DSCP and ECN, IPv4 only")
    options = parser.parse_args()
    if options.role == "receive":
        _say({"result": receive(options.address, options.seconds)})
    else:
        _say({"sent": send(options.address, options.seconds, options.rate, options.octets, options.tos)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The user-space wire: a process that carries frames between two devices with delay, jitter and loss.

For kernels without netem. It stands in the namespace where both devices are::

    python -m mpt.lab.netem.frames l0a l0b --frame-size 1518

It writes ``ready`` and then obeys one JSON object a line on its input, each answered by ``ok``::

    {"ab": {"delay": 0.02, "jitter": 0.001, "loss": 0.01, "reorder": false, "open": true}}

``ab`` is the direction from the first device to the second, ``ba`` the other; ``open`` false swallows every frame.
Deadlines are kept to about a millisecond: while frames flow it looks up every `COALESCE` seconds, as a network card
with interrupt moderation does, because a wake-up per frame would cost more than the frame.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from typing import Any

from mpt.lab.netem.delayline import DelayLine

ETH_P_ALL = 0x0003  # linux/if_ether.h
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
BUFFER = 32 << 20  # bytes; the queue of a slow link is charged to the sending socket
BATCH = 256  # frames taken from one device before the other has its turn
COALESCE = 0.0005  # seconds


class Direction:
    """Frames from `source` to `sink` through a delay line."""

    def __init__(self, source: socket.socket, sink: socket.socket, frame_size: int, seed: int) -> None:
        self.source, self.sink, self.frame_size = source, sink, frame_size
        self.line = DelayLine(seed=seed)
        self.open = True

    def adjust(self, settings: dict[str, Any]) -> None:
        """Take over `settings`; a closed direction also loses the frames on their way."""
        values = dict(settings)
        self.open = values.pop("open", self.open)
        if values:
            self.line.adjust(**values)
        if not self.open:
            self.line.clear()

    def carry(self, now: float) -> bool:
        """Take in the waiting frames, send the due ones; return whether any came in."""
        recv, put, size = self.source.recv, self.line.put, self.frame_size
        received = False
        try:
            for _ in range(BATCH):
                frame = recv(size)
                received = True
                if self.open:
                    put(frame, now)
        except BlockingIOError:
            pass
        except OSError:  # ENETDOWN, once, when the device goes down
            pass
        send = self.sink.send
        for frame in self.line.take_due(now):
            try:
                send(frame)
            except OSError:  # ENOBUFS: the queue of the slow link is full; ENETDOWN: it is unplugged. Frames die so.
                pass
        return received


def serve(first: socket.socket, second: socket.socket, frame_size: int) -> None:
    """Carry frames until killed; at the end of the input go on without commands."""
    directions = {"ab": Direction(first, second, frame_size, 1), "ba": Direction(second, first, frame_size, 2)}
    both = tuple(directions.values())
    devices: list[Any] = [first, second]
    commands: list[Any] = [sys.stdin]
    print("ready", flush=True)
    monotonic = time.monotonic
    while True:
        now = monotonic()
        busy = [direction.carry(now) for direction in both]
        deadlines = [deadline for direction in both if (deadline := direction.line.next_deadline()) is not None]
        timeout = max(min(deadlines) - now, COALESCE) if deadlines else None
        if any(busy):  # more will come at once: let it gather
            readable = select.select(commands, [], [], COALESCE)[0]
        else:
            readable = select.select(devices + commands, [], [], timeout)[0]
        if sys.stdin in readable and not obey(directions):
            commands = []


def obey(directions: dict[str, Direction]) -> bool:
    """Read one command line; return False at the end of the input."""
    line = sys.stdin.readline()
    if not line:
        return False
    for name, settings in json.loads(line).items():
        directions[name].adjust(settings)
    print("ok", flush=True)
    return True


def open_device(name: str) -> socket.socket:
    """Return a packet socket on device `name` that sees arriving frames only."""
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    device.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    for option, force in ((socket.SO_RCVBUF, SO_RCVBUFFORCE), (socket.SO_SNDBUF, SO_SNDBUFFORCE)):
        try:
            device.setsockopt(socket.SOL_SOCKET, force, BUFFER)
        except PermissionError:  # in a user namespace: up to the machine's limit
            device.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    device.bind((name, ETH_P_ALL))
    device.setblocking(False)
    return device


def main() -> None:
    """Entry point of ``python -m mpt.lab.netem.frames``."""
    parser = argparse.ArgumentParser(prog="mpt.lab.netem.frames", description="carry frames between two devices")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--frame-size", type=int, default=1518, help="longest frame, bytes")
    options = parser.parse_args()
    serve(open_device(options.first), open_device(options.second), options.frame_size)


if __name__ == "__main__":
    main()

"""The user-space wire: a process that carries frames between two devices by a rate, with delay, jitter and loss.

For kernels without netem, and for rates that follow a trace. It stands in the namespace where both devices are::

    python -m mpt.lab.netem.frames l0a l0b --frame-size 1518

It writes ``ready native`` or ``ready python`` (its loop is in C if `_wire` was built, which takes a third of
the CPU time), and then obeys one JSON object a line on its input, each answered by ``ok``::

    {"ab": {"delay": 0.02, "jitter": 0.001, "loss": 0.01, "reorder": false, "open": true}}

``ab`` is the direction from the first device to the second, ``ba`` the other; the fields are those of
`mpt.lab.netem.line.Settings`. Deadlines are kept to half a millisecond: while frames flow it looks up every
`COALESCE` seconds, as a network card with interrupt moderation does, because a wake-up per frame would cost more than
the frame.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import select
import socket
import sys
import time
from importlib.util import find_spec
from typing import Any, Protocol

from mpt.lab.netem.line import Line, Settings

ETH_P_ALL = 0x0003  # linux/if_ether.h
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
BUFFER = 32 << 20  # bytes; the queue of a slow link is charged to the sending socket
BATCH = 256  # frames taken from one device before the other has its turn
COALESCE = 0.0005  # seconds
NATIVE_COALESCE = 0.00025  # seconds
NICE = -15  # a network does not wait for the programs that use it
DIRECTIONS = ("ab", "ba")


class Wire(Protocol):
    """Lines between two devices, in both directions."""

    name: str

    def adjust(self, direction: str, settings: Settings) -> None:
        """Set the line of a direction from now on."""

    def run(self, commands: int) -> None:
        """Carry frames until the descriptor `commands` can be read; a negative one never can."""


class NativeWire:
    """The wire whose loop is in C."""

    name = "native"

    def __init__(self, first: socket.socket, second: socket.socket, frame_size: int, seed: int) -> None:
        from mpt.lab.netem._wire import ffi, lib

        self._ffi, self._lib = ffi, lib
        self._devices = first, second  # open as long as the wire
        self._wire = lib.wire_new(first.fileno(), second.fileno(), frame_size, *seeds(seed))
        if self._wire == ffi.NULL:
            raise MemoryError

    def adjust(self, direction: str, settings: Settings) -> None:
        adjust_native(self._ffi, self._lib, self._lib.wire_line(self._wire, DIRECTIONS.index(direction)), settings)

    def run(self, commands: int) -> None:
        if error := self._lib.wire_run(self._wire, commands, NATIVE_COALESCE):
            raise OSError(error, os.strerror(error))


def adjust_native(ffi: Any, lib: Any, line: Any, settings: Settings, now: float | None = None) -> None:
    """Give `settings` to a line in C, `now` or at the present time (monotonic clock)."""
    steps = ffi.new("struct step[]", [list(step) for step in settings.steps])
    names = ("delay", "jitter", "loss", "rate", "began", "reorder", "open", "queue_octets", "queue_frames")
    fields = {name: getattr(settings, name) for name in names}
    given = ffi.new("struct settings *", {**fields, "steps": steps, "step_count": len(settings.steps)})
    if not lib.line_adjust(line, given, time.monotonic() if now is None else now):
        raise MemoryError


class PythonWire:
    """The same in Python alone."""

    name = "python"

    def __init__(self, first: socket.socket, second: socket.socket, frame_size: int, seed: int) -> None:
        there, back = seeds(seed)
        self._directions = {"ab": (first, second, Line(there)), "ba": (second, first, Line(back))}
        self._frame_size = frame_size

    def adjust(self, direction: str, settings: Settings) -> None:
        self._directions[direction][2].adjust(settings, time.monotonic())

    def run(self, commands: int) -> None:
        obeyed: list[Any] = [commands] if commands >= 0 else []
        lines = list(self._directions.values())
        devices = [source for source, _, _ in lines]
        while True:
            now = time.monotonic()
            received = [self._carry(*line, now) for line in lines]
            wait = max(min(line.next_deadline() for _, _, line in lines) - now, COALESCE)
            if any(received):  # more will come at once: let it gather
                readable = select.select(obeyed, [], [], COALESCE)[0]
            else:
                readable = select.select([*devices, *obeyed], [], [], None if math.isinf(wait) else wait)[0]
            if commands in readable:
                return

    def _carry(self, source: socket.socket, sink: socket.socket, line: Line, now: float) -> bool:
        """Take in the waiting frames, send the due ones; return whether any came in."""
        received = False
        try:
            for _ in range(BATCH):
                frame = source.recv(self._frame_size)
                received = True
                line.put(frame, now)
        except BlockingIOError:
            pass
        except OSError:  # ENETDOWN, once, when the device goes down
            pass
        for frame in line.take_due(now):
            try:
                sink.send(frame)
            except OSError:  # ENOBUFS; ENETDOWN: it is unplugged. Frames die so.
                pass
        return received


def seeds(seed: int) -> tuple[int, int]:
    """Return the seeds of the two directions of a wire: no two lines of a lab draw alike."""
    return 2 * seed + 1, 2 * seed + 2


def make(first: socket.socket, second: socket.socket, frame_size: int, seed: int) -> Wire:
    """Return the wire in C if it was built, else the one in Python."""
    native = find_spec("mpt.lab.netem._wire") is not None
    return (NativeWire if native else PythonWire)(first, second, frame_size, seed)


def serve(wire: Wire) -> None:
    """Carry frames until killed, and obey; at the end of the input go on without commands."""
    print("ready", wire.name, flush=True)
    while True:
        wire.run(sys.stdin.fileno())
        line = sys.stdin.readline()
        if not line:
            break
        for direction, fields in json.loads(line).items():
            wire.adjust(direction, Settings(**{**fields, "steps": tuple(map(tuple, fields.get("steps", ())))}))
        print("ok", flush=True)
    wire.run(-1)


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
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options = parser.parse_args()
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:  # in a user namespace
        pass
    serve(make(open_device(options.first), open_device(options.second), options.frame_size, options.seed))


if __name__ == "__main__":
    main()

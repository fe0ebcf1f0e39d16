"""One TCP stream from host to host: how fast, how steady, and whether every byte was right.

The receiver measures. The two ends are separate processes, each in its namespace::

    python -m mpt.lab.transfer receive --bind 10.0.0.3 --port 5300 --warmup 1 --seconds 5
    python -m mpt.lab.transfer send 10.0.0.3 --port 5300 --seconds 6.2

The stream is blocks of 1 MiB: a number of 8 bytes, then always the same pseudo-random bytes. The receiver compares
every block, tells the sender at the end how many bytes came and whether they were right, and writes JSON lines:
``ready``, some ten times a second ``progress``, and a last ``result``; the times are of the machine's monotonic clock.
`Transfer` starts both and reads the lines.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mpt.errors import HostError
from mpt.lab.hosts import Host

BLOCK = 1 << 20  # bytes
CHUNK = 1 << 16  # bytes given to the kernel at once, so that the sender looks at the clock often enough
NUMBER = 8  # bytes of a block's number
TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; bytes a second
UNSENT = 1 << 17  # bytes that may wait in the sender's kernel: the end of a slow transfer is then near its time
PROGRESS = 0.1  # seconds
PATIENCE = 60.0  # seconds without a byte, or without a connection, after which either end gives up


@dataclass(frozen=True)
class Result:
    """The receiver's result.

    `mbit` is the goodput (payload bits, 10^6 a second) between the end of the warm-up and the end of the measuring
    time. `longest_gap` is the longest time in seconds without a byte after the warm-up; it ended at `gap_ended`
    (monotonic clock). `verified` says whether every byte of the whole stream was right. The last byte came at `ended`.
    """

    mbit: float
    bytes: int
    longest_gap: float
    gap_ended: float
    verified: bool
    error: str = ""
    ended: float = 0.0


@dataclass(frozen=True)
class Progress:
    """So many `bytes` had come at `at` (monotonic clock)."""

    at: float
    bytes: int


class Meter:
    """Goodput and gaps of a stream; ``arrived`` and ``finish`` take the bytes and the time, in seconds."""

    def __init__(self, warmup: float, seconds: float) -> None:
        self.bytes = 0
        self.longest_gap = 0.0
        self.gap_ended = 0.0
        self._warmup, self._seconds = warmup, seconds
        self._first: float | None = None
        self.last = 0.0
        self._begin: Progress | None = None
        self._end: Progress | None = None

    def arrived(self, count: int, now: float) -> None:
        """Note that `count` bytes came at `now`; 0: the stream ended, and the silence before counts as a gap."""
        if self._first is None:
            self._first = self.last = now
        elapsed = now - self._first
        self.bytes += count
        if elapsed >= self._warmup:
            if now - self.last > self.longest_gap:
                self.longest_gap, self.gap_ended = now - self.last, now
            if self._begin is None:
                self._begin = Progress(now, self.bytes)
        if elapsed >= self._warmup + self._seconds and self._end is None:
            self._end = Progress(now, self.bytes)
        self.last = now

    def mbit(self) -> float:
        """Return the goodput so far, in 10^6 bit/s; 0 before the warm-up is over."""
        begin, end = self._begin, self._end or Progress(self.last, self.bytes)
        if begin is None or end.at <= begin.at:
            return 0.0
        return (end.bytes - begin.bytes) * 8e-6 / (end.at - begin.at)


def pattern() -> bytearray:
    """Return block 0 of the stream."""
    return bytearray(NUMBER) + random.Random(8086).randbytes(BLOCK - NUMBER)


class Checker:
    """Compares a stream with the expected one. Receive into ``space()``, then call ``filled``."""

    def __init__(self) -> None:
        self.right = True
        self._expected = pattern()
        self._block = bytearray(BLOCK)
        self._view = memoryview(self._block)
        self._position = 0
        self._number = 0

    def space(self) -> memoryview:
        """Return the place of the next bytes: the rest of the block."""
        return self._view[self._position :]

    def filled(self, count: int) -> None:
        """Note that `count` bytes have been written to the beginning of ``space()``."""
        self._position += count
        if self._position == BLOCK:
            self.right &= self._block == self._expected
            self._number += 1
            self._position = 0
            self._expected[:NUMBER] = self._number.to_bytes(NUMBER, "big")

    def finish(self) -> bool:
        """Check the last, incomplete block; return whether all was right."""
        self.right &= self._block[: self._position] == self._expected[: self._position]
        return self.right


def send(
    address: str,
    port: int,
    seconds: float,
    congestion: str | None = None,
    is_over: Callable[[], bool] = lambda: False,
    pace: float | None = None,
    limit: float = math.inf,
    multipath: bool = False,
) -> int:
    """Send the stream for `seconds`, or until `is_over`, with `pace` Mbit/s at most; then ask the receiver about it.

    It ends after `limit` bytes, whole chunks. `multipath`: by the kernel's MPTCP (RFC 8684). Return the number of
    bytes; HostError if any were lost or wrong.
    """
    block, total, number = pattern(), 0, 0
    with _socket(address, multipath) as stream:
        stream.settimeout(PATIENCE)
        stream.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
        if congestion:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        if pace:
            stream.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, int(pace * 1e6 / 8))
        stream.connect((address, port))
        end = time.monotonic() + seconds
        while time.monotonic() < end and total < limit and not is_over():
            block[:NUMBER] = number.to_bytes(NUMBER, "big")
            for start in range(0, BLOCK, CHUNK):
                stream.sendall(memoryview(block)[start : start + CHUNK])
                total += CHUNK
                if time.monotonic() >= end or total >= limit or is_over():
                    break
            number += 1
        stream.shutdown(socket.SHUT_WR)
        answer = json.loads(stream.makefile().readline() or "{}")
    if answer != {"bytes": total, "verified": True}:
        raise HostError(f"{total} bytes were sent, the receiver says {answer}")
    return total


def receive(address: str, port: int, warmup: float, seconds: float, multipath: bool = False) -> Result:
    """Take one stream, measure and check it, and write ``ready`` and ``progress`` lines.

    `multipath`: its subflows come to all our addresses, so `address` only tells the IP version.
    """
    meter, checker, error = Meter(warmup, seconds), Checker(), ""
    with _socket(address, multipath) as server:  # open until the end: subflows come to it, too
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("" if multipath else address, port))
        server.listen()
        _say("ready", {"port": port})
        server.settimeout(PATIENCE)
        stream, _ = server.accept()
        with stream:
            try:
                for count in _chunks(stream, checker, meter):
                    checker.filled(count)
                verified = checker.finish()
                stream.sendall(json.dumps({"bytes": meter.bytes, "verified": verified}).encode() + b"\n")
            except OSError as failure:
                error, verified = f"the connection broke: {failure}", False
    return Result(meter.mbit(), meter.bytes, meter.longest_gap, meter.gap_ended, verified, error, meter.last)


def _socket(address: str, multipath: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_MPTCP if multipath else 0)


def _chunks(stream: socket.socket, checker: Checker, meter: Meter) -> Iterator[int]:
    """Receive into the checker's space until the end of the stream; yield the numbers of bytes."""
    stream.settimeout(PROGRESS)
    last_byte = next_report = time.monotonic()
    while True:
        try:
            count = stream.recv_into(checker.space())
        except TimeoutError:
            count = -1
        now = time.monotonic()
        if count >= 0:
            meter.arrived(count, now)
            last_byte = now
        elif now - last_byte > PATIENCE:
            raise TimeoutError(f"not a byte for {PATIENCE:g} s")
        if now >= next_report:
            _say("progress", asdict(Progress(now, meter.bytes)))
            next_report = now + PROGRESS
        if count == 0:
            return
        if count > 0:
            yield count


def _say(kind: str, values: dict[str, Any]) -> None:
    print(json.dumps({kind: values}), flush=True)


class Transfer:
    """A stream from `sender` to `address` of `receiver`, which runs at once.

    It takes ``warmup + seconds`` and the time of the last bytes. `congestion` names the sender's TCP congestion
    control; None: the machine's. `pace` limits the rate, in Mbit/s, so that the stream does not fill a slow line.
    With `limit` it ends after so many bytes, if that is earlier. `multipath`: by the kernel's MPTCP.
    """

    def __init__(
        self,
        sender: Host,
        receiver: Host,
        address: str,
        *,
        seconds: float = 5.0,
        warmup: float = 1.0,
        port: int = 5300,
        congestion: str | None = None,
        pace: float | None = None,
        limit: int | None = None,
        multipath: bool = False,
    ) -> None:
        self.progress: list[Progress] = []
        self._result: Result | None = None
        self._read_to = 0
        self._duration = warmup + seconds
        kind = ["--multipath"] if multipath else []
        times = ["--warmup", str(warmup), "--seconds", str(seconds), *kind]
        self._receiver = receiver.start_python(
            "mpt.lab.transfer", "receive", "--bind", address, "--port", str(port), *times
        )
        self._receiver.wait_for_output('"ready"', 10)
        words = {"--congestion": congestion, "--pace": pace, "--limit": limit}
        control = kind + [word for name, value in words.items() if value for word in (name, str(value))]
        # a little longer than the receiver measures, so that its end lies inside the stream
        length = str(warmup + seconds + 0.2)
        self._sender = sender.start_python(
            "mpt.lab.transfer", "send", address, "--port", str(port), "--seconds", length, *control
        )
        self.started = time.monotonic()  # of the sender's program; it connects at `began`, known at the end
        self.began = 0.0

    @property
    def running(self) -> bool:
        """Return whether there is something to wait for: both ends are well, and the receiver has not ended."""
        return self._receiver.running and (self._sender.running or self._sender.returncode == 0)

    def poll(self) -> list[Progress]:
        """Read the receiver's new lines; return `progress` as it stands now."""
        text = self._receiver.output()
        complete = text.rfind("\n") + 1
        for line in text[self._read_to : complete].splitlines():
            values = json.loads(line)
            if "progress" in values:
                self.progress.append(Progress(**values["progress"]))
            elif "result" in values:
                self._result = Result(**values["result"])
        self._read_to = max(self._read_to, complete)
        return self.progress

    def end(self) -> None:
        """Let the sender send no more; `finish` has less to wait for then."""
        self._sender.signal(signal.SIGUSR1)

    @property
    def is_wrong(self) -> bool:
        """Return whether bytes came that were not those that were sent; known after `finish`, also if that failed."""
        return self._result is not None and not self._result.verified and not self._result.error

    def finish(self) -> Result:
        """Wait for the end and return the result; HostError if the connection broke, or a byte was lost or wrong."""
        try:
            sent = self._sender.wait(self._duration + PATIENCE)
            received = self._receiver.wait(PATIENCE if sent == 0 else PROGRESS * 5)
        finally:
            self._sender.stop()
            self._receiver.stop()
        self.poll()
        if sent != 0 or received != 0 or self._result is None:
            error = self._result.error if self._result else ""
            raise HostError(f"the transfer failed: {error}\n{self._sender.complaint()}\n{self._receiver.errors()}")
        self.began = json.loads(self._sender.output())["sent"]["began"]
        return self._result


def rate_between(progress: list[Progress], start: float, end: float) -> float:
    """Return the mean rate in 10^6 bit/s between two times of the monotonic clock; 0 without data about them."""
    inside = [sample for sample in progress if start <= sample.at <= end]
    if len(inside) < 2:
        return 0.0
    return (inside[-1].bytes - inside[0].bytes) * 8e-6 / (inside[-1].at - inside[0].at)


def main() -> int:
    """Entry point of ``python -m mpt.lab.transfer``; 0: every byte came and was right."""
    parser = argparse.ArgumentParser(prog="mpt.lab.transfer", description="one measured and checked TCP stream")
    roles = parser.add_subparsers(dest="role", required=True)
    receiver = roles.add_parser("receive", help="take one stream and measure it")
    receiver.add_argument("--bind", default="0.0.0.0", metavar="ADDRESS")
    receiver.add_argument("--warmup", type=float, default=1.0, help="seconds before measuring")
    sender = roles.add_parser("send", help="send a stream")
    sender.add_argument("address")
    sender.add_argument("--congestion", help="TCP congestion control")
    sender.add_argument("--pace", type=float, metavar="MBIT", help="send no faster")
    sender.add_argument("--limit", type=int, default=sys.maxsize, metavar="BYTES", help="end after so many")
    for role in (receiver, sender):
        role.add_argument("--port", type=int, default=5300)
        role.add_argument("--multipath", action="store_true", help="the kernel's MPTCP")
        role.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    try:
        if options.role == "receive":
            result = receive(options.bind, options.port, options.warmup, options.seconds, options.multipath)
            _say("result", asdict(result))
            return 0 if result.verified and not result.error else 1
        asked: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: asked.append(number))
        how = options.congestion, lambda: bool(asked), options.pace, options.limit, options.multipath
        began = time.monotonic()
        sent = send(options.address, options.port, options.seconds, *how)
        _say("sent", {"bytes": sent, "began": began})
    except (OSError, HostError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Files of random octets from host to host over TCP, and whether each came as it was sent.

The two ends are separate processes, each in its namespace, and are given the same sizes in octets::

    python -m bench.soak.files receive 10.0.0.3 --port 5400 1 65536
    python -m bench.soak.files send 10.0.0.3 --port 5400 1 65536

Every file is new, and has its own connection. Both ends write one JSON line for each file, with its size and its
SHA-256. `FileTransfer` starts both and compares the lines, so the comparison does not cross the tested network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.process import Process

CHUNK = 1 << 20  # octets made or hashed at once
READY = '"ready"'  # the receiver's first line
PATIENCE = 30.0  # seconds without an octet, or without a connection, after which either end gives up
ATTEMPTS = 10  # to connect, in this time


def random_file(size: int) -> tuple[BinaryIO, str]:
    """Return a file of `size` random octets that is in memory only, and its SHA-256; it is gone when it is closed."""
    file = os.fdopen(os.memfd_create("mpt-soak"), "w+b")
    digest = hashlib.sha256()
    for start in range(0, size, CHUNK):
        octets = os.urandom(min(CHUNK, size - start))
        file.write(octets)
        digest.update(octets)
    file.seek(0)
    return file, digest.hexdigest()


def connect(address: str, port: int, create: Callable[..., socket.socket] = socket.create_connection) -> socket.socket:
    """Connect, again and again; TimeoutError after PATIENCE.

    TCP itself would try five times in this time, and wait 16 s after the last try."""
    for _ in range(ATTEMPTS - 1):
        try:
            return create((address, port), timeout=PATIENCE / ATTEMPTS)
        except TimeoutError:
            pass
    return create((address, port), timeout=PATIENCE / ATTEMPTS)


def send(address: str, port: int, sizes: Sequence[int]) -> Iterator[dict[str, object]]:
    """Send a new file of each size; yield the line of each. OSError when the connection breaks or stalls."""
    for size in sizes:
        file, digest = random_file(size)
        with file, connect(address, port) as stream:
            stream.settimeout(PATIENCE)
            stream.sendfile(file)
            stream.shutdown(socket.SHUT_WR)
            stream.recv(1)  # until the receiver has it all and closes: the next connection might overtake this one
            yield {"bytes": size, "sha256": digest}


def receive(server: socket.socket, count: int) -> Iterator[dict[str, object]]:
    """Take `count` files, one connection after the other; yield the line of each. OSError as for `send`."""
    server.settimeout(PATIENCE)
    space = memoryview(bytearray(CHUNK))
    for _ in range(count):
        stream, _peer = server.accept()
        digest, size = hashlib.sha256(), 0
        with stream:
            stream.settimeout(PATIENCE)
            while got := stream.recv_into(space):
                digest.update(space[:got])
                size += got
        yield {"bytes": size, "sha256": digest.hexdigest()}


def compare(sent: str, received: str) -> tuple[int, int]:
    """Return the numbers of files and octets that both ends name in their output; HostError where they differ."""
    files = [json.loads(line) for line in sent.splitlines()]
    arrived = [json.loads(line) for line in received.splitlines() if line != READY]
    for here, there in zip(files, arrived, strict=False):
        if here != there:
            raise HostError(f"a file came wrong: sent {here}, received {there}")
    if len(files) != len(arrived):
        raise HostError(f"{len(files)} files were sent, {len(arrived)} came")
    return len(files), sum(file["bytes"] for file in files)


def goes_on(*codes: int | None) -> bool:
    """Return whether there is something to wait for, by the exit codes of both ends: either may be the first."""
    return None in codes and all(code in (None, 0) for code in codes)


class FileTransfer:
    """New files of `sizes` octets, one after the other, from `sender` to `address` of `receiver`; running at once."""

    def __init__(self, sender: Host, receiver: Host, address: str, port: int, sizes: Sequence[int]) -> None:
        module, words = "bench.soak.files", [address, "--port", str(port), *map(str, sizes)]
        self._hosts = sender, receiver
        self._receiver: Process = receiver.start_python(module, "receive", *words)
        self._receiver.wait_for_output(READY, PATIENCE)
        self._sender: Process = sender.start_python(module, "send", *words)

    @property
    def running(self) -> bool:
        """Return whether it still runs: it has not ended at both ends, nor broken off."""
        return goes_on(self._sender.returncode, self._receiver.returncode)

    def finish(self) -> tuple[int, int]:
        """End it; return the numbers of files and octets. HostError unless all is over and every octet was right."""
        ended = not self._receiver.running and not self._sender.running
        codes = [host.end(process) for host, process in zip(self._hosts, (self._sender, self._receiver), strict=True)]
        if not ended or codes != [0, 0]:
            raise HostError(
                f"{' '.join(self._sender.argv[3:])} broke off; the sender: {self._sender.complaint() or '-'};"
                f" the receiver: {self._receiver.complaint() or '-'}"
            )
        return compare(self._sender.output(), self._receiver.output())


def main() -> int:
    """Entry point of ``python -m bench.soak.files``; 0: all files were sent, or have come."""
    parser = argparse.ArgumentParser(prog="bench.soak.files", description="files of random octets over TCP")
    parser.add_argument("role", choices=["send", "receive"])
    parser.add_argument("address", help="the receiver's")
    parser.add_argument("--port", type=int, default=5400)
    parser.add_argument("sizes", type=int, nargs="+", metavar="SIZE")
    options = parser.parse_args()
    try:
        if options.role == "send":
            for account in send(options.address, options.port, options.sizes):
                print(json.dumps(account), flush=True)
            return 0
        family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
        with socket.create_server((options.address, options.port), family=family) as server:
            print(READY, flush=True)
            for account in receive(server, len(options.sizes)):
                print(json.dumps(account), flush=True)
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

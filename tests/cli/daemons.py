"""Scripted daemons: one thread, one socket, one question, and the answers that the test wrote down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 10.0  # seconds; nothing here waits that long unless it fails


class Script:
    """What a scripted daemon was asked; with `hold` it stays on the line after its answers, and is silent."""

    def __init__(self, hold: bool) -> None:
        self.asked = b""
        self.port = 0
        self._hold = hold
        self._over = threading.Event()

    def wait(self) -> None:
        if self._hold:
            self._over.wait(DEADLINE)

    def end(self) -> None:
        self._over.set()


@contextmanager
def unix_daemon(path: Path, *answers: bytes, hold: bool = False) -> Iterator[Script]:
    """A daemon at the unix socket `path`, for one caller."""
    script = Script(hold)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(DEADLINE)

        def serve() -> None:
            caller, _ = listening.accept()
            with caller:
                caller.settimeout(DEADLINE)
                while not script.asked.endswith(b"\n") and (octets := caller.recv(65536)):
                    script.asked += octets
                for answer in answers:
                    caller.sendall(answer)
                script.wait()

        with _thread(serve, script):
            yield script
    path.unlink()


@contextmanager
def udp_daemon(host: str, *answers: bytes, hold: bool = False) -> Iterator[Script]:
    """A server at a free UDP port of `host`, for one datagram."""
    script = Script(hold)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((host, 0))
        listening.settimeout(DEADLINE)
        script.port = listening.getsockname()[1]

        def serve() -> None:
            script.asked, caller = listening.recvfrom(65536)
            for answer in answers:
                listening.sendto(answer, caller)
            script.wait()

        with _thread(serve, script):
            yield script


@contextmanager
def _thread(serve: Callable[[], None], script: Script) -> Iterator[None]:
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        script.end()
        thread.join(DEADLINE)

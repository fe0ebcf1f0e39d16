"""``mpt demo --web``: the status page of a host of the lab, for a browser of this machine.

The listening socket is made before the program perhaps starts again in a user namespace, whose network no browser
reaches. It is inherited, and what comes to it is carried into the host.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
from contextlib import suppress
from typing import Final

from mpt.errors import HostError
from mpt.lab.hosts import Host

PORT: Final = 9400
VARIABLE: Final = "MPT_DEMO_WEB"  # the descriptor of the listening socket, for the second start
MOST_CALLERS: Final = 32


def listening() -> socket.socket:
    """Return the socket at the loopback that a browser asks; the one of the first start if there is one."""
    if inherited := os.environ.get(VARIABLE):
        return socket.socket(fileno=int(inherited))
    channel = socket.socket()
    try:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.bind(("127.0.0.1", PORT))
        channel.listen()
    except OSError as error:
        channel.close()
        raise HostError(f"--web: cannot listen at 127.0.0.1:{PORT}: {error.strerror}") from error
    channel.set_inheritable(True)
    os.environ[VARIABLE] = str(channel.fileno())
    return channel


class Window:
    """Carries every caller of `channel` to the status port of `host`, until `close`."""

    def __init__(self, channel: socket.socket, host: Host) -> None:
        self.url = f"http://127.0.0.1:{channel.getsockname()[1]}/"
        self._channel, self._host = channel, host
        self._room = threading.BoundedSemaphore(MOST_CALLERS)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more callers."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)  # which wakes the thread
        self._channel.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._channel.accept()
            except OSError:
                return
            self._room.acquire()
            threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def _carry(self, caller: socket.socket) -> None:
        try:
            with caller, self._host.call(socket.create_connection, ("127.0.0.1", PORT), 5.0) as port:
                _join(caller, port)
        except OSError:
            pass  # the browser asks again
        finally:
            self._room.release()


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry octets both ways until an end closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]  # as they were registered
                octets = source.recv(65536)
                if not octets:
                    return
                key.data.sendall(octets)

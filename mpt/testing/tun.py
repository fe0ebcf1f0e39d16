"""A TUN device without a kernel: a socketpair, which keeps packets apart and can be polled, like the device."""

from __future__ import annotations

import socket


class FakeTun:
    """The kernel's side of a tunnel interface. `fd` is the program's side, which its opener closes."""

    def __init__(self, name: str = "tun0") -> None:
        self.name = name
        self._kernel, program = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._kernel.setblocking(False)
        program.setblocking(False)
        self.fd = program.detach()

    def inject(self, packet: bytes) -> None:
        """Let the host send `packet` into the tunnel, for the program to read; BlockingIOError if too much waits."""
        self._kernel.send(packet)

    def delivered(self) -> list[bytes]:
        """Return the packets that the program has written since the last call, oldest first."""
        packets = []
        while True:
            try:
                packets.append(self._kernel.recv(65536))
            except BlockingIOError:
                return packets

    def close(self) -> None:
        """Close the kernel's side."""
        self._kernel.close()

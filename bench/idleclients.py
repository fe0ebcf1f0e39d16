"""The clients of `bench.scale`: one program that sends and takes the keepalives of many hosts."""

from __future__ import annotations

import select
import socket
import sys
import time

from bench.scale import CLIENTS, KEEPALIVE, LINKS, SERVER, outer
from mpt.lab.tunnel import DATA_PORT
from mpt.wire.command import encode_keepalive

STEPS = 20  # of a keepalive time, so that the clients do not speak all at once


def main(connections: int) -> None:
    """Speak for so many clients, for ever."""
    sockets = {link: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for link in LINKS}
    for opened in sockets.values():
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setblocking(False)
    for link, opened in sockets.items():
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"eth{link}".encode())
        opened.bind(("", DATA_PORT))
    keepalives = [encode_keepalive(4, CLIENTS + number, SERVER) for number in range(connections)]
    sources = {
        link: [bytes(4) + outer(link, number).packed + bytes(4) for number in range(connections)] for link in LINKS
    }  # struct in_pktinfo: interface index, source, destination
    step = 0
    due = time.monotonic()
    while True:
        for number in range(step, connections, STEPS):
            for link, opened in sockets.items():
                info = (socket.IPPROTO_IP, 8, sources[link][number])  # IP_PKTINFO
                opened.sendmsg([keepalives[number]], [info], 0, (f"10.{link}.{link}.2", DATA_PORT))
        step = (step + 1) % STEPS
        due += KEEPALIVE / STEPS
        _drain(list(sockets.values()), due)


def _drain(sockets: list[socket.socket], until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        for ready in select.select(sockets, [], [], left)[0]:
            try:
                while ready.recv(2048):
                    pass
            except BlockingIOError:
                pass
            except OSError:
                pass  # an ICMP error: the server is not there yet


if __name__ == "__main__":
    main(int(sys.argv[1]))

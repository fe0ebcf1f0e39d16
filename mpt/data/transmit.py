"""One datagram over one socket: packets while the socket has room, messages of control in any case."""

from __future__ import annotations

from typing import Any

from mpt.data.pathtable import DataSocket
from mpt.host.udp import more_room, tos_ancillary


def transmit(data_socket: DataSocket, datagram: bytes, remote: tuple[Any, ...], tos_octet: int) -> None:
    """Send one datagram with this TOS octet; raises OSError."""
    if tos_octet:
        data_socket.sendmsg((datagram,), tos_ancillary(remote, tos_octet), 0, remote)
    else:
        data_socket.sendto(datagram, remote)


def send_message(data_socket: DataSocket, datagram: bytes, remote: tuple[Any, ...], tos_octet: int) -> bool:
    """Send a datagram of control, even into a socket that is full. Return whether it was sent."""
    try:
        transmit(data_socket, datagram, remote, tos_octet)
    except BlockingIOError:  # full of packets: without its messages a full line would look like a lossy one
        return _send_beyond(data_socket, datagram, remote, tos_octet)
    except OSError:
        return False
    return True


def _send_beyond(data_socket: DataSocket, datagram: bytes, remote: tuple[Any, ...], tos_octet: int) -> bool:
    try:
        with more_room(data_socket):
            transmit(data_socket, datagram, remote, tos_octet)
    except OSError:
        return False
    return True

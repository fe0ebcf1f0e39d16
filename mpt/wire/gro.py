"""UDP_GRO of Linux (udp(7)): the kernel hands over datagrams of one sender and one size joined, the last perhaps
shorter, as they came from a sender that sent them so or through a network card. One call then brings up to 64.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Final

from mpt.wire.tos import Ancillary

UDP_GRO: Final = 104  # <linux/udp.h>
ROOM: Final = socket.CMSG_SPACE(4)  # what recvmsg() needs for the size


def separated(octets: bytes, ancillary: Sequence[Ancillary]) -> Sequence[bytes]:
    """The datagrams in what ``recvmsg`` gave: one, where `ancillary` does not begin with their size."""
    if not ancillary or ancillary[0][0] != socket.IPPROTO_UDP:
        return (octets,)
    size = int.from_bytes(ancillary[0][2], sys.byteorder)
    return [octets[start : start + size] for start in range(0, len(octets), size)]

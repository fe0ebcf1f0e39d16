"""The system calls of the host layer as one object, so that a test can put another in its place.

Functions of the packet path are held, not wrapped: ``system.read(...)`` costs one attribute look-up more than
``os.read(...)`` does.
"""

from __future__ import annotations

import fcntl
import os
import socket

from mpt.host import rights


class System:
    """The real machine. Every call raises what Python's own function raises: OSError with its errno."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    forbid_dumps = staticmethod(rights.forbid_dumps)
    if_nametoindex = staticmethod(socket.if_nametoindex)
    socket = staticmethod(socket.socket)  # last, as from here on the class's own `socket` hides the module

    @staticmethod
    def ioctl(fd: int, request: int, argument: bytes) -> bytes:
        """Return the argument as the kernel left it (ioctl(2))."""
        return fcntl.ioctl(fd, request, argument)

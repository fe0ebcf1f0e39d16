"""The service manager's ear: states for systemd over its datagram socket (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress


class ServiceManager:
    """Whoever started this process and wants to be told, by `environ`. Its variables are taken out of it, so that no
    child speaks in our name."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        is_ours = pid in ("", str(os.getpid()))
        self.watchdog = int(microseconds) / 1e6 if self._address and is_ours and microseconds.isdigit() else 0.0
        """Seconds within which it wants a sign of life, again and again; 0.0: it wants none."""

    @property
    def is_there(self) -> bool:
        """Return whether somebody wants to be told."""
        return bool(self._address)

    def tell(self, **states: str) -> None:
        """Tell some states, such as READY="1"; a manager that does not listen is no fault of ours."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in states.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(text.encode(), self._address)

    def tell_reloading(self) -> None:
        """Tell that a reload has begun, with the time by which the manager knows which one."""
        self.tell(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

"""What the operator is told of a data path without having asked; `mpt show status` tells it at any time."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from mpt.data.datapath import DataPath

log = Logger()

LOOK: Final = 1.0  # s; a server hears thousands of keepalives in that time


class Notices:
    """What `datapath` tells of `tunnel` by itself: the offloads that it begins with, and each that it gives up, once.

    It has no timer: `look` is called with every keepalive that is heard, and looks no more often than every `LOOK`.
    """

    def __init__(self, tunnel: str, datapath: DataPath) -> None:
        self._tunnel = tunnel
        self._datapath = datapath
        self._offloads = datapath.offloads()
        self._look_at = 0.0
        log.info(
            "{tunnel}: offloads in use: {offloads}",
            tunnel=tunnel, offloads=", ".join(sorted(self._offloads)) or "none",
        )

    def look(self, now: float) -> None:
        """Say what is new, if it is time to look; `now` in monotonic seconds."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK
        given_up = self._offloads - self._datapath.offloads()
        self._offloads -= given_up  # one that comes back, as its path goes down, would be given up again and again
        for offload in sorted(given_up):
            log.warn(
                "{tunnel}: the kernel or a link refuses the offload {offload}: packets go without it, at more CPU time",
                tunnel=self._tunnel, offload=offload,
            )

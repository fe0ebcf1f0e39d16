"""What the operator is told of a data path without having asked; `mpt show status` tells it at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from mpt.data.datapath import DataPath

log = Logger()

LOOK: Final = 1.0  # s; a server hears thousands of keepalives in that time
ECN_PAUSE: Final = 3600.0  # s


class Notices:
    """What `datapath` tells of `tunnel` by itself: the offloads that it begins with, and each that it gives up, once;
    and, unless `log_ecn()` is False, ECN fields that no honest path makes, at most once in `ECN_PAUSE`.

    It has no timer: `look` is called with every keepalive that is heard, and looks no more often than every `LOOK`.
    """

    def __init__(self, tunnel: str, datapath: DataPath, log_ecn: Callable[[], bool]) -> None:
        self._tunnel = tunnel
        self._datapath = datapath
        self._offloads = datapath.offloads()
        self._log_ecn = log_ecn
        self._ecn_told = 0
        self._look_at = self._ecn_due = 0.0
        log.info(
            "{tunnel}: offloads in use: {offloads}",
            tunnel=tunnel,
            offloads=", ".join(sorted(self._offloads)) or "none",
        )

    def look(self, now: float) -> None:
        """Say what is new, if it is time to look; `now` in monotonic seconds."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK
        self._look_at_offloads()
        if now >= self._ecn_due and self._log_ecn():
            self._look_at_ecn(now)

    def _look_at_offloads(self) -> None:
        given_up = self._offloads - self._datapath.offloads()
        self._offloads -= given_up  # one that comes back, as its path goes down, would be given up again and again
        for offload in sorted(given_up):
            log.warn(
                "{tunnel}: the kernel or a link refuses the offload {offload}: packets go without it, at more CPU time",
                tunnel=self._tunnel,
                offload=offload,
            )

    def _look_at_ecn(self, now: float) -> None:
        """RFC 6040 section 4.2: such a packet should be logged, rarely, and so that it can be suppressed."""
        count = self._datapath.ecn_unexpected()
        if count > self._ecn_told:
            log.warn(
                "{tunnel}: packets with ECN fields that no honest path makes: {count}; something on the way changes "
                "them (log_ecn = 0 silences this)",
                tunnel=self._tunnel,
                count=count - self._ecn_told,
            )
            self._ecn_told, self._ecn_due = count, now + ECN_PAUSE

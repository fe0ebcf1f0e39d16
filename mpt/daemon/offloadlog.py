"""Logs the offloads of a data path, and wrong ECN fields; `mpt show status` shows both at any time."""

from __future__ import annotations

from typing import Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mpt.daemon.machine import Machine
from mpt.daemon.settings import Settings
from mpt.data.datapath import DataPath

log = Logger()

LOOK_EVERY: Final = 2.0  # s; a look costs microseconds
ECN_PAUSE: Final = 3600.0  # s


class OffloadLog:
    """Logs the offloads that the data path of `tunnel` begins with, and each that it gives up, once.

    Unless log_ecn is off, it also logs ECN fields that no honest path makes, at most once in `ECN_PAUSE`.
    """

    def __init__(self, machine: Machine, tunnel: str, datapath: DataPath, settings: Settings) -> None:
        self._tunnel = tunnel
        self._datapath = datapath
        self._settings = settings
        self._offloads = datapath.offloads()
        self._now = machine.now
        self._ecn_logged = 0
        self._ecn_due = 0.0
        self._loop = LoopingCall(self._look)
        self._loop.clock = machine.reactor

    def start(self) -> None:
        """Log the offloads, and look every `LOOK_EVERY` from now on."""
        log.info(
            "{tunnel}: offloads in use: {offloads}",
            tunnel=self._tunnel,
            offloads=", ".join(sorted(self._offloads)) or "none",
        )
        self._loop.start(LOOK_EVERY, now=False)

    def stop(self) -> None:
        """Stop looking."""
        self._loop.stop()

    def _look(self) -> None:
        self._check_offloads()
        now = self._now()
        if now >= self._ecn_due and self._settings.general.log_ecn:
            self._check_ecn(now)

    def _check_offloads(self) -> None:
        given_up = self._offloads - self._datapath.offloads()
        self._offloads -= given_up  # for good: it comes back when its path goes down, and would be logged anew
        for offload in sorted(given_up):
            log.warn(
                "{tunnel}: the kernel or a link refuses the offload {offload}: packets go without it, at more CPU time",
                tunnel=self._tunnel,
                offload=offload,
            )

    def _check_ecn(self, now: float) -> None:
        """Log packets with wrong ECN fields: rarely, and only if log_ecn is on (RFC 6040 section 4.2)."""
        count = self._datapath.ecn_unexpected()
        if count > self._ecn_logged:
            log.warn(
                "{tunnel}: packets with ECN fields that no honest path makes: {count}; something on the way changes "
                "them (log_ecn = 0 silences this)",
                tunnel=self._tunnel,
                count=count - self._ecn_logged,
            )
            self._ecn_logged, self._ecn_due = count, now + ECN_PAUSE

"""The TUN device under the reactor."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from mpt.daemon.machine import Machine
from mpt.host.tun import Tun


@implementer(IReadDescriptor)
class TunPort:
    """Tells `readable()` when packets wait in the TUN, and `lost()` when the interface was removed under us."""

    def __init__(self, machine: Machine, tun: Tun, readable: Callable[[], None], lost: Callable[[], None]) -> None:
        self._reactor = machine.reactor
        self._tun = tun
        self._readable = readable
        self._lost = lost

    def start(self) -> None:
        self._reactor.addReader(self)

    def stop(self) -> None:
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        return self._tun.fd

    def doRead(self) -> None:
        self._readable()

    def connectionLost(self, reason: object) -> None:
        self._lost()

    def logPrefix(self) -> str:
        return "mpt tun"

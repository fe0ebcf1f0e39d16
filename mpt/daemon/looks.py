"""Looks at the lines: why a path does not work, from what arrives at its interface (`mpt.control.causes`).

A look lasts some seconds and serves all paths with the same interface and port, so that a server with a thousand silent
clients has one tap open, now and then, and not a thousand. Whoever sends to us cannot make us do more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from twisted.logger import Logger

from mpt.errors import HostError
from mpt.model import Address
from mpt.wire import sighting
from mpt.wire.sighting import Datagram, Unreachable

log = Logger()

SHORTEST: Final = 2.0  # s that a look lasts at least
LONGEST: Final = 15.0  # s, at most
KEEPALIVES: Final = 2.2  # how many keepalives of ours fit into it; the peer's interval is much like it
FIRST_PAUSE: Final = 60.0  # s between two looks, while a path stays silent
LONGEST_PAUSE: Final = 3600.0  # s; the pause doubles each time


class Place(NamedTuple):
    """What one look sees: an interface, our port, and an IP version."""

    interface: str
    port: int
    version: int


class Lookout(Protocol):
    """A path, as looks know it."""

    @property
    def place(self) -> Place: ...
    @property
    def keepalive_time(self) -> float: ...
    @property
    def peer(self) -> Address: ...
    @property
    def tunnels(self) -> tuple[Address, Address]: ...
    @property
    def is_silent(self) -> bool: ...
    def looked(self, seen: Iterable[Datagram | Unreachable], neighbours: Iterable[Lookout]) -> None: ...


class Tap(Protocol):
    """`mpt.host.tap.Tap`."""

    def read(self) -> list[bytes]: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _View:
    """One place: the paths there, those that asked, the tap while it is open, and the timer."""

    paths: list[Lookout] = field(default_factory=list)
    asked: list[Lookout] = field(default_factory=list)
    tap: Tap | None = None
    timer: Any = None
    pause: float = FIRST_PAUSE


class Looks:
    """The looks of one tunnel. `open_tap(interface, port, version)` raises HostError."""

    def __init__(self, reactor: Any, open_tap: Callable[[str, int, int], Tap]) -> None:
        self._reactor = reactor
        self._open_tap = open_tap
        self._views: dict[Place, _View] = {}

    def add(self, path: Lookout) -> None:
        """From now on `path` may ask, and the others know of it."""
        self._views.setdefault(path.place, _View()).paths.append(path)

    def remove(self, path: Lookout) -> None:
        """The path has ended."""
        view = self._views.get(path.place)
        if view is None or path not in view.paths:
            return
        view.paths.remove(path)
        if path in view.asked:
            view.asked.remove(path)
        if not view.asked:
            _stop(view)
        if not view.paths:
            del self._views[path.place]

    def ask(self, path: Lookout) -> None:
        """Have a look for `path`, soon, and again while it stays silent."""
        view = self._views.get(path.place)
        if view is None or path in view.asked:
            return
        view.asked.append(path)
        if view.tap is not None:
            return
        _stop(view)
        view.pause = FIRST_PAUSE
        self._begin(path.place, view)

    def _begin(self, place: Place, view: _View) -> None:
        view.timer = None
        try:
            view.tap = self._open_tap(*place)
        except HostError as error:
            log.debug("{error}", error=error)  # no privilege, or the interface has just gone
            self._again(place, view)
            return
        wanted = KEEPALIVES * max(path.keepalive_time for path in view.asked)
        duration = min(max(wanted, SHORTEST), LONGEST)
        view.timer = self._reactor.callLater(duration, self._end, place, view)

    def _end(self, place: Place, view: _View) -> None:
        packets = view.tap.read() if view.tap is not None else []
        view.timer = None
        _stop(view)
        seen = [found for packet in dict.fromkeys(packets) if (found := sighting.decode(packet)) is not None]
        for path in view.asked:
            path.looked(seen, view.paths)
        view.asked = [path for path in view.asked if path.is_silent]
        if view.asked:
            self._again(place, view)

    def _again(self, place: Place, view: _View) -> None:
        view.timer = self._reactor.callLater(view.pause, self._begin, place, view)
        view.pause = min(2 * view.pause, LONGEST_PAUSE)


def _stop(view: _View) -> None:
    """No tap and no timer any more."""
    if view.tap is not None:
        view.tap.close()
        view.tap = None
    if view.timer is not None:
        view.timer.cancel()
        view.timer = None

"""Looks at interfaces, to find out why a path does not work (`mpt.control.causes`).

A look lasts some seconds and serves all paths with the same interface and port. So a server with a thousand silent
clients opens one tap now and then. No sender can cause more work.

Packets that arrived before a peer was heard, or heard again, say nothing of a path that works now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from twisted.logger import Logger

from mpt.control.causes import Sightings
from mpt.errors import HostError
from mpt.model import Address
from mpt.wire import sighting

log = Logger()

SHORTEST: Final = 2.0  # s that a look lasts at least
LONGEST: Final = 15.0  # s, at most
KEEPALIVES: Final = 2.2  # how many of our keepalive times it lasts; the peer's is much the same
FIRST_PAUSE: Final = 60.0  # s between two looks, while a path stays silent
LONGEST_PAUSE: Final = 3600.0  # s; the pause doubles each time


class LookPlace(NamedTuple):
    """The place of one look: an interface, our port, and an IP version."""

    interface: str
    port: int
    version: int


@dataclass(frozen=True, slots=True)
class View:
    """The result of a look at a place.

    `peers` and `tunnels` are the peer addresses, and the pairs of tunnel addresses (ours first), of all paths there.
    `is_filtered`: the kernel drops packets whose sender it would reach another way.
    """

    peers: frozenset[Address]
    tunnels: frozenset[tuple[Address, Address]]
    seen: Sightings
    is_filtered: bool


class Lookout(Protocol):
    """A path that asks for looks."""

    @property
    def place(self) -> LookPlace: ...
    @property
    def keepalive_time(self) -> float: ...
    @property
    def peer(self) -> Address: ...
    @property
    def tunnels(self) -> tuple[Address, Address]: ...
    @property
    def is_silent(self) -> bool: ...
    @property
    def has_cause(self) -> bool: ...
    def looked(self, view: View) -> None: ...


class Tap(Protocol):
    """`mpt.host.tap.Tap`."""

    def read(self) -> list[bytes]: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Look:
    """One place: the paths there, the paths that asked and whether each was silent at the beginning of the look, the
    paths that ask for the next look, the tap while it is open, and the timer."""

    paths: dict[Lookout, None] = field(default_factory=dict)  # in their order
    asked: dict[Lookout, bool] = field(default_factory=dict)
    later: dict[Lookout, None] = field(default_factory=dict)
    tap: Tap | None = None
    timer: Any = None
    pause: float = FIRST_PAUSE


class Looks:
    """The looks of one tunnel. `open_tap(interface, port, version)` raises HostError; `is_filtered(interface)`: whether
    the kernel drops packets there whose sender it would reach another way."""

    def __init__(
        self, reactor: Any, open_tap: Callable[[str, int, int], Tap], is_filtered: Callable[[str], bool]
    ) -> None:
        self._reactor = reactor
        self._open_tap = open_tap
        self._is_filtered = is_filtered
        self._looks: dict[LookPlace, _Look] = {}

    def add(self, path: Lookout) -> None:
        """Note that `path` has begun: it may ask, and counts among the paths of its place."""
        self._looks.setdefault(path.place, _Look()).paths[path] = None

    def remove(self, path: Lookout) -> None:
        """Note that `path` has ended."""
        look = self._looks.get(path.place)
        if look is None or path not in look.paths:
            return
        del look.paths[path]
        look.asked.pop(path, None)
        look.later.pop(path, None)
        if not look.asked and not look.later:
            _stop(look)
        if not look.paths:
            del self._looks[path.place]

    def ask(self, path: Lookout) -> None:
        """Look for `path` now, and again while it stays silent or has a cause."""
        look = self._looks.get(path.place)
        if look is None:
            return
        if look.tap is not None and not path.is_silent:
            look.later[path] = None
            return
        if path in look.asked:
            return
        look.asked[path] = path.is_silent
        if look.tap is None:
            _stop(look)
            look.pause = FIRST_PAUSE
            self._begin(path.place, look)

    def _begin(self, place: LookPlace, look: _Look) -> None:
        look.timer = None
        look.asked = {path: path.is_silent for path in look.asked}
        try:
            look.tap = self._open_tap(*place)
        except HostError as error:
            log.debug("{error}", error=error)  # no privilege, or the interface has just gone
            self._again(place, look)
            return
        wanted = KEEPALIVES * max(path.keepalive_time for path in look.asked)
        duration = min(max(wanted, SHORTEST), LONGEST)
        look.timer = self._reactor.callLater(duration, self._end, place, look)

    def _end(self, place: LookPlace, look: _Look) -> None:
        packets = look.tap.read() if look.tap is not None else []
        look.timer = None
        _stop(look)
        found = (sighting.decode(packet) for packet in dict.fromkeys(packets))
        view = View(
            frozenset(path.peer for path in look.paths),
            frozenset(path.tunnels for path in look.paths),
            Sightings(each for each in found if each is not None),
            self._is_filtered(place.interface),
        )
        for path, was_silent in look.asked.items():
            if path.is_silent or not was_silent:
                path.looked(view)
        later, look.later = dict.fromkeys(look.later, False), {}
        look.asked = {path: True for path in look.asked if path.is_silent or path.has_cause} | later
        if later:
            self._begin(place, look)
        elif look.asked:
            self._again(place, look)

    def _again(self, place: LookPlace, look: _Look) -> None:
        look.timer = self._reactor.callLater(look.pause, self._begin, place, look)
        look.pause = min(2 * look.pause, LONGEST_PAUSE)


def _stop(look: _Look) -> None:
    """Close the tap and cancel the timer."""
    if look.tap is not None:
        look.tap.close()
        look.tap = None
    if look.timer is not None:
        look.timer.cancel()
        look.timer = None

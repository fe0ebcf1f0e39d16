"""The state of every path that ever was in a table, by its key. It belongs to the data path and outlives every table: a
used number must not be used again because an operator took the path down and up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mpt.data.counters import PathCounters
from mpt.data.rooms import Room


class PathMeasures(NamedTuple):
    """The measures of a path for control, as in PathCounters; all zero for a path that was in no table."""

    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    last_received: float = 0.0  # monotonic seconds; 0.0: never


@dataclass(slots=True)
class PathState:
    """The state of one path, to which both planes write; `room` is of adaptive connections."""

    counters: PathCounters = field(default_factory=PathCounters)
    room: Room = field(default_factory=Room)

    def measures(self) -> PathMeasures:
        """Return the measures of this moment."""
        c = self.counters
        return PathMeasures(c.packets_sent, c.bytes_sent, c.packets_received, c.bytes_received, c.last_received)


class PathStates:
    """All states, by the key of the path."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: dict[Hashable, PathState] = {}

    def __iter__(self) -> Iterator[tuple[Hashable, PathState]]:
        return iter(self._states.items())

    def find(self, key: Hashable) -> PathState | None:
        """Return the state of a path, or None if it was in no table yet."""
        return self._states.get(key)

    def ensure(self, key: Hashable) -> PathState:
        """Return the state of a path; a new state begins with zeros."""
        return self._states.setdefault(key, PathState())

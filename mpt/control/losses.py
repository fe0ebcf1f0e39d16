"""The loss of a path by its cause: own load, or radio.

What is lost while a queue stands is ours: the queue was full. What is lost without one is the line's, whatever we send:
repair handles it, and the window does not care.
"""

from __future__ import annotations

from collections import deque
from typing import Final

HALF_LIFE: Final = 10.0  # s
ENOUGH: Final = 50.0  # datagrams
RECENT: Final = 1.0  # s


class LossMeter:
    """The losses of one path as shares, 0 .. 1."""

    __slots__ = ("_at", "_load", "_radio", "_recent", "_sent")

    def __init__(self) -> None:
        self._at = 0.0
        self._sent = self._radio = self._load = 0.0  # datagrams, fading
        self._recent: deque[tuple[float, int, int]] = deque()  # (time, lost, arrived)

    def take(self, now: float, lost: int, arrived: int, by_load: bool) -> None:
        """Take the datagrams of a report that were lost, and that arrived."""
        fade = 0.5 ** ((now - self._at) / HALF_LIFE) if self._at else 0.0
        self._at = now
        self._sent = self._sent * fade + lost + arrived
        self._radio = self._radio * fade + (0 if by_load else lost)
        self._load = self._load * fade + (lost if by_load else 0)
        if lost or arrived:
            self._recent.append((now, lost, arrived))
        while self._recent and self._recent[0][0] < now - RECENT:
            self._recent.popleft()

    def forget(self) -> None:
        """Begin anew."""
        self._sent = self._radio = self._load = 0.0
        self._recent.clear()

    def forget_recent(self) -> None:
        """Forget the last second."""
        self._recent.clear()

    @property
    def sent(self) -> float:
        """Return the datagrams that the shares are of."""
        return self._sent

    @property
    def radio(self) -> float:
        """Return the share that the line lost; 0.0 until enough was sent."""
        return self._radio / self._sent if self._sent > ENOUGH else 0.0

    @property
    def load(self) -> float:
        """Return the share that our own load lost."""
        return self._load / self._sent if self._sent > ENOUGH else 0.0

    @property
    def recent(self) -> float:
        """Return the share lost within the last second, whoever lost it."""
        lost = sum(each[1] for each in self._recent)
        total = lost + sum(each[2] for each in self._recent)
        return lost / total if total > ENOUGH else 0.0

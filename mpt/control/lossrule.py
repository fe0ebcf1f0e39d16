"""Which paths of a connection are left because they lose too much (key `max_loss`), and when they are used again.

What must hold:

- A path is left only if another usable path loses at most half as much, and at most the limit. So a trouble of all
  paths (a stopped peer, an overload) makes it leave none.
- A path that is left is used again when its loss is below half of the limit, and at once when no other path is usable.
- It is left for `FIRST_HOLD` seconds at least, and longer each time that it goes bad again soon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

FIRST_HOLD: Final = 30.0  # s
LONGEST_HOLD: Final = 600.0  # s; a path that was good for that long is trusted anew


class Quality(NamedTuple):
    """A path now: whether it is usable apart from its loss, and its loss (0 to 1; None: unknown)."""

    usable: bool
    loss: float | None


@dataclass(slots=True)
class _Path:
    left: bool = False
    hold: float = 0.0
    not_before: float = -math.inf  # of the next change
    back_at: float = -math.inf


class LossRule:
    """The rule for one connection with `paths` paths; `max_loss` as a share, 0 to leave none."""

    def __init__(self, max_loss: float, paths: int) -> None:
        self._limit = max_loss
        self._paths = [_Path() for _ in range(paths)]

    def is_left(self, index: int) -> bool:
        """Return whether the path is left now."""
        return self._paths[index].left

    def forget(self, index: int) -> None:
        """Note that the path begins anew, by another cable or by the operator."""
        self._paths[index] = _Path()

    def is_news(self, index: int, loss: float | None) -> bool:
        """Return whether a new measurement of a path can change anything. Cheap."""
        return self._limit > 0 and ((loss is not None and loss > self._limit) or any(each.left for each in self._paths))

    def decide(self, qualities: Sequence[Quality], now: float) -> list[int]:
        """Leave the worst bad path, take good ones back. Return the indexes of the paths that have changed."""
        before = [path.left for path in self._paths]
        for index, quality in enumerate(qualities):
            if self._paths[index].left and self._is_good(index, quality, now):
                self._take_back(index, now)
        worst = [index for index in range(len(qualities)) if self._must_be_left(index, qualities, now)]
        if worst:
            self._leave(max(worst, key=lambda index: qualities[index].loss or 0.0), now)
        if not any(quality.usable and not path.left for quality, path in zip(qualities, self._paths, strict=True)):
            for index, quality in enumerate(qualities):
                if quality.usable and self._paths[index].left:
                    self._take_back(index, now)
                    self._paths[index].not_before = now + self._paths[index].hold
        return [index for index, was_left in enumerate(before) if was_left is not self._paths[index].left]

    def _is_good(self, index: int, quality: Quality, now: float) -> bool:
        return now >= self._paths[index].not_before and quality.loss is not None and quality.loss < self._limit / 2

    def _must_be_left(self, index: int, qualities: Sequence[Quality], now: float) -> bool:
        path, (usable, loss) = self._paths[index], qualities[index]
        if path.left or not usable or loss is None or not 0 < self._limit < loss or now < path.not_before:
            return False
        best = min(
            (
                other.loss
                for number, other in enumerate(qualities)
                if number != index and other.usable and not self._paths[number].left and other.loss is not None
            ),
            default=math.inf,
        )
        return best <= min(self._limit, loss / 2)

    def _leave(self, index: int, now: float) -> None:
        path = self._paths[index]
        is_soon = now < path.back_at + LONGEST_HOLD
        path.hold = min(2 * path.hold, LONGEST_HOLD) if is_soon else FIRST_HOLD
        path.left = True
        path.not_before = now + path.hold

    def _take_back(self, index: int, now: float) -> None:
        self._paths[index].left = False
        self._paths[index].back_at = now

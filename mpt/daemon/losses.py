"""Leaves the paths of one connection that lose too many of the peer's keepalives (`mpt.control.lossrule`).

The loss is measured on the way from the peer. A path that is left is down here, and the peer is told so, as of any path
that is down: it leaves the path, too.
"""

from __future__ import annotations

from collections.abc import Callable

from mpt.control.lossrule import LossRule, Quality
from mpt.daemon.path import Path


class Losses:
    """The losses of `paths`; `max_loss` in per cent, 0: no path is left. `works(index)`: whether a path is known to
    carry data both ways. `last_received(path key)`: when the last data came over it."""

    def __init__(
        self,
        max_loss: int,
        paths: list[Path],
        works: Callable[[int], bool],
        last_received: Callable[[tuple[str, int]], float],
        now: Callable[[], float],
    ) -> None:
        self._max_loss = max_loss
        self._paths = paths
        self._works = works
        self._last_received = last_received
        self._now = now
        self._rule = LossRule(max_loss / 100, len(paths))
        self._looking = False

    def heard(self, index: int) -> None:
        """Note a keepalive over path `index`."""
        path = self._paths[index]
        if path.monitor.is_lossy:
            path.mute_if_peer_sends(self._last_received(path.key))
        if self._rule.is_news(index, path.meter.loss()):
            self.look()

    def look(self) -> None:
        """Leave a path that loses too much while another is better; take back paths that are good or needed again."""
        if self._looking:  # called again by a path that we leave or take back
            return
        for index, path in enumerate(self._paths):
            if self._rule.is_left(index) and not path.monitor.has_loss:
                self._rule.forget(index)  # it has begun anew
        self._looking = True
        for index in self._rule.decide([self._quality(index) for index in range(len(self._paths))], self._now()):
            path = self._paths[index]
            if self._rule.is_left(index):
                path.leave()
            else:
                loss = path.meter.loss()
                is_good = loss is not None and 100 * loss <= self._max_loss
                path.take_back("its loss is gone" if is_good else "it loses much, but no other path works")
        self._looking = False

    def _quality(self, index: int) -> Quality:
        """Return the quality of a path. If we have left it, the peer's report may be an echo of ours: ignore that."""
        path = self._paths[index]
        return Quality(path.monitor.is_lossy or self._works(index), path.meter.loss())

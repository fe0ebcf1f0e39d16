"""How the two ends of a connection agree on the state of its paths, though reports get lost and cross.

Each end keeps two facts for each path, and neither overwrites the other: the state *here* (operator, interface,
keepalives: ``mpt.control.pathmonitor`` owns it), and the *peer*'s report. A path carries data only while both are
good. Only the state here is ever reported, so reports that cross cannot undo each other, and two ends never keep each
other down.

A change here is reported until the peer acknowledges it, and once more two seconds later: without authentication a
late acknowledgement of an older report looks like the newest. While a path is down here, it is
reported again every 10 seconds, for the peer's "down" is a lease here: 30 seconds after the last one it is over, and
keepalives alone decide again. Three things therefore cannot keep a path down for good: an "up" that never got through,
a peer that restarted, and the C program, which reports a path down but not that keepalives have revived it. Without
keepalives a reported "down" has no expiry: it holds until the peer reports "up".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mpt.model import Status

CONFIRM_TIME: Final = 2.0  # seconds after the first acknowledgement; longer than a duplicate lives in a network
REFRESH_TIME: Final = 10.0  # between two reports that a path is still down
LEASE: Final = 30.0  # seconds that the peer's "down" holds for a path with keepalives: three reports may be lost
FIRST_RETRY: Final = 1.0  # seconds after a report that failed; doubled each time up to REFRESH_TIME


def effective_status(own: Status, peer_down: bool) -> Status:
    """Return the status of a path that is `own` here: DOWN if it is OK here and the peer says that it is down."""
    return Status.DOWN if own is Status.OK and peer_down else own


class Report(NamedTuple):
    """Tells the peer that path number `path` is up or down here."""

    path: int
    up: bool


@dataclass(slots=True)
class _Path:
    monitored: bool
    own_up: bool
    peer_knows: bool | None  # the report that the peer has acknowledged last; None: uncertain
    confirmed: bool = True
    report_at: float = math.inf
    retry: float = FIRST_RETRY
    peer_down_until: float = -math.inf


class Agreement:
    """One end of a connection; one report is under way at a time.

    `monitored`: which paths have keepalives and a dead time. `up`: which paths are good here at the start, which is not
    reported.
    """

    def __init__(self, monitored: Sequence[bool], up: Sequence[bool]) -> None:
        self._paths = [_Path(watched, good, good or None) for watched, good in zip(monitored, up, strict=True)]
        self._under_way: Report | None = None

    def may_be_thought_down(self, index: int) -> bool:
        """Return whether the peer may believe, by our word, that a path is down."""
        return self._paths[index].peer_knows is not True

    def report_anew(self, index: int, now: float) -> None:
        """Report a path though it has not changed: the peer's knowledge of it is older than this agreement."""
        path = self._paths[index]
        path.peer_knows = None
        path.confirmed = False
        path.report_at = now

    def own_state(self, index: int, up: bool, now: float) -> None:
        """Note whether a path is good here; only a change is reported."""
        path = self._paths[index]
        if path.own_up is up:
            return
        path.own_up = up
        path.confirmed = False
        path.retry = FIRST_RETRY
        path.report_at = math.inf if path.peer_knows is up else now

    def next_report(self, now: float) -> Report | None:
        """Return the report to send now, over a path that is good; `report_ended` must follow. None: nothing to say."""
        due = [(path.report_at, index) for index, path in enumerate(self._paths) if path.report_at <= now]
        if self._under_way is not None or not due:
            return None
        index = min(due)[1]
        path = self._paths[index]
        path.peer_knows = None
        self._under_way = Report(index, path.own_up)
        return self._under_way

    def report_ended(self, acknowledged: bool, now: float) -> None:
        """Note that the report under way was acknowledged, or failed."""
        report, self._under_way = self._under_way, None
        if report is None:
            return
        path = self._paths[report.path]
        if not acknowledged:
            path.report_at = now if path.own_up is not report.up else now + path.retry
            path.retry = min(2 * path.retry, REFRESH_TIME)
            return
        path.peer_knows = report.up
        path.retry = FIRST_RETRY
        if path.own_up is not report.up:
            path.report_at = now
        elif not path.confirmed:
            path.confirmed = True
            path.report_at = now + CONFIRM_TIME
        else:
            path.report_at = math.inf if path.own_up else now + REFRESH_TIME

    def is_open(self, index: int) -> bool:
        """Return whether a report on path `index` is under way, or is still to come with news for the peer."""
        path = self._paths[index]
        under_way = self._under_way is not None and self._under_way.path == index
        return under_way or (path.peer_knows is not path.own_up and path.report_at < math.inf)

    def peer_says(self, index: int, up: bool, now: float) -> None:
        """Note that the peer has reported a path."""
        path = self._paths[index]
        path.peer_down_until = -math.inf if up else now + LEASE if path.monitored else math.inf

    def peer_down(self, index: int, now: float) -> bool:
        """Return whether the peer says that a path is down, and has said so lately."""
        return now < self._paths[index].peer_down_until

    def next_deadline(self, now: float) -> float | None:
        """Return when to look again at `next_report` and `peer_down`; None when nothing changes by waiting."""
        reports = [path.report_at for path in self._paths] if self._under_way is None else []
        leases = [path.peer_down_until for path in self._paths if path.peer_down_until > now]
        soonest = min(reports + leases, default=math.inf)
        return None if soonest == math.inf else soonest

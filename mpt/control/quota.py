"""How much a path has carried in the day, the week or the month, and whether it may go on (`quota`).

- Days, weeks (from Monday) and months are those of UTC.
- A new period begins with nothing used. A clock that goes back begins none, and a clock before this program's time, as
  of a machine without a battery, is not believed: then the count goes on.
- People are warned once a period when WARN_AT of the quota is used.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from mpt.model import Quota

WARN_AT: Final = 0.8  # of the quota
BELIEVED_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Standing(enum.Enum):
    """How much of a quota is used."""

    FRESH = enum.auto()
    NEAR = enum.auto()  # WARN_AT is used
    SPENT = enum.auto()


def period_of(period: str, wall: float) -> date:
    """Return the first day of the `period` (one of model.PERIODS) at `wall`, in seconds since 1970 by UTC."""
    today = datetime.fromtimestamp(wall, UTC).date()
    match period:
        case "day":
            return today
        case "week":
            return today - timedelta(days=today.weekday())
    return today.replace(day=1)


def next_period(period: str, begun: date) -> date:
    """Return the first day of the period after the one that has `begun`."""
    match period:
        case "day":
            return begun + timedelta(days=1)
        case "week":
            return begun + timedelta(days=7)
    return (begun + timedelta(days=31)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Used:
    """The octets that were used of a quota in the period that has `begun`."""

    begun: date
    octets: int = 0


class QuotaMeter:
    """The use of one path's `quota`, which goes on from `used`; None: nothing is known of an earlier use.

    `counter` is the octets that the path has carried since its data path was made, `wall` seconds since 1970.
    """

    def __init__(self, quota: Quota, used: Used | None, counter: int, wall: float) -> None:
        self.quota = quota
        self.used = used or Used(period_of(quota.period, wall))
        self._counter = counter
        self._warned: date | None = None  # the period in which people were
        self._follow(wall)

    @property
    def standing(self) -> Standing:
        """Return how much is used."""
        if self.used.octets >= self.quota.octets:
            return Standing.SPENT
        return Standing.NEAR if self.used.octets >= WARN_AT * self.quota.octets else Standing.FRESH

    @property
    def ends(self) -> date:
        """Return the first day of the next period."""
        return next_period(self.quota.period, self.used.begun)

    def read(self, counter: int, wall: float) -> None:
        """Note the counter of now; it is lower after the data path was made anew."""
        before, self._counter = self._counter, counter
        self._follow(wall)
        if more := counter - before if counter >= before else counter:
            self.used = Used(self.used.begun, self.used.octets + more)

    def must_warn(self) -> bool:
        """Return whether people must be warned now; True once a period."""
        if self.standing is Standing.FRESH or self._warned == self.used.begun:
            return False
        self._warned = self.used.begun
        return True

    def _follow(self, wall: float) -> None:
        if wall < BELIEVED_FROM:
            return
        now = period_of(self.quota.period, wall)
        if now != self.used.begun:
            self.used = Used(now, 0 if now > self.used.begun else self.used.octets)

"""One path of an adaptive connection: what is known of it otherwise, what was measured, and what was decided."""

from __future__ import annotations

from typing import Final, NamedTuple

from mpt.control.delays import Scale
from mpt.control.estimator import TARGET, PathEstimator
from mpt.control.playout import PathDelays
from mpt.control.presence import Presence, State
from mpt.limits import FlightMeasures, Report

SEVERAL: Final = 6000  # octets under way, below which a loss looks like a silent path
SHORT_QUEUE: Final = 0.003  # s
LOSS_KNOWN: Final = 300.0  # datagrams
LOSSY_START: Final = 3000.0  # datagrams, of a flow that begins on lossy lines; more copies would only cost
SHADOW_QUEUE: Final = 0.002  # s of queue beyond which nothing is copied to a path that carries, too
SHADOW_SHARE: Final = 0.2  # of its known rate that such a path carries at most


class PathFacts(NamedTuple):
    """What is known of a path otherwise: paths of one `line` share it; `cost` 0 free, 1 metered, 2 backup; whether it
    may be used at all (link, keepalives, operator), and if not, `why` in words, and if it was taken down `by_hand`."""

    line: int = 0
    usable: bool = True
    cost: int = 0
    why: str = ""
    by_hand: bool = False


class AdaptivePath:
    """One path from `now` on; `scale` is the one of its connection."""

    __slots__ = (
        "acked",
        "admits",
        "closed",
        "estimator",
        "facts",
        "gated",
        "good_since",
        "greetings",
        "is_hearsay",
        "moved_at",
        "peer_suspects",
        "presence",
        "probed_at",
        "recent",
        "shadow",
        "shown",
        "total",
        "unread",
    )

    def __init__(self, scale: Scale, facts: PathFacts, now: float) -> None:
        self.facts = facts
        self.estimator = PathEstimator(scale)
        self.presence = Presence(now, facts.usable)
        self.unread: Report | None = None  # what reports told that are not looked at yet
        self.admits = True
        self.shadow = False
        self.closed = False  # its cost class is
        self.gated = False  # it loses too much
        self.good_since: float | None = None
        self.peer_suspects = False
        self.is_hearsay = False  # it is suspect as the peer says so, and for no other reason
        self.greetings = 0
        self.moved_at = self.probed_at = now
        self.acked = 0.0  # octets since the last step
        self.recent = 0.0  # fading
        self.total = 0.0
        self.shown = ("probing", "nothing was sent yet", now)

    @property
    def delays(self) -> PathDelays:
        """Return the delays that are known."""
        delays = self.estimator.delays
        return PathDelays(delays.base or 0.0, delays.noise, delays.queue, delays.rtt or 0.0)

    @property
    def proven(self) -> float:
        """Return the rate that the path has shown."""
        return self.estimator.rate or self.estimator.rates.peak

    @property
    def is_short(self) -> bool:
        """Return whether the path has less room than is wanted, or soon will: others are needed."""
        estimator = self.estimator
        return not estimator.is_starting or estimator.is_full or estimator.delays.queue > SHORT_QUEUE

    def shadows(self, lossy: bool) -> bool:
        """Return whether a starting path carries copies of bulk: to be measured, and while nothing is known of the
        losses, or much is, and the path has room, so that a loss at the begin of a flow harms nobody."""
        estimator = self.estimator
        if not estimator.is_starting:
            return False
        if not self.admits or estimator.losses.sent < LOSS_KNOWN:
            return True
        known = estimator.rate
        return (
            lossy
            and estimator.losses.sent < LOSSY_START
            and estimator.delays.queue < SHADOW_QUEUE
            and (not known or estimator.rates.peak < SHADOW_SHARE * known)
        )

    @property
    def tells_suspicion(self) -> bool:
        """Return whether the peer is to be told that what goes over the path does not seem to arrive. What it has said
        itself is no news: two ends would go on telling each other."""
        return not self.presence.is_live and not (self.presence.state is State.SUSPECT and self.is_hearsay)

    def is_suspect(self, report: Report, made: float) -> bool:
        """Return whether a report made at `made` makes the path suspect: by itself, or as the peer has just begun to
        say so. On a fast line a busy processor looks like a pause, and so does the line's jitter."""
        if report.suspect:
            return not self.peer_suspects
        estimator = self.estimator
        if report.settled_moved or report.in_flight < SEVERAL or not estimator.is_known:
            return False
        queue = estimator.queue_of(report.in_flight)
        at = made - (estimator.target - TARGET) - 1.5 * estimator.delays.jitter
        return self.presence.is_doubtful(at, report.oldest, estimator.longest_trip, queue)

    def is_unheard(self, flight: FlightMeasures, now: float) -> bool:
        """Return whether the lack of reports shows that the path is silent."""
        estimator = self.estimator
        queue = estimator.queue_of(flight.octets)
        return estimator.is_known and self.presence.is_unheard(now, flight.oldest, estimator.longest_trip, queue)

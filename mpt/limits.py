"""Values between the data path, which measures and moves, and control, which decides how much goes over which path.

They are made and read some hundred times a second, so they are tuples. Times are monotonic seconds; rates octets a
second; a datagram counts as its UDP payload and 28 octets (IPv4 and UDP). *Ticks* are 1/16 ms, the unit of the stamps
of sealed datagrams (session 3).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

OUTER: Final = 28  # octets that each datagram counts beside its payload


class PathLimits(NamedTuple):
    """What control allows on one path."""

    window: int  # octets under way at most; one datagram may always be
    pace: float = 0.0  # octets a second; 0: as fast as the window allows
    delay: float = 0.0  # s, one way, without a queue; comparable between paths of one connection only
    rate: float = 625_000.0  # octets a second that the line takes; more than 0
    slack: float = 0.0  # s that something under way is on the line or reported late, hence in no queue
    is_live: bool = True  # may carry packets and messages
    admits: bool = True  # may carry bulk
    line: int = 0  # paths of one line have one number; copies go over distinct lines
    rto: float = 1.0  # s without a report, after which what is under way is copied over another path, once
    burst: float = 0.002  # s by which a datagram may go before its turn in the pace
    suspect: bool = False  # what goes over it does not seem to arrive; the peer is told
    shadow: bool = False  # copies of bulk that went over other paths go here, too, while the window has room


START_WINDOW: Final = 45_000
START_LIMITS: Final = PathLimits(window=START_WINDOW)


class OrderLimits(NamedTuple):
    """What control tells the peer about the order of the data that we send, for one connection."""

    hold: float = 0.1  # s that the peer waits for a gap
    playout: int | None = None  # ticks, receiver's stamp clock - stamp, modulo 2^16; None: everything goes at once
    acks: bool = False  # whether pure acknowledgements wait for it, too


START_ORDER: Final = OrderLimits()


class Report(NamedTuple):
    """What one record of the peer's feedback says of one path of ours."""

    path: Hashable
    at: float  # when it came
    clock: int  # of the peer, microseconds modulo 2^32, when it was made
    packets: int  # datagrams of the path that arrived, since the beginning of the path, modulo 2^32
    octets: int  # the same, modulo 2^64
    acked: int  # octets that are newly known to have arrived
    lost: int  # datagrams that are newly known to be missing
    least: int | None  # ticks modulo 2^16: least delay since the last report; None: nothing came
    median: int | None
    rtt: float | None  # s, without the time for which the peer held it; None: unknown
    in_flight: int  # octets, after this report
    limited_at: float  # when window or pace last held a packet back; 0.0: never
    oldest: float | None  # when the oldest datagram under way was sent; None: none is
    settled_moved: bool  # the peer has got further numbers
    suspect: bool = False  # the peer says of its own datagrams over the path that they do not seem to arrive


def both(first: Report, later: Report) -> Report:
    """Return what two reports of a path say that came one after the other: as if there had been the later one only."""
    return later._replace(
        acked=first.acked + later.acked,
        lost=first.lost + later.lost,
        least=_less(first.least, later.least),
        median=first.median if later.median is None else later.median,
        rtt=first.rtt if later.rtt is None else later.rtt if first.rtt is None else min(first.rtt, later.rtt),
        settled_moved=first.settled_moved or later.settled_moved,
    )


def _less(first: int | None, second: int | None) -> int | None:
    """Return the lesser one of two delays in ticks modulo 2^16, no more than half of that apart."""
    if first is None or second is None:
        return second if first is None else first
    return second if (second - first) & 0x8000 else first


class FlightMeasures(NamedTuple):
    """What is under way on a path, and what happened to it since its beginning."""

    octets: int = 0  # under way
    packets: int = 0
    oldest: float | None = None  # when the oldest under way was sent
    queue_octets: int = 0  # waiting in the queue of the connection
    queue_packets: int = 0
    resent: int = 0  # packets sent again over this path
    copies: int = 0  # packets sent over this path that went over another one, too
    lost: int = 0  # datagrams that this path has lost
    limited_at: float = 0.0  # when window or pace last held a packet back; 0.0: never
    reported_at: float = 0.0  # when the last report of this path came; 0.0: never
    sent: int = 0  # octets of all datagrams, packets and messages, each with OUTER
    received: int = 0


class AdaptiveCounters(NamedTuple):
    """What happened to the packets of one connection since its beginning."""

    codel_dropped: int = 0  # dropped as they had waited for too long
    codel_marked: int = 0  # marked (ECN CE) for that instead
    overflowed: int = 0  # dropped as the queue was full
    thin: int = 0  # sent at once, as their flow was thin
    realtime: int = 0  # sent at once, as their class is realtime
    resent: int = 0
    resend_late: int = 0  # not sent again: they would have come too late
    resend_refused: int = 0  # not sent again: the limit of resends was reached
    copies_sent: int = 0
    copies_dropped: int = 0  # copies that arrived second
    late: int = 0  # delivered after their gap was given up
    skipped: int = 0  # numbers that were given up
    held: int = 0  # packets that wait for their order now
    holds: tuple[int, ...] = ()  # packets held for < 1 ms, < 2 ms, < 4 ms, ... ; the last has all the longer ones


def mean_hold(holds: tuple[int, ...], arrived: int) -> float:
    """Return the seconds for which a packet was held on average, to a factor of two; `arrived`: how many packets came,
    of which those in `holds` were held at all. 0.0: none came."""
    total = sum(count * 0.00075 * (1 << octave) for octave, count in enumerate(holds))  # the middle of each octave
    return total / max(arrived, sum(holds), 1)


def quantile(holds: tuple[int, ...], share: float) -> float:
    """Return the seconds below which `share` (0 .. 1) of the held packets were held, to a factor of two; 0.0: none."""
    wanted = share * sum(holds)
    seen = 0
    for octave, count in enumerate(holds):
        seen += count
        if count and seen >= wanted:
            return 0.001 * (1 << octave)
    return 0.0

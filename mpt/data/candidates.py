"""Streams that may take the place of the present one: a restarted peer, the far side of a burst of loss, a forger.

A packet whose number does not fit the present stream is a *stray*. It is a vote for a candidate stream. The rules:

- Two strays belong to one candidate if their numbers lie no more than `window` apart.
- A candidate takes over with its second packet or a later one, if it has brought more than the present stream since it
  began, and if one of these holds: the present stream is silent; the candidate lies as far ahead as a burst of loss
  leads; it has lasted for PERIOD and has brought MAJORITY times as much as the present stream. If it has lasted for
  PERIOD and has brought less, its count starts again. So both are counted over the same time, and a candidate with
  fewer packets never takes over from a live stream.
- The last packet of each candidate is kept, for `max_delay` at most. If the present stream brought nothing in that
  time, the packet is delivered, and the stream does not move: the lone first packet of a restarted peer arrives.
  Otherwise the packet is dropped.
- A candidate that brings nothing for AGE is forgotten.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

from mpt.data.counters import Reason
from mpt.wire.serial import ahead

CANDIDATES: Final = 4  # so that a forger cannot hide a restarted peer by alternating with it
PERIOD: Final = 1.0  # s
MAJORITY: Final = 1.25  # more than duplicates and late packets bring by accident
AGE: Final = 10.0  # s beyond max_delay


class Stray(NamedTuple):
    """A packet whose number does not fit. `brought`: how many packets the present stream had brought by then."""

    sequence: int
    packet: bytes
    path: Hashable
    arrived: float
    brought: int


class _Candidate:
    """One candidate stream: its last packet, whether that packet is still kept, and its votes since `began`."""

    __slots__ = ("began", "brought_before", "is_kept", "last", "votes")

    def __init__(self, first: Stray) -> None:
        self.last = first
        self.is_kept = True
        self.start_count(first)

    def start_count(self, stray: Stray) -> None:
        self.votes = 1
        self.began = stray.arrived
        self.brought_before = stray.brought


class Candidates:
    """The candidate streams of one connection. `dropped` counts by reason: "stray", "duplicate", "late"."""

    __slots__ = ("_candidates", "_dropped", "_max_delay", "_window")

    def __init__(self, window: int, max_delay: float, dropped: dict[Reason, int]) -> None:
        self._window = window
        self._max_delay = max_delay
        self._dropped = dropped
        self._candidates: list[_Candidate] = []  # the longest silent one first

    @property
    def kept(self) -> int:
        """Return how many packets are kept."""
        return sum(candidate.is_kept for candidate in self._candidates)

    def arrive(self, stray: Stray, gives_way: bool) -> list[Stray]:
        """Take a stray. If a candidate takes over, return the packets with which the stream goes on, in order; else
        nothing.

        `gives_way`: the present stream is silent, or the stray lies as far ahead as a burst of loss leads.
        """
        self._forget_old(stray.arrived)
        candidate = self._candidate_of(stray.sequence)
        if candidate is None:
            self._make_room()
            self._candidates.append(_Candidate(stray))
            return []
        distance = ahead(stray.sequence, candidate.last.sequence)
        if distance == 0 or (distance < 0 and not candidate.is_kept):  # what follows it has been delivered
            self._dropped[Reason.LATE if distance else Reason.DUPLICATE] += 1
            return []
        candidate.votes += 1
        if self._takes_over(candidate, stray, gives_way):
            kept = [candidate.last] if candidate.is_kept else []
            candidate.is_kept = False
            self.clear()
            return [*kept, stray] if distance > 0 else [stray, *kept]
        self._drop(candidate)
        candidate.last, candidate.is_kept = stray, True
        self._candidates.append(candidate)
        return []

    def _forget_old(self, now: float) -> None:
        while self._candidates and now - self._candidates[0].last.arrived > self._max_delay + AGE:
            self._drop(self._candidates[0])

    def _candidate_of(self, sequence: int) -> _Candidate | None:
        for candidate in self._candidates:
            if abs(ahead(sequence, candidate.last.sequence)) <= self._window:
                return candidate
        return None

    def _make_room(self) -> None:
        """Drop one candidate if there is no room for another: the oldest with the fewest votes."""
        if len(self._candidates) == CANDIDATES:
            self._drop(min(self._candidates, key=lambda candidate: candidate.votes))

    def _takes_over(self, candidate: _Candidate, stray: Stray, gives_way: bool) -> bool:
        """Return whether `candidate` has won with `stray`; if it has lost, its count starts again."""
        rival = stray.brought - candidate.brought_before
        if gives_way and candidate.votes > rival:
            return True
        if stray.arrived - candidate.began < PERIOD:
            return False
        if candidate.votes > MAJORITY * rival:
            return True
        candidate.start_count(stray)
        return False

    def _drop(self, candidate: _Candidate) -> None:
        """Take `candidate` out, and drop its kept packet."""
        self._candidates.remove(candidate)
        self._dropped[Reason.STRAY] += candidate.is_kept

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` must be called next; None while no packet is kept."""
        times = (candidate.last.arrived for candidate in self._candidates if candidate.is_kept)
        first = min(times, default=None)
        return None if first is None else first + self._max_delay

    def deadline_reached(self, now: float, brought: int) -> list[bytes]:
        """Take out the packets that were kept long enough; return the ones to deliver, drop the others."""
        delivery: list[bytes] = []
        for candidate in self._candidates:
            if candidate.is_kept and candidate.last.arrived + self._max_delay <= now:
                candidate.is_kept = False
                if candidate.last.brought == brought:
                    delivery.append(candidate.last.packet)
                else:
                    self._dropped[Reason.STRAY] += 1
        return delivery

    def clear(self) -> None:
        """Forget all candidates, and drop their kept packets."""
        while self._candidates:
            self._drop(self._candidates[-1])

"""What the packets of a connection meet beside its lines: the queue before them and the order behind them."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from mpt.daemon.connection import Connection
from mpt.daemon.tunnel import Tunnel
from mpt.data.datapath import DataPath
from mpt.limits import mean_hold, quantile
from mpt.local.history import History, Inside, Sample


class Within:
    """The inside of one connection, second by second."""

    __slots__ = ("_arrived", "_holds", "history", "sample")

    def __init__(self, history: History[Inside]) -> None:
        self.history = history
        self.sample: Inside | None = None
        self._holds: tuple[int, ...] | None = None  # None: not looked at yet
        self._arrived = 0

    def look(
        self, tunnel: Tunnel, connection: Connection, arrived: int, samples: Sequence[Sample], held: int, now: float
    ) -> None:
        """Take the sample of this second. `arrived`: packets that ever came; `samples`: of the paths; `held`: packets
        that wait for their order in the whole tunnel."""
        if connection.adaptation is None or tunnel.datapath is None:
            self._keep(Inside(waiting=held))
            return
        counted = tunnel.datapath.adaptive_counters(connection.config.name)
        before, self._holds = self._holds, counted.holds
        arrived, self._arrived = arrived - self._arrived, arrived
        if before is not None:
            holds = _less(counted.holds, before)
            trip = _round_trip(connection, samples)
            if trip is not None:
                trip += _queue(tunnel.datapath, connection, now) + mean_hold(holds, arrived)
            held_for = (quantile(holds, 0.5), quantile(holds, 0.99)) if any(holds) else (nan, nan)
            self._keep(Inside(nan if trip is None else trip, counted.held, *held_for))

    def _keep(self, sample: Inside) -> None:
        self.sample = sample
        self.history.add(sample)


def _round_trip(connection: Connection, samples: Sequence[Sample]) -> float | None:
    """Return the round trip of the lines: half by what each has sent in this second, half by what each brought."""
    pairs = zip(connection.paths, samples, strict=True)
    known = [(path.round_trip, sample) for path, sample in pairs if path.round_trip is not None]
    if not known:
        return None
    sent = _mean([(trip, sample.out_rate) for trip, sample in known])
    return (sent + _mean([(trip, sample.in_rate) for trip, sample in known])) / 2


def _mean(trips: Sequence[tuple[float, float]]) -> float:
    """Return the mean of the first numbers by the weights behind them; the least, if there is no weight."""
    total = sum(weight for _, weight in trips)
    return sum(trip * weight for trip, weight in trips) / total if total else min(trip for trip, _ in trips)


def _queue(datapath: DataPath, connection: Connection, now: float) -> float:
    """Return how long a packet waits in our queue, by what the lines carry; 0.0 also if nobody knows that."""
    octets = datapath.flight(connection.paths[0].key).queue_octets
    if not octets or connection.adaptation is None:
        return 0.0
    carried = sum(view.rate or 0.0 for view in connection.adaptation.views(now).values() if view.state == "active")
    return octets / carried if carried else 0.0


def _less(counts: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """Return what came since `before`; a new data path counts from zero."""
    if len(counts) != len(before) or any(now < then for now, then in zip(counts, before, strict=True)):
        return counts
    return tuple(now - then for now, then in zip(counts, before, strict=True))

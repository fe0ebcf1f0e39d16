"""What `mpt show status` says of adaptive connections (docs/commands.md): plain values by their names.

Rates are octets a second, times seconds, shares and losses 0 .. 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from mpt.control.pathviews import PathView
from mpt.control.quota import QuotaMeter
from mpt.daemon.connection import Connection
from mpt.daemon.path import Path
from mpt.daemon.sealedpath import SealedPath
from mpt.daemon.tunnel import Tunnel
from mpt.limits import AdaptiveCounters, FlightMeasures, quantile


def connection_members(tunnel: Tunnel, connection: Connection) -> dict[str, Any] | None:
    """Return the members of a connection, None for one that does not adapt."""
    if connection.adaptation is None:
        return None
    datapath, config = tunnel.datapath, connection.config
    counters = datapath.adaptive_counters(config.name) if datapath is not None else AdaptiveCounters()
    plain = counters._asdict()
    holds = plain.pop("holds")
    queue = _flight(tunnel, connection.paths[0].key)
    return {
        "peer_adapts": connection.adaptation.peer_adapts,
        "delay_budget": config.delay_budget / 1000,
        "hold": connection.adaptation.order.hold,
        "plays_out": connection.adaptation.order.playout is not None,
        "queue_packets": queue.queue_packets,
        "queue_octets": queue.queue_octets,
        **plain,
        "hold_p50": quantile(holds, 0.5),
        "hold_p99": quantile(holds, 0.99),
    }


def path_members(
    tunnel: Tunnel, connection: Connection, path: Path, views: Mapping[Hashable, PathView], now: float
) -> dict[str, Any] | None:
    """Return the members of a path; `views` are those of its connection's adaptation."""
    view = views.get(path.key)
    if not isinstance(path, SealedPath) or view is None:
        return None
    flight = _flight(tunnel, path.key)
    limits = tunnel.adaptations.limits_of(path.key)
    return {
        "state": view.state,
        "reason": view.reason,
        "since": now - view.since,
        "cost": path.cost,
        "capacity": view.rate,
        "rate": view.rate,  # the older name of capacity
        "delay": view.delay,
        "base": view.base,
        "queue": view.queue,
        "round_trip": view.rtt,
        "loss_load": view.loss_load,
        "loss_radio": view.loss_radio,
        "share": view.share,
        "window": limits.window,
        "in_flight": flight.octets,
        "lost": flight.lost,
        "resent": flight.resent,
        "copies": flight.copies,
        "octets_sent": flight.sent,
        "octets_received": flight.received,
        "quota": _quota(path.quota) if path.quota is not None and path.config.quota is not None else None,
    }


def _flight(tunnel: Tunnel, path: Hashable) -> FlightMeasures:
    return tunnel.datapath.flight(path) if tunnel.datapath is not None else FlightMeasures()


def _quota(meter: QuotaMeter) -> dict[str, Any]:
    return {
        "octets": meter.quota.octets,
        "period": meter.quota.period,
        "used": meter.used.octets,
        "begun": str(meter.used.begun),
        "ends": str(meter.ends),
    }

"""Limits and measures of adaptive connections, between the values of mpt.limits and the structures of the engine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from mpt.accel._native import ffi
from mpt.data.pathtable import Adaptive, ClassRule
from mpt.limits import AdaptiveCounters, FlightMeasures, OrderLimits, PathLimits, Report

_COUNTED = AdaptiveCounters._fields[:-1]


def adaptive_fields(adaptive: Adaptive | None, keep: list[Any]) -> dict[str, Any]:
    """Return the fields of struct mpt_connection_row; what they point to is put into `keep`."""
    if adaptive is None:
        return {}
    return {
        "is_adaptive": True,
        "sends": adaptive.sends,
        "ordered": adaptive.ordered,
        "queue_packets": adaptive.queue_packets,
        "thin": adaptive.thin,
        "target": adaptive.target,
        "interval": adaptive.interval,
        "classes": class_rules(adaptive.classes, keep),
        "class_count": len(adaptive.classes),
    }


def class_rules(rules: Sequence[ClassRule], keep: list[Any]) -> Any:
    """Return the structures of `rules`; they and what they point to are put into `keep`."""
    classes = ffi.new("struct mpt_class_rule[]", [_class_rule(rule, keep) for rule in rules])
    keep.append(classes)
    return classes


def _class_rule(rule: ClassRule, keep: list[Any]) -> dict[str, Any]:
    ranges = ffi.new("struct mpt_port_range[]", list(rule.ports))
    keep.append(ranges)
    return {
        "dscps": sum(1 << dscp for dscp in rule.dscps),
        "protocol": -1 if rule.protocol is None else rule.protocol,
        "ranges": ranges,
        "range_count": len(rule.ports),
        "is_realtime": rule.realtime,
        "copies": rule.copies,
    }


def path_limits(ids: Mapping[Hashable, int], limits: Mapping[Hashable, PathLimits]) -> Any:
    """Return the structures of the paths that have an id."""
    return ffi.new(
        "struct mpt_path_limits[]",
        [
            {
                "path": ids[path],
                "window": max(0, int(each.window)),
                "pace": each.pace,
                "delay": each.delay,
                "rate": each.rate,
                "slack": each.slack,
                "rto": each.rto,
                "is_live": each.is_live,
                "admits": each.admits,
                "shadow": each.shadow,
                "line": each.line,
            }
            for path, each in limits.items()
            if path in ids
        ],
    )


def order_limits(ids: Mapping[Hashable, int], orders: Mapping[Hashable, OrderLimits]) -> Any:
    """Return the structures of the connections that have an id."""
    return ffi.new(
        "struct mpt_order_limits[]",
        [
            {
                "connection": ids[connection],
                "hold": each.hold,
                "playout": -1 if each.playout is None else each.playout & 0xFFFF,
            }
            for connection, each in orders.items()
            if connection in ids
        ],
    )


def flight_measures(flight: Any) -> FlightMeasures:
    """Return what a struct mpt_flight says."""
    return FlightMeasures(
        octets=flight.octets,
        packets=flight.packets,
        oldest=flight.oldest if flight.packets else None,
        queue_octets=flight.queue_octets,
        queue_packets=flight.queue_packets,
        resent=flight.resent,
        copies=flight.copies,
        lost=flight.lost,
        limited_at=flight.limited_at,
        reported_at=flight.reported_at,
        sent=flight.sent,
        received=flight.received,
    )


def adaptive_counts(counted: Any) -> AdaptiveCounters:
    """Return what a struct mpt_adaptive_counters says."""
    return AdaptiveCounters(**{name: getattr(counted, name) for name in _COUNTED}, holds=tuple(counted.holds))


def report_event(path: Hashable, at: float, octets: Any) -> Report:
    """Return what a struct mpt_report says about a path."""
    told = ffi.new("struct mpt_report *")
    ffi.memmove(told, octets, ffi.sizeof("struct mpt_report"))
    return Report(
        path=path,
        at=at,
        clock=told.clock,
        packets=told.packets,
        octets=told.octets,
        acked=told.acked,
        lost=told.lost,
        least=told.least if told.least >= 0 else None,
        median=told.median if told.median >= 0 else None,
        rtt=told.rtt if told.rtt >= 0 else None,
        in_flight=told.in_flight,
        limited_at=told.limited_at,
        oldest=told.oldest if told.in_flight else None,
        settled_moved=bool(told.settled_moved),
    )

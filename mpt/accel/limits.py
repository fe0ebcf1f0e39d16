"""Limits and measures of adaptive connections, between the values of mpt.limits and the structures of the engine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from mpt.accel._native import ffi
from mpt.data import adaptive, adaptives, flowqueue, playout, receipts, repair, rooms
from mpt.data.pathtable import Adaptive, ClassRule
from mpt.limits import (
    START_LIMITS,
    START_ORDER,
    AdaptiveCounters,
    FlightMeasures,
    OrderLimits,
    PathLimits,
    Report,
)

# The constants of the rules, as fields of struct mpt_tuning.
ADAPTIVE_TUNING: Final = {
    "thin_period": flowqueue.THIN_PERIOD,
    "thick_time": flowqueue.THICK_TIME,
    "quantum": flowqueue.QUANTUM,
    "largest_packet": flowqueue.LARGEST_PACKET,
    "count_memory": flowqueue.COUNT_MEMORY,
    "sure": receipts.SURE,
    "sure_after": receipts.SURE_AFTER,
    "reports_told": receipts.TOLD,
    "told_for": receipts.TOLD_FOR,
    "soon": receipts.SOON,
    "pause": receipts.PAUSE,
    "short_pause": receipts.SHORT_PAUSE,
    "reports_many": receipts.MANY,
    "latest": receipts.LATEST,
    "silences": receipts.SILENCES,
    "silent": receipts.SILENT,
    "old_session": receipts.OLD_SESSION,
    "report_share": receipts.SHARE,
    "longest_hold": playout.LONGEST_HOLD,
    "longest_playout": playout.PLAYOUT,
    "far_ahead": playout.FAR,
    "excess": rooms.EXCESS,
    "excess_octets": rooms.EXCESS_OCTETS,
    "blocked": rooms.BLOCKED,
    "idle_news": adaptives.IDLE_NEWS,
    "tries": repair.TRIES,
    "too_late": repair.TOO_LATE,
    "repair_share": repair.SHARE,
    "repair_burst": repair.BURST,
    "patience": repair.PATIENCE,
    "copy_share": adaptive.COPY_SHARE,
    "usual": adaptive.USUAL,
    "start_window": START_LIMITS.window,
    "start_rate": START_LIMITS.rate,
    "start_rto": START_LIMITS.rto,
    "start_hold": START_ORDER.hold,
}
_COUNTED = AdaptiveCounters._fields[:-1]


def adaptive_fields(row: Adaptive | None, keep: list[Any]) -> dict[str, Any]:
    """Return the fields of struct mpt_connection_row; what they point to is put into `keep`."""
    if row is None:
        return {}
    return {
        "is_adaptive": True,
        "sends": row.sends,
        "ordered": row.ordered,
        "queue_packets": row.queue_packets,
        "thin": row.thin,
        "target": row.target,
        "interval": row.interval,
        "classes": class_rules(row.classes, keep),
        "class_count": len(row.classes),
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
        "copies": rule.copies or 0,
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
                "burst": each.burst,
                "delay": each.delay,
                "rate": each.rate,
                "slack": each.slack,
                "rto": each.rto,
                "is_live": each.is_live,
                "admits": each.admits,
                "shadow": each.shadow,
                "suspect": each.suspect,
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
                "acks": each.acks,
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
        suspect=bool(told.suspect),
    )

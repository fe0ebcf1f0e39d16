"""The status document as metrics for Prometheus: for the status port, and for ``mpt metrics``.

Needs ``prometheus_client`` (the extra "metrics"). Units are base units. There are as many time series as connections
times paths, and one for each reason to drop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from mpt.local.status import WORDS, ConnectionStatus, PathStatus, StatusDocument
from mpt.local.statustext import works
from mpt.model import Status

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
AT_ONCE: Final = 250  # samples: some 2 ms

_Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily
_NOT_WANTED: Final = (WORDS[Status.MANUAL_DOWN], WORDS[Status.DISABLED])
_ERRNO: Final = re.compile(r"(send|tun)_(e[a-z0-9]+|error)")  # the only reasons of an open list: by the kernel's error
_PATH: Final = ("connection", "path", "interface")

# name, help, kind, and the value of a path; None: unknown now, so there is no sample.
_OF_PATHS: Final[tuple[tuple[str, str, type[Any], Callable[[PathStatus], float | None]], ...]] = (
    ("mpt_path_up", "Whether the peer is heard over the path and wants it used", GaugeMetricFamily, lambda p: works(p)),
    (
        "mpt_path_enabled",
        "Whether the path is to work: it is neither taken down by hand nor disabled",
        GaugeMetricFamily,
        lambda p: p.status not in _NOT_WANTED,
    ),
    ("mpt_path_state_age_seconds", "How long the path has been in its state", GaugeMetricFamily, lambda p: p.since),
    ("mpt_path_keepalive_age_seconds", "Time since the peer was heard", GaugeMetricFamily, lambda p: p.heard_age),
    ("mpt_path_round_trip_seconds", "Round trip to the peer", GaugeMetricFamily, lambda p: p.round_trip),
    (
        "mpt_path_loss_ratio",
        "Share of the peer's keepalives that are lost, on an adaptive path of what was sent",
        GaugeMetricFamily,
        lambda p: None if p.loss is None else p.loss / 100,
    ),
    ("mpt_path_weight", "weight_out of the configuration", GaugeMetricFamily, lambda p: p.weight_out),
    ("mpt_path_sent_packets", "Inner packets sent", CounterMetricFamily, lambda p: p.packets_sent),
    ("mpt_path_sent_bytes", "Octets of inner packets sent", CounterMetricFamily, lambda p: p.bytes_sent),
    ("mpt_path_received_packets", "Inner packets received", CounterMetricFamily, lambda p: p.packets_received),
    ("mpt_path_received_bytes", "Octets of inner packets received", CounterMetricFamily, lambda p: p.bytes_received),
    ("mpt_path_send_drops", "Packets that could not be sent", CounterMetricFamily, lambda p: sum(p.drops.values())),
)
# the same of the members that an adaptive connection knows of a path
_OF_ADAPTIVE: Final = (
    ("mpt_path_capacity_bytes_per_second", "Rate that the line is believed to carry", "capacity"),
    ("mpt_path_rate_bytes_per_second", "The same, by its older name", "rate"),
    ("mpt_path_queue_seconds", "Queue on the line, in time", "queue"),
    ("mpt_path_loss_load_ratio", "Share lost by our own load", "loss_load"),
    ("mpt_path_loss_line_ratio", "Share lost by the line itself", "loss_radio"),
)


def exposition(document: StatusDocument) -> bytes:
    """Return all metrics of `document` in Prometheus's text format."""
    return b"".join(exposition_pieces(document))


def exposition_pieces(document: StatusDocument) -> Iterator[bytes]:
    """Return the same, AT_ONCE samples in a piece: the text of a server takes a while."""
    for family in _families(document):
        samples = family.samples
        for begin in range(0, max(len(samples), 1), AT_ONCE):
            family.samples = samples[begin : begin + AT_ONCE]
            text: bytes = generate_latest(_Registry(family))
            yield text if begin == 0 else b"".join(_lines_of_samples(text))


def _lines_of_samples(text: bytes) -> Iterator[bytes]:
    return (line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))


class _Registry(CollectorRegistry):
    """Has one family."""

    def __init__(self, family: _Family) -> None:
        super().__init__(auto_describe=False)
        self._family = family

    def collect(self) -> Iterator[_Family]:
        """Return it."""
        yield self._family


def _families(document: StatusDocument) -> Iterator[_Family]:
    """Return every metric of the document."""
    yield InfoMetricFamily("mpt", "The daemon", {"version": document.version})
    yield GaugeMetricFamily("mpt_uptime_seconds", "Time since the start of the daemon", document.uptime)
    yield from _tunnels(document)
    yield from _connections(document.connections)
    yield from _paths(document.connections)
    refused = CounterMetricFamily("mpt_refused_commands", "Refused command datagrams", labels=("reason",))
    for reason, count in document.control_dropped.items():
        refused.add_metric((reason,), count)
    yield refused
    handshakes = CounterMetricFamily(
        "mpt_dropped_handshakes", "Handshake datagrams that led to nothing", labels=("reason",)
    )
    for reason, count in document.handshakes_dropped.items():
        handshakes.add_metric((reason,), count)
    yield handshakes


def _tunnels(document: StatusDocument) -> Iterator[_Family]:
    read = CounterMetricFamily("mpt_tunnel_read_packets", "Packets that came out of the interface", labels=("tunnel",))
    delivered = CounterMetricFamily("mpt_tunnel_delivered_packets", "Packets handed to it", labels=("tunnel",))
    held = GaugeMetricFamily("mpt_tunnel_held_packets", "Packets that wait for their order", labels=("tunnel",))
    datagrams = CounterMetricFamily("mpt_tunnel_received_datagrams", "Datagrams received", labels=("tunnel",))
    drops = CounterMetricFamily("mpt_tunnel_drops", "Dropped packets", labels=("tunnel", "direction", "reason"))
    for tunnel in document.tunnels:
        read.add_metric((tunnel.name,), tunnel.packets_read)
        delivered.add_metric((tunnel.name,), tunnel.packets_delivered)
        held.add_metric((tunnel.name,), tunnel.packets_held)
        datagrams.add_metric((tunnel.name,), tunnel.datagrams_received)
        for direction, reasons in (("out", tunnel.egress_dropped), ("in", tunnel.ingress_dropped)):
            for reason, count in _closed(reasons, {"out": "send_error", "in": "tun_error"}[direction]).items():
                drops.add_metric((tunnel.name, direction, reason), count)
    yield from (read, delivered, held, datagrams, drops)


def _closed(reasons: Mapping[str, int], failed_call: str) -> Mapping[str, int]:
    """Return `reasons` as a closed list: all failed system calls are one reason, there from the start."""
    closed = {failed_call: 0}
    for reason, count in reasons.items():
        name = failed_call if _ERRNO.fullmatch(reason) else reason
        closed[name] = closed.get(name, 0) + count
    return closed


def _connections(connections: Iterable[ConnectionStatus]) -> Iterator[_Family]:
    paths = GaugeMetricFamily("mpt_connection_paths", "Paths of the connection", labels=("connection",))
    good = GaugeMetricFamily("mpt_connection_paths_up", "Those that work", labels=("connection",))
    age = GaugeMetricFamily("mpt_connection_keys_age_seconds", "Age of the keys; none: no keys", labels=("connection",))
    for each in connections:
        paths.add_metric((each.name,), len(each.paths))
        good.add_metric((each.name,), sum(map(works, each.paths)))
        if each.sealed is not None and each.sealed.keys_age is not None:
            age.add_metric((each.name,), each.sealed.keys_age)
    yield from (paths, good, age)


def _paths(connections: Iterable[ConnectionStatus]) -> Iterator[_Family]:
    every = [((each.name, path.name, path.interface), path) for each in connections for path in each.paths]
    for name, text, kind, value_of in _OF_PATHS:
        family = kind(name, text, labels=_PATH)
        for labels, path in every:
            if (value := value_of(path)) is not None:
                family.add_metric(labels, value)
        yield family
    for name, text, member in _OF_ADAPTIVE:
        family = GaugeMetricFamily(name, text, labels=_PATH)
        for labels, path in every:
            if path.adaptive is not None and path.adaptive.get(member) is not None:
                family.add_metric(labels, path.adaptive[member])
        yield family

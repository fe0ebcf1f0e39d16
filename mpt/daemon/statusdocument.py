"""The state of the running services as the document that `mpt show status` gives (`mpt.local.status`)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import lru_cache

from mpt import __version__
from mpt.config.steps import Steps
from mpt.daemon.adaptivestatus import connection_members, path_members
from mpt.daemon.connection import Connection
from mpt.daemon.histories import Histories
from mpt.daemon.inside import Within
from mpt.daemon.running import Running
from mpt.daemon.sealedpath import SealedPath
from mpt.daemon.tunnel import Tunnel
from mpt.data.counters import EGRESS_REASONS, Counters, PathCounters, Reason
from mpt.local.history import Sample, plain
from mpt.local.status import DOWN_AT_PEER, WORDS, ConnectionStatus, PathStatus, StatusDocument, TunnelStatus
from mpt.local.statustext import problems_of
from mpt.model import Address, Status


@lru_cache(maxsize=16384)
def _text(address: Address) -> str:
    """Return `address` as text, from memory because making it is slow."""
    return str(address)


def status_steps(
    running: Running,
    histories: Histories,
    now: float,
    uptime: float,
    refused: Mapping[str, int],
    handshakes: Mapping[str, int],
    only: Connection | None = None,
) -> Steps[StatusDocument]:
    """Return the whole state at `now`, in monotonic seconds, or soon after; `refused` counts command datagrams by
    reason, `handshakes` the handshake datagrams that led to nothing. Of the connections it has `only` one, if not None.
    """
    general = running.settings.general
    tunnels = [(tunnel, tunnel.counters()) for tunnel in running.tunnels]  # once each: it is a copy
    connections = []
    for tunnel, counters in tunnels:
        for connection in list(tunnel.connections.values()):
            if only in (None, connection) and connection.config.name in tunnel.connections:  # it may be gone meanwhile
                connections.append(_connection_status(tunnel, connection, counters.paths, histories, now))
                yield
    return StatusDocument(
        version=__version__,
        pid=os.getpid(),
        uptime=uptime,
        cmdport=general.cmdport_local,
        accept_remote=general.accept_remote,
        tunnels=[_tunnel_status(tunnel, counters) for tunnel, counters in tunnels],
        connections=connections,
        control_dropped=refused,
        handshakes_dropped=dict(handshakes),
        problems=problems_of(connections),
    )


# All reasons are shown from the start, so that whoever watches one does not wait for it to appear.
_NO_EGRESS_DROPS = dict.fromkeys(map(str, EGRESS_REASONS), 0)
_NO_INGRESS_DROPS = {str(reason): 0 for reason in Reason if reason not in EGRESS_REASONS}


def _tunnel_status(tunnel: Tunnel, counters: Counters) -> TunnelStatus:
    config = tunnel.config
    sealed = any(connection.config.is_sealed for connection in tunnel.connections.values())
    return TunnelStatus(
        name=config.name,
        mtu=tunnel.mtu,
        ipv4_addr=str(config.ipv4_addr) if config.ipv4_addr else None,
        ipv6_addr=str(config.ipv6_addr) if config.ipv6_addr else None,
        data_plane=tunnel.datapath_choice.name,
        offloads=sorted(tunnel.offloads()),
        packets_read=counters.packets_read,
        packets_delivered=counters.packets_delivered,
        packets_held=counters.packets_held,
        ecn_unexpected=counters.ecn_unexpected,
        datagrams_received=counters.datagrams_received,
        keepalives_received=counters.keepalives_received,
        egress_dropped={**_NO_EGRESS_DROPS, **counters.egress_dropped},
        ingress_dropped={**_NO_INGRESS_DROPS, **counters.ingress_dropped},
        sealing=tunnel.datapath_choice.sealing if sealed else None,
    )


def _connection_status(
    tunnel: Tunnel,
    connection: Connection,
    counters: Mapping[Hashable, PathCounters],
    histories: Histories,
    now: float,
) -> ConnectionStatus:
    config = connection.config
    samples = [histories.sample(path.key) for path in connection.paths]
    out_rate = sum(sample.out_rate for sample in samples if sample is not None)
    paths = [
        _path_status(connection, index, counters.get(path.key) or PathCounters(), sample, out_rate, now)
        for index, (path, sample) in enumerate(zip(connection.paths, samples, strict=True))
    ]
    if connection.adaptation is not None:
        views = connection.adaptation.views(now)
        members = [path_members(tunnel, connection, path, views, now) for path in connection.paths]
        paths = [
            replace(status, adaptive=each) if each is not None else status
            for status, each in zip(paths, members, strict=True)
        ]
    return ConnectionStatus(
        name=config.name,
        file=config.file.name if config.file is not None else None,
        tunnel=tunnel.config.name,
        local_address=_text(config.ip_local),
        remote_address=_text(config.ip_remote),
        local_port=config.local_port,
        remote_port=config.remote_port,
        remote_cmd_port=config.remote_cmd_port,
        permission=int(config.permission),
        auth_type=int(config.auth_type),
        reorder_window=config.reorder_window,
        max_buffdelay_msec=config.max_buffdelay_msec,
        dscp="copy" if config.dscp is None else config.dscp,
        ecn="normal" if config.ecn else "compatibility",
        paths=paths,
        report_failure=connection.reporter.failure,
        sealed=connection.link.status(now) if connection.link is not None else None,
        adaptive=connection_members(tunnel, connection),
        inside=_inside(histories.within(config.name)),
    )


def _inside(within: Within | None) -> Mapping[str, float | None] | None:
    if within is None or within.sample is None:
        return None
    return {name: plain(value) for name, value in within.sample._asdict().items()}


def _path_status(
    connection: Connection, index: int, counters: PathCounters, sample: Sample | None, out_rate: float, now: float
) -> PathStatus:
    """Return the status of a path; `out_rate`: of the whole connection."""
    path = connection.paths[index]
    config = path.config
    gateway = connection.routes.gateway(index)
    state, reason = connection.state(index, counters.last_received)
    loss = path.loss()
    heard = max(path.heard_at or 0.0, counters.last_received)
    heard_age = now - heard if heard else None
    keepalive_age = now - path.heard_at if path.heard_at is not None else None
    return PathStatus(
        name=f"path_{index}",
        status=WORDS[Status.DOWN] if state == DOWN_AT_PEER else state,
        interface=config.interface_name,
        local_address=_text(path.port.endpoint.address) if path.port is not None else "-",
        public_address=_text(connection.public_address(path)),
        remote_address=path.peer_text if isinstance(path, SealedPath) else _text(config.remote_ipaddr),
        weight_out=config.weight_out,
        weight_in=config.weight_in,
        keepalive_time=config.keepalive_time,
        dead_time=config.dead_time,
        keepalive_age=heard_age if isinstance(path, SealedPath) else keepalive_age,
        packets_sent=counters.packets_sent,
        bytes_sent=counters.bytes_sent,
        packets_received=counters.packets_received,
        bytes_received=counters.bytes_received,
        peer_says_down=connection.reporter.peer_down(index),
        drops=dict(counters.send_errors),
        gateway=_text(gateway) if gateway is not None else None,
        no_route=connection.routes.missing(index),
        reason=None if state == WORDS[Status.OK] else reason,
        loss=None if loss is None else round(100 * loss, 1),
        cause=path.cause,
        since=round(now - path.since, 3),
        state=state,
        heard_age=heard_age,
        out_rate=round(sample.out_rate, 1) if sample is not None else None,
        in_rate=round(sample.in_rate, 1) if sample is not None else None,
        share=sample.out_rate / out_rate if sample is not None and out_rate else None,
        round_trip=path.round_trip,
    )

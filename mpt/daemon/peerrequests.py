"""Answers the requests of peers for changes (guide 2.6.2 accept_remote, 2.6.3.1 permission)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from mpt.config.clients import TEMPLATE
from mpt.config.directory import load_connection
from mpt.control import merge
from mpt.control.admission import LOG_LINES, Bucket
from mpt.control.responder import ConnectionCreate, PathStatusChange, concerned_path
from mpt.daemon.machine import Machine
from mpt.daemon.running import Running
from mpt.errors import ConfigError, HostError
from mpt.model import Address, ConnectionConfig, GeneralConfig, TunnelConfig
from mpt.wire.command import Result

log = Logger()

PEERS_AGE: Final = 1.0  # s after which the outer addresses of the peers are collected again


class Template:
    """conf.template (guide 4.7), read again only when the file, or the configuration around it, has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[object, ...] | None = None
        self._config: ConnectionConfig | None = None

    def config(self, general: GeneralConfig, tunnels: tuple[TunnelConfig, ...]) -> ConnectionConfig | None:
        """Return the template as it is now; None while there is no good file. An error is logged once."""
        try:
            status = os.stat(self._path)
        except OSError:
            self._seen = None
            return None
        seen = (status.st_mtime_ns, status.st_ino, status.st_size, general, tunnels)
        if seen != self._seen:
            self._seen = seen
            self._config = self._load(general, tunnels)
        return self._config

    def _load(self, general: GeneralConfig, tunnels: tuple[TunnelConfig, ...]) -> ConnectionConfig | None:
        try:
            return load_connection(self._path, general, tunnels)[0]
        except ConfigError as error:
            log.error("no peer can create a connection: {error}", error=error)
            return None


class PeerRequests:
    """The daemon as the responder needs it (`mpt.control.responder.Host`)."""

    def __init__(self, machine: Machine, running: Running) -> None:
        self._machine = machine
        self._running = running
        self._template = Template(running.connections_directory / TEMPLATE)
        self._log_lines = Bucket(LOG_LINES, machine.now())
        self._peers: frozenset[Address] = frozenset()
        self._has_only_sealed = False
        self._peers_until = float("-inf")

    @property
    def accept_remote(self) -> bool:
        """Return whether peers may make connections here."""
        return self._running.settings.general.accept_remote

    @property
    def allow_default_key(self) -> bool:
        """Return whether the key that is built into every MPT program is good enough."""
        return self._running.settings.general.allow_default_key

    def is_silent(self) -> bool:
        """Return whether all connections are sealed, or were a second ago, and peers may make none."""
        self._look()
        return self._has_only_sealed and not self.accept_remote

    def is_peer(self, address: Address) -> bool:
        """Return whether a path leads to `address`, or did a second ago: it must be cheap for every datagram."""
        self._look()
        return address in self._peers

    def _look(self) -> None:
        now = self._machine.now()
        if now >= self._peers_until:
            connections = self._running.connections()
            paths = (path for each in connections for path in each.paths)
            self._peers = frozenset(path.config.remote_ipaddr for path in paths)
            self._has_only_sealed = bool(connections) and all(each.config.is_sealed for each in connections)
            self._peers_until = now + PEERS_AGE

    def connection(self, own: Address, peer: Address) -> ConnectionConfig | None:
        """Return the configuration of the plain connection between these tunnel addresses, if it runs.

        The peer of a sealed one speaks inside its session or not at all.
        """
        found = self._running.find((own, peer))
        return found.config if found is not None and not found.config.is_sealed else None

    def create_key(self) -> str | None:
        """Return the key of the template, if there is a template."""
        template = self._read_template()
        return template.auth_key if template is not None else None

    def path_status(self, change: PathStatusChange) -> int:
        """Note that the peer says a path is up or down; return a result of the protocol."""
        connection = self._running.find(change.connection.tunnel_pair)
        if connection is None or connection.config.is_sealed:
            return Result.NO_CONNECTION
        index = concerned_path(change, connection.found_addresses())
        if index is not None:
            connection.learn_address(index, change.own)
            connection.peer_says(index, change.up)
        return Result.DONE

    def create(self, request: ConnectionCreate) -> tuple[int, str]:
        """Make the connection that the peer asks for; return a result of the protocol and the text of the answer."""
        template = self._read_template()
        if template is None:
            return Result.NO_CONNECTION, ""
        runs = self._running.config
        try:
            created = merge.created_connection(
                template,
                merge.read_peer_side(request.text),
                request.peer,
                self._running.connections_directory,
                runs.tunnel_of(template),
                merge.needed_networks(runs.connections, self._machine.netlink.snapshot().values()),
                [each.name for each in runs.connections],
            )
            connection = self._running.add(created)
        except (merge.MergeError, HostError) as error:
            if self._log_lines.take(LOG_LINES, self._machine.now()):
                log.warn("{peer} wanted to create a connection: {error}", peer=request.source[0], error=error)
            return (error.result if isinstance(error, merge.MergeError) else Result.NO_PATH), ""
        log.info("{peer} has created the connection {name}", peer=request.source[0], name=created.name)
        return Result.DONE, connection.text_for_peer(runs.general.cmdport_local, request.reply_limit)

    def _read_template(self) -> ConnectionConfig | None:
        runs = self._running
        return self._template.config(runs.settings.general, tuple(tunnel.config for tunnel in runs.tunnels))

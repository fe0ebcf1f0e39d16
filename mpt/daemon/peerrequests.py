"""What this daemon answers to peers that want to change something (guide 2.6.2 accept_remote, 2.6.3.1 permission)."""

from __future__ import annotations

from twisted.logger import Logger

from mpt.config.directory import load_connection
from mpt.control import merge
from mpt.control.responder import ConnectionCreate, PathStatusChange, concerned_paths
from mpt.daemon.publicaddress import PublicAddresses
from mpt.daemon.running import Running
from mpt.errors import ConfigError, HostError
from mpt.model import Address, ConnectionConfig
from mpt.wire.command import Result

log = Logger()

TEMPLATE = "conf.template"  # guide 4.7


class PeerRequests:
    """The responder's view of the daemon (`mpt.control.responder.Policy`)."""

    def __init__(self, running: Running, public_addresses: PublicAddresses) -> None:
        self._running = running
        self._public_addresses = public_addresses

    @property
    def accept_remote(self) -> bool:
        return self._running.settings.general.accept_remote

    @property
    def allow_default_key(self) -> bool:
        return self._running.settings.general.allow_default_key

    def connection(self, own: Address, peer: Address) -> ConnectionConfig | None:
        found = self._running.find((own, peer))
        return found.config if found is not None else None

    def create_key(self) -> str | None:
        template = self._template()
        return template.auth_key if template is not None else None

    def path_status(self, change: PathStatusChange) -> int:
        connection = self._running.find(change.connection.ends)
        if connection is None:
            return Result.NO_CONNECTION
        for index in concerned_paths(change):
            connection.peer_says(index, change.up)
            if connection.paths[index].config.public_ipaddr.is_unspecified:
                self._public_addresses.learn(connection.paths[index].key, change.own)
        return Result.DONE

    def create(self, request: ConnectionCreate) -> tuple[int, str]:
        template = self._template()
        if template is None:
            return Result.NO_CONNECTION, ""
        try:
            peer = merge.read_peer_side(request.text)
            taken = [each.config.name for each in self._running.connections()]
            created = merge.created_connection(template, peer, request.peer, self._running.connections_directory, taken)
            connection = self._running.add(created)
        except merge.MergeError as error:
            log.warn("{peer} wanted to create a connection: {error}", peer=request.source[0], error=error)
            return error.result, ""
        except HostError as error:
            log.error("{peer} wanted to create a connection: {error}", peer=request.source[0], error=error)
            return Result.NO_PATH, ""
        log.info("{peer} has created the connection {name}", peer=request.source[0], name=created.name)
        return Result.DONE, connection.text_for_peer(self._running.settings.general.cmdport_local, request.reply_limit)

    def _template(self) -> ConnectionConfig | None:
        """conf.template as it is now; nothing can be created without a good one."""
        path = self._running.connections_directory / TEMPLATE
        if not path.exists():
            return None
        try:
            template, _ = load_connection(path, self._running.settings.general, self._running.config.tunnels)
        except ConfigError as error:
            log.error("{error}", error=error)
            return None
        return template

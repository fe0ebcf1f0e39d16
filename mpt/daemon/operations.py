"""What the commands of guide chapter 4 do to the running daemon (`mpt.local.commands.Operations`).

A file is named without its directory. What a command says it has done, it has done; failures are raised and change
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mpt import __version__
from mpt.config import writer
from mpt.config.directory import load_connection, load_directory
from mpt.control import merge
from mpt.control.initiator import Outcome, create_request
from mpt.daemon.connection import Connection
from mpt.daemon.path import Path
from mpt.daemon.peerport import Peer, Way
from mpt.daemon.peerrequests import describe
from mpt.daemon.statusdocument import connection_statuses, tunnel_status
from mpt.errors import ConfigError, HostError, MptError
from mpt.local.commands import PeerRefusedError, ProgressReport, UnknownFileError
from mpt.local.status import StatusDocument
from mpt.model import Address, ConnectionConfig, InterfaceAddress, Status
from mpt.wire.command import TEXT_FOR_C

if TYPE_CHECKING:
    from mpt.daemon.root import Root

log = Logger()


class DaemonOperations:
    """The commands, carried out on `root`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._started_at = 0.0
        self._on_disk: dict[FilePath, ConnectionConfig] = {}  # as last read or written, to see what has changed there
        self._taken: dict[str, set[InterfaceAddress]] = {}  # what paths had of interfaces that we have taken down

    def started(self) -> None:
        """The daemon runs; what it runs is what its files say."""
        self._started_at = self._root.machine.now()
        self._on_disk = {each.file: each for each in self._root.config.connections if each.file is not None}

    # --- the machine -------------------------------------------------------------------------------------------------

    async def address(
        self, add: bool, address: IPv4Interface | IPv6Interface, interface: str, progress: ProgressReport
    ) -> str:
        """Guide 4.1."""
        netlink = self._root.machine.netlink
        done = netlink.add_address(interface, address) if add else netlink.delete_address(interface, address)
        self._root.interfaces_changed(netlink.snapshot())
        if add:
            return f"{address} {'added to' if done else 'was already on'} {interface}"
        return f"{address} {'deleted from' if done else 'was not on'} {interface}"

    async def interface(self, interface: str, up: bool, progress: ProgressReport) -> str:
        """Guide 4.2: the link, and with it its paths and routes. The peers are told.

        Linux takes the IPv6 addresses from a link that goes down. Those that are configured for paths return with it.
        """
        netlink = self._root.machine.netlink
        concerned = [
            path for each in self._root.connections() for path in each.paths if path.config.interface_name == interface
        ]
        before = netlink.snapshot().get(interface)
        if before is not None and not up:
            wanted = {path.config.private_ipaddr or path.config.public_ipaddr for path in concerned}
            self._taken.setdefault(interface, set()).update(
                each for each in before.addresses if each.version == 6 and each.ip in wanted
            )
        netlink.set_link(interface, up)
        for address in self._taken.pop(interface, ()) if up else ():
            netlink.add_address(interface, address)
        self._root.interfaces_changed(netlink.snapshot())
        paths = ", ".join(f"path_{path.key[1]} of {path.key[0]} is {path.status.name}" for path in concerned)
        return f"{interface} is {'up' if up else 'down'}" + (f"; {paths}" if paths else "; no path uses it")

    async def path(self, up: bool, source: Address, destination: Address, progress: ProgressReport) -> str:
        """Take every path between two outer addresses up or down, and tell the peers."""
        concerned = [
            (connection, index)
            for connection in self._root.connections()
            for index, path in enumerate(connection.paths)
            if path.config.remote_ipaddr == destination and source in _own_addresses(connection, path)
        ]
        if not concerned:
            known = ", ".join(
                sorted(
                    {
                        f"{connection.public_address(path)} {path.config.remote_ipaddr}"
                        for connection in self._root.connections()
                        for path in connection.paths
                    }
                )
            )
            raise HostError(f"there is no path from {source} to {destination}; there are: {known or 'none'}")
        said: list[str] = []
        for connection, index in concerned:
            told = connection.switch(index, up)
            path = connection.paths[index]
            text = f"path_{index} of {connection.config.name} is {path.status.name}"
            if told is not None:
                progress(f"{text}; telling the peer")
                outcome: Outcome = await told
                text += "; the peer knows" if outcome.ok else f"; the peer was not told: {outcome.explanation()}"
            said.append(text)
        return "\n".join(said)

    # --- the files ---------------------------------------------------------------------------------------------------

    async def reload(self, file: str | None, progress: ProgressReport) -> str:
        """Guide 4.3: new and changed connections are started anew, what did not change is not touched."""
        wanted = self._read_all() if file is None else (self._read_one(file),)
        new, changed, same = [], [], 0
        for config in wanted:
            running = self._running(config)
            if running is None:
                self._root.add_connection(config)
                new.append(config.name)
            elif config.file is not None and self._on_disk.get(config.file) == config:
                same += 1
            else:
                self._replace(running, config)
                changed.append(config.name)
            if config.file is not None:
                self._on_disk[config.file] = config
        told = [f"{kind}: {', '.join(names)}" for kind, names in (("new", new), ("changed", changed)) if names]
        return "; ".join([*told, f"{same} unchanged"])

    async def restart(self, file: str | None, progress: ProgressReport) -> str:
        """Guide 4.4: stop and start as configured; a path that was taken down by hand stays down."""
        concerned = self._root.connections() if file is None else self._of_file(file)
        for connection in concerned:
            self._replace(connection, connection.config, _down_by_hand(connection))
        return "restarted: " + (", ".join(each.config.name for each in concerned) or "none, there is no connection")

    async def delete(self, file: str, progress: ProgressReport) -> str:
        """Guide 4.5: stop the connections of a file, and rename it so that it is not loaded again."""
        path = self._directory / file
        had_file = path.exists()
        concerned = self._of_file(file, missing_is_error=not had_file)
        disabled = path.with_name(path.name + ".disabled")
        try:
            if had_file:
                os.replace(path, disabled)
        except OSError as error:
            raise ConfigError(f"{path} cannot be renamed: {error.strerror}") from error
        for connection in concerned:
            self._root.remove_connection(connection)
        self._on_disk.pop(path, None)
        names = ", ".join(each.config.name for each in concerned) or "no running connection"
        return f"deleted: {names}" + (f"; the file is now {disabled.name}" if had_file else "; it was in no file")

    async def save(self, file: str | None, progress: ProgressReport) -> str:
        """Guide 4.6: write what was changed at run time, the states of the paths too."""
        concerned = self._root.connections() if file is None else self._of_file(file)
        written = []
        for connection in concerned:
            path = connection.config.file or self._directory / merge.file_name(connection.config.ip_remote)
            statuses = [each.status for each in connection.paths]
            if writer.save(path, connection.config, statuses, self._root.config.general.cmdport_local):
                written.append(path.name)
            general, tunnels = self._root.config.general, self._root.config.tunnels
            self._on_disk[path], _ = load_connection(path, general, tunnels)
        return f"saved: {', '.join(written)}" if written else "nothing has changed since the files were written"

    # --- the peer ----------------------------------------------------------------------------------------------------

    async def create(self, file: str, progress: ProgressReport) -> str:
        """Guide 4.7: let the peer create its side of the connection in `file`, and join the two."""
        running = [each for each in self._root.connections() if _file_name(each) == file]
        if not running:
            config = self._read_one(file)
            running = [self._root.add_connection(config)]
            self._on_disk[self._directory / file] = config
        (connection,) = running
        path = _create_path(connection)
        general = self._root.config.general
        request = create_request(
            connection.config, describe(connection, general.cmdport_local, TEXT_FOR_C), general.allow_default_key
        )
        peer = Peer(path.config.remote_ipaddr, connection.config.remote_cmd_port)
        progress(f"asking {peer.address} to create {connection.config.name}")
        ended: Deferred[Any] = Deferred()
        self._root.commands.begin(request, peer, _way(path), ended.callback)
        outcome: Outcome = await ended
        if not outcome.ok:
            raise PeerRefusedError(outcome.result, outcome.explanation())
        if connection not in self._root.connections():
            raise HostError(
                f"{peer.address} has created its side, but here {connection.config.name} was deleted or started anew "
                "meanwhile: delete it there and create it again"
            )
        joined = merge.joined_connection(connection.config, merge.read_peer_side(outcome.text))
        self._replace(connection, joined)
        return f"{joined.name} is created at {peer.address}; mpt save on both sides keeps it"

    def status(self) -> StatusDocument:
        """Everything that `mpt show status` shows."""
        root = self._root
        return StatusDocument(
            version=__version__,
            pid=os.getpid(),
            uptime=root.machine.now() - self._started_at,
            cmdport=root.config.general.cmdport_local,
            accept_remote=root.config.general.accept_remote,
            tunnels=[tunnel_status(tunnel) for tunnel in root.tunnels],
            connections=[each for tunnel in root.tunnels for each in connection_statuses(tunnel, root.machine.now())],
            control_dropped=root.commands.counters,
        )

    # --- details -----------------------------------------------------------------------------------------------------

    @property
    def _directory(self) -> FilePath:
        return self._root.config.directory / "connections"

    def _read_all(self) -> tuple[ConnectionConfig, ...]:
        """All files; one that is bad keeps everything as it is. Of interface.conf, what can change at run time."""
        config = load_directory(self._root.config.directory).config
        running = self._root.config
        if config.tunnels != running.tunnels or _fixed(config) != _fixed(running):
            raise ConfigError(
                "interface.conf has changed in what only a restart of mptsrv can change (tunnels, cmdport_local or "
                "control_socket): nothing was reloaded"
            )
        self._root.config = replace(running, general=config.general)
        return config.connections

    def _read_one(self, file: str) -> ConnectionConfig:
        path = self._directory / file
        if not path.exists():
            raise UnknownFileError(f"there is no {path}")
        general, tunnels = self._root.config.general, self._root.config.tunnels
        others = [each.config for each in self._root.connections() if _file_name(each) != file]
        config, _ = load_connection(path, general, tunnels, others)
        return config

    def _running(self, config: ConnectionConfig) -> Connection | None:
        """The connection that runs from the same file, or between the same addresses."""
        running = self._root.connections()
        same = [each for each in running if each.config.file == config.file]
        same += [each for each in running if each.config.ends == config.ends]
        return next(iter(same), None)

    def _of_file(self, file: str, missing_is_error: bool = True) -> list[Connection]:
        found = [each for each in self._root.connections() if _file_name(each) == file]
        if not found and missing_is_error:
            raise UnknownFileError("")
        return found

    def _replace(self, running: Connection, config: ConnectionConfig, by_hand: Iterable[int] = ()) -> Connection:
        """Run `config` in place of `running`, with the paths `by_hand` down; if that is refused, `running` goes on."""
        down_before, thought_down = _down_by_hand(running), running.paths_thought_down()
        self._root.remove_connection(running)
        try:
            started = self._root.add_connection(config)
        except MptError:
            self._take_over(self._root.add_connection(running.config), down_before, thought_down)
            raise
        self._take_over(started, by_hand, thought_down)
        return started

    def _take_over(
        self, started: Connection, by_hand: Iterable[int], thought_down: set[tuple[Address, Address]]
    ) -> None:
        """Take the paths `by_hand` down again, and tell the peer how those are that it may think down."""
        for index in by_hand:
            started.switch(index, False)
        started.tell(thought_down)


def _fixed(config: Any) -> tuple[int, str | None]:
    return config.general.cmdport_local, config.general.control_socket


def _down_by_hand(connection: Connection) -> list[int]:
    return [index for index, path in enumerate(connection.paths) if path.status is Status.MANUAL_DOWN]


def _file_name(connection: Connection) -> str | None:
    return connection.config.file.name if connection.config.file is not None else None


def _own_addresses(connection: Connection, path: Path) -> set[Address]:
    """By which an operator may name this end of a path."""
    bound = {path.port.endpoint.address} if path.port is not None else set()
    return bound | {connection.public_address(path), path.config.public_ipaddr}


def _create_path(connection: Connection) -> Path:
    """The path that a create goes over: the one marked cmd_default, else the first that leads anywhere."""
    able = [
        path
        for path in connection.paths
        if path.port is not None
        and not path.config.remote_ipaddr.is_unspecified
        and path.status in (Status.OK, Status.DOWN)
    ]
    if not able:
        raise HostError(f"no path of {connection.config.name} can reach the peer: look at `mpt show status`")
    return next((path for path in able if path.config.cmd_default), able[0])


def _way(path: Path) -> Way:
    if path.port is None:
        return Way()
    return Way(path.port.endpoint.address, path.port.endpoint.interface_index)

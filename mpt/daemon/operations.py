"""Carries out the commands of guide chapter 4 on the running daemon (`mpt.local.operations`).

A command that fails raises an exception, and has changed nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path as FilePath
from typing import Any, Final

from twisted.internet.defer import Deferred

from mpt.config import schema, writer
from mpt.config.clients import CLIENTS_FILE
from mpt.config.directory import connection_steps, directory_steps, load_connection
from mpt.config.identity import load_identity
from mpt.config.steps import Steps, at_once
from mpt.control import merge
from mpt.control.initiator import Outcome, create_request
from mpt.daemon.connection import Connection
from mpt.daemon.histories import Histories
from mpt.daemon.machine import Machine
from mpt.daemon.naming import connection_named, paths_meant
from mpt.daemon.path import Path
from mpt.daemon.peerport import Peer, PeerControl, Way
from mpt.daemon.recentevents import RecentEvents
from mpt.daemon.running import Running
from mpt.daemon.slices import collector_at_rest, in_slices
from mpt.daemon.statusdocument import status_steps
from mpt.errors import ConfigError, HostError, MptError
from mpt.local.history import SCHEMA as HISTORY_SCHEMA
from mpt.local.operations import PeerRefusedError, ProgressReport, UnknownFileError
from mpt.local.status import StatusDocument
from mpt.local.statustext import named
from mpt.model import Address, ConnectionConfig, GeneralConfig, Identity, InterfaceAddress, Status
from mpt.wire.command import TEXT_FOR_C

_Read = tuple[GeneralConfig, tuple[ConnectionConfig, ...], Identity | None, tuple[str, ...]]
_Change = tuple[Connection | None, ConnectionConfig]  # what runs, and what is to run in its place

CALM: Final = 3  # times that the files are read while other things change; then without a pause


class DaemonOperations:
    """Carries out the commands on `running`; `peer_control` asks the peers. `handshakes_dropped()` counts the handshake
    datagrams that led to nothing, by reason; `histories` has the recent past of the
    paths, `recent_events` the last lines of the log."""

    def __init__(
        self,
        machine: Machine,
        running: Running,
        peer_control: PeerControl,
        handshakes_dropped: Callable[[], Mapping[str, int]],
        histories: Histories,
        recent_events: RecentEvents,
    ) -> None:
        self._machine = machine
        self._running = running
        self._peer_control = peer_control
        self._handshakes_dropped = handshakes_dropped
        self._histories = histories
        self._recent_events = recent_events
        self._started_at = 0.0
        self._taken: dict[str, set[InterfaceAddress]] = {}  # of paths, by interface taken down

    def started(self) -> None:
        """Note that the daemon runs, with the configuration of its files."""
        self._started_at = self._machine.now()
        self._note_files([each.config for each in self._running.connections()])

    # --- the machine -------------------------------------------------------------------------------------------------

    async def address(self, add: bool, address: IPv4Interface | IPv6Interface, interface: str) -> str:
        """Give an address to an interface, or take it away (guide 4.1)."""
        netlink = self._machine.netlink
        done = netlink.add_address(interface, address) if add else netlink.delete_address(interface, address)
        for tunnel in self._running.tunnels:
            if tunnel.config.name == interface:
                tunnel.address_changed_by_hand(address, add)
        self._running.interfaces_changed(netlink.snapshot())
        if add:
            return f"{address} {'added to' if done else 'was already on'} {interface}"
        return f"{address} {'deleted from' if done else 'was not on'} {interface}"

    async def interface(self, interface: str, up: bool) -> str:
        """Take a link up or down, with its paths and routes, and tell the peers (guide 4.2).

        Linux takes the IPv6 addresses from a link that goes down. The paths' addresses return with the link.
        """
        netlink = self._machine.netlink
        concerned = [
            (each, index)
            for each in self._running.connections()
            for index, path in enumerate(each.paths)
            if path.config.interface_name == interface
        ]
        before = netlink.snapshot().get(interface)
        netlink.set_link(interface, up)
        said = f"{interface} is {'up' if up else 'down'}"
        if before is not None and not up:
            configs = [each.paths[index].config for each, index in concerned]
            wanted = {config.private_ipaddr or config.public_ipaddr for config in configs}
            self._taken.setdefault(interface, set()).update(
                each for each in before.addresses if each.version == 6 and each.ip in wanted
            )
        for address in self._taken.pop(interface, ()) if up else ():
            try:
                netlink.add_address(interface, address)
            except HostError as error:  # the link is up all the same
                self._taken.setdefault(interface, set()).add(address)
                said += f", without its address {address}: {error}"
        self._running.interfaces_changed(netlink.snapshot())
        paths = ", ".join(_state(each, index) for each, index in concerned)
        return said + (f"; {paths}" if paths else "; no path uses it")

    async def path(self, up: bool, path: Address | str, destination: Address | None, progress: ProgressReport) -> str:
        """Take every path that is meant up or down, and tell the peers."""
        return await self._switch(up, paths_meant(self._running, path, destination), progress)

    async def cost(self, path: Address | str, cost: str, progress: ProgressReport) -> str:
        """Give every path that is meant another cost, and tell the peers."""
        concerned = paths_meant(self._running, path, None)
        for connection, _ in concerned:
            if connection.adaptation is None:
                raise HostError(f"{connection.config.name} is not adaptive: only scheduler = adaptive looks at costs")
        changed = []
        for connection, index in concerned:
            telling = connection.set_cost(index, cost)
            changed.append((f"path_{index} of {connection.config.name} is {cost}", telling))
        said = await _told(changed, progress)
        dearer = [_dearer(*each) for each in concerned]
        return "\n".join(f"{line}{more}" for line, more in zip(said.split("\n"), dearer, strict=True))

    async def connection(self, up: bool, name: str, progress: ProgressReport) -> str:
        """Take all paths of a connection up or down, and tell the peer."""
        connection = connection_named(self._running, name)
        return await self._switch(up, [(connection, index) for index in range(len(connection.paths))], progress)

    async def _switch(self, up: bool, concerned: list[tuple[Connection, int]], progress: ProgressReport) -> str:
        for connection, _ in concerned:
            if connection.config.is_down:
                raise HostError(connection.why_down)
        switched = []
        for connection, index in concerned:  # all of them, before waiting for anything
            telling = connection.switch(index, up)
            switched.append((_state(connection, index), telling))
        return await _told(switched, progress)

    # --- the files ---------------------------------------------------------------------------------------------------

    async def reload(self, file: str | None) -> str:
        """Start new and changed connections anew; unchanged ones run on (guide 4.3).

        A thousand connections are read and compared in slices. What changed here meanwhile makes it begin again.
        """
        with collector_at_rest():
            for _ in range(CALM):
                known = self._running.version
                read, changes, gone = await in_slices(self._machine, self._compared(file))
                if self._running.version == known:
                    break
            else:
                read, changes, gone = at_once(self._compared(file))
        general, connections, identity, warnings = read
        before_it, self._running.settings.identity = self._running.settings.identity, identity
        self._running.settings.protect(self._machine.system)
        try:
            self._running.change(changes, gone)
        except Exception:
            self._running.settings.identity = before_it
            raise
        before, self._running.settings.general = self._running.settings.general, general
        if general.udp_commands != before.udp_commands:
            self._peer_control.local_commands.warn_of_risk()
        self._note_files([config for _, config in changes])
        for each in gone:
            if each.config.place is not None:
                self._running.on_disk.pop(each.config.place, None)
        kinds = (
            ("new", [config.name for running, config in changes if running is None]),
            ("changed", [config.name for running, config in changes if running is not None]),
            ("gone", [each.config.name for each in gone]),
        )
        parts = [f"{kind}: {', '.join(names)}" for kind, names in kinds if names]
        same = len(connections) - len(changes)
        return "\n".join(["; ".join([*parts, f"{same} unchanged"]), *(f"warning: {each}" for each in warnings)])

    def _compared(self, file: str | None) -> Steps[tuple[_Read, list[_Change], list[Connection]]]:
        """Return the files as they are now, what is new or changed in them, and the clients that are gone."""
        read = yield from self._read_all() if file is None else self._read_one(file)
        yield
        changes: list[_Change] = []
        pairs = self._running.replaced_by(read[1])
        on_disk = self._running.on_disk
        for running, config in pairs:
            yield
            if running is None or config.place is None or on_disk.get(config.place) != config:
                changes.append((running, config))
        return read, changes, self._clients_gone(file, [running for running, _ in pairs if running is not None])

    def _note_files(self, configs: Iterable[ConnectionConfig]) -> None:
        """Note that the files have these connections."""
        self._running.version += 1
        self._running.on_disk.update({config.place: config for config in configs if config.place is not None})

    def _clients_gone(self, file: str | None, kept: Collection[Connection]) -> list[Connection]:
        """Return the running clients that are no longer in clients.conf, if it was read and is there."""
        if file not in (None, CLIENTS_FILE) or not (self._running.connections_directory / CLIENTS_FILE).exists():
            return []
        ids = set(map(id, kept))
        return [
            each for each in self._running.connections() if each.config.template is not None and id(each) not in ids
        ]

    async def restart(self, file: str | None) -> str:
        """Stop and start connections as configured (guide 4.4); a path that was taken down by hand stays down.

        A refused connection runs on with its usable paths; the others are started anew all the same.
        """
        concerned = self._running.connections() if file is None else self._of_file(file)
        refused: list[str] = []
        for connection in concerned:
            try:
                self._running.replace(connection, connection.config)
            except MptError as error:
                refused.append(f"{connection.config.name} runs on without what is refused: {error}")
        if refused:
            raise HostError("; ".join(refused))
        return "restarted: " + (", ".join(each.config.name for each in concerned) or "none, there is no connection")

    async def delete(self, file: str) -> str:
        """Stop the connections of a file, and rename it so that it is not loaded again (guide 4.5)."""
        path = self._running.connections_directory / file
        concerned = self._of_file(file, missing_is_error=not path.exists())
        disabled = _disabled(path) if path.exists() else None
        self._running.version += 1
        try:
            if disabled is not None:
                os.rename(path, disabled)
        except OSError as error:
            raise ConfigError(f"{path} cannot be renamed: {error.strerror}") from error
        for connection in concerned:
            self._running.remove(connection)
        for place in [each for each in self._running.on_disk if each[0] == path]:
            del self._running.on_disk[place]
        names = ", ".join(each.config.name for each in concerned) or "no running connection"
        return f"deleted: {names}" + (f"; the file is now {disabled.name}" if disabled else "; it was in no file")

    async def save(self, file: str | None) -> str:
        """Write run-time changes to the files (guide 4.6); of a path's status only the operator's decision.

        Clients have no file of their own: what is changed for one of them ends with the daemon.
        """
        found = self._running.connections() if file is None else self._of_file(file)
        concerned = [each for each in found if each.config.template is None]
        if found and not concerned and file is not None:
            raise ConfigError(f"{file} has clients, which `mpt client` writes: there is nothing to save in it")
        directory = self._running.connections_directory
        paths = [each.config.file or directory / merge.file_name(each.config.ip_remote) for each in concerned]
        general, tunnels = self._running.config.general, self._running.config.tunnels
        for path in paths:
            if path.exists():  # so that all are good before the first is written
                load_connection(path, general, tunnels)
        written = []
        for connection, path in zip(concerned, paths, strict=True):
            statuses = [each.status for each in connection.paths[: len(connection.config.paths)]]
            if writer.save(path, connection.config, statuses, general.cmdport_local):
                written.append(path.name)
            self._note_files([load_connection(path, general, tunnels)[0]])
        return f"saved: {', '.join(written)}" if written else "nothing has changed since the files were written"

    # --- the peer ----------------------------------------------------------------------------------------------------

    async def create(self, file: str, progress: ProgressReport) -> str:
        """Let the peer create its side of the connection in `file`, and join the two (guide 4.7)."""
        running = self._running.of_file(file)
        if running:
            return await self._create(running[0], progress)
        _, configs, self._running.settings.identity, _ = at_once(self._read_one(file))
        self._running.settings.protect(self._machine.system)
        if len(configs) != 1:
            raise ConfigError(f"{file} is not the file of one connection")
        (config,) = configs
        connection = self._running.add(config)
        try:
            said = await self._create(connection, progress)
        except Exception:
            self._running.remove(connection)
            raise
        self._note_files([config])
        return said

    async def _create(self, connection: Connection, progress: ProgressReport) -> str:
        if connection.config.is_down:
            raise HostError(connection.why_down)
        if connection.config.is_sealed:
            raise HostError(f"{connection.config.name} is sealed: its peer needs its own file, and no create")
        path = _create_path(connection)
        general = self._running.settings.general
        text = connection.text_for_peer(general.cmdport_local, TEXT_FOR_C)
        request = create_request(connection.config, text, general.allow_default_key)
        peer = Peer(path.config.remote_ipaddr, connection.config.remote_cmd_port)
        progress(f"asking {peer.address} to create {connection.config.name}")
        ended: Deferred[Outcome] = Deferred()
        self._peer_control.begin(request, peer, _way(path), ended.callback)
        outcome = await ended
        if not outcome.ok:
            raise PeerRefusedError(outcome.result, outcome.explanation())
        if connection not in self._running.connections():
            raise HostError(
                f"{peer.address} has created its side, but here {connection.config.name} was deleted or started anew "
                "meanwhile: delete it there and create it again"
            )
        joined = merge.joined_connection(connection.config, merge.read_peer_side(outcome.text))
        self._running.replace(connection, joined)
        return f"{joined.name} is created at {peer.address}; mpt save on both sides keeps it"

    def status(self) -> StatusDocument:
        """Return the document of `mpt show status`."""
        return at_once(self.status_steps())

    def status_steps(self, only: Connection | None = None) -> Steps[StatusDocument]:
        """Return the same, a connection at a step."""
        now = self._machine.now()
        refused, handshakes = self._peer_control.counters, self._handshakes_dropped()
        return status_steps(self._running, self._histories, now, now - self._started_at, refused, handshakes, only)

    def status_of(self, name: str) -> StatusDocument:
        """Return the document with one connection alone."""
        only = connection_named(self._running, name)
        return named(at_once(self.status_steps(only)), only.config.name)

    def events(self, after: int) -> Mapping[str, Any]:
        """Return the last lines of the log with numbers above `after`."""
        return self._recent_events.after(after)

    def history(self, name: str) -> Mapping[str, Any]:
        """Return the samples of one connection: of its paths, and of its inside."""
        connection = connection_named(self._running, name)
        histories = [(index, self._histories.history(path.key)) for index, path in enumerate(connection.paths)]
        within = self._histories.within(connection.config.name)
        return {
            "schema": HISTORY_SCHEMA,
            "connection": connection.config.name,
            "inside": within.history.as_json() if within is not None else [],
            "paths": [
                {"name": f"path_{index}", "levels": history.as_json() if history is not None else []}
                for index, history in histories
            ],
        }

    # --- details -----------------------------------------------------------------------------------------------------

    def _read_all(self) -> Steps[_Read]:
        """Return [general], the connections of all files, the key pair of this host, and the warnings.

        Raises ConfigError if a file is bad, or has changed in a key that needs a restart.
        """
        loaded = yield from directory_steps(self._running.directory, self._machine.netlink.snapshot())
        config = loaded.config
        if restart := schema.needs_restart(self._running.config, config):
            raise ConfigError(
                f"interface.conf has changes that need a restart of mptsrv: {', '.join(restart)}; nothing was reloaded"
            )
        identity, warnings = self._running.settings.identity or config.identity, loaded.warnings
        if config.identity is not None and config.identity != identity:
            warnings += (f"{config.private_key_path} has another key than at the start: the next start takes it",)
        return config.general, config.connections, identity, warnings

    def _read_one(self, file: str) -> Steps[_Read]:
        """Return the same for one file, against the connections that run."""
        path = self._running.connections_directory / file
        if not path.exists():
            raise UnknownFileError(f"there is no {path}")
        running = self._running.config
        others = [each for each in running.connections if each.file is None or each.file.name != file]
        identity = self._running.settings.identity
        configs, warnings = yield from connection_steps(path, running.general, running.tunnels, others, identity)
        if identity is None and any(config.is_sealed for config in configs):
            identity = load_identity(running.private_key_path)
            configs, warnings = yield from connection_steps(path, running.general, running.tunnels, others, identity)
        return running.general, configs, identity, warnings

    def _of_file(self, file: str, missing_is_error: bool = True) -> list[Connection]:
        found = self._running.of_file(file)
        if not found and missing_is_error:
            raise UnknownFileError("")
        return found


async def _told(changed: Iterable[tuple[str, Deferred[Any] | None]], progress: ProgressReport) -> str:
    """Return the texts about changes, and whether the peer knows of each; its Deferred is None if it need not."""
    said: list[str] = []
    for text, telling in changed:
        if telling is not None:
            progress(f"{text}; telling the peer")
            outcome = await telling
            text += "; the peer knows" if outcome.ok else f"; the peer was not told: {outcome.explanation()}"
        said.append(text)
    return "\n".join(said)


def _dearer(connection: Connection, index: int) -> str:
    """Return what to add about a path that is dearer for the peer than for us."""
    path = connection.paths[index]
    ours, holds = path.config.cost, connection.cost_of(index)
    return "" if ours == holds else f". {holds} holds, as the peer says: the higher cost of both ends counts"


def _state(connection: Connection, index: int) -> str:
    """Return the state of a path at this end as a text for people: what a command has done, whatever the peer says."""
    path = connection.paths[index]
    state, _ = path.state_here(connection.measured(path.key).last_received)
    return f"path_{index} of {connection.config.name} is {state}"


def _disabled(path: FilePath) -> FilePath:
    """Return a free name under which `path` is not loaded; raises ConfigError."""
    names = [f"{path.name}.disabled", *(f"{path.name}.disabled.{number}" for number in range(1, 1000))]
    free = (path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    try:
        return next(free)
    except StopIteration:
        raise ConfigError(f"{path} cannot be renamed: remove some of its {len(names)} *.disabled files") from None


def _create_path(connection: Connection) -> Path:
    """Return the path for a create request: the cmd_default path, else the first usable one; raises HostError."""
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

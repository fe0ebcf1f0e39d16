"""The running tunnels and connections: found, added, removed and replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mpt.daemon.connection import Connection
from mpt.daemon.handover import Handover
from mpt.daemon.settings import Settings
from mpt.daemon.tunnel import Tunnel
from mpt.errors import HostError
from mpt.model import Address, Config, ConnectionConfig, Interface


class Running:
    """The tunnels of a daemon whose configuration is in `directory`; `settings` is live.

    `Root` adds the tunnels. `on_disk` has the connections as the files had them when they were last read
    or written, by `ConnectionConfig.place`. `version` counts the changes of both.
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory
        self.settings = settings
        self.tunnels: list[Tunnel] = []
        self.on_disk: dict[tuple[Path, str], ConnectionConfig] = {}
        self.version = 0

    @property
    def config(self) -> Config:
        """Return the running tunnels and connections as a configuration."""
        tunnels = tuple(tunnel.config for tunnel in self.tunnels)
        connections = tuple(connection.config for connection in self.connections())
        return Config(self.directory, self.settings.general, tunnels, connections, self.settings.identity)

    @property
    def connections_directory(self) -> Path:
        """Return the directory of the connection files."""
        return self.directory / "connections"

    def connections(self) -> list[Connection]:
        """Return the connections of all tunnels."""
        return [connection for tunnel in self.tunnels for connection in tunnel.connections.values()]

    def find(self, tunnel_pair: tuple[Address, Address]) -> Connection | None:
        """Return the connection between two tunnel addresses, ours first."""
        return next((each for each in self.connections() if each.config.tunnel_pair == tunnel_pair), None)

    def of_file(self, name: str) -> list[Connection]:
        """Return the connections that run from a file of this name, without its directory."""
        return [each for each in self.connections() if each.config.file is not None and each.config.file.name == name]

    def replaced_by(self, configs: Iterable[ConnectionConfig]) -> list[tuple[Connection | None, ConnectionConfig]]:
        """Return each of `configs` with the connection that it would replace, if there is one: of the same place in the
        files, or else of the same tunnel addresses."""
        running = self.connections()
        places = {each.config.place: each for each in reversed(running)}
        pairs = {each.config.tunnel_pair: each for each in reversed(running)}
        return [(places.get(config.place) or pairs.get(config.tunnel_pair), config) for config in configs]

    def add(self, config: ConnectionConfig, strict: bool = True) -> Connection:
        """Start a connection on the tunnel that has its ip_local. Raises HostError, and then nothing has changed.

        A refused socket is an error if `strict`, and else tried again later.
        """
        self.version += 1
        for running in self.connections():
            if running.config.name == config.name or running.config.tunnel_pair == config.tunnel_pair:
                raise HostError(
                    f"the connection {running.config.name} runs already and has the name or the tunnel addresses of "
                    f"{config.name}: delete one of them, or give it others"
                )
        tunnel = next(each for each in self.tunnels if each.config.holds(config.ip_local))
        return tunnel.add(config, strict)

    def remove(self, connection: Connection) -> None:
        """Stop a connection and forget it."""
        self.version += 1
        for tunnel in self.tunnels:
            if tunnel.connections.get(connection.config.name) is connection:
                tunnel.remove(connection.config.name)

    def replace(
        self, old: Connection, config: ConnectionConfig, file_before: ConnectionConfig | None = None
    ) -> Connection:
        """Run `config` in place of `old`. Raises HostError, and then `old.config` runs again.

        A path stays as the operator has left it by hand, unless its status in `config` differs from `file_before`, the
        earlier file. The numbers of the data path go on: removing and adding only ask for a new table, and when it is
        made the connection is there again under its name.
        """
        handed_over = old.hand_over()
        self.remove(old)
        try:
            started = self.add(config)
        except Exception:
            self.add(old.config, strict=False).take_over(handed_over, old.config)
            raise
        started.take_over(handed_over, file_before or config)
        return started

    def change(
        self, changes: Iterable[tuple[Connection | None, ConnectionConfig]], gone: Iterable[Connection] = ()
    ) -> None:
        """Replace or add several connections, and remove those that are `gone`: all, or, with an exception, none."""
        done: list[tuple[Connection | None, tuple[ConnectionConfig, Handover] | None]] = []
        try:
            for each in gone:
                done.append((None, (each.config, each.hand_over())))
                self.remove(each)
            for old, config in changes:
                if old is None:
                    done.append((self.add(config), None))
                else:
                    before = old.config, old.hand_over()
                    done.append((self.replace(old, config, self.file_of(old)), before))
        except Exception:
            for started, before_it in reversed(done):
                if started is not None:
                    self.remove(started)
                if before_it is not None:
                    config, handed_over = before_it
                    self.add(config, strict=False).take_over(handed_over, config)
            raise

    def file_of(self, connection: Connection) -> ConnectionConfig:
        """Return the file of a connection as it was last read or written."""
        config = connection.config
        return self.on_disk.get(config.place, config) if config.place is not None else config

    def slept(self, seconds: float) -> None:
        """Tell the tunnels that the machine has slept for so long."""
        for tunnel in self.tunnels:
            tunnel.slept(seconds)

    def interfaces_changed(self, interfaces: Mapping[str, Interface]) -> None:
        """Tell the tunnels the links and addresses as they are now."""
        for tunnel in self.tunnels:
            tunnel.interfaces_changed(interfaces)

"""Counts what the paths with a quota carry, and lets those rest that have used it up (`mpt.control.quota`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mpt.control.quota import QuotaMeter, Standing, Used
from mpt.daemon.machine import Machine
from mpt.daemon.quotafile import PathPlace, quota_file, read_used, write_used
from mpt.daemon.running import Running
from mpt.daemon.sealedpath import SealedPath
from mpt.daemon.tunnel import Tunnel
from mpt.values import quota_text

log = Logger()

LOOK: Final = 5.0  # s between two readings of the counters
STORE: Final = 30.0  # s between two writings, while something is used
FORGET: Final = 100  # days after which the use of a path that is gone is forgotten


class Quotas(Service):
    """The quotas of the paths that run; what they have used is stored in the machine's state directory."""

    def __init__(self, machine: Machine, runs: Running) -> None:
        self._machine = machine
        self._runs = runs
        self._file = quota_file(machine.state_directory, runs.directory) if machine.state_directory else None
        self._stored: dict[PathPlace, Used] = {}  # of paths without a meter, too
        self._meters: dict[PathPlace, QuotaMeter] = {}
        self._stored_at = 0.0
        self._trouble = ""  # with the file, as the log has told it
        self._loop = LoopingCall(self._look)
        self._loop.clock = machine.reactor

    def startService(self) -> None:
        """Begin to count where the last daemon has stopped."""
        super().startService()
        self._read()
        self._look()
        if self._meters:
            self._store()
        self._loop.start(LOOK, now=False)

    def stopService(self) -> None:
        """Store what was used until now."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
            self._look()
            self._store()

    # --- counting ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the counters of all paths with a quota."""
        wall = self._machine.wall()
        changed = False
        for tunnel, place, path in self._paths():
            quota = path.config.quota
            octets = tunnel.line_octets(path.key)
            meter = self._meters.get(place)
            if meter is None or meter.quota != quota:
                assert quota is not None
                known = meter.used if meter is not None else self._stored.get(place)
                meter = self._meters[place] = QuotaMeter(quota, known, octets, wall)
            before = meter.standing
            meter.read(octets, wall)
            path.quota = meter
            changed = changed or meter.standing is not before
            self._tell(path, meter)
        if changed or self._machine.now() >= self._stored_at + STORE:
            self._store()

    def _paths(self) -> Iterator[tuple[Tunnel, PathPlace, SealedPath]]:
        for tunnel in self._runs.tunnels:
            for connection in tunnel.connections.values():
                if connection.adaptation is None:
                    continue
                seen: list[str] = []
                for path in connection.paths:
                    interface = path.config.interface_name
                    place = PathPlace(connection.config.name, interface, seen.count(interface))
                    seen.append(interface)
                    if isinstance(path, SealedPath) and path.config.quota is not None:
                        yield tunnel, place, path

    def _tell(self, path: SealedPath, meter: QuotaMeter) -> None:
        """Let a path rest that has used up its quota, or carry packets again; warn people in time."""
        quota = quota_text(meter.quota)
        if meter.standing is Standing.SPENT:
            path.rest(f"its quota of {quota} is used up: it rests until {meter.ends} (UTC)")
        else:
            path.rest("")
        if meter.must_warn() and meter.standing is Standing.NEAR:
            share = meter.used.octets / meter.quota.octets
            text = "{path}: {share:.0%} of its quota of {quota} is used; when all is, it rests until {ends} (UTC)"
            log.warn(text, path=path, share=share, quota=quota, ends=meter.ends)

    # --- the file ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._file is None:
            return
        try:
            self._stored = read_used(self._file)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            log.error("{file} cannot be read: {why}; quotas count from nothing", file=self._file, why=why)

    def _store(self) -> None:
        """Write what was used, if that has changed; a failure is told once."""
        self._stored_at = self._machine.now()
        used = self._stored | {place: meter.used for place, meter in self._meters.items()}
        latest = max((each.begun for each in used.values()), default=None)
        if latest is not None:
            used = {place: each for place, each in used.items() if (latest - each.begun).days <= FORGET}
        is_stored = used == self._stored and not self._trouble
        if self._file is None or (is_stored and (not used or self._file.exists())):
            return
        try:
            write_used(self._file, used)
        except OSError as error:
            trouble = f"{self._file.parent} cannot be written: {error.strerror or error}"
            if trouble != self._trouble:
                text = (
                    "{trouble}; a new start of the daemon counts quotas from what was stored last. Make the directory "
                    "and give it to the daemon's user, or name another one in $STATE_DIRECTORY"
                )
                log.error(text, trouble=trouble)
            self._trouble = trouble
            return
        if self._trouble:
            log.info("{file} is written again", file=self._file)
        self._stored, self._trouble = used, ""

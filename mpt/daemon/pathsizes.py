"""How large a packet each path of a sealed connection carries: `mpt.control.pathmtu` at work (session 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mpt.control.pathmtu import SMALL, PathMtu, State, tunnel_mtu
from mpt.daemon.machine import Machine
from mpt.daemon.timers import DeadlineLoop
from mpt.data.pathstate import PathMeasures
from mpt.wire.message import SizeProbe

PathKey = tuple[str, int]

HEADERS: Final = {4: 20 + 8, 6: 40 + 8}  # octets of IP and UDP around a datagram


class PathSizes:
    """The paths of one connection, by their keys.

    `frame`: the octets of a datagram before and behind its packet. `send(path, message)` sends a message, `measured`
    returns a path's measures. `changed(mtus)` is called with the octets of the largest packet of paths for which it has
    changed, perhaps none: then `tunnel_mtu` or `is_settled` may have changed. `probe(size)` returns the message of a
    probe.
    """

    def __init__(
        self,
        machine: Machine,
        frame: int,
        send: Callable[[PathKey, bytes], object],
        measured: Callable[[PathKey], PathMeasures],
        changed: Callable[[Mapping[PathKey, int]], None],
        probe: Callable[[int], bytes] = lambda size: SizeProbe(size).encode(),
    ) -> None:
        self._machine = machine
        self._frame = frame
        self._send = send
        self._measured = measured
        self._changed = changed
        self._probe = probe
        self._paths: dict[PathKey, PathMtu] = {}
        self._packets: dict[PathKey, int] = {}
        self._told: tuple[dict[PathKey, int], int | None, set[PathKey]] = ({}, None, set())
        self._loop = DeadlineLoop(machine, self._next_deadline, self._look)

    def begin(self, path: PathKey, link_mtu: int, version: int) -> None:
        """Note that `path` works, and goes another way than before, over IP `version` and a link of `link_mtu`."""
        largest = link_mtu - HEADERS[version]
        if path in self._paths:
            self._paths[path].begin_anew(largest, self._machine.now())
        else:
            self._paths[path] = PathMtu(largest, self._machine.now())
        self._packets[path] = -1
        self._tell()

    def end(self, path: PathKey) -> None:
        """Note that `path` does not work, or is gone."""
        if self._paths.pop(path, None) is not None:
            del self._packets[path]
            self._tell()

    def stop(self) -> None:
        """Forget all paths."""
        self._paths.clear()
        self._loop.stop()

    def seen(self, path: PathKey, size: int) -> None:
        """Note that the peer has seen a probe of `size` octets over `path`."""
        if path in self._paths:
            self._paths[path].seen(size, self._machine.now())
            self._tell()

    def doubt(self, path: PathKey) -> None:
        """Note a sign that large datagrams are lost on `path`."""
        if path in self._paths:
            self._paths[path].doubt(self._machine.now())
            self._loop.follow()

    def probed(self, path: PathKey, size: int) -> None:
        """Note a probe of the peer. One of a smaller size than ours is a sign that the line is narrower now."""
        found = self._paths.get(path)
        if found is not None and SMALL < size < found.size:
            self.doubt(path)

    def mtu(self, path: PathKey) -> int:
        """Return the octets of the largest packet that `path` carries; 0: nobody knows."""
        found = self._paths.get(path)
        return found.size - self._frame if found is not None else 0

    def is_settled(self, path: PathKey) -> bool:
        """Return whether the search for the largest size of `path` has ended."""
        found = self._paths.get(path)
        return found is not None and found.state is State.SETTLED

    def tunnel_mtu(self) -> int | None:
        """Return the MTU of the tunnel for these paths; None until one of them is known."""
        known = [path.settled for path in self._paths.values() if path.state is not State.ASSUMED]
        return tunnel_mtu(known, self._frame)

    def _next_deadline(self) -> float | None:
        return min((path.next_deadline() for path in self._paths.values()), default=None)

    def _look(self, now: float) -> None:
        for key, path in self._paths.items():
            if now < path.next_deadline():
                continue
            packets = self._measured(key).packets_sent
            probes = path.deadline_reached(now, in_use=packets != self._packets[key])
            if probes:
                self._packets[key] = packets
            for size in probes:
                self._send(key, self._probe(size))
        self._tell()

    def _tell(self) -> None:
        """Tell what has changed."""
        before, *rest_before = self._told
        mtus = {path: self.mtu(path) for path in self._paths}
        self._told = mtus, self.tunnel_mtu(), set(filter(self.is_settled, mtus))
        news = {path: mtu for path, mtu in mtus.items() if before.get(path) != mtu}
        if news or rest_before != [*self._told[1:]]:
            self._changed(news)
        self._loop.follow()

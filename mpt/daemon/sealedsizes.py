"""How large a packet the paths of a sealed connection carry: looked for while a path works, and told to the data path.

A path is looked at anew when it goes another way: to another place of the peer, or over a link with another MTU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mpt.daemon.machine import Machine
from mpt.daemon.pathsizes import PathKey, PathSizes
from mpt.daemon.sealedpath import SealedPath
from mpt.data.datapath import DataPath
from mpt.data.pathstate import PathMeasures
from mpt.model import ConnectionConfig
from mpt.wire.seal import OVERHEAD

_GRE_LENGTHS: Final = {"none": 4, "connection": 8, "flow": 12}  # octets, by the order of packets (session 3)


class SealedSizes:
    """The sizes of `paths`, a list that may grow.

    `measured(path)` returns the measures of a path. `datapath()` returns the data path with its newest table; None
    while there is none. `mtu_changed()` is called when `tunnel_mtu` has changed.
    """

    def __init__(
        self,
        machine: Machine,
        config: ConnectionConfig,
        paths: Sequence[SealedPath],
        measured: Callable[[PathKey], PathMeasures],
        datapath: Callable[[], DataPath | None],
        mtu_changed: Callable[[], None],
    ) -> None:
        self.tunnel_mtu: int | None = None  # octets of the largest packet that all paths carry; None: nobody knows
        self._machine = machine
        self._paths = paths
        self._datapath = datapath
        self._mtu_changed = mtu_changed
        frame = OVERHEAD + _GRE_LENGTHS[config.order if config.reorder_window else "none"]
        self._sizes = PathSizes(machine, frame, self._send_probe, measured, self._changed)
        self._ways: dict[PathKey, tuple[object, ...]] = {}  # of the paths that work

    def follow(self, path: SealedPath) -> None:
        """Find out how large the datagrams of a path may be when it works, and anew when it goes another way."""
        way: tuple[object, ...] | None = None
        if path.is_proven and path.port is not None and path.link_mtu:
            way = (path.peer_place, path.link_mtu)
        if way == self._ways.get(path.key):
            return
        if way is None or path.port is None:
            self.forget(path)
        else:
            self._ways[path.key] = way
            self._sizes.begin(path.key, path.link_mtu, path.port.endpoint.address.version)

    def forget(self, path: SealedPath) -> None:
        """Note that a path does not work, or is gone."""
        if self._ways.pop(path.key, None) is not None:
            self._sizes.end(path.key)

    def seen(self, path: PathKey, size: int) -> None:
        """Note that the peer has seen a probe of `size` octets over `path`."""
        self._sizes.seen(path, size)

    def probed(self, path: PathKey, size: int) -> None:
        """Note a probe of the peer of `size` octets over `path`."""
        self._sizes.probed(path, size)

    def doubt(self) -> None:
        """Note a sign that large datagrams are lost now: all paths are looked at soon."""
        for path in self._ways:
            self._sizes.doubt(path)

    def stop(self) -> None:
        """Forget all sizes."""
        self._sizes.stop()
        self.tunnel_mtu = None
        self._ways.clear()

    def _send_probe(self, path: PathKey, octets: bytes) -> None:
        datapath = self._datapath()
        if datapath is not None:
            datapath.send(path, octets, self._machine.now())

    def _changed(self, mtus: Mapping[PathKey, int]) -> None:
        for path in self._paths:
            path.mtu = self._sizes.mtu(path.key)
        datapath = self._datapath()
        if mtus and datapath is not None:
            datapath.set_path_mtus(dict(mtus), self._machine.now())
        before, self.tunnel_mtu = self.tunnel_mtu, self._sizes.tunnel_mtu()
        if self.tunnel_mtu != before:  # who is told asks all connections
            self._mtu_changed()

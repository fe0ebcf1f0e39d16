"""The rows of a table as the structures of the C engine (mpt_set_table of _api.h)."""

from __future__ import annotations

import socket
from collections.abc import Hashable
from typing import Any, NamedTuple

from mpt.accel._native import ffi
from mpt.accel.limits import adaptive_fields
from mpt.accel.sockaddr import NOBODY, address_fields, host_fields, sharing, sockaddr
from mpt.data.flowmap import FlowMap
from mpt.data.framing import Sealed
from mpt.data.pathtable import ConnectionRow, PathRow, Table
from mpt.host.udp import join_received, stamp_received
from mpt.wire import tos


class _Converted(NamedTuple):
    """A row, the descriptors of its paths, and both as a C structure, which points to `arrays`."""

    row: ConnectionRow
    descriptors: tuple[int, ...]
    structure: Any
    arrays: list[Any]


class Rows:
    """The rows of one table after the other, and the ids of connections and paths by their keys: an id is never used
    twice. With `gso` their sockets hand over datagrams that the kernel has joined, with `stamps` the times of those of
    sealed connections.
    """

    def __init__(self, gso: bool, stamps: bool) -> None:
        self.connections: dict[Hashable, int] = {}  # key -> id
        self.connection_keys: list[Hashable] = []  # by id
        self.paths: dict[Hashable, int] = {}
        self.path_keys: list[Hashable] = []  # by id
        self._gso = gso
        self._stamps = stamps
        self._converted: dict[Hashable, _Converted] = {}  # those of the table
        self._prepared: dict[int, bool] = {}  # the sockets of one table, which many paths may share

    def convert(self, table: Table) -> Any:
        """Return the rows of `table` as an array of struct mpt_connection_row, which is good until the next call."""
        structures = ffi.new("struct mpt_connection_row[]", len(table))
        converted: dict[Hashable, _Converted] = {}
        for place, row in enumerate(table):
            converted[row.key] = known = self._one(row)
            structures[place] = known.structure[0]
        self._converted = converted
        self._prepared.clear()
        return structures

    def _one(self, row: ConnectionRow) -> _Converted:
        """Return `row` as a C structure: the one of the table before if it is the same row, with the same descriptors.
        A server has a thousand rows, of which few change."""
        descriptors = tuple(path.socket.fileno() if path.socket is not None else -1 for path in row.paths)
        known = self._converted.get(row.key)
        if known is not None and known.row is row and known.descriptors == descriptors:
            return known
        arrays: list[Any] = []
        structure = ffi.new("struct mpt_connection_row *", self._connection(row, arrays))
        return _Converted(row, descriptors, structure, arrays)

    def _connection(self, row: ConnectionRow, arrays: list[Any]) -> dict[str, Any]:
        """Return the fields of `row`, which point to `arrays`."""
        networks = _array(
            arrays,
            "network",
            [
                {"base": address_fields(network.network_address), "length": network.prefixlen, "here": here}
                for pair in row.networks
                for network, here in ((pair.source, True), (pair.destination, False))
            ],
        )
        flow_map = FlowMap([path.ports for path in row.paths])
        rules = _array(
            arrays, "port_rule", [{"key": key, "path": path} for key, path in sorted(_port_rules(flow_map).items())]
        )
        sealed = isinstance(row.framing, Sealed)
        paths = _array(arrays, "path_row", [self._path(path, sealed) for path in row.paths])
        tos_by_inner = tos.encapsulated(row.dscp, row.ecn)
        return {
            "id": _number(self.connections, self.connection_keys, row.key),
            "tunnel_local": address_fields(row.tunnel_local),
            "tunnel_peer": address_fields(row.tunnel_peer),
            "broadcast": address_fields(row.broadcast) if row.broadcast is not None else NOBODY,
            "reorder_window": row.reorder_window,
            "max_delay": row.max_delay,
            "tos_by_inner": tos_by_inner,
            "sets_tos": any(tos_by_inner),
            "mss_clamp": row.mss_clamp,
            "sequenced": row.framing.sequenced,
            "keyed": isinstance(row.framing, Sealed) and row.framing.order == "flow",
            "sealed": sealed,
            "message_tos": (row.dscp or 0) << 2,
            **adaptive_fields(row.adaptive, arrays),
            "networks": networks["pointer"],
            "network_count": networks["count"],
            "rules": rules["pointer"],
            "rule_count": rules["count"],
            "paths": paths["pointer"],
            "path_count": paths["count"],
        }

    def _path(self, row: PathRow, sealed: bool) -> dict[str, Any]:
        descriptor = row.socket.fileno() if row.socket is not None else -1
        if descriptor not in self._prepared:
            self._prepared[descriptor] = descriptor >= 0 and _prepare(descriptor, self._gso, sealed and self._stamps)
        named = self._prepared[descriptor]
        remote = sockaddr(row.remote) if named and row.remote else b""
        peer = host_fields(row.peer) if named and not sealed else NOBODY
        return {
            "id": _number(self.paths, self.path_keys, row.key),
            "fd": descriptor,
            "usable": row.usable,
            "weight": row.weight,
            "mtu": row.mtu,
            "seal_id": row.id,
            "unplaced": sealed and not row.remote,
            "outer_remote": remote.ljust(28, b"\0"),
            "outer_remote_length": len(remote),
            "peer": peer,
            "loop": address_fields(row.peer_address),
        }


def _number(ids: dict[Hashable, int], keys: list[Hashable], key: Hashable) -> int:
    """Return the id of `key`, a new one if it has none."""
    number = ids.setdefault(key, len(ids))
    if number == len(keys):
        keys.append(key)
    return number


def _array(arrays: list[Any], kind: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a new one of the `arrays` and its length, under their names in the rows of mpt_set_table."""
    array = ffi.new(f"struct mpt_{kind}[]", values)
    arrays.append(array)
    return {"pointer": array, "count": len(values)}


def _prepare(descriptor: int, gso: bool, stamps: bool) -> bool:
    """Make a socket ready; return False for a connected socket without addresses."""
    with sharing(descriptor) as shared:
        if shared.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        join_received(shared, gso)
        if stamps:
            stamp_received(shared)
        return True


def _port_rules(flow_map: FlowMap) -> dict[int, int]:
    """Return struct mpt_port_rule key -> index of the path."""
    return {
        direction << 24 | protocol << 16 | port: path
        for direction, rules in enumerate((flow_map.by_source, flow_map.by_destination))
        for (protocol, port), path in rules.items()
    }

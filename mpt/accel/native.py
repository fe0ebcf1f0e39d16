"""The native data path: the DataPath interface in front of the C engine of this package.

Work that is done once a table and not once a packet stays in Python: rows become C structures (mpt.accel.rows),
addresses octets, counters values. The engine reads and writes the same file descriptors and decides by the same rules
as mpt.data.datapath.PythonDataPath, which is the reference.
"""

from __future__ import annotations

import fcntl
import secrets
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from errno import EEXIST, ENOENT
from typing import Any, Final

from mpt.accel._native import ffi, lib
from mpt.accel.limits import (
    ADAPTIVE_TUNING,
    adaptive_counts,
    flight_measures,
    order_limits,
    path_limits,
    report_event,
)
from mpt.accel.rows import Rows
from mpt.accel.sockaddr import from_sockaddr, name_for
from mpt.data import candidates, equalizer, gate, knowledge, opening, reorder, stream, toobig
from mpt.data.counters import Counters, PathCounters, Reason, errno_reason
from mpt.data.events import Confirmed, Copied, Event, Handshake, Message, Moved
from mpt.data.pathstate import PathMeasures
from mpt.data.pathtable import DataSocket, Table
from mpt.host.tun import ask_offloads
from mpt.host.udp import LONGEST_WAIT, can_segment
from mpt.limits import AdaptiveCounters, FlightMeasures, OrderLimits, PathLimits
from mpt.wire import seal, token
from mpt.wire.seal import SessionKeys

BUDGET: Final = 0.008  # s of a wake-up, for which keepalives and commands wait; the reactor's turn takes 0.1 ms
TURN: Final = 100e-6  # s in which the reactor has called for all descriptors that it found ready at once

# The rules' constants by the names that they have in Python: GAP_GAIN is gap_gain of struct mpt_tuning.
TUNING: Final = (
    {
        name: getattr(module, name.upper())
        for module, names in (
            (equalizer, ("gap_gain", "keepalive_gain", "nearer", "negligible", "share", "doubt", "longest_doubt")),
            (knowledge, ("path_memory", "good_part", "fair_part", "poor_part", "many", "short_wait")),
            (knowledge, ("patience_gain", "patience_decay", "review")),
            (stream, ("restart_silence", "near", "distrust", "gaps_remembered")),
            (candidates, ("period", "majority", "age", "candidates")),
            (toobig, ("answers", "answers_at_once")),
            (gate, ("firsts", "firsts_at_once", "retries", "retries_at_once", "proven", "proven_at_once")),
            (opening, ("told", "told_at_once")),
            (reorder, ("streams", "forget")),
            (seal, ("stamps_a_second",)),
        )
        for name in names
    }
    | {"token_life": token.LIFE, "longest_wait": LONGEST_WAIT}
    | ADAPTIVE_TUNING
)

REASONS: Final = {
    number: Reason(name.removeprefix("MPT_").lower())
    for number, name in ffi.typeof("enum mpt_reason").elements.items()
    if name not in ("MPT_NONE", "MPT_REASONS")
}
OFFLOADS: Final = {
    number: name.removeprefix("MPT_").lower() for number, name in ffi.typeof("enum mpt_offload").elements.items()
}
CIPHERS: Final = {
    name.removeprefix("MPT_").lower().replace("_", "-"): number
    for number, name in ffi.typeof("enum mpt_cipher").elements.items()
}


def offload_tun(tun: int, wanted: bool, ioctl: Callable[[int, int, Any], Any] = fcntl.ioctl) -> int:
    """Ask the TUN for as many offloads as it has. Return them, as bits of enum mpt_offload."""
    given = ask_offloads(tun, wanted, ioctl)
    return sum(bit for bit, name in OFFLOADS.items() if name in given)


def can_seal() -> bool:
    """Return whether the engine was built with OpenSSL; without it, it has no sealed connections."""
    return bool(lib.mpt_can_seal())


def allow_gcm(allowed: bool) -> None:
    """Let sessions that begin from now on have the AES-GCM of libipsec-mb where it is there, or that of libcrypto."""
    lib.mpt_allow_gcm(allowed)


def sealing_libraries(gcm: bool = True) -> str:
    """Return the names and versions of the libraries with which data paths that are made from now on seal.

    Without `gcm` libcrypto does it all, also where libipsec-mb would make AES-GCM.
    """
    allow_gcm(gcm)
    crypto, other = lib.mpt_seal_library(), lib.mpt_gcm_library()
    if crypto == ffi.NULL:
        return ""
    name = " ".join(ffi.string(crypto).decode().split()[:2])  # without its date
    return f"{ffi.string(other).decode()} (AES-GCM) and {name}" if other != ffi.NULL else name


class NativeDataPath:
    """Batches in C. `tun` is a TUN device, with or without IFF_VNET_HDR, or a datagram socket in its place.

    With `gso` the kernel may cut runs of datagrams and join received ones; with `tun_offload` it does the same for the
    TUN, and `ask_tun` finds out which offloads the TUN has.

    A wake-up goes on with everything that is ready and due, until nothing is or `budget` seconds are over: a crossing
    into Python costs more than a batch. 0 serves one descriptor alone, and no time of the kernel counts. After a
    wake-up that used up its budget, calls for other descriptors within `turn` seconds belong to the same turn of the
    reactor and do nothing.
    """

    def __init__(
        self,
        tun: int,
        gso: bool = True,
        tun_offload: bool = True,
        budget: float = BUDGET,
        turn: float = 0.0,
        ask_tun: Callable[[int, bool], int] = offload_tun,
    ) -> None:
        self._tun = tun
        self._budget = budget
        self._turn = turn
        offloads = ask_tun(tun, tun_offload) | (lib.MPT_UDP_SEGMENT if gso and can_segment() else 0)
        tuning = ffi.new("struct mpt_tuning *", TUNING)
        self._engine: Any = ffi.gc(lib.mpt_new(tun, offloads, secrets.randbits(64), tuning), lib.mpt_free)
        if self._engine == ffi.NULL:
            raise MemoryError
        self._rows = Rows(gso, stamps=budget > 0)
        self._connections, self._paths = self._rows.connections, self._rows.paths  # key -> id
        self._sockets: dict[int, DataSocket] = {}  # of the table and asked for, by descriptor
        self._shares = ffi.new("struct mpt_share[]", 16)
        self._flight = ffi.new("struct mpt_flight *")
        self._event_count = ffi.new("uint32_t *")
        self._event_octets = ffi.new("const uint8_t **")

    def tun_readable(self, now: float) -> None:
        lib.mpt_serve(self._engine, self._tun, now, self._budget, self._turn)

    def socket_readable(self, socket: DataSocket, now: float) -> None:
        descriptor = socket.fileno()
        self._sockets[descriptor] = socket  # of the table, or one that a sealed path had
        lib.mpt_serve(self._engine, descriptor, now, self._budget, self._turn)

    def deadline_reached(self, now: float) -> None:
        lib.mpt_deadline_reached(self._engine, now)

    def next_deadline(self) -> float | None:
        deadline: float = lib.mpt_next_deadline(self._engine)
        return deadline if deadline >= 0 else None

    def set_table(self, table: Table, now: float) -> None:
        sockets = {path.socket.fileno(): path.socket for row in table for path in row.paths if path.socket is not None}
        if lib.mpt_set_table(self._engine, self._rows.convert(table), len(table), now):
            raise MemoryError
        self._sockets = sockets
        lib.mpt_deadline_reached(self._engine, now)  # what waits may have room now

    def send(
        self, path: Hashable, message: bytes, now: float, to: tuple[DataSocket, tuple[Any, ...]] | None = None
    ) -> bool:
        if path not in self._paths:
            return False
        number = self._paths[path]
        if to is None:
            error = lib.mpt_send(self._engine, number, message, len(message), now)
        else:
            data_socket, remote = to
            name = name_for(data_socket.fileno(), remote)
            error = lib.mpt_send_to(
                self._engine, number, data_socket.fileno(), name, len(name), message, len(message), now
            )
        return bool(error == 0)

    def take_events(self) -> Sequence[Event]:
        events = lib.mpt_take_events(self._engine, self._event_count, self._event_octets)
        if not self._event_count[0]:
            return ()
        return [self._event(event, self._event_octets[0]) for event in ffi.unpack(events, self._event_count[0])]

    def _event(self, event: Any, all_octets: Any) -> Event:
        if event.kind == lib.MPT_REPORT:
            return report_event(self._rows.path_keys[event.subject], event.at, all_octets + event.offset)
        octets = bytes(ffi.buffer(all_octets + event.offset, event.length))
        if event.fd < 0:
            return Message(self._rows.path_keys[event.subject], octets, event.at)
        if event.kind == lib.MPT_CONFIRMED:
            return Confirmed(self._rows.connection_keys[event.subject], event.session, event.at)
        source, data_socket = from_sockaddr(bytes(event.source)), self._sockets[event.fd]
        if event.kind == lib.MPT_HANDSHAKE:
            return Handshake(data_socket, source, octets, event.at)
        path = self._rows.path_keys[event.subject]
        if event.kind == lib.MPT_MOVED:
            return Moved(path, data_socket, source, event.size, event.at)
        if event.kind == lib.MPT_COPIED:
            return Copied(path, data_socket, source, event.size, event.at)
        return Message(path, octets, event.at, source, data_socket, event.session, event.size)

    # --- sealed connections ---

    def set_identity(self, mac1_key: bytes | None, token_key: bytes) -> None:
        lib.mpt_set_identity(self._engine, mac1_key if mac1_key is not None else ffi.NULL, token_key)

    def expect(self, answers: Mapping[int, bytes]) -> None:
        if lib.mpt_expect(self._engine, list(answers), b"".join(answers.values()), len(answers)):
            raise MemoryError

    def add_session(self, connection: Hashable, keys: SessionKeys, now: float) -> None:  # noqa: ARG002  # of the interface
        if connection not in self._connections:
            raise KeyError(connection)
        if keys.is_wiped:
            raise ValueError("the keys were taken before")
        given = ffi.new("struct mpt_session_keys *", {"index": keys.index, "peer_index": keys.peer_index})
        given.cipher = CIPHERS[keys.cipher]
        for name in ("send_key", "send_iv", "receive_key", "receive_iv"):
            ffi.memmove(getattr(given, name), getattr(keys, name), len(getattr(keys, name)))
        error = lib.mpt_add_session(self._engine, self._connections[connection], given)
        if error == ENOENT:
            raise KeyError(connection)
        if error == EEXIST:
            raise ValueError(f"the session index {keys.index:08x} is in use")
        if error:
            raise MemoryError
        keys.wipe()

    def send_with(self, connection: Hashable, index: int | None, now: float) -> None:
        number = self._connections.get(connection)
        if index is not None:
            if number is None or lib.mpt_send_with(self._engine, number, index, now):
                raise KeyError(index)
        elif number is not None:
            lib.mpt_send_with_none(self._engine, number)

    def end_session(self, connection: Hashable, index: int) -> None:
        if connection in self._connections:
            lib.mpt_end_session(self._engine, self._connections[connection], index)

    def set_remote(self, path: Hashable, socket: DataSocket, remote: tuple[Any, ...], now: float) -> None:
        if path in self._paths:
            name = name_for(socket.fileno(), remote)
            lib.mpt_set_remote(self._engine, self._paths[path], socket.fileno(), name, len(name))
            lib.mpt_deadline_reached(self._engine, now)

    def send_raw(self, socket: DataSocket, remote: tuple[Any, ...], datagram: bytes) -> bool:
        try:
            socket.sendto(datagram, remote)
        except OSError:
            return False
        return True

    def sent_numbers(self, connection: Hashable) -> int:
        number = self._connections.get(connection)
        return lib.mpt_sent_numbers(self._engine, number) if number is not None else 0

    def set_shares(self, shares: Mapping[Hashable, int], now: float) -> None:
        if len(shares) > len(self._shares):
            self._shares = ffi.new("struct mpt_share[]", 2 * len(shares))
        count = 0
        for path, weight in shares.items():
            if path in self._paths:
                share = self._shares[count]
                share.path, share.weight = self._paths[path], weight
                count += 1
        lib.mpt_set_shares(self._engine, self._shares, count, now)

    def set_path_mtus(self, mtus: Mapping[Hashable, int], now: float) -> None:
        known = [(self._paths[path], mtu) for path, mtu in mtus.items() if path in self._paths]
        lib.mpt_set_path_mtus(self._engine, ffi.new("struct mpt_path_mtu[]", known), len(known))
        lib.mpt_deadline_reached(self._engine, now)

        # --- adaptive connections ---

    def set_limits(
        self, limits: Mapping[Hashable, PathLimits], orders: Mapping[Hashable, OrderLimits], now: float
    ) -> None:
        paths = path_limits(self._paths, limits)
        connections = order_limits(self._connections, orders)
        lib.mpt_set_limits(self._engine, paths, len(paths), connections, len(connections), now)

    def rescue(self, path: Hashable, now: float, bounded: bool = False) -> int:
        return lib.mpt_rescue(self._engine, self._paths[path], now, bounded) if path in self._paths else 0

    def flight(self, path: Hashable) -> FlightMeasures:
        if path not in self._paths:
            return FlightMeasures()
        lib.mpt_flight(self._engine, self._paths[path], self._flight)
        return flight_measures(self._flight)

    def adaptive_counters(self, connection: Hashable) -> AdaptiveCounters:
        counted = ffi.new("struct mpt_adaptive_counters *")
        if connection in self._connections:
            lib.mpt_adaptive_counters(self._engine, self._connections[connection], counted)
        return adaptive_counts(counted)

    def counters(self) -> Counters:
        totals = ffi.new("struct mpt_counters *")
        lib.mpt_counters(self._engine, totals)
        egress = _reasons(totals.egress_dropped)
        egress.update(_errors("tun", totals.tun_read_errors))
        egress.update(_errors("send", totals.send_drops))
        ingress = _reasons(totals.ingress_dropped)
        ingress.update(_errors("tun", totals.tun_write_errors))
        return Counters(
            packets_read=totals.packets_read,
            packets_waiting=totals.packets_waiting,
            egress_dropped=egress,
            datagrams_received=totals.datagrams_received,
            keepalives_received=totals.keepalives_received,
            messages_received=totals.messages_received,
            handshakes_received=totals.handshakes_received,
            packets_delivered=totals.packets_delivered,
            packets_held=totals.packets_held,
            ecn_unexpected=totals.ecn_unexpected,
            ingress_dropped=ingress,
            paths={
                key: PathCounters(*self.measured(key), Counter(_errors("send", self._path_counters(key).send_errors)))
                for key in self._paths
            },
        )

    def system_calls(self) -> dict[str, int]:
        """Return how many system calls carried packets, which shows the batching: TUN reads and writes, sends,
        receives."""
        totals = ffi.new("struct mpt_counters *")
        lib.mpt_counters(self._engine, totals)
        return {name: getattr(totals, name) for name in ("tun_reads", "tun_writes", "sends", "receives")}

    def offloads(self) -> frozenset[str]:
        bits = lib.mpt_offloads(self._engine)
        return frozenset(name for bit, name in OFFLOADS.items() if bits & bit)

    def ecn_unexpected(self) -> int:
        totals = ffi.new("struct mpt_counters *")
        lib.mpt_counters(self._engine, totals)
        return int(totals.ecn_unexpected)

    def measured(self, path: Hashable) -> PathMeasures:
        if path not in self._paths:
            return PathMeasures()
        c = self._path_counters(path)
        return PathMeasures(c.packets_sent, c.bytes_sent, c.packets_received, c.bytes_received, c.last_received)

    def _path_counters(self, path: Hashable) -> Any:
        """Return the engine's struct mpt_path_counters of a path that was in a table."""
        return lib.mpt_path_counters(self._engine, self._paths[path])

    def close(self) -> None:
        self.set_table((), 0.0)


def _reasons(counts: Any) -> dict[str, int]:
    return {REASONS[number]: count for number, count in enumerate(counts) if count}


def _errors(call: str, counts: Any) -> dict[str, int]:
    return {errno_reason(call, number): count for number, count in enumerate(counts) if count}

"""The events of a data path: what it tells control, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from mpt.data.pathtable import DataSocket
from mpt.limits import Report


class Message(NamedTuple):
    """A message that came over `path` (its key), without its frame, `at` monotonic seconds.

    On a sealed path also: from which `source` address to which `socket`, opened with which `session` (our index), and
    the octets of the whole datagram, `size`.
    """

    path: Hashable
    octets: bytes
    at: float
    source: tuple[Any, ...] | None = None
    socket: DataSocket | None = None
    session: int | None = None
    size: int = 0


class Handshake(NamedTuple):
    """A handshake datagram or a retry whose mac1 is right (`mpt.wire.seal.decode_handshake`)."""

    socket: DataSocket
    source: tuple[Any, ...]
    octets: bytes
    at: float


class Moved(NamedTuple):
    """The newest datagram of a sealed path, of `size` octets, came to another socket or from another address than those
    of the path, which stay until `DataPath.set_remote`. At most one a wake-up and path."""

    path: Hashable
    socket: DataSocket
    source: tuple[Any, ...]
    size: int
    at: float


class Copied(NamedTuple):
    """A datagram came that has come before, lately and from elsewhere: its number is one of the newest, its tag was not
    looked at. One of the two is a copy, and nobody knows which. At most one a wake-up and path."""

    path: Hashable
    socket: DataSocket
    source: tuple[Any, ...]
    size: int
    at: float


class Confirmed(NamedTuple):
    """The first datagram of `session` (our index) has opened: the peer has the same keys. Once a session."""

    connection: Hashable
    session: int
    at: float


Event = Message | Handshake | Moved | Copied | Confirmed | Report

"""The first octets of a datagram: the frame before an inner packet or a message. Only this module knows them.

A connection's row names its framing. `Plain` is MPT-GRE in the clear, as the C program speaks it (`mpt.wire.gre`).
`Sealed` puts the same into the envelope of a session (`mpt.wire.seal`).

A *packet* is an IP packet for the TUN. A *message* is for control: no IP packet begins with its first octet
(`mpt.wire.command`; `mpt.wire.message` on sealed connections).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from mpt.data.counters import Reason
from mpt.errors import DecodeError
from mpt.wire import command, gre


@dataclass(frozen=True, slots=True)
class Plain:
    """MPT-GRE. `sequenced`: packets have sequence numbers; messages never do."""

    sequenced: bool = False


@dataclass(frozen=True, slots=True)
class Sealed:
    """The envelope of a session around a GRE datagram (session 3).

    `order`: packets are numbered flow by flow ("flow"), in one row ("connection"), or not at all ("none").
    """

    order: Literal["flow", "connection", "none"] = "connection"

    @property
    def sequenced(self) -> bool:
        """Return whether packets have sequence numbers."""
        return self.order != "none"


class Opened(NamedTuple):
    """A datagram without its frame: the payload begins at `offset`, the frame says that it is of `ip_version`, and
    `sequence` is the packet's number or None, in the number space of `key`, if there is one."""

    offset: int
    ip_version: int
    sequence: int | None
    key: int | None = None


_UNNUMBERED: Final = {version: gre.prefix(version, False) for version in (4, 6)}
_NUMBERED: Final = {version: gre.prefix(version, True) for version in (4, 6)}
_KEYED: Final = {version: gre.prefix(version, True, True) for version in (4, 6)}
# Nearly every datagram has one of these headers; they are looked up by their first four octets.
_USUAL_UNNUMBERED: Final = {octets: Opened(4, version, None) for version, octets in _UNNUMBERED.items()}
_USUAL_NUMBERED: Final = {octets: version for version, octets in _NUMBERED.items()}
_USUAL_KEYED: Final = {octets: version for version, octets in _KEYED.items()}


def frame(ip_version: int, sequence: int | None = None, key: int | None = None) -> bytes:
    """Return the frame of a packet of `ip_version` or of a message; a `sequence` number is 0 .. 2^32 - 1, in the number
    space of `key` if there is one."""
    if sequence is None:
        return _UNNUMBERED[ip_version]
    if key is None:
        return _NUMBERED[ip_version] + sequence.to_bytes(4, "big")
    return _KEYED[ip_version] + (key << 32 | sequence).to_bytes(8, "big")


def unframe(datagram: bytes) -> Opened | Reason:
    """Return `datagram` without its frame, or the reason to drop it. The payload may be anything, or empty."""
    first = datagram[:4]
    usual = _USUAL_UNNUMBERED.get(first)
    if usual is not None:
        return usual
    version = _USUAL_NUMBERED.get(first)
    if version is not None and len(datagram) >= 8:
        return Opened(8, version, int.from_bytes(datagram[4:8], "big"))
    version = _USUAL_KEYED.get(first)
    if version is not None and len(datagram) >= 12:
        return Opened(12, version, int.from_bytes(datagram[8:12], "big"), int.from_bytes(datagram[4:8], "big"))
    try:
        header = gre.decode(datagram)
    except DecodeError as error:
        return Reason(error.reason)
    return Opened(header.length, header.ip_version, header.sequence, header.key)


def no_packet(payload: bytes, ip_version: int) -> Reason:
    """Return why `payload` is neither a packet of `ip_version`, as its frame says, nor a message for us."""
    if not payload:
        return Reason.INNER_TRUNCATED
    if payload[0] >= command.COMMAND:
        return Reason.KEEPALIVE_UNKNOWN if payload[0] == command.KEEPALIVE else Reason.COMMAND_ON_DATA_PORT
    return Reason.INNER_TRUNCATED if payload[0] >> 4 == ip_version else Reason.INNER_VERSION

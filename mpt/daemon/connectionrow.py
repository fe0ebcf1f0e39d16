"""The row of a connection in the data path's table, as its configuration has it."""

from __future__ import annotations

from mpt.data.framing import Plain, Sealed
from mpt.data.pathtable import Adaptive, ConnectionRow, PathRow
from mpt.model import Address, ConnectionConfig


def new_row(
    config: ConnectionConfig,
    broadcast: Address | None,
    paths: tuple[PathRow, ...],
    adaptive: Adaptive | None,
    mss_clamp: int,
) -> ConnectionRow:
    """Return the row of `config` with these rows of its paths.

    `broadcast` is the broadcast address of the tunnel's prefix. `mss_clamp` is the MTU to which TCP is told to keep, in
    octets; 0 for none.
    """
    return ConnectionRow(
        key=config.name,
        tunnel_local=config.ip_local,
        tunnel_peer=config.ip_remote,
        networks=config.networks,
        reorder_window=config.reorder_window,
        max_delay=config.max_buffdelay_msec / 1000,
        paths=paths,
        framing=_framing(config),
        dscp=config.dscp,
        ecn=config.ecn,
        broadcast=broadcast,
        mss_clamp=mss_clamp,
        adaptive=adaptive,
    )


def _framing(config: ConnectionConfig) -> Plain | Sealed:
    is_sequenced = config.reorder_window > 0
    if not config.is_sealed:
        return Plain(is_sequenced)
    if not is_sequenced:
        return Sealed("none")
    return Sealed("flow" if config.order == "flow" else "connection")

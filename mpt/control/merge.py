"""A create joins two descriptions of one connection (guide 4.7): ours, and the peer's as seen from its side.

The responder has a template and the text of the request; the initiator has its connection and the text of the answer.
Interfaces, our addresses, gateways, permission and delay are ours. The peer's description of itself is turned round:
its public address is our remote address, its weight_in our weight_out. Keepalive and dead time are the peer's. The
larger reorder_window holds, and the stronger authentication type: no peer can talk us out of ours.

Where the C program goes wrong we do not follow: the initiator keeps its name, its networks and its key (the C program
falls back to the built-in one), and the connection of the responder takes the key of the template that the create was
signed with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from mpt.config.parser import IniFile, Section, read_text
from mpt.config.schema import SECTIONS
from mpt.errors import PeerError
from mpt.model import (
    EVERYTHING,
    KEEPALIVES_MISSED,
    MAX_NAME,
    Address,
    AuthType,
    ConnectionConfig,
    Interface,
    Network,
    NetworkConfig,
    PathConfig,
    TunnelConfig,
)
from mpt.values import PRIVATE
from mpt.wire.command import Result

_HEAD = ("ip_ver", "ip_local", "ip_remote", "local_port", "local_cmd_port")
_PATH = ("ip_ver", "public_ipaddr")


class MergeError(PeerError):
    """The two sides do not fit; `result` is the code for the peer."""

    def __init__(self, result: Result, text: str) -> None:
        super().__init__(text)
        self.result = result


@dataclass(frozen=True, slots=True)
class PeerPath:
    """A path as the peer describes it, times in seconds."""

    ip_ver: int
    public_ipaddr: Address
    keepalive_time: float
    dead_time: float
    weight_in: int
    weight_out: int


@dataclass(frozen=True, slots=True)
class PeerSide:
    """The part of a create's text that matters at the other end."""

    name: str
    ip_ver: int
    ip_local: Address
    ip_remote: Address
    local_port: int
    local_cmd_port: int
    reorder_window: int
    auth_type: AuthType
    paths: tuple[PeerPath, ...]
    has_networks: bool


def read_peer_side(text: str) -> PeerSide:
    """Read the text of a create or of its answer; raises MergeError with the fault.

    Only the keys that matter are read: the text has no key and, from the C program, half a network at the end.
    """
    ini = read_text(text, Path("the peer's description"))
    head = _read(ini, "connection", "connection", _HEAD)
    count = head.values.get("path_count") or 0
    if not count:
        raise MergeError(Result.NO_CONNECTION, "the peer's description of the connection has no paths")
    paths = tuple(_peer_path(_read(ini, f"path_{number}", "path_n", _PATH).values) for number in range(count))
    return PeerSide(
        name=head.values.get("name") or "",
        reorder_window=head.values.get("reorder_window") or 0,
        auth_type=head.values.get("auth_type") or AuthType.NONE,
        paths=paths,
        has_networks=bool(head.values.get("network_count")),
        **{key: head.values[key] for key in _HEAD},
    )


def created_connection(
    template: ConnectionConfig,
    peer: PeerSide,
    sender: Address,
    directory: Path,
    tunnel: TunnelConfig,
    needed: Collection[Network] = (),
    taken: Collection[str] = (),
) -> ConnectionConfig:
    """Return the connection that a create makes on `tunnel`; `sender` is the tunnel address that signed the request.

    Its file, in `directory`, is peer_<address>.conf and is not written yet. A name that is `taken` gets the address
    behind it. `needed`: see `needed_networks`. Raises MergeError.
    """
    if peer.ip_local != sender:
        raise MergeError(
            Result.NO_CONNECTION, f"{sender} asked for a connection of {peer.ip_local}: it may only ask for its own"
        )
    if peer.ip_ver != template.ip_ver:
        raise MergeError(
            Result.NO_PATH, f"conf.template is of ip_ver = {template.ip_ver}, the peer wants {peer.ip_ver}"
        )
    if peer.ip_local == template.ip_local:
        raise MergeError(Result.NO_CONNECTION, f"the peer uses our own tunnel address {peer.ip_local}")
    _check_claim(peer.ip_local, tunnel, needed)
    networks: tuple[NetworkConfig, ...] = ()
    if peer.has_networks:  # not the peer's own list: it could draw any traffic of this host to itself
        networks = (NetworkConfig(peer.ip_ver, EVERYTHING[peer.ip_ver], ip_network(peer.ip_local)),)
    return replace(
        template,
        name=_free_name(peer, taken),
        ip_remote=peer.ip_local,
        remote_port=peer.local_port,
        remote_cmd_port=peer.local_cmd_port,
        paths=_paths(template, peer),
        networks=networks,
        reorder_window=max(template.reorder_window, peer.reorder_window),
        auth_type=max(template.auth_type, peer.auth_type),
        file=directory / file_name(peer.ip_local),
    )


def joined_connection(own: ConnectionConfig, peer: PeerSide) -> ConnectionConfig:
    """Return our connection after the peer has created its side and described it; raises MergeError."""
    if peer.ip_remote != own.ip_local:
        raise MergeError(
            Result.NO_CONNECTION, f"the peer created a connection to {peer.ip_remote}, not to {own.ip_local}"
        )
    if peer.ip_ver != own.ip_ver:
        raise MergeError(Result.NO_CONNECTION, f"the peer created a connection of ip_ver = {peer.ip_ver}")
    return replace(
        own,
        ip_remote=peer.ip_local,
        remote_port=peer.local_port,
        remote_cmd_port=peer.local_cmd_port,
        paths=_paths(own, peer),
        reorder_window=max(own.reorder_window, peer.reorder_window),
        auth_type=max(own.auth_type, peer.auth_type),
    )


def needed_networks(connections: Iterable[ConnectionConfig], interfaces: Iterable[Interface]) -> set[Network]:
    """Return the networks that this host reaches or is reached at: no peer may claim an address in them.

    `connections` run now, `interfaces` are the machine's.
    """
    addresses: set[Address] = set()
    networks: set[Network] = set()
    for connection in connections:
        addresses.update(connection.tunnel_pair)
        networks.update(network.destination for network in connection.networks)
        for path in connection.paths:
            own = path.private_ipaddr or path.public_ipaddr
            addresses.update((own, path.public_ipaddr, path.gateway_ipaddr, path.remote_ipaddr))
    for interface in interfaces:
        addresses.update(each.ip for each in interface.addresses)
        networks.update(each.network for each in interface.addresses)
    return networks | {ip_network(each) for each in addresses}


def _check_claim(address: Address, tunnel: TunnelConfig, needed: Collection[Network]) -> None:
    """Raise MergeError unless a peer may have the tunnel address `address`, to which we will route.

    It must be in the prefix of the tunnel. A network of `needed` is in the way if it is a part of that prefix: where
    the whole prefix leads elsewhere too, the new address is the more specific one.
    """
    own = tunnel.ipv4_addr if address.version == 4 else tunnel.ipv6_addr
    if own is None or address not in own.network:
        prefix = "no addresses of that version" if own is None else f"the prefix {own.network}"
        raise MergeError(Result.NO_CONNECTION, f"{address} cannot be a peer on {tunnel.name}, which has {prefix}")
    ends = {own.network.network_address, own.network.broadcast_address} if own.network.num_addresses > 2 else set()
    blocking = next((each for each in needed if address in each and each.prefixlen > own.network.prefixlen), None)
    if blocking is not None or address in ends:
        raise MergeError(
            Result.NO_CONNECTION,
            f"{address} cannot be a peer: " + (f"{blocking} is needed here" if blocking else f"see {own.network}"),
        )


def file_name(peer: Address) -> str:
    """Return the file name of a connection that the peer with this tunnel address has created."""
    return f"peer_{re.sub('[.:]', '_', str(peer))}.conf"


def _paths(own: ConnectionConfig, peer: PeerSide) -> tuple[PathConfig, ...]:
    """Return the paths that both sides have, by their numbers (guide 4.7: their order must be the same)."""
    paths: list[PathConfig] = []
    for number, (ours, theirs) in enumerate(zip(own.paths, peer.paths, strict=False)):
        if ours.ip_ver != theirs.ip_ver:
            raise MergeError(Result.NO_PATH, f"path_{number} is of ip_ver = {ours.ip_ver} here, {theirs.ip_ver} there")
        if theirs.public_ipaddr.is_unspecified:
            raise MergeError(Result.NO_PATH, f"the peer does not know its public address on path_{number}")
        paths.append(
            replace(
                ours,
                remote_ipaddr=theirs.public_ipaddr,
                keepalive_time=theirs.keepalive_time,
                dead_time=theirs.dead_time,
                weight_out=theirs.weight_in,
                weight_in=theirs.weight_out,
            )
        )
    return tuple(paths)


def _free_name(peer: PeerSide, taken: Collection[str]) -> str:
    if peer.name and peer.name not in taken:
        return peer.name
    return f"{peer.name or 'peer'}_{peer.ip_local}"[-MAX_NAME:]


def _peer_path(values: dict[str, Any]) -> PeerPath:
    keepalive = values.get("keepalive_time") or 0.0
    dead = values.get("dead_time")
    if dead is None or not keepalive:
        dead = KEEPALIVES_MISSED * keepalive
    return PeerPath(
        values["ip_ver"],
        values["public_ipaddr"],
        keepalive,
        dead,
        values.get("weight_in") or 1,
        values.get("weight_out") or 1,
    )


def _read(ini: IniFile, name: str, kind: str, wanted: Collection[str]) -> Section:
    """Return section `name` of the peer's text, with good values of all keys that are `wanted`; raises MergeError."""
    section = ini.sections.get(name)
    if section is None:
        raise MergeError(Result.NO_CONNECTION, f"the peer's description of the connection has no [{name}]")
    section.read(kind, optional=[key.name for key in SECTIONS[kind]])
    if section.values.get("public_ipaddr") == PRIVATE:
        section.values["public_ipaddr"] = section.values.get(PRIVATE)
    for key in wanted:
        if section.values.get(key) is None:
            raise MergeError(Result.NO_CONNECTION, f"the peer's description has no good {key} in [{name}]")
        if isinstance(section.values[key], Address) and section.values[key].version != section.values["ip_ver"]:
            raise MergeError(
                Result.NO_CONNECTION, f"the peer's description has a {key} in [{name}] that is not of its ip_ver"
            )
    return section

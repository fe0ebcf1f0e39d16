"""Turn one connection file into a ``ConnectionConfig`` (guide 2.6.3), and check that its sections agree.

A check runs if the keys that it compares are good, so a bad key hides no other error. A file whose name ends in
.template (guide 4.7, ``conf.template``) may leave out the keys that only the peer knows. A file with a ``peer_key`` is
a sealed connection's, which may leave out what has one sensible value (``schema.Key.sealed``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from mpt.config.classes import check_scheduler, follow_weights, read_classes
from mpt.config.machine import check_path
from mpt.config.parser import Entry, IniFile, Section
from mpt.config.schema import CONNECTION, PORT_KEYS
from mpt.model import (
    KEEPALIVES_MISSED,
    Address,
    AuthType,
    ConnectionConfig,
    GeneralConfig,
    Identity,
    Interface,
    NetworkConfig,
    PathConfig,
    PortMap,
    TunnelConfig,
    unspecified,
)
from mpt.values import PRIVATE, text_of

_PEER_KEYS = ("ip_remote", "remote_cmd_port")  # what a template does not know
_OWN_ADDRESSES = ("public_ipaddr", PRIVATE, "gateway_ipaddr")
_ONLY_SEALED = ("require_pq", "ciphers", "order")
FIELD_OF = {"peer_key": "peer_keys"}  # keys whose fields have another name
_NOT_KEPT = ("local_cmd_port", "path_count", "network_count")  # of no use once the file is read
_NO_REMOTE_PORT = (
    "is missing: this host sends nothing until `mpt create` has made the connection at the peer. Write the peer's "
    "local_port, for example 'remote_port = 4754', or 'remote_port = 0' if that is meant"
)
_NONE_KEY = "an earlier mpt saved where there was no key: write 64 hexadecimal digits, or take this line out"
_SHA256_KEY = re.compile(r"[0-9a-fA-F]{64}")  # guide table 3


def build_connection(
    ini: IniFile,
    general: GeneralConfig | None,
    tunnels: Sequence[TunnelConfig] | None,
    interfaces: Mapping[str, Interface] | None = None,
    for_clients: bool = False,
) -> ConnectionConfig | None:
    """Return the connection in a file that was split into sections; None if it has errors, which are added to `ini`.

    `general` and `tunnels` are the content of interface.conf, None if it has errors. `interfaces` are this machine's;
    None: the paths are not compared with them. `for_clients`: the file is a template that gives the clients of
    clients.conf everything but their names, keys, addresses and networks.
    """
    template = ini.path.suffix == ".template"
    sealed = for_clients or is_sealed(ini)
    head = ini.read("connection", (*_PEER_KEYS, *(("name",) if for_clients else ())) if template else (), sealed)
    if "connection" in ini.sections:
        _check_addresses(head, tunnels)
        _check_ports(head, general)
        (_warn_of_authentication if sealed else _check_authentication)(head)
        if not sealed:
            _warn_of_sealed_keys(head)
    if not template and not sealed and "remote_port" not in head.entries and head.clean:
        head.warn("remote_port", _NO_REMOTE_PORT)
    peer_unknown = template or head.values.get("remote_port") == 0
    optional = {"remote_ipaddr"} if peer_unknown else set()
    path_sections = ini.numbered("path", head, "path_count")
    if sealed and not path_sections and head.clean:
        ini.problem(0, "[path_0] is missing: write '[path_0]', and below it for example 'interface_name = eth0'")
    for section in path_sections:
        section.read("path_n", optional | {"weight_out"} if template else optional, sealed)
        (_check_sealed_path if sealed else _check_path)(section, peer_unknown)
        if any(tunnel.name == section.values.get("interface_name") for tunnel in tunnels or ()):
            section.problem("interface_name", "must be a physical interface, not the tunnel itself")
        if interfaces is not None:
            check_path(section, interfaces)
    _check_paths_together(path_sections)
    network_sections = ini.numbered("net", head, "network_count")
    for section in network_sections:
        section.read("net_n", sealed=sealed)
        _check_network(section)
    classes = read_classes(ini)
    if sealed:
        follow_weights(head, path_sections)
    check_scheduler(ini, head, path_sections, sealed)
    if ini.problems:
        return None
    head.values["path_count"], head.values["network_count"] = len(path_sections), len(network_sections)
    if head.values["ip_remote"] is None:  # in a template
        head.values["ip_remote"] = unspecified(head.values["ip_ver"])
    if head.values["name"] is None:
        head.values["name"] = ""
    make = _sealed_path if sealed else _path
    return ConnectionConfig(
        paths=tuple(make(section.values) for section in path_sections),
        networks=tuple(_network(section.values) for section in network_sections),
        classes=classes,
        file=ini.path,
        **{FIELD_OF.get(key, key): value for key, value in head.values.items() if key not in _NOT_KEPT},
    )


def is_sealed(ini: IniFile) -> bool:
    """Return whether the file, whose sections may not be read yet, is of a sealed connection."""
    head = ini.sections.get("connection")
    return head is not None and bool(head.entries.get("peer_key", Entry("", 0)).value)


def check_peer_keys(section: Section, identity: Identity | None) -> None:
    """Check that no peer_key of a section is this host's own."""
    if identity is not None and identity.public_key in section.values.get("peer_key", ()):
        section.problem("peer_key", "is this host's own public key: write the peer's, as `mpt pubkey` prints it there")


def _check_addresses(head: Section, tunnels: Sequence[TunnelConfig] | None) -> None:
    """Check that ip_local is one of ours, ip_remote is not, and both are of version ip_ver."""
    own, peer = head.values.get("ip_local"), head.values.get("ip_remote")
    if "ip_ver" in head.values and head.values["ip_ver"] is None:
        head.values["ip_ver"] = own.version if own is not None else None
        _check_versions(head, ("ip_remote",), "as ip_local is")
    else:
        _check_versions(head, ("ip_local", "ip_remote"))
    if own is not None and own == peer:
        head.problem("ip_remote", "must be the peer's tunnel address, not our own ip_local")
    elif peer is not None and any(tunnel.holds(peer) for tunnel in tunnels or ()):
        head.problem("ip_remote", "must be the peer's tunnel address, not that of a tunnel of this host")
    if own is not None and tunnels is not None and not any(tunnel.holds(own) for tunnel in tunnels):
        there = [
            f"{address.ip} ({tunnel.name})"
            for tunnel in tunnels
            for address in (tunnel.ipv4_addr, tunnel.ipv6_addr)
            if address is not None
        ]
        head.problem("ip_local", f"must be an address of a tunnel of interface.conf: {', '.join(there)}")


def _check_ports(head: Section, general: GeneralConfig | None) -> None:
    """Check that the data port is not the command port of this host."""
    port = head.values.get("local_port")
    if general is not None and port is not None and port == general.cmdport_local:
        head.problem("local_port", "must differ from cmdport_local of interface.conf, which takes control commands")


def _check_authentication(head: Section) -> None:
    """Check that SHA-256 has its key; the key itself is never shown."""
    if "auth_type" not in head.values or "auth_key" not in head.values:
        return
    needed = head.values["auth_type"] is AuthType.SHA256
    key = head.values["auth_key"]
    if key == "None":
        head.values["auth_key"] = ""
        (head.problem if needed else head.warn)("auth_key", f"is the word None, which {_NONE_KEY}")
    elif not needed:
        return
    elif not key:
        head.problem("auth_key", "is missing: auth_type = 2 needs 'auth_key = ' and 64 hexadecimal digits")
    elif not _SHA256_KEY.fullmatch(key):
        head.warn(
            "auth_key",
            f"should be 64 hexadecimal digits for auth_type = 2, but is {len(key)} characters"
            + (" long" if len(key) != 64 else " that are not all hexadecimal digits"),
        )


def _warn_of_authentication(head: Section) -> None:
    """Warn of what only a plain connection needs."""
    key = head.values.get("auth_key")
    if key or head.values.get("auth_type"):
        head.warn("auth_key" if key else "auth_type", "is not used: peer_key authenticates the peer of this connection")
    if key == "None":
        head.values["auth_key"] = ""


def _warn_of_sealed_keys(head: Section) -> None:
    """Warn of what only a sealed connection has."""
    for key in CONNECTION:
        if key.name in _ONLY_SEALED and head.values.get(key.name) not in (None, key.default_value()):
            head.warn(key.name, "is ignored: only a connection with a peer_key has it")


def _check_path(section: Section, peer_unknown: bool) -> None:
    """Check one path by itself, and fill in the values that follow from others."""
    values = section.values
    _check_versions(section, (*_OWN_ADDRESSES, "remote_ipaddr"))
    _settle_public_address(section)
    peer: Address | None = values.get("remote_ipaddr")
    if (peer is None and "remote_ipaddr" in values) or (peer is not None and peer.is_unspecified):
        values["remote_ipaddr"] = unspecified(values.get("ip_ver", 4))
        if not peer_unknown:
            section.problem("remote_ipaddr", "must be the peer's address; 0.0.0.0 is allowed while remote_port is 0")
    elif peer in _known(values.get("public_ipaddr"), values.get(PRIVATE)):
        section.warn("remote_ipaddr", "is this host's own address on the path: the peer's is expected")
    _settle_times(section)


def _check_sealed_path(section: Section, peer_unknown: bool) -> None:
    """Check one path of a sealed connection by itself, and fill in the values that follow from others."""
    values = section.values
    remotes: tuple[Address | str, ...] = values.get("remote_ipaddr") or ()
    addresses = [each for each in remotes if not isinstance(each, str)]
    if values.get("ip_ver") is not None:
        _check_versions(section, _OWN_ADDRESSES)
        if any(each.version != values["ip_ver"] for each in addresses):
            both = "without ip_ver both versions may be mixed"
            section.problem("remote_ipaddr", f"must be IPv{values['ip_ver']}, for ip_ver = {values['ip_ver']}; {both}")
    else:
        known = [each for each in map(values.get, _OWN_ADDRESSES) if each not in (None, PRIVATE)]
        first = next((each.version for each in (*_known(*known), *addresses)), 4)
        _check_versions(section, _OWN_ADDRESSES, "as the path's other addresses of this host", first)
    _settle_public_address(section)
    if any(each in _known(values.get("public_ipaddr"), values.get(PRIVATE)) for each in addresses):
        section.warn("remote_ipaddr", "is this host's own address on the path: the peer's is expected")
    if "remote_ipaddr" in values:
        values["remote_ipaddr"] = remotes or None
    _settle_times(section)


def _settle_public_address(section: Section) -> None:
    """Put the address in the place of the word private_ipaddr."""
    values = section.values
    if values.get("public_ipaddr") == PRIVATE and PRIVATE in values:
        if values[PRIVATE] is None:
            section.problem("public_ipaddr", f"names a key that is missing: write '{PRIVATE} = ' and its address")
        values["public_ipaddr"] = values[PRIVATE]


def _settle_times(section: Section) -> None:
    """Fill in the dead time: three keepalives unless it is written, 0 without keepalives (guide 2.6.3.2)."""
    values = section.values
    if "keepalive_time" not in values or "dead_time" not in values:
        return
    keepalive, dead = values["keepalive_time"], values["dead_time"]
    if dead is None:
        values["dead_time"] = KEEPALIVES_MISSED * keepalive
    elif dead > 0 and keepalive == 0:
        section.warn("dead_time", "is ignored: without keepalive_time the path is never declared dead")
        values["dead_time"] = 0.0
    elif 0 < dead <= keepalive:
        section.warn("dead_time", f"should be longer than keepalive_time = {keepalive:g}, or the path will flap")


def _check_paths_together(sections: Sequence[Section]) -> None:
    """Check that no two paths are the same, no port is mapped to two, and at most one is the default of commands."""
    ends: dict[tuple[Any, ...], Section] = {}
    default: Section | None = None
    for number, section in enumerate(sections):
        values = section.values
        local = values.get(PRIVATE) or values.get("public_ipaddr")
        peer = _peer_of(values)
        interface = values.get("interface_name")
        if not values.get("bind_to_device", True) and local is not None and not local.is_unspecified:
            interface = ""  # the routing table decides
        end = (interface, local, peer)
        if None not in end:
            earlier = ends.setdefault(end, section)
            if earlier is not section:
                section.problem(
                    "remote_ipaddr",
                    f"makes this the same path as [{earlier.name}]: "
                    + ("interface, " if interface else "")
                    + "local and remote address are equal",
                )
        if peer is not None:
            _check_binding(section, sections[:number])
        for key in PORT_KEYS:
            for other in sections[:number]:
                twice = values.get(key, frozenset()) & other.values.get(key, frozenset())
                if twice:
                    section.problem(key, f"maps port {min(twice)}, as [{other.name}] does: write it in one path only")
        if values.get("cmd_default"):
            if default is not None:
                section.warn("cmd_default", f"is ignored: [{default.name}] is the default path already")
                values["cmd_default"] = False
            default = default or section


def _peer_of(values: Mapping[str, Any]) -> object:
    """Return where the peer of a path is, None if that is not known."""
    peer: Address | tuple[Address | str, ...] | None = values.get("remote_ipaddr")
    if isinstance(peer, tuple) or peer is None:
        return peer
    return None if peer.is_unspecified else peer


def _check_binding(section: Section, others: Sequence[Section]) -> None:
    """Warn of two lines to one address whose sockets are not tied to their interfaces."""
    values = section.values
    for other in others:
        if _peer_of(other.values) != _peer_of(values):
            continue
        if other.values.get("interface_name") == values.get("interface_name"):
            continue
        unbound = [each for each in (section, other) if not each.values.get("bind_to_device", True)]
        if unbound:
            unbound[0].warn(
                "bind_to_device",
                f"should be 1 in [{other.name}] and [{section.name}]: both lead to {text_of(values['remote_ipaddr'])}, "
                "and without it the routing table may send both over one line",
            )


def _check_network(section: Section) -> None:
    """Check that both networks are of version ip_ver and have no host bits."""
    if "ip_ver" in section.values and section.values["ip_ver"] is None:
        source = section.values.get("src_addr")
        section.values["ip_ver"] = source.version if source is not None else None
        _check_versions(section, ("dst_addr",), "as src_addr is")
    else:
        _check_versions(section, ("src_addr", "dst_addr"))
    for key in ("src_addr", "dst_addr"):
        written: IPv4Interface | IPv6Interface | None = section.values.get(key)
        if written is not None and written.ip != written.network.network_address:
            section.warn(key, f"has host bits: read as {written.network}")


def _check_versions(section: Section, keys: Sequence[str], why: str = "", version: int | None = None) -> None:
    """Report addresses that are not of `version`, by default ip_ver; an unspecified one takes on this version."""
    version = version or section.values.get("ip_ver")
    for key in keys:
        value = section.values.get(key)
        if version is None or value in (None, PRIVATE) or value.version == version:
            continue
        if value.is_unspecified:
            section.values[key] = unspecified(version)
        else:
            section.problem(key, f"must be an IPv{version} address, {why or f'for ip_ver = {version}'}")


def _known(*addresses: Address | None) -> list[Address]:
    return [address for address in addresses if address is not None and not address.is_unspecified]


def _path(values: dict[str, Any]) -> PathConfig:
    """Return the path with these values: a key is a field, and the port keys together are one."""
    fields = {key: value for key, value in values.items() if key not in PORT_KEYS}
    return PathConfig(ports=PortMap(**{key: values[key] for key in PORT_KEYS}), **fields)


def _sealed_path(values: dict[str, Any]) -> PathConfig:
    """Return the path of a sealed connection with these values."""
    remotes: tuple[Address | str, ...] = values["remote_ipaddr"] or ()
    addresses = tuple(each for each in remotes if not isinstance(each, str))
    version: int = values["public_ipaddr"].version
    return _path(
        {
            **values,
            "ip_ver": version,
            "any_version": values["ip_ver"] is None,
            "remote_ipaddr": next((each for each in addresses if each.version == version), unspecified(version)),
            "remote_addresses": addresses,
            "remote_names": tuple(each for each in remotes if isinstance(each, str)),
        }
    )


def _network(values: dict[str, Any]) -> NetworkConfig:
    return NetworkConfig(values["ip_ver"], values["src_addr"].network, values["dst_addr"].network)

"""Whether a configuration that mptsrv takes does what is meant, on this host: judgements, each of one thing.

A judgement compares a connection with the facts about the host. What is not known raises no finding. Keys and files are
checked before, by ``load_directory``; so are interfaces and addresses that are missing (`mpt.config.machine`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Final

from mpt.config.directory import Files, read_directory
from mpt.config.findings import ERROR, NOTE, WARNING, Finding, found
from mpt.config.freetunnel import free_tunnel
from mpt.config.parser import Section
from mpt.config.sizes import ETHERNET, largest_packet, packets_in, rate_of, versions_of
from mpt.facts import HostFacts
from mpt.model import (
    EVERYTHING,
    Address,
    AuthType,
    Config,
    ConnectionConfig,
    Interface,
    Network,
    PathConfig,
    TunnelConfig,
)

USUAL_WINDOW: Final = 1000  # packets
WIDE: Final = 8  # a prefix that is shorter is meant to be (nearly) everything

_SITE_LOCAL: Final = ip_network("fec0::/10")


@dataclass(frozen=True, slots=True)
class Place:
    """A connection and where its sections stand; those of a client stand in the template of all clients."""

    connection: ConnectionConfig
    tunnel: TunnelConfig
    sections: Mapping[str, Section]

    def paths(self) -> Iterator[tuple[Section, PathConfig]]:
        """Return each path with its section."""
        return ((self.sections[f"path_{number}"], path) for number, path in enumerate(self.connection.paths))

    def networks(self) -> Iterator[tuple[Section, Network, Network]]:
        """Return each [net_n]: its section, source and destination."""
        for number, network in enumerate(self.connection.networks):
            if (section := self.sections.get(f"net_{number}")) is not None:
                yield section, network.source, network.destination


def check_directory(directory: Path, host: HostFacts | None = None) -> tuple[Config, list[Finding]]:
    """Return what is good in a directory, and everything that was found in it, file by file.

    Without facts about the `host` the configuration is judged by itself.
    """
    files = read_directory(directory, host.interfaces if host is not None else None)
    findings = [Finding(ERROR, problem) for problem in files.problems()]
    findings += [Finding(WARNING, warning) for warning in files.warnings()]
    if not files.interface.problems:
        findings += judge(files, host)
    order = {file.path: number for number, file in enumerate((files.interface, *files.connections))}
    return files.config, sorted(
        dict.fromkeys(findings), key=lambda each: (order.get(each.problem.file, 0), each.problem.line)
    )


def judge(files: Files, host: HostFacts | None) -> list[Finding]:
    """Return what the judgements find in the connections without errors."""
    places = list(_places(files))
    findings = [finding for place in places for judgement in BY_ITSELF for finding in judgement(place)]
    findings += _tunnel_addresses(files)
    if host is not None:
        names = {tunnel.name for tunnel in files.config.tunnels}
        lines = {name: each for name, each in host.interfaces.items() if name not in names and name != "lo"}
        seen = Seen(host, lines)
        findings += [finding for place in places for judgement in ON_THIS_HOST for finding in judgement(place, seen)]
        findings += [*_mtu(files, places, seen), *_tunnel_networks(files, seen), *_general(files, seen)]
    return findings


def _places(files: Files) -> Iterator[Place]:
    by_path = {file.path: file for file in files.connections}
    templates = set()
    for connection in files.config.connections:
        if connection.is_down or connection.file is None:
            continue
        tunnel = next((each for each in files.config.tunnels if each.holds(connection.ip_local)), None)
        if tunnel is None:
            continue
        if connection.template is None:
            yield Place(connection, tunnel, by_path[connection.file].sections)
        elif connection.template not in templates:  # what holds for one client holds for all
            templates.add(connection.template)
            yield Place(connection, tunnel, files.template.sections)


@dataclass(frozen=True, slots=True)
class Seen:
    """The host as judgements see it: `lines` are its interfaces without the tunnels."""

    host: HostFacts
    lines: Mapping[str, Interface]

    def networks_of(self, path: PathConfig) -> list[Network]:
        """Return the networks on the link of a path, of its IP version."""
        line = self.lines[path.interface_name]
        return [each.network for each in line.addresses if each.version == path.ip_ver]


# ---- a connection by itself -----------------------------------------------------------------------------------------


def _public_networks(place: Place) -> Iterator[Finding]:
    for section, source, destination in place.networks():
        for key, network in (("src_addr", source), ("dst_addr", destination)):
            if network.version == 4 and network.prefixlen >= WIDE and network.is_global and not network.is_multicast:
                yield found(
                    WARNING,
                    section,
                    key,
                    "is public address space: unless it is yours, its owners cannot be reached any more",
                    "a private network, of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
                )


def _authentication(place: Place) -> Iterator[Finding]:
    connection = place.connection
    if not connection.is_sealed and connection.auth_type is not AuthType.NONE:
        yield found(
            NOTE,
            place.sections["connection"],
            "auth_type",
            "protects the control commands only: packets are neither encrypted nor authenticated",
            "peer_key = the peer's `mpt pubkey`, at both ends: docs/recipes.md, From plain to sealed",
        )


def _no_keepalives(place: Place) -> Iterator[Finding]:
    if place.connection.is_sealed or len(place.connection.paths) < 2:
        return
    for section, path in place.paths():
        if not path.keepalive_time and not path.status.is_by_hand:
            yield found(
                WARNING,
                section,
                "keepalive_time",
                "is 0: if this path dies beyond this host, nobody notices, and its share of the packets is lost",
                "keepalive_time = 0.5, and dead_time = 2",
            )


def _window(place: Place) -> Iterator[Finding]:
    connection = place.connection
    if connection.reorder_window == 0 and len(connection.paths) > 1 and not connection.is_adaptive:
        yield found(
            NOTE,
            place.sections["connection"],
            "reorder_window",
            "is 0: packets that overtake each other on different paths stay so, which slows TCP down",
            f"reorder_window = {USUAL_WINDOW}, at both ends",
        )


def _same_port(place: Place) -> Iterator[Finding]:
    connection = place.connection
    if connection.remote_cmd_port and connection.remote_cmd_port == connection.remote_port:
        yield found(
            WARNING,
            place.sections["connection"],
            "remote_cmd_port",
            "is remote_port, too: the peer takes control commands and datagrams at different ports",
            "remote_cmd_port = the peer's cmdport_local",
        )


BY_ITSELF: Final[tuple[Callable[[Place], Iterable[Finding]], ...]] = (
    _public_networks,
    _authentication,
    _no_keepalives,
    _window,
    _same_port,
)


# ---- a connection on this host --------------------------------------------------------------------------------------


def _line_down(place: Place, seen: Seen) -> Iterator[Finding]:
    for section, path in place.paths():
        line = seen.lines.get(path.interface_name)
        if line is not None and not line.up:
            yield found(WARNING, section, "interface_name", "is switched off", f"run: ip link set {line.name} up")
        elif line is not None and not line.carrier:
            yield found(NOTE, section, "interface_name", "has no carrier now: a cable, or a radio, is missing")


def _gateway(place: Place, seen: Seen) -> Iterator[Finding]:
    for section, path in place.paths():
        line = seen.lines.get(path.interface_name)
        on_link = seen.networks_of(path) if line is not None else []
        if line is None or not on_link or not line.needs_gateway:
            continue
        peers = [each for each in _peers(path) if each.version == path.ip_ver]
        beyond = [peer for peer in peers if not _in_any(peer, on_link)]
        here = f"{line.name}, which has {', '.join(map(str, on_link))}"
        default = seen.host.default_routes.get((line.name, path.ip_ver))
        router = default.gateway if default is not None else None
        write = f"gw_ipaddr = {router or 'the address of the router of that line'}"
        gateway = path.gateway_ipaddr
        if gateway.is_unspecified:
            if beyond and default is None:
                message = f"is to be found out, but {line.name} has no IPv{path.ip_ver} default route"
                yield found(WARNING, section, "gateway_ipaddr", f"{message}, and {beyond[0]} is not on its link", write)
        elif gateway in (path.public_ipaddr, path.private_ipaddr, *peers):
            if beyond:
                message = f"says that the peer is on the link, but {beyond[0]} is not on that of {here}"
                yield found(WARNING, section, "gateway_ipaddr", message, write)
        elif not _in_any(gateway, on_link) and not gateway.is_link_local:
            yield found(WARNING, section, "gateway_ipaddr", f"is not on the link of {here}", write)


def _ports(place: Place, seen: Seen) -> Iterator[Finding]:
    port = place.connection.local_port
    for section, path in place.paths():
        own = path.private_ipaddr or path.public_ipaddr
        local = None if own.is_unspecified else own
        if owner := _owner(seen.host, local, port):
            where = f" at {local}" if local is not None else ""
            message = f"UDP port {port}{where} of [{section.name}] is in use by {owner}"
            remedy = (
                f"end that program (ss -lunp sport = :{port}); or local_port = another one, at the peer remote_port"
            )
            yield found(WARNING, place.sections["connection"], "local_port", message, remedy)
            return


def _rate(place: Place, seen: Seen) -> Iterator[Finding]:
    connection = place.connection
    speeds = {path.interface_name: seen.host.speeds.get(path.interface_name) for path in connection.paths}
    known = [speed for speed in speeds.values() if speed]
    if connection.is_adaptive or len(connection.paths) < 2 or len(known) < len(speeds):
        return
    delay = connection.max_buffdelay_msec
    enough, needed = rate_of(connection.reorder_window, delay), packets_in(sum(known), delay)
    if connection.reorder_window and sum(known) > enough and connection.reorder_window < needed:
        yield found(
            NOTE,
            place.sections["connection"],
            "reorder_window",
            f"holds what {enough} Mbit/s bring in max_buffdelay_msec = {delay}; the interfaces have {sum(known)}",
            f"reorder_window = {needed}, if the lines behind them are as fast",
        )


def _peer_port(place: Place, seen: Seen) -> Iterator[Finding]:
    connection = place.connection
    if connection.is_sealed:  # has no need of it
        return
    port = connection.remote_cmd_port
    for section, path in place.paths():
        if outcome := seen.host.probed.get((path.remote_ipaddr, port)):
            message = f"{path.remote_ipaddr}, the peer of [{section.name}], was asked at UDP port {port}: {outcome}"
            remedy = f"start mptsrv there, with cmdport_local = {port}, and let its firewall pass that port"
            yield found(WARNING, place.sections["connection"], "remote_cmd_port", message, remedy)
            return


def _leaks(place: Place, seen: Seen) -> Iterator[Finding]:
    networks = list(place.networks())
    if not seen.host.reaches(6) or any(each == EVERYTHING[6] for _section, _source, each in networks):
        return
    for section, _source, destination in networks:
        if destination == EVERYTHING[4]:
            yield found(
                WARNING,
                section,
                "dst_addr",
                "sends all IPv4 into the tunnel, and IPv6 goes beside it: this host has an IPv6 default route",
                "a further [net_n] with dst_addr = ::/0 (and its mirror at the peer); or switch IPv6 off: "
                "sysctl -w net.ipv6.conf.all.disable_ipv6=1",
            )


def _networks_here(place: Place, seen: Seen) -> Iterator[Finding]:
    for section, _source, destination in place.networks():
        for line in seen.lines.values():
            for own in line.addresses:
                same = own.version == destination.version and destination.overlaps(own.network)
                if same and destination.prefixlen >= own.network.prefixlen:
                    message = f"is on the link of {line.name} ({own}): its hosts would be looked for behind the peer"
                    yield found(WARNING, section, "dst_addr", message, "a network that is behind the peer only")


ON_THIS_HOST: Final[tuple[Callable[[Place, Seen], Iterable[Finding]], ...]] = (
    _line_down,
    _gateway,
    _ports,
    _rate,
    _peer_port,
    _leaks,
    _networks_here,
)


# ---- interface.conf -------------------------------------------------------------------------------------------------


def _tunnel_addresses(files: Files) -> Iterator[Finding]:
    for section, tunnel in _tunnels(files):
        if tunnel.ipv4_addr is not None and tunnel.ipv4_addr.ip.is_global:
            message = "is public address space: unless it is yours, its owners cannot be reached any more"
            yield found(WARNING, section, "ipv4_addr", message, "ipv4_addr = 10.77.0.1/24, for example")
        if tunnel.ipv6_addr is not None and tunnel.ipv6_addr.ip in _SITE_LOCAL:
            other = ip_interface(
                (int(tunnel.ipv6_addr.ip) & (1 << 64) - 1 | 0xFD00 << 112, tunnel.ipv6_addr.network.prefixlen)
            )
            message = "is site-local, which nobody uses any more (RFC 3879)"
            yield found(NOTE, section, "ipv6_addr", message, f"ipv6_addr = {other}, at both ends alike")


def _tunnel_networks(files: Files, seen: Seen) -> Iterator[Finding]:
    for section, tunnel in _tunnels(files):
        for own in tunnel.addresses:
            for line in seen.lines.values():
                for other in line.addresses:
                    if own.version == other.version and own.network.overlaps(other.network):
                        key = f"ipv{own.version}_addr"
                        message = f"{own.network} overlaps the network of {line.name}, {other.network}: "
                        message += "what is meant for one may go to the other"
                        yield found(WARNING, section, key, message, f"{key} = {_free(own.version, seen)}, at both ends")


def _free(version: int, seen: Seen) -> str:
    """Return a tunnel address that no line has."""
    if version == 6:
        return "an address of another fd00::/8 network"
    free = free_tunnel(address for line in seen.lines.values() for address in line.addresses)
    return f"{free[1]}/{free.prefixlen}" if free is not None else "an address of a network that is free here"


def _mtu(files: Files, places: Sequence[Place], seen: Seen) -> Iterator[Finding]:
    for section, tunnel in _tunnels(files):
        rooms: list[tuple[int, Interface]] = []
        for place in places:
            for path in place.connection.paths if place.tunnel == tunnel else ():
                line = seen.lines.get(path.interface_name)
                if line is not None and line.mtu < ETHERNET:  # for Ethernet `load_directory` has its own warning
                    is_sealed = place.connection.is_sealed
                    rooms.append((largest_packet(line.mtu, versions_of(path), is_sealed), line))
        if rooms and not tunnel.mtu_auto:
            room, line = min(rooms, key=lambda each: each[0])
            if tunnel.mtu > room:
                message = f"is too large for {line.name}, whose MTU is {line.mtu}: its datagrams are cut in two"
                yield found(WARNING, section, "mtu", message, f"mtu = {room}, at both ends")


def _general(files: Files, seen: Seen) -> Iterator[Finding]:
    port = files.config.general.cmdport_local
    section = files.interface.sections["general"]
    if files.config.general.data_plane == "native" and not seen.host.has_native:
        yield found(
            ERROR, section, "data_plane", "asks for the native data path, which was not built", "data_plane = auto"
        )
    if owner := _owner(seen.host, None, port):
        message = f"UDP port {port} is in use by {owner}"
        yield found(WARNING, section, "cmdport_local", message, "cmdport_local = another one")


def _tunnels(files: Files) -> Iterator[tuple[Section, TunnelConfig]]:
    return ((files.interface.sections[f"tun_{number}"], each) for number, each in enumerate(files.config.tunnels))


# ---- details --------------------------------------------------------------------------------------------------------


def _peers(path: PathConfig) -> list[Address]:
    """Return the known addresses of the peer."""
    return [each for each in path.remote_addresses or (path.remote_ipaddr,) if not each.is_unspecified]


def _in_any(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _owner(host: HostFacts, local: Address | None, port: int) -> str:
    """Return who else has a UDP port of this host, "" if nobody has. `local` None: at any address."""
    for socket in host.udp_sockets or ():
        meets = local is None or socket.address.is_unspecified or socket.address == local
        is_ours = socket.pid in (0, host.daemon) if host.daemon else False
        if socket.port == port and meets and not is_ours:
            named = f"{socket.program} (process {socket.pid})" if socket.program else f"process {socket.pid}"
            return named if socket.pid else "another program"
    return ""

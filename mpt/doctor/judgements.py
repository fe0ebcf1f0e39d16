"""The judgements of `mpt doctor`, each of one thing, in the order in which it prints them.

A judgement sees a `Case`: the configuration if there is one, the facts about this host, the status if a daemon runs,
and how the peers were reached. It says what is wrong with the command that mends it, or that it is good. What is not
known is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from mpt.config.findings import ERROR, counts
from mpt.config.findings import WARNING as CHECK_WARNING
from mpt.config.findings import Finding as CheckFinding
from mpt.config.sizes import largest_packet
from mpt.doctor.findings import FAULT, GOOD, NOTE, WARNING, Finding
from mpt.facts import HostFacts
from mpt.local.status import StatusDocument
from mpt.local.statustext import problems_of
from mpt.model import Address, Config, ConnectionConfig, GeneralConfig, Network, PathConfig

OLDEST_KERNEL: Final = (5, 0)  # UDP_GRO; UDP_SEGMENT is of 4.18
USO_KERNEL: Final = (6, 2)  # TUN_F_USO4: UDP in the tunnel is cut and joined, too
SOCKET_BUFFER: Final = 4 << 20  # octets, mpt.host.sockets.BUFFER_SIZE
NAT_FORGETS: Final = 30  # s without a packet; some NATs, the shortest that RFC 4787 REQ-5 tolerates is 120
NEARLY_FULL: Final = 0.9
PROVIDERS_NAT: Final = ip_network("100.64.0.0/10")  # RFC 6598
OFFLOADS: Final = ("vnet_hdr", "udp_segment")  # those that matter for the rate


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged. `config` None: there is none, or it has errors. `status` None: no daemon answers.

    `ports` says of a peer's address and UDP port what is wrong, "" for nothing that can be seen; `path_mtus` how long
    packets to a peer may be, by interface and address; None: the peer answers no ping. `checked` is what `mpt check`
    has found, None without a configuration.
    """

    host: HostFacts
    config: Config | None = None
    status: StatusDocument | None = None
    ports: Mapping[tuple[Address, int], str] = field(default_factory=dict)
    path_mtus: Mapping[tuple[str, Address], int | None] = field(default_factory=dict)
    checked: Sequence[CheckFinding] | None = None

    def connections(self) -> tuple[ConnectionConfig, ...]:
        """Return the connections that are to work; none whose tunnel has errors in interface.conf."""
        if self.config is None:
            return ()
        tunnels = self.config.tunnels
        return tuple(
            each
            for each in self.config.connections
            if not each.is_down and any(tunnel.holds(each.ip_local) for tunnel in tunnels)
        )

    def paths(self) -> Iterator[tuple[ConnectionConfig, PathConfig]]:
        """Return every path of them; what clients have in common is one connection."""
        seen = set()
        for connection in self.connections():
            if connection.template is None or connection.template not in seen:
                seen.add(connection.template)
                yield from ((connection, path) for path in connection.paths)

    def lines(self) -> list[str]:
        """Return the interfaces of the paths that are there."""
        names = dict.fromkeys(path.interface_name for _connection, path in self.paths())
        return [name for name in names if name in self.host.interfaces]

    def local_address(self, path: PathConfig) -> Address | None:
        """Return the address of this host from which a path sends, None if it is not there."""
        line = self.host.interfaces.get(path.interface_name)
        own = [each.ip for each in line.addresses if each.version == path.ip_ver] if line is not None else []
        configured = path.private_ipaddr or path.public_ipaddr
        return next((each for each in own if each == configured), own[0] if own else None)

    def is_set(self, sysctl: str, value: str) -> bool:
        """Return whether the kernel has this setting, with this value."""
        return self.host.sysctls.get(sysctl) == value


def judge(case: Case) -> list[Finding]:
    """Return what all judgements find."""
    return [finding for judgement in JUDGEMENTS for finding in judgement(case)]


# ---- this host ------------------------------------------------------------------------------------------------------


def _rights(case: Case) -> Iterator[Finding]:
    if not case.host.is_root:
        yield Finding(NOTE, "rights", "run by root, it sees more: programs at ports, packets that get through")


def _kernel(case: Case) -> Iterator[Finding]:
    if case.host.kernel == (0, 0):
        return
    version = ".".join(map(str, case.host.kernel))
    if case.host.kernel < OLDEST_KERNEL:
        yield Finding(WARNING, "kernel", f"Linux {version} does not join datagrams: use 5.0 or later, better 6.2")
    elif case.host.kernel < USO_KERNEL:
        yield Finding(NOTE, "kernel", f"Linux {version} cuts TCP for the tunnel, and not UDP, as 6.2 does")
    else:
        yield Finding(GOOD, "kernel", f"Linux {version} has everything that mpt uses")


def _tun(case: Case) -> Iterator[Finding]:
    if not case.host.tun_device:
        yield Finding(GOOD, "tun", "/dev/net/tun can be opened")
    elif case.host.tun_device.startswith("No such"):
        message = "there is no /dev/net/tun; a container needs --device /dev/net/tun and --cap-add NET_ADMIN"
        yield Finding(FAULT, "tun", message, "modprobe tun")
    else:
        message = f"/dev/net/tun cannot be opened: {case.host.tun_device}"
        yield Finding(FAULT if case.host.is_root else NOTE, "tun", message)


def _data_path(case: Case) -> Iterator[Finding]:
    planes = {each.data_plane for each in case.status.tunnels} if case.status is not None else set()
    asked = case.config.general.data_plane if case.config is not None else "auto"
    if not case.host.has_native:
        message = "the native data path was not built: the Python one carries about 0.5 Gbit/s"
        commands = "apt-get install gcc python3-dev libssl-dev\n"
        commands += "MPT_BUILD_NATIVE=yes pip install --force-reinstall --no-cache-dir ."
        yield Finding(WARNING, "data path", message, commands)
    elif asked == "python" or "python" in planes:
        why = "data_plane = python in interface.conf asks for it" if asked == "python" else "the log says why: mpt logs"
        yield Finding(NOTE, "data path", f"Python: the native one is there, and some ten times as fast; {why}")
    else:
        yield Finding(GOOD, "data path", "native")


def _offloads(case: Case) -> Iterator[Finding]:
    for tunnel in case.status.tunnels if case.status is not None else ():
        missing = [each for each in OFFLOADS if each not in tunnel.offloads]
        if tunnel.data_plane != "native":
            continue
        if not missing:
            yield Finding(GOOD, "offloads", f"{tunnel.name}: {', '.join(tunnel.offloads)}")
            continue
        message = f"{tunnel.name} works without {' and '.join(missing)}, which costs rate: "
        if asked := _switched_off(case.config):
            yield Finding(NOTE, "offloads", f"{message}interface.conf has {asked}")
        else:
            message += "the kernel or a line has refused it, as the log says"
            yield Finding(WARNING, "offloads", message, "mpt logs | grep -i offload")


def _switched_off(config: Config | None) -> str:
    """Return which offloads interface.conf switches off, "" for none."""
    general = config.general if config is not None else GeneralConfig()
    off = [key for key, is_on in (("gso", general.gso), ("tun_offload", general.tun_offload)) if not is_on]
    return " and ".join(f"{key} = off" for key in off)


def _buffers(case: Case) -> Iterator[Finding]:
    small = [
        name
        for name in ("net.core.rmem_max", "net.core.wmem_max")
        if case.host.sysctls.get(name, "").isdigit() and int(case.host.sysctls[name]) < SOCKET_BUFFER
    ]
    if small:
        message = f"{' and '.join(small)}: below the 4 MiB that mptsrv asks for, and gets with CAP_NET_ADMIN alone"
        command = f"sysctl -w {' '.join(f'{name}={SOCKET_BUFFER}' for name in small)}"
        yield Finding(NOTE, "buffers", message, command)
    for socket in case.host.udp_sockets or ():
        if socket.drops and socket.pid and socket.pid == case.host.daemon:
            message = f"the kernel has dropped {socket.drops} datagrams at {socket.address} port {socket.port}: "
            message += "mptsrv did not read them in time; the native data path or a faster processor does"
            yield Finding(WARNING, "buffers", message)


def _reverse_path(case: Case) -> Iterator[Finding]:
    lines = case.lines()
    strict = [name for name in lines if max(_filters(case, name), default="") == "1"]
    if strict and len(lines) > 1:
        message = f"the kernel drops IPv4 answers at {', '.join(strict)} that it would send over another line"
        yield Finding(WARNING, "rp_filter", message, "sysctl -w net.ipv4.conf.all.rp_filter=2")
    elif lines and "net.ipv4.conf.all.rp_filter" in case.host.sysctls:
        yield Finding(GOOD, "rp_filter", "answers are taken on each line")


def _filters(case: Case, name: str) -> list[str]:
    """Return the values of rp_filter for an interface; the largest counts."""
    names = ("net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{name}.rp_filter")
    return [case.host.sysctls[each] for each in names if each in case.host.sysctls]


def _ipv6(case: Case) -> Iterator[Finding]:
    for tunnel in case.config.tunnels if case.config is not None else ():
        if tunnel.ipv6_addr is not None and case.is_set("net.ipv6.conf.all.disable_ipv6", "1"):
            message = f"IPv6 is off in this kernel, and {tunnel.name} is to have {tunnel.ipv6_addr}"
            yield Finding(FAULT, "IPv6", message, "sysctl -w net.ipv6.conf.all.disable_ipv6=0")


def _forwarding(case: Case) -> Iterator[Finding]:
    for version, sysctl in ((4, "net.ipv4.ip_forward"), (6, "net.ipv6.conf.all.forwarding")):
        behind = [
            network.source if network.source.prefixlen else network.destination
            for connection in case.connections()
            for network in connection.networks
            if network.ip_ver == version
            and network.source.num_addresses > 1
            and not _is_host(network.destination)
            and not network.destination.is_multicast
        ]
        if behind and case.is_set(sysctl, "0"):
            message = f"this host does not forward IPv{version}, and {behind[0]} is to be reached through it"
            yield Finding(WARNING, "forwarding", message, f"sysctl -w {sysctl}=1")
        elif behind and case.is_set(sysctl, "1"):
            yield Finding(GOOD, "forwarding", f"IPv{version} is forwarded")


def _is_host(network: Network) -> bool:
    return network.num_addresses == 1


def _tracking(case: Case) -> Iterator[Finding]:
    count, most = (
        int(text) if (text := case.host.sysctls.get(f"net.netfilter.nf_conntrack_{name}", "")).isdigit() else 0
        for name in ("count", "max")
    )
    if most and count > NEARLY_FULL * most:
        message = f"the table of connections of the firewall and NAT is nearly full: {count} of {most}"
        yield Finding(WARNING, "conntrack", message, f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}")


# ---- the way to the peers -------------------------------------------------------------------------------------------


def _configuration(case: Case) -> Iterator[Finding]:
    if case.checked is None or case.config is None:
        yield Finding(NOTE, "configuration", "there is none yet", "mpt init --help")
        return
    numbers = counts(case.checked)
    look = f"mpt check {case.config.directory}"
    if numbers[ERROR]:
        yield Finding(FAULT, "configuration", f"{numbers[ERROR]} error(s): mptsrv does not start with it", look)
    elif numbers[CHECK_WARNING]:
        yield Finding(WARNING, "configuration", f"{numbers[CHECK_WARNING]} warning(s)", look)
    else:
        yield Finding(GOOD, "configuration", "mpt check finds nothing wrong")


def _daemon(case: Case) -> Iterator[Finding]:
    if case.status is None:
        yield Finding(NOTE, "daemon", "no mptsrv answers here", "systemctl start mpt || mptsrv --daemon")
        return
    said = problems_of(case.status.connections)
    yield from (Finding(FAULT, "daemon", each) for each in said)
    if not said:
        yield Finding(GOOD, "daemon", f"mptsrv {case.status.version} runs, and all of its paths work")


def _nat(case: Case) -> Iterator[Finding]:
    for connection, path in case.paths():
        local = case.local_address(path)
        peers = [each for each in path.remote_addresses or (path.remote_ipaddr,) if each.is_global]
        if local is None or local.version == 6 or local.is_global or not (peers or path.remote_names):
            continue
        at = f"{path.interface_name} ({local}) is behind a NAT"
        if connection.is_sealed and 0 < path.keepalive_time <= NAT_FORGETS:
            yield Finding(GOOD, "NAT", f"{at}: keepalives keep it open")
        elif connection.is_sealed:
            message = f"{at}, which may forget the path between two keepalives: write keepalive_time = 15 below its "
            reload = f"mpt reload {connection.file.name}" if connection.file is not None else ""
            yield Finding(WARNING, "NAT", f"{message}[path_n] in {connection.template or connection.file}", reload)
        elif local in PROVIDERS_NAT:
            message = f"{at} of the provider, where no port can be forwarded: only a connection with keys gets through"
            yield Finding(FAULT, "NAT", message, "mpt genkey")
        else:
            ports = ", ".join(map(str, (connection.local_port, *_command_port(case))))
            message = f"{at}: the router there must forward UDP {ports} to {local}, and keep them; if it runs Linux:"
            command = f"nft add rule ip nat prerouting udp dport {{ {ports} }} dnat to {local}"
            yield Finding(WARNING, "NAT", message, command)


def _command_port(case: Case) -> list[int]:
    return [case.config.general.cmdport_local] if case.config is not None else []


def _ports(case: Case) -> Iterator[Finding]:
    working = _working(case)
    for (peer, port), fault in case.ports.items():
        at = f"{peer}, UDP port {port} ({_port_names(case, peer, port)})"
        if fault and any((other, port) in working for other in _alternatives(case, peer)):
            yield Finding(NOTE, "peer", f"{at}: {fault}; another address of the peer works")
        elif fault:
            command = f"nft add rule inet filter input udp dport {port} accept"
            yield Finding(FAULT, "peer", f"{at}: {fault}; there start mptsrv, or", command)
        elif (peer, port) in working:
            yield Finding(GOOD, "peer", f"{at}: heard")
        else:
            yield Finding(NOTE, "peer", f"{at}: silent, as a program that listens is, or a firewall that drops")


def _alternatives(case: Case, peer: Address) -> set[Address]:
    """Return the other addresses of the paths that may use this one."""
    paths = [path.remote_addresses for _connection, path in case.paths() if peer in path.remote_addresses]
    return {each for addresses in paths for each in addresses} - {peer}


def _port_names(case: Case, peer: Address, port: int) -> str:
    of_commands = {
        (path.remote_ipaddr, connection.remote_cmd_port)
        for connection, path in case.paths()
        if not connection.is_sealed and connection.remote_cmd_port != connection.remote_port
    }
    return "commands" if (peer, port) in of_commands else "data"


def _working(case: Case) -> set[tuple[Address, int]]:
    """Return the data ports of the peers that the daemon hears."""
    up = {
        place
        for connection in (case.status.connections if case.status is not None else ())
        for each in connection.paths
        if each.status == "up"
        for place in (each.remote_address, f"{each.remote_address}:{connection.remote_port}")
    }
    return {(peer, port) for peer, port in case.ports if up & {f"{peer}:{port}", f"[{peer}]:{port}"}}


def _path_mtu(case: Case) -> Iterator[Finding]:
    for (interface, peer), mtu in case.path_mtus.items():
        if mtu is None:
            yield Finding(NOTE, "MTU", f"{peer} over {interface} answers no ping: not measured")
            continue
        carried = f"{interface} carries packets of {mtu} octets to {peer}"
        users = [
            connection
            for connection, path in case.paths()
            if path.interface_name == interface and peer in (path.remote_ipaddr, *path.remote_addresses)
        ]
        tunnels = [case.config.tunnel_of(each) for each in users] if case.config is not None else []
        room = largest_packet(mtu, [peer.version], any(each.is_sealed for each in users))
        if case.config is not None and any(tunnel.mtu > room and not tunnel.mtu_auto for tunnel in tunnels):
            command = f"sed -i 's/^ *mtu *=.*/mtu = {room}/' {case.config.directory}/interface.conf"
            message = f"{carried}: write mtu = {room} in interface.conf, at both ends, and restart mptsrv"
            yield Finding(WARNING, "MTU", message, command if len(case.config.tunnels) == 1 else "")
        else:
            yield Finding(GOOD, "MTU", carried)


JUDGEMENTS: Final[tuple[Callable[[Case], Iterable[Finding]], ...]] = (
    _rights,
    _kernel,
    _tun,
    _data_path,
    _offloads,
    _buffers,
    _reverse_path,
    _ipv6,
    _forwarding,
    _tracking,
    _configuration,
    _daemon,
    _nat,
    _ports,
    _path_mtu,
)

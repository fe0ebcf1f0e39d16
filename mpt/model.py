"""The frozen values that every part of mpt shares: the configuration, the states of a path, interfaces and routes.

Addresses are ``ipaddress`` objects, times are seconds (float) unless a name says otherwise, ports are ints.
These are values for configuration, status and control; the packet path works on ints, tuples and bytes.
"""

from __future__ import annotations

import base64
import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
InterfaceAddress = IPv4Interface | IPv6Interface

# the network of all addresses, by IP version
EVERYTHING: Final[dict[int, Network]] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}

MAX_PATHS = 20  # guide 2.6.3.1, path_count
MAX_NETWORKS = 20  # guide 2.6.3.1, network_count
MAX_REORDER_WINDOW = 10_000  # guide 2.6.3.1, reorder_window, in packets
DATA_PLANES: Final = ("auto", "python", "native")  # what data_plane may be
UDP_COMMANDS: Final = ("connected", "unconnected")  # what udp_commands may be
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warn", "error")
CIPHERS: Final = ("aes-128-gcm", "chacha20-poly1305", "aes-256-gcm")  # what ciphers may have (session 2)
ORDERS: Final = ("flow", "connection")  # what order may be (session 3)
MSS_CLAMPS: Final = ("auto", "off")  # what mss_clamp may be
SCHEDULERS: Final = ("cycle", "adaptive")  # what scheduler may be
COSTS: Final = ("free", "metered", "backup")  # what cost may be, the cheapest first
PERIODS: Final = ("day", "week", "month")  # of a quota
MAX_CLASSES: Final = 32  # ours; [class NAME] sections of a connection
MAX_PEER_KEYS: Final = 2  # session 1: two, while one is being replaced
MAX_REMOTES: Final = 8  # ours; remote addresses and names of one path
AUTO_MTU: Final = 1280  # ours; of a tunnel with mtu = auto until its paths are measured (RFC 8200 section 5)
MAX_NAME: Final = 64  # ours; characters of the name of a connection
KEEPALIVES_MISSED: Final = 3  # guide 2.6.3.2: the default dead_time is this many times keepalive_time
MAX_WEIGHT = 10_000  # guide 2.6.3.2, weight_out


def unspecified(version: int) -> Address:
    """Return the address of IP `version` that stands for "find it out yourself" (guide 2.6.3.2): 0.0.0.0 or ::."""
    return IPv4Address(0) if version == 4 else IPv6Address(0)


class Status(enum.IntEnum):
    """The state of a path as it stands in configuration files and on the wire (the C program's values)."""

    OK = 0x00
    DOWN = 0x80  # no keepalive for the dead time; the next keepalive revives it
    INTERFACE_DOWN = 0x81
    ADDRESS_DOWN = 0x82
    MANUAL_DOWN = 0x83  # the operator said so; only the operator revives it
    DISABLED = 0xFF

    @property
    def is_by_hand(self) -> bool:
        """Return whether the operator has decided it; nothing else revives such a path."""
        return self in (Status.MANUAL_DOWN, Status.DISABLED)


class Permission(enum.IntFlag):
    """Who may change a connection at run time (guide 2.6.3.1, table 2)."""

    NONE = 0
    SEND = 1  # this host may start a change at the peer
    RECEIVE = 2  # the peer may start a change here


class AuthType(enum.IntEnum):
    """How control messages of a connection are authenticated (guide 2.6.3.1, table 3)."""

    NONE = 0
    RANDOM = 1
    SHA256 = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """The Ed25519 key pair of this host (session 1), 32 octets each; the private key is in no text of it."""

    private_key: bytes = field(repr=False)
    public_key: bytes

    @property
    def public_text(self) -> str:
        """Return the public key as people write it."""
        return key_text(self.public_key)


def key_text(public_key: bytes) -> str:
    """Return a public key as people write it: base64 of its 32 octets, 44 characters (session 1)."""
    return base64.b64encode(public_key).decode()


@dataclass(frozen=True, slots=True)
class StatusPlace:
    """Where the status port listens: an `address` and a `port` of this host, or the `path` of a unix socket."""

    address: Address
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        """Return what to open in a browser."""
        return str(self) if self.path is not None else f"http://{self}/"


@dataclass(frozen=True, slots=True)
class GeneralConfig:
    """Section [general] of interface.conf (guide 2.6.2)."""

    tunnel_num: int = 1
    accept_remote: bool = False
    cmdport_local: int = 65050
    cmd_timeout: float = 25.0
    udp_commands: str = "connected"  # which local UDP sockets may change something: one of UDP_COMMANDS
    public_address_resolver: Address | None = None  # a DNS server that answers public_address_name with our address
    public_address_name: str = "myip.opendns.com"
    control_socket: str | None = None  # path of the unix socket for commands; None: the network namespace's default
    data_plane: str = "auto"  # which data path: one of DATA_PLANES
    gso: bool = True  # whether the kernel may join datagrams and, for the native data path, cut them
    tun_offload: bool = True  # the same for packets of the TUN
    log_ecn: bool = True  # whether the log tells of ECN fields that no honest path makes
    allow_default_key: bool = False  # whether the key that is built into every MPT program authenticates anybody
    private_key_file: Path = Path("private.key")  # as written: `Config.private_key_path` is where it is
    status_listen: StatusPlace | None = None  # where the status page and the metrics are; None: nowhere
    log_format: str = "text"  # one of LOG_FORMATS
    log_level: str = "info"  # one of LOG_LEVELS
    key_log: Path | None = None  # file for the keys of sessions, for those who debug; None: they are written nowhere


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """One section [tun_n] of interface.conf (guide 2.6.2).

    `mtu_auto`: the MTU is what the paths allow, and `mtu` only its value until they are measured.
    """

    name: str
    mtu: int = 1440
    ipv4_addr: IPv4Interface | None = None
    ipv6_addr: IPv6Interface | None = None
    queue_length: int = 1500
    mtu_auto: bool = False

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        """Return the tunnel's own addresses, with their prefixes."""
        return tuple(own for own in (self.ipv4_addr, self.ipv6_addr) if own is not None)

    @property
    def broadcast(self) -> IPv4Address | None:
        """Return the broadcast address of the IPv4 prefix, or None if it has none (RFC 3021, or no IPv4)."""
        network = self.ipv4_addr.network if self.ipv4_addr is not None else None
        return network.broadcast_address if network is not None and network.prefixlen < 31 else None

    def holds(self, address: Address) -> bool:
        """Return whether `address` is one of this tunnel's own addresses."""
        return any(own.ip == address for own in self.addresses)


@dataclass(frozen=True, slots=True)
class PortMap:
    """The flow-mapping keys of a path: TCP and UDP ports whose packets take this path (draft section 5.2)."""

    tcp_dst: frozenset[int] = frozenset()
    tcp_src: frozenset[int] = frozenset()
    udp_dst: frozenset[int] = frozenset()
    udp_src: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.tcp_dst or self.tcp_src or self.udp_dst or self.udp_src)


@dataclass(frozen=True, slots=True)
class Quota:
    """How many `octets` a path may carry, both ways together, in each `period` (one of PERIODS)."""

    octets: int
    period: str


@dataclass(frozen=True, slots=True)
class PathConfig:
    """One section [path_n] of a connection file (guide 2.6.3.2).

    All addresses are of version `ip_ver`. An unspecified `public_ipaddr`, `private_ipaddr` or `gateway_ipaddr` means
    "find it out", an unspecified `remote_ipaddr` that the peer is not known yet. `private_ipaddr` None means that the
    public address is on the interface itself.

    A path of a sealed connection may have several remote addresses, of both versions, and names: `remote_addresses` and
    `remote_names` are all that its file has, and `remote_ipaddr` is the first address. With `any_version` its file says
    no ip_ver: the path takes either version, and `ip_ver` is the one of the first known address, or 4.
    """

    interface_name: str
    ip_ver: int
    public_ipaddr: Address
    remote_ipaddr: Address
    gateway_ipaddr: Address
    private_ipaddr: Address | None = None
    keepalive_time: float = 0.0  # seconds; 0: no keepalives
    dead_time: float = 0.0  # seconds; 0: never declared dead
    weight_out: int = 1
    weight_in: int = 1
    cmd_default: bool = False
    status: Status = Status.OK
    bind_to_device: bool = True
    ports: PortMap = field(default_factory=PortMap)
    any_version: bool = False
    remote_addresses: tuple[Address, ...] = ()
    remote_names: tuple[str, ...] = ()
    cost: str = "free"  # one of COSTS
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class ClassConfig:
    """One section [class NAME] of a connection file: packets of this class are realtime, or bulk.

    A packet belongs to the first class whose conditions it meets, all of them: one of `dscps`, one of `ports` as its
    source or its destination, and `protocol`. A condition that is empty, or None, is met by every packet.
    """

    name: str
    is_realtime: bool
    dscps: frozenset[int] = frozenset()
    protocol: int | None = None
    ports: frozenset[int] = frozenset()
    copies: int | None = None  # how many of each packet go, over different lines; None: 2 of a small flow, else 1


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One section [net_n] of a connection file (guide 2.6.3.3): `source` here, `destination` behind the peer."""

    ip_ver: int
    source: Network
    destination: Network


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """One connection file (guide 2.6.3), or one section of clients.conf: the pair of tunnel addresses, its paths and
    its networks.

    `peer_keys` are the public keys of the peer, 32 octets each; with one the connection is sealed.
    """

    name: str
    ip_ver: int
    ip_local: Address
    local_port: int
    ip_remote: Address
    remote_port: int  # 0: not known yet, `mpt create` will learn it
    remote_cmd_port: int  # 0: the peer has none
    paths: tuple[PathConfig, ...]
    networks: tuple[NetworkConfig, ...] = ()
    permission: Permission = Permission.NONE
    status: Status = Status.OK
    reorder_window: int = 0  # packets; 0: no reordering here, no sequence numbers from here
    max_buffdelay_msec: int = 100
    max_loss: int = 30  # per cent; above it a path is left; 0: never
    size_probe: bool = False  # whether padded keepalives find the largest datagrams of each path, on a plain connection
    dscp: int | None = 0  # of the datagrams; None: the packet's
    ecn: bool = False  # whether datagrams have the packet's ECN field (RFC 6040, normal mode)
    auth_type: AuthType = AuthType.NONE
    auth_key: str = field(default="", repr=False)  # a secret: it stays out of logs
    peer_keys: tuple[bytes, ...] = ()
    require_pq: bool = False  # whether a key exchange without X25519MLKEM768 is refused (session 2)
    ciphers: tuple[str, ...] = ()  # of CIPHERS, the best first; empty: all, by the CPU
    order: str = "connection"  # which packets wait for each other: one of ORDERS
    mss_clamp: str = "off"  # whether the MSS of forwarded TCP connections is made to fit: one of MSS_CLAMPS
    scheduler: str = "cycle"  # how packets are given to paths: one of SCHEDULERS
    delay_budget: int = 110  # ms; how much later than over the best path a packet may arrive over another one
    classes: tuple[ClassConfig, ...] = ()  # the first that fits a packet counts
    file: Path | None = None
    template: Path | None = None  # of a client: `file` is clients.conf, and this is conf.template

    @property
    def is_sealed(self) -> bool:
        """Return whether datagrams are encrypted and authenticated by the peer's key."""
        return bool(self.peer_keys)

    @property
    def is_adaptive(self) -> bool:
        """Return whether the paths are measured, and packets given to them by that."""
        return self.is_sealed and self.scheduler == "adaptive"

    @property
    def place(self) -> tuple[Path, str] | None:
        """Return where the connection is written: the file, and in clients.conf the name of the client."""
        return (self.file, self.name if self.template is not None else "") if self.file is not None else None

    @property
    def is_down(self) -> bool:
        """Return whether the file keeps the connection down: it is loaded, without sockets, routes and packets."""
        return self.status.is_by_hand

    @property
    def tunnel_pair(self) -> tuple[Address, Address]:
        """Return the pair of tunnel addresses, ours first; no two connections have the same pair."""
        return self.ip_local, self.ip_remote


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration directory, checked as one."""

    directory: Path
    general: GeneralConfig
    tunnels: tuple[TunnelConfig, ...]
    connections: tuple[ConnectionConfig, ...]
    identity: Identity | None = None  # there is one if a connection is sealed

    @property
    def private_key_path(self) -> Path:
        """Return where the private key of this host is; a path that is not absolute begins at the directory."""
        return self.directory / self.general.private_key_file

    @property
    def key_log_path(self) -> Path | None:
        """Return the file for the keys of sessions, None for none."""
        return self.directory / self.general.key_log if self.general.key_log is not None else None

    def tunnel_of(self, connection: ConnectionConfig) -> TunnelConfig:
        """Return the tunnel that has the `ip_local` of `connection`; the loader has made sure that there is one."""
        return next(tunnel for tunnel in self.tunnels if tunnel.holds(connection.ip_local))


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this machine as the kernel shows it.

    `up`: the operator switched it on. `carrier`: the line works (IFF_LOWER_UP, which does not lag as IFF_RUNNING does)
    and waits for nothing else, such as authentication (IFF_DORMANT). `mtu` in octets. `addresses` are in the kernel's
    order, primary ones first. An IPv6 address is left out while a duplicate is looked for, or if one was found.
    `needs_gateway`: there are neighbours to choose from; False for a line with one other end (PPP), and for a line that
    resolves no addresses.
    """

    name: str
    index: int
    up: bool
    carrier: bool
    mtu: int
    addresses: tuple[InterfaceAddress, ...] = ()
    needs_gateway: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table.

    `gateway` None: the destination is on the link itself. `metric` None: the kernel's default. `source`: the address
    that this host sends from. `onlink`: the gateway is on the link even if no address of the interface says so.
    """

    destination: Network
    interface: str
    gateway: Address | None = None
    metric: int | None = None
    source: Address | None = None
    onlink: bool = False

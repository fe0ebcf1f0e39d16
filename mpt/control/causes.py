"""Why a path does not work, found from the datagrams at its interface: in the operator's words, with the remedy.

keepalive from the peer, for our tunnel addresses   arrives, but is not heard: reverse path filter or firewall
  from another port than remote_port                heard, but a NAT on the way: our datagrams go to the wrong port
keepalive from the peer, for other tunnel addresses ip_local and ip_remote are not the peer's
keepalive for ours, from an unknown address         remote_ipaddr is not the peer's
ICMP error about our datagrams                      as the error says
nothing                                             unknown
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpt.errors import DecodeError
from mpt.model import Address
from mpt.wire import command
from mpt.wire.sighting import Datagram, Failure, Unreachable


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts about a path: `local` and `peer` are its outer addresses, `tunnel` and `peer_tunnel` the inner.

    `peers` and `tunnels` are the peer addresses, and the pairs of tunnel addresses (ours first), of all paths with its
    interface and port. `is_heard`: keepalives are heard over it. `is_filtered`: the kernel drops a packet at
    `interface` if it would reach the sender another way (rp_filter = 1).
    """

    interface: str
    local: Address
    local_port: int
    peer: Address
    peer_port: int
    tunnel: Address
    peer_tunnel: Address
    peers: frozenset[Address]
    tunnels: frozenset[tuple[Address, Address]]
    is_heard: bool
    is_filtered: bool


class Sightings:
    """The datagrams and errors seen at one interface, sorted once for all paths there."""

    def __init__(self, seen: Iterable[Datagram | Unreachable] = ()) -> None:
        self.for_tunnel: dict[tuple[Address, Address], list[Datagram]] = {}  # keepalives, by receiver and sender inside
        self.from_source: dict[Address, list[command.Message]] = {}
        self.failures: dict[tuple[Address, int], Unreachable] = {}
        for each in seen:
            if isinstance(each, Unreachable):
                self.failures.setdefault((each.destination, each.port), each)
            elif (keepalive := _keepalive(each)) is not None:
                self.for_tunnel.setdefault((keepalive.receiver, keepalive.sender), []).append(each)
                self.from_source.setdefault(each.source, []).append(keepalive)


def cause(path: Situation, seen: Sightings) -> str | None:
    """Return the fault of `path` and its remedy, found from the datagrams `seen` at its interface; None: unknown."""
    failure = seen.failures.get((path.peer, path.peer_port))
    if path.is_heard and failure is not None:
        return _of_a_failure(path, failure)
    ours = seen.for_tunnel.get((path.tunnel, path.peer_tunnel), [])
    for datagram in ours:
        if datagram.source == path.peer and (text := _of_a_good_keepalive(path, datagram)) is not None:
            return text
    if path.is_heard:
        return None
    if failure is not None:
        return _of_a_failure(path, failure)
    for datagram in ours:
        if datagram.source not in path.peers:
            return (
                f"the peer's keepalives come from {datagram.source}, not from remote_ipaddr = {path.peer}: write that "
                "address, if it stays"
            )
    for message in seen.from_source.get(path.peer, []):
        if (message.receiver, message.sender) not in path.tunnels:
            return (
                f"the peer's keepalives are from the tunnel address {message.sender} to {message.receiver}; here "
                f"ip_remote = {path.peer_tunnel} and ip_local = {path.tunnel}: they must be the same"
            )
    return None


def _keepalive(datagram: Datagram) -> command.Message | None:
    try:
        message = command.decode(datagram.payload[4:])
    except DecodeError:
        return None
    return message if message.command == command.KEEPALIVE else None


def _of_a_good_keepalive(path: Situation, datagram: Datagram) -> str | None:
    """Return the fault that a keepalive for this path shows, heard or not; None if it shows none."""
    if path.is_heard:
        if datagram.source_port == path.peer_port:
            return None
        return (
            f"the peer's datagrams come from port {datagram.source_port}, not remote_port = {path.peer_port}: a NAT "
            "on the way has changed it, and our datagrams may not arrive; have the NAT keep the port, or forward UDP "
            f"port {path.peer_port} to the peer"
        )
    if datagram.destination != path.local:
        return (
            f"the peer's keepalives are for {datagram.destination}, but the path is at {path.local}: correct "
            "public_ipaddr and private_ipaddr here, or remote_ipaddr there"
        )
    if path.is_filtered:
        name = path.interface
        return (
            f"the peer's keepalives arrive at {name}, but the kernel's reverse path filter drops them: set "
            f"net.ipv4.conf.all.rp_filter and net.ipv4.conf.{name}.rp_filter to 2"
        )
    return (
        f"the peer's keepalives arrive at {path.interface}, but do not reach mptsrv: a firewall of this host drops UDP "
        f"port {path.local_port}; let it pass"
    )


def _of_a_failure(path: Situation, failure: Unreachable) -> str:
    if failure.failure is Failure.PORT:
        return (
            f"{failure.sender} answers that nothing listens at UDP port {path.peer_port}: "
            + ("" if path.is_heard else "the peer's mptsrv does not run, or ")
            + "remote_port is not its local_port"
        )
    if failure.failure is Failure.FORBIDDEN:
        return f"a firewall at {failure.sender} refuses our datagrams: let UDP port {path.peer_port} pass there"
    if failure.failure is Failure.TOO_LONG:
        return f"{failure.sender} passes packets of {failure.mtu} octets at most: lower the mtu of the tunnel"
    return f"{failure.sender} knows no way to {failure.destination}"

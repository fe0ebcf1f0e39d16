"""The addresses of the peer of a path, by its listed addresses and its names.

A name is asked for over the path's own line: the default route may lead into the tunnel that waits for the answer. A
name server on this host, such as systemd-resolved, cannot be asked over a line; and after two rounds without an answer
the routing table chooses. What a name server says is not trusted: whoever answers from there needs the peer's key.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

from twisted.logger import Logger

from mpt.control.names import NameWatch, in_order
from mpt.daemon.descriptors import Readable
from mpt.daemon.machine import Machine
from mpt.daemon.timers import DeadlineLoop
from mpt.errors import HostError
from mpt.model import Address, unspecified

log = Logger()

DNS_PORT: Final = 53
LARGEST: Final = 4096  # octets of an answer; more than DNS over UDP has
ROUNDS: Final = (1.0, 2.0, 2.0)  # s; in each, all servers are asked; in the last one by any line
OTHER_FAMILY: Final = 0.3  # s for the addresses of the other IP version, once there are some


class Query:
    """A question for the addresses of `name` of one IP `version`: its `octets`, and which answers are meant."""

    def __init__(self, name: str, version: int) -> None:
        from twisted.names import dns  # here: it takes 0.1 s, and most daemons never need it

        self._dns = dns
        self._type = dns.A if version == 4 else dns.AAAA
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._name = name.encode().rstrip(b".").lower()
        self._id = secrets.randbelow(1 << 16)
        message = dns.Message(self._id, recDes=1)
        message.addQuery(name.encode(), self._type)
        self.octets: bytes = message.toStr()

    def answer(self, datagram: bytes) -> list[Address] | None:
        """Return the addresses that `datagram` has, perhaps none; None: it is no answer to this, or a refusal."""
        message = self._dns.Message()
        try:
            message.fromStr(datagram)
        except Exception:  # twisted.names raises whatever the octets lead it to
            return None
        if not message.answer or message.id != self._id or not self._is_asked(message.queries):
            return None
        if message.rCode not in (self._dns.OK, self._dns.ENAME):
            return None
        records: list[Any] = [record.payload for record in message.answers if record.type == self._type]
        return [ip_address(socket.inet_ntop(self._family, record.address)) for record in records]

    def _is_asked(self, queries: Sequence[Any]) -> bool:
        """Return whether the answer repeats the question, as it must (RFC 5452 section 9.1); some servers leave it
        out."""
        return all(each.type == self._type and bytes(each.name.name).lower() == self._name for each in queries)


class Lookup:
    """Asks `servers` for the addresses of `name`, from sockets at `interface` (None: any).

    Once, some seconds later at the most, `done(addresses, reason)` is called; without addresses there is a reason.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        servers: Sequence[Address],
        interface: str | None,
        done: Callable[[list[Address], str], None],
    ) -> None:
        self._machine = machine
        self._servers = servers
        self._interface = interface
        self._done = done
        self._queries = {version: Query(name, version) for version in (6, 4)}
        self._found: dict[int, list[Address]] = {}
        self._sockets: dict[tuple[int, str | None], tuple[Any, Readable]] = {}
        self._reason = "no name server answers" if servers else "this host has no name server (/etc/resolv.conf)"
        self._round = 0
        self._timer: Any = machine.reactor.callLater(0, self._ask)

    def stop(self) -> None:
        """Ask no more; `done` is not called."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for opened, reader in self._sockets.values():
            reader.stop()
            opened.close()
        self._sockets.clear()

    def _ask(self) -> None:
        if self._round == len(ROUNDS) or not self._servers or self._found.get(4) or self._found.get(6):
            self._end()
            return
        is_last = self._round == len(ROUNDS) - 1
        for server in self._servers:
            interface = None if is_last or server.is_loopback else self._interface
            for version in self._queries.keys() - self._found.keys():
                self._send(self._queries[version].octets, server, interface)
        self._timer = self._machine.reactor.callLater(ROUNDS[self._round], self._ask)
        self._round += 1

    def _send(self, octets: bytes, server: Address, interface: str | None) -> None:
        key = server.version, interface
        try:
            if key not in self._sockets:
                self._sockets[key] = self._open(*key)
            self._sockets[key][0].sendto(octets, (str(server), DNS_PORT))
        except HostError as error:
            self._reason = str(error)
        except OSError:
            pass  # no route yet, a link that has just gone: there is another round

    def _open(self, version: int, interface: str | None) -> tuple[Any, Readable]:
        opened = self._machine.open_data_socket(unspecified(version), 0, interface, self._machine.system)

        def clear_error() -> None:
            opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            reader.startReading()

        reader = Readable(
            self._machine.reactor, "name server", opened.fileno, lambda: self._readable(opened), clear_error
        )
        reader.startReading()
        return opened, reader

    def _readable(self, opened: Any) -> None:
        try:
            datagram, source = opened.recvfrom(LARGEST)
        except OSError:
            return  # an ICMP error of an earlier datagram
        with suppress(ValueError):
            if source[1] == DNS_PORT and ip_address(source[0]) in self._servers:
                self._received(datagram)

    def _received(self, datagram: bytes) -> None:
        for version in self._queries.keys() - self._found.keys():
            addresses = self._queries[version].answer(datagram)
            if addresses is not None:
                self._found[version] = addresses
                if len(self._found) == len(self._queries):
                    self._end()
                elif addresses:
                    self._timer.reset(OTHER_FAMILY)
                return

    def _end(self) -> None:
        self.stop()
        addresses = [address for version in self._queries for address in self._found.get(version, [])]
        if len(self._found) == len(self._queries):
            self._reason = "it has no address"
        self._done(addresses, "" if addresses else self._reason)


class PeerAddresses:
    """The addresses at which the peer of one path may be: the `listed` ones, and those of `names`.

    `path` is its name in the log, `interface` where it goes out (None: anywhere). `changed()` is called when there are
    other `addresses`.
    """

    def __init__(
        self,
        machine: Machine,
        path: str,
        listed: Sequence[Address],
        names: Sequence[str],
        interface: str | None,
        changed: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._path = path
        self._listed = tuple(listed)
        self._watches = {name: NameWatch(machine.now()) for name in names}
        self._interface = interface
        self._changed = changed
        self._lookups: dict[str, Lookup] = {}
        self._complained: set[str] = set()
        self.addresses = in_order(self._listed)
        self._loop = DeadlineLoop(machine, self._next_deadline, self._ask)
        self._loop.follow()

    def stop(self) -> None:
        """Ask for nothing any more."""
        self._loop.stop()
        for lookup in self._lookups.values():
            lookup.stop()
        self._lookups.clear()

    def silent(self) -> None:
        """Note that the path is silent, or has another line: its names are asked for again."""
        for watch in self._watches.values():
            watch.silent(self._machine.now())
        self._loop.follow()

    def works(self) -> None:
        """Note that the peer is heard."""
        for watch in self._watches.values():
            watch.works()

    def _next_deadline(self) -> float | None:
        deadlines: Iterable[float | None] = (watch.next_deadline() for watch in self._watches.values())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _ask(self, now: float) -> None:
        for name, watch in self._watches.items():
            if watch.deadline_reached(now):
                self._look_up(name, watch)

    def _look_up(self, name: str, watch: NameWatch) -> None:
        def done(addresses: list[Address], reason: str) -> None:
            del self._lookups[name]
            now = self._machine.now()
            if addresses:
                watch.answered(addresses, now)
                self._complained.discard(name)
                self._follow_answers()
            else:
                watch.failed(now)
                self._complain(name, reason)
            self._loop.follow()

        self._lookups[name] = Lookup(self._machine, name, self._machine.name_servers(), self._interface, done)

    def _follow_answers(self) -> None:
        named = [address for watch in self._watches.values() for address in watch.addresses]
        addresses = in_order([*self._listed, *named])
        if set(addresses) != set(self.addresses):
            self.addresses = addresses
            log.info(
                "the peer of {path} has the addresses {addresses}",
                path=self._path,
                addresses=", ".join(map(str, addresses)),
            )
            self._changed()

    def _complain(self, name: str, reason: str) -> None:
        if name not in self._complained:
            self._complained.add(name)
            log.warn("cannot find {name}, the peer of {path}: {reason}", name=name, path=self._path, reason=reason)

"""The public address of a path behind a NAT (guide 2.6.3.2, public_ipaddr = 0.0.0.0).

Control names paths by it; the data path does not need it. It is found out for each path alone: from the peer's
reports, or from a resolver that is asked over the path's line. It holds until the path has another socket, so a path
whose socket is gone can still be named. The operator decides whether to ask a server on the Internet: no resolver is
built in.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

from mpt.daemon.descriptors import Readable
from mpt.daemon.machine import Machine
from mpt.daemon.names import DNS_PORT, LARGEST, Query
from mpt.daemon.path import Path
from mpt.daemon.pathport import LocalEndpoint
from mpt.daemon.settings import Settings
from mpt.errors import HostError
from mpt.model import Address

log = Logger()

TIMEOUTS: Final = (1.0, 3.0, 5.0)  # s, one for each of the first tries
LATER: Final = 60.0  # s between later tries


class Question:
    """Asks `resolver` for `name`, from a socket at `endpoint`, until it answers with an address.

    Then `answered(address)` is called. `failed(reason)` is called once, after the first tries without an address.
    Raises HostError if the socket is refused.
    """

    def __init__(
        self,
        machine: Machine,
        endpoint: LocalEndpoint,
        resolver: Address,
        name: str,
        answered: Callable[[Address], None],
        failed: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._server = (str(resolver), DNS_PORT)
        self._answered = answered
        self._failed = failed
        self._reason = "it does not answer"
        self._query = Query(name, resolver.version)
        self._tries = 0
        self._timer: Any = None
        self._socket = machine.open_data_socket(endpoint.address, 0, endpoint.interface, machine.system)
        self._reader = Readable(machine.reactor, "resolver", self._socket.fileno, self._readable, self._clear_error)
        self._reader.startReading()
        self._try()

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reader.stop()
        self._socket.close()

    def _try(self) -> None:
        if self._tries == len(TIMEOUTS):
            self._failed(self._reason)
        timeout = TIMEOUTS[self._tries] if self._tries < len(TIMEOUTS) else LATER
        self._tries += 1
        with suppress(OSError):  # no route yet, a link that has just gone: there is another try
            self._socket.sendto(self._query.octets, self._server)
        self._timer = self._machine.reactor.callLater(timeout, self._try)

    def _readable(self) -> None:
        try:
            datagram, source = self._socket.recvfrom(LARGEST)
        except OSError:
            return  # an ICMP error of an earlier datagram
        addresses = self._query.answer(datagram) if source[:2] == self._server else None
        if addresses:
            self.stop()
            self._answered(addresses[0])
        elif addresses is not None:
            self._reason = "its answer has no address"

    def _clear_error(self) -> None:
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reader.startReading()


class PublicAddresses(Service):
    """Finds out the public addresses that the configuration leaves open."""

    def __init__(self, machine: Machine, settings: Settings) -> None:
        self._machine = machine
        self._settings = settings
        self._asked: dict[Path, LocalEndpoint] = {}
        self._questions: dict[Path, Question] = {}
        self._found: dict[Path, Address] = {}

    def stopService(self) -> None:
        """Ask no more."""
        super().stopService()
        for path in list(self._asked):
            self.forget(path)

    def found(self, path: Path) -> Address | None:
        """Return the public address of `path` if it was found out."""
        return self._found.get(path)

    def follow(self, path: Path) -> None:
        """Note that `path` has come or changed; another socket may have another public address."""
        if not path.config.public_ipaddr.is_unspecified:
            return
        if path.port is None or path.port.endpoint == self._asked.get(path):
            return
        self.forget(path)
        self._asked[path] = path.port.endpoint
        self._ask(path, path.port.endpoint)

    def forget(self, path: Path) -> None:
        """Note that `path` is gone, or has another socket."""
        self._asked.pop(path, None)
        self._found.pop(path, None)
        question = self._questions.pop(path, None)
        if question is not None:
            question.stop()

    def learn(self, path: Path, address: Address) -> None:
        """Note that the peer has named our end of `path`, and of no other, by this address."""
        if path in self._asked and not address.is_unspecified and self._found.get(path) != address:
            self._found[path] = address
            log.info("the peer knows {path} by the address {address}", path=path, address=address)

    def _ask(self, path: Path, endpoint: LocalEndpoint) -> None:
        resolver = self._settings.general.public_address_resolver
        if resolver is None:
            log.warn(
                "public_ipaddr of {path} is not known until the peer names it: data flows all the same; for control "
                "commands behind a NAT set it, or public_address_resolver in [general], e.g. to 208.67.222.222 for "
                "myip.opendns.com",
                path=path,
            )
            return
        if resolver.version != path.config.ip_ver:
            self._failed(path, f"it is of IPv{resolver.version}, the path of IPv{path.config.ip_ver}")
            return

        def answered(address: Address) -> None:
            del self._questions[path]
            self._found[path] = address
            log.info("the public address of {path} is {address}", path=path, address=address)

        name = self._settings.general.public_address_name
        try:
            self._questions[path] = Question(
                self._machine, endpoint, resolver, name, answered, lambda reason: self._failed(path, reason)
            )
        except HostError as error:
            self._failed(path, str(error))

    def _failed(self, path: Path, reason: str) -> None:
        log.warn(
            "cannot learn the public address of {path} from {resolver}: {reason}; set public_ipaddr",
            path=path,
            resolver=self._settings.general.public_address_resolver,
            reason=reason,
        )

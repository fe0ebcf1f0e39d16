"""The public address of a path behind a NAT (guide 2.6.3.2, public_ipaddr = 0.0.0.0).

The data path does not need it: it answers to the local address. The control plane names paths by it. Asking somebody on
the Internet for it is the operator's decision, so no resolver is built in.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mpt.daemon.machine import Machine
from mpt.model import Address, Config

log = Logger()

TIMEOUTS = (1, 3, 5)  # s, one for each try


class PublicAddresses(Service):
    """Finds the public addresses that the configuration leaves open, by (connection, path index)."""

    def __init__(self, machine: Machine, config: Config) -> None:
        self._machine = machine
        self._general = config.general
        self._open = [
            (connection.name, index)
            for connection in config.connections
            for index, path in enumerate(connection.paths)
            if path.public_ipaddr.is_unspecified
        ]
        self.found: dict[tuple[str, int], Address] = {}
        self._asked: Deferred[Any] | None = None

    def startService(self) -> None:
        super().startService()
        if not self._open:
            return
        resolver = self._general.public_address_resolver
        if resolver is None:
            log.warn(
                "public_ipaddr of {paths} is not known until the peer names it: data flows all the same; for control "
                "commands behind a NAT set it, or public_address_resolver in [general], e.g. to 208.67.222.222 for "
                "myip.opendns.com",
                paths=", ".join(f"path_{index} of {name}" for name, index in self._open),
            )
            return
        from twisted.names.client import Resolver  # here: most daemons never need it

        name = self._general.public_address_name
        servers = [(str(resolver), 53)]
        self._asked = Resolver(servers=servers, reactor=self._machine.reactor).lookupAddress(name, TIMEOUTS)
        self._asked.addCallbacks(self._answered, self._failed)

    def stopService(self) -> None:
        super().stopService()
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def learn(self, path: tuple[str, int], address: Address) -> None:
        """The peer has named our end of `path` by this address."""
        if self.found.get(path) != address:
            self.found[path] = address
            log.info(
                "the peer knows path_{index} of {name} by the address {address}",
                index=path[1],
                name=path[0],
                address=address,
            )

    def _answered(self, answer: tuple[list[Any], list[Any], list[Any]]) -> None:
        self._asked = None
        addresses = [ip_address(record.payload.dottedQuad()) for record in answer[0] if record.type == 1]
        if not addresses:
            self._failed("its answer has no address")
            return
        self.found.update(dict.fromkeys(self._open, addresses[0]))
        log.info("the public address is {address}", address=addresses[0])

    def _failed(self, reason: Any) -> None:
        self._asked = None
        if self.running:
            log.warn(
                "cannot learn the public address from {resolver}: {reason}; set public_ipaddr",
                resolver=self._general.public_address_resolver,
                reason=getattr(reason, "value", reason),
            )

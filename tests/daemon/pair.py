"""Host A and host B of the guide, two whole daemons in memory, from configuration files, joined by two cables."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from mpt.config.directory import load_directory
from mpt.daemon.peerport import BothVersions
from mpt.model import Address
from mpt.testing.system import FakeSocket
from mpt.wire.command import address_octets
from tests.config import files
from tests.daemon.stage import Run, Stage

KEY = "00112233445566778899AABBCCDDEEFFA0A1A2A3A4A5A6A7A8A9AAABACADAEAF"


def mirrored(text: str) -> str:
    """Host A's file as host B has it: every 10.x.y.2 is a 10.x.y.3 and the other way round."""
    return re.sub(r"\b(10\.\d+\.\d+\.)([23])\b", lambda found: found[1] + {"2": "3", "3": "2"}[found[2]], text)


class Cables:
    """What joins the two: time goes by, datagrams arrive, unless they are lost or come twice.

    `loss` and `duplication` are probabilities of command datagrams; keepalives and data always come through, unless
    their cable (1 or 2) is in `cut`, or `lossy` gives a probability of loss for their sender and cable.
    """

    def __init__(self, a: Stage, b: Stage, seed: int = 1) -> None:
        self.loss = self.duplication = 0.0
        self.cut: set[int] = set()
        self.lossy: dict[tuple[Stage, int], float] = {}
        self.commands: list[tuple[Stage, int]] = []  # the sender and the cable of each command datagram that was sent
        self._stages = ((a, b), (b, a))
        self._reactor = a.reactor
        self._dice = random.Random(seed)

    def exchange(self) -> None:
        """Let everything that was sent arrive, and what is sent in answer to it."""
        while any([self._carry(sender, receiver) for sender, receiver in self._stages]):  # noqa: C419  # both of them
            self._reactor.read_all()
            self._reactor.advance(0)

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """Let `seconds` go by."""
        for _ in range(round(seconds / step)):
            self._reactor.advance(step)
            self._reactor.read_all()
            self.exchange()

    def _carry(self, sender: Stage, receiver: Stage) -> bool:
        carried = False
        for origin in list(sender.system.sockets):
            for datagram, to, ancillary in origin.take_sent():
                destination = _plain(to[0])
                source = _source(ancillary) or self._own(sender, destination)
                target, cable = self._target(sender, receiver, origin, source, (destination, to[1]))
                is_command = origin is sender.command_socket
                if is_command and cable:
                    self.commands.append((sender, cable))
                if target is None or cable in self.cut:
                    continue
                if not is_command and self._dice.random() < self.lossy.get((sender, cable), 0.0):
                    continue
                for _ in range(self._copies() if is_command else 1):
                    _deliver(target, datagram, source, origin.bound[1], destination)
                    carried = True
        return carried

    def _copies(self) -> int:
        if self._dice.random() < self.loss:
            return 0
        return 2 if self._dice.random() < self.duplication else 1

    def _target(
        self, sender: Stage, receiver: Stage, origin: FakeSocket, source: Address, place: tuple[Address, int]
    ) -> tuple[FakeSocket | None, int]:
        """Return the socket that hears it, and the number of the cable."""
        destination, port = place
        for name, interface in receiver.netlink.snapshot().items():
            if any(own.ip == destination for own in interface.addresses):
                number = int(name[-1])
                here = sender.netlink.snapshot()[name]
                if not (interface.carrier and here.carrier and any(own.ip == source for own in here.addresses)):
                    return None, number
                if origin is sender.command_socket:
                    return receiver.command_socket, number
                bound = [each for each in receiver.system.sockets if each.bound[:2] == (str(destination), port)]
                return next(iter(bound), None), number
        return None, 0

    @staticmethod
    def _own(stage: Stage, destination: Address) -> Address:
        """Return the address that the kernel would choose."""
        interfaces = stage.netlink.snapshot().values()
        return next(own.ip for one in interfaces for own in one.addresses if destination in own.network)


def _deliver(target: FakeSocket, datagram: bytes, source: Address, port: int, destination: Address) -> None:
    if target.bound[0] == "::":
        info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, BothVersions.INFO.pack(address_octets(destination), 0))
        target.deliver(datagram, (f"::ffff:{source}", port, 0, 0), [info])
    else:
        target.deliver(datagram, (str(source), port))


def _source(ancillary: list[Any]) -> Address | None:
    for _, _, data in ancillary:
        address = _plain(str(IPv6Address(BothVersions.INFO.unpack(data)[0])))
        return None if address.is_unspecified else address
    return None


def _plain(text: str) -> Address:
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


class Pair:
    """Both hosts, running, from the directories `directory`/a and `directory`/b."""

    def __init__(self, run: Run, directory: Path) -> None:
        self.directories = (directory / "a", directory / "b")
        reactor = None
        self.stages: list[Stage] = []
        for host, own in zip((2, 3), self.directories, strict=True):
            config = load_directory(own).config
            self.stages.append(run(config=config, host=host, reactor=reactor))
            reactor = self.stages[0].reactor
        self.a, self.b = self.stages
        self.cables = Cables(self.a, self.b)
        self.cables.pass_time(0.1)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def statuses(self) -> list[list[str]]:
        """Of both hosts, the status of every path of the only connection as `mpt show status` has it."""
        return [[path.status for path in stage.root.operations.status().connections[0].paths] for stage in self]


def write_pair(directory: Path, connection: str = files.CONNECTION, **head: str) -> None:
    """Write the files of host A and host B, with these keys of [connection] set."""
    text = files.changed(connection, "connection", **head)
    for name, host in (("a", str), ("b", mirrored)):
        (directory / name).mkdir(exist_ok=True)
        interface = files.changed(host(files.INTERFACE), "general", control_socket=f"/nowhere/{name}.sock")
        files.write(directory / name, interface, {"c.conf": host(text)})

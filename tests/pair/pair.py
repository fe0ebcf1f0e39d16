"""Two whole data paths, host A and host B of the guide, joined by a network in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from mpt.data.events import Confirmed
from mpt.data.framing import Plain, Sealed
from mpt.testing.datapath import LOCAL, LOCAL_V6, REMOTE, REMOTE_V6, Stage, closing, connection_row, numbered, path_row
from mpt.testing.network import Link, Network
from mpt.testing.session import PeerSession
from mpt.wire.message import Keepalive
from mpt.wire.seal import Cipher


class Pair:
    """Hosts `a` and `b`, stages that `make` gives, with one path per pair of `links` (there, back).

    `sent`: what each host sent, `got`: what came out at it, oldest first.
    """

    def __init__(
        self,
        make: Callable[[], Stage],
        *links: tuple[Link, Link],
        seed: int = 1,
        window: int = 1000,
        max_delay: float = 0.3,
        version: int = 4,
        framing: Sealed | None = None,
    ) -> None:
        self.network = Network(seed)
        self.links = links
        self._make = make
        self._addresses = (LOCAL, REMOTE) if version == 4 else (LOCAL_V6, REMOTE_V6)
        self._framing = framing or Plain(sequenced=window > 0)
        self._window, self._max_delay = window, max_delay
        self.got: dict[str, list[bytes]] = {"a": [], "b": []}
        self.sent: dict[str, list[bytes]] = {"a": [], "b": []}
        self._open = {"a": ExitStack(), "b": ExitStack()}
        self._stages: dict[str, Stage] = {}
        self._sockets: dict[str, list[Any]] = {}
        for host in "ab":
            self._set_up(host)
        self._lay()
        self.set_paths(*range(len(links)))

    @property
    def a(self) -> Stage:
        return self._stages["a"]

    @property
    def b(self) -> Stage:
        return self._stages["b"]

    def set_paths(self, *usable: int, weights: tuple[int, ...] = ()) -> None:
        """Let both hosts use these paths only."""
        for stage, host, letter in ((self.a, 2, "a"), (self.b, 3, "b")):
            local, remote = self._addresses if letter == "a" else self._addresses[::-1]
            rows = [
                path_row(number, each, f"10.{number}.1.{5 - host}", usable=number in usable, id=number)
                for number, each in enumerate(self._sockets[letter])
            ]
            rows = [replace(row, weight=weight) for row, weight in zip(rows, weights or [1] * len(rows), strict=True)]
            row = connection_row(*rows, local=local, remote=remote, window=self._window, max_delay=self._max_delay)
            stage.now = self.network.now
            stage.set_table(replace(row, framing=self._framing))

    def rekey(self, cipher: Cipher = Cipher.AES_128_GCM) -> None:
        """Begin a new session: host a seals with it at once, host b when it has opened the first datagram."""
        session = PeerSession(cipher)
        for stage, keys in ((self.a, session.keys()), (self.b, session.peer_keys())):
            stage.datapath.add_session("c", keys, self.network.now)
        self.a.datapath.send_with("c", session.index, self.network.now)
        self.a.datapath.send(0, Keepalive().encode(), self.network.now)
        self.network.carry()

    def _confirm(self) -> None:
        for event in self.b.datapath.take_events():
            if isinstance(event, Confirmed):
                self.b.datapath.send_with("c", event.session, self.network.now)

    def talk(self, seconds: float, rate: float, *hosts: str) -> None:
        """Let `hosts` (default: both) send `rate` numbered packets a second to each other for `seconds`."""
        start = self.network.now
        for turn in range(int(seconds * rate)):
            for host in hosts or ("a", "b"):
                self.network.at(start + turn / rate, lambda host=host: self._send(host))  # type: ignore[misc]
        self.network.run(seconds)
        self._collect()

    def settle(self) -> None:
        """Let everything that is on its way arrive, or be given up."""
        self.network.run(2.0)
        self._collect()

    def restart(self, host: str) -> None:
        """One host's daemon starts anew: it numbers from 0 again and knows nothing of before."""
        self._collect()
        self._take_down(host)
        self._set_up(host)
        self._lay()
        self.set_paths(*range(len(self.links)))

    def close(self) -> None:
        """The end of both."""
        for host in "ab":
            self._take_down(host)

    def missing(self, receiver: str) -> list[int]:
        """Return the numbers of the packets that `receiver` did not deliver; the others came once and in order."""
        sender = "b" if receiver == "a" else "a"
        numbers = [int.from_bytes(each[-8:], "big") for each in self.got[receiver]]
        assert numbers == sorted(set(numbers))
        assert all(self.sent[sender][number] == each for number, each in zip(numbers, self.got[receiver], strict=True))
        return sorted(set(range(len(self.sent[sender]))) - set(numbers))

    def _set_up(self, host: str) -> None:
        stage = self._stages[host] = self._open[host].enter_context(closing(self._make()))
        self._sockets[host] = [stage.new_socket() for _ in self.links]
        self.network.join(stage.datapath)

    def _take_down(self, host: str) -> None:
        self.network.leave(self._stages[host].datapath)
        self._open[host].close()

    def _lay(self) -> None:
        for number, (there, back) in enumerate(self.links):
            a, b = self._sockets["a"][number], self._sockets["b"][number]
            self.network.lay(("a", number), there, a, f"10.{number}.1.2", b, self.b.datapath)
            self.network.lay(("b", number), back, b, f"10.{number}.1.3", a, self.a.datapath)

    def _send(self, host: str) -> None:
        self._confirm()
        stage = self._stages[host]
        source, destination = self._addresses if host == "a" else self._addresses[::-1]
        packet = numbered(1, len(self.sent[host]), source, destination)[0]
        self.sent[host].append(packet)
        stage.tun.inject(packet)
        stage.datapath.tun_readable(self.network.now)
        self.network.carry()
        self._take_delivered()  # before a real queue is full

    def _take_delivered(self) -> None:
        for host, stage in self._stages.items():
            self.got[host] += stage.tun.delivered()

    def _collect(self) -> None:
        self._take_delivered()
        for stage in self._stages.values():
            stage.counters()

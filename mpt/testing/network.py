"""A network in memory between two data paths: links with delay, jitter, loss, duplication, all from one seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from mpt.data.datapath import DataPath


@dataclass
class Link:
    """One direction of a path. Times in seconds, probabilities 0 .. 1; `fifo`: jitter does not change the order."""

    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    fifo: bool = True
    up: bool = True
    busy_until: float = 0.0  # when the last datagram of a FIFO link arrives


class Network:
    """Carries datagrams between sockets and passes data paths the time. `lost` and `carried` count datagrams."""

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        self.carried = 0
        self.lost = 0
        self._random = Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._datapaths: list[DataPath] = []
        self._cables: dict[Hashable, tuple[Link, Any, str, Any, DataPath]] = {}

    def join(self, datapath: DataPath) -> None:
        """Wake `datapath` at its deadlines."""
        self._datapaths.append(datapath)

    def leave(self, datapath: DataPath) -> None:
        """Wake it no longer."""
        self._datapaths.remove(datapath)

    def lay(self, name: Hashable, link: Link, source: Any, host: str, target: Any, datapath: DataPath) -> None:
        """Carry the datagrams of `source` over `link` to `target`, which sees them come from `host` and is read by
        `datapath`. A link of the same name is replaced; datagrams on their way arrive at the new end."""
        self._cables[name] = (link, source, host, target, datapath)

    def carry(self) -> None:
        """Take the datagrams that the sockets have sent since the last call."""
        for name, (link, source, *_) in self._cables.items():
            for datagram, _ in source.sent():
                copies = 0 if not link.up or self._random.random() < link.loss else 1
                self.lost += not copies
                copies += copies and self._random.random() < link.duplication
                for _ in range(copies):
                    self.carried += 1
                    self.at(self._arrival(link), partial(self._arrive, name, datagram))

    def _arrive(self, name: Hashable, datagram: bytes) -> None:
        _, _, host, target, datapath = self._cables[name]
        target.deliver(datagram, host)
        datapath.socket_readable(target, self.now)

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Let `event` happen at `time`."""
        self._number += 1
        heappush(self._events, (time, self._number, event))

    def run(self, seconds: float) -> None:
        """Let time go by."""
        end = self.now + seconds
        while True:
            deadlines = [(deadline, each) for each in self._datapaths if (deadline := each.next_deadline()) is not None]
            due, datapath = min(deadlines, key=lambda one: one[0], default=(end, None))
            if self._events and self._events[0][0] <= min(due, end):
                self.now, _, event = heappop(self._events)
                event()
            elif datapath is not None and due <= end:
                self.now = max(self.now, due)
                datapath.deadline_reached(self.now)
            else:
                break
        self.now = end

    def _arrival(self, link: Link) -> float:
        time = self.now + link.delay + self._random.random() * link.jitter
        if link.fifo:
            time = link.busy_until = max(time, link.busy_until)
        return time

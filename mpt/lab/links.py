"""A cable between two hosts, with a rate, a delay, jitter and loss, that can be pulled or go silently dead.

    host a  eth1 ──── l0a  ┆ the lab's wire namespace ┆  l0b ──── eth1  host b

Each end is a veth whose far side stands in the wire namespace. There, a frame that arrives at one device leaves by the
other: by a ``tc`` redirect in the kernel, or, for a rate that follows a trace and for delay, jitter and loss on a
kernel without netem, through a process of ours (`mpt.lab.netem`). The rate is kept there, or by a token bucket where
the frame leaves, as the bottleneck of a real line: outside both hosts, so that their sockets feel no pressure back from
it and a full queue drops.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mpt.errors import HostError
from mpt.lab import namespaces, offloads
from mpt.lab.hosts import Host
from mpt.lab.process import Process
from mpt.lab.traces import Step, Trace

Direction = Literal["ab", "ba"]
DIRECTIONS: tuple[Direction, Direction] = ("ab", "ba")

ETHERNET_HEADER = 14  # bytes, which tbf counts beside the packet
BURST_TIME = 0.002  # seconds of rate that may pass at once; less costs a timer a frame, more is a visible jump
# The index of a far side, beyond those of the hosts: the kernel tells of a carrier at once only if the index of a veth
# is not its peer's, else once a second (linkwatch_urgent_event).
FIRST_NUMBER = 1000
MIN_BURST = 5_000  # bytes; three frames
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
OVERHEARD = 16 << 20  # bytes that wait for who listens


@dataclass(frozen=True)
class Shape:
    """The rate, delay, jitter and loss of one direction of a link.

    `rate_mbit` counts Ethernet frames (a TCP stream sees some 95 % of it, 93 % through a tunnel); None: no limit.
    `queue_ms` is how long a frame may wait at the bottleneck before the queue drops; 80 ms lets one TCP stream fill
    the line with round-trip times up to about that; a trace has a queue of so many ms of its mean rate. With
    `queue_packets` the queue holds so many frames instead. Jitter is ± and keeps the order unless `reorder`: as with
    netem and a rate, a frame that is drawn early waits for its predecessor. `trace` gives the rate, and where it has
    them the delay and the loss, from moment to moment.
    """

    rate_mbit: float | None = None
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    reorder: bool = False
    queue_ms: float = 80.0
    queue_packets: int | None = None
    trace: Trace | None = None

    @property
    def is_plain(self) -> bool:
        """Return whether frames pass at once, but for the rate."""
        return not (self.delay_ms or self.jitter_ms or self.loss_percent or self.trace)

    def needs_process(self, netem: bool) -> bool:
        """Return whether the kernel, with `netem` or without, cannot do it."""
        return not self.is_plain and (self.reorder or self.trace is not None or not netem)

    def qdisc(self, netem: bool, mtu: int) -> str:
        """Return the queueing discipline of the device where frames leave, for ``tc qdisc``; empty: none."""
        frame = mtu + ETHERNET_HEADER
        if netem and not self.is_plain:
            bits = self.rate_mbit * 1e6 if self.rate_mbit else 10e9  # with a rate, netem keeps the order of frames
            waiting = (self.queue_ms + self.delay_ms + self.jitter_ms) / 1000
            jitter = f" {self.jitter_ms:g}ms" if self.jitter_ms else ""
            loss = f" loss {self.loss_percent:g}%" if self.loss_percent else ""
            limit = int(bits / 8 / frame * waiting) + 10
            if self.queue_packets is not None:
                limit = int(bits / 8 / frame * (self.delay_ms + self.jitter_ms) / 1000) + self.queue_packets
            return f"netem limit {limit} delay {self.delay_ms:g}ms{jitter}{loss} rate {bits:.0f}bit"
        if self.rate_mbit is None:
            return ""
        per_second = self.rate_mbit * 1e6 / 8
        burst = max(int(per_second * BURST_TIME), MIN_BURST, 2 * frame)
        queue = per_second * self.queue_ms / 1000 if self.queue_packets is None else self.queue_packets * frame
        limit = int(queue) + burst
        return f"tbf rate {self.rate_mbit * 1e6:.0f}bit burst {burst} limit {limit}"

    def wire_settings(self, is_open: bool, began: float = 0.0) -> dict[str, Any]:
        """Return the shape as `mpt.lab.netem.line.Settings`; its trace began at `began` (monotonic clock)."""
        settings: dict[str, Any] = {
            "delay": self.delay_ms / 1000,
            "jitter": self.jitter_ms / 1000,
            "loss": self.loss_percent / 100,
            "reorder": self.reorder,
            "open": is_open,
        }
        rate = self.trace.mean_mbit if self.trace else self.rate_mbit
        if rate is not None:
            octets = max(int(rate * 1e3 / 8 * self.queue_ms), MIN_BURST)
            queue = {"queue_frames": self.queue_packets} if self.queue_packets is not None else {"queue_octets": octets}
            settings |= {"rate": rate * 1e6, **queue}
        if self.trace:
            steps = zip(self.trace.ends, self.trace.steps, strict=True)
            settings |= {"began": began, "steps": tuple(_wire_step(end, step) for end, step in steps)}
        return settings


def _wire_step(end: float, step: Step) -> tuple[float, float, float, float]:
    """Return a step for the process; what is negative there is the line's own."""
    delay = -1.0 if step.delay_ms is None else step.delay_ms / 1000
    loss = -1.0 if step.loss_percent is None else step.loss_percent / 100
    return end, step.rate_mbit * 1e6, delay, loss


PLAIN = Shape()


@dataclass(frozen=True)
class End:
    """One end of a link: `interface` of `host` with `addresses`, `far_side` in the wire namespace with its `number`."""

    host: Host
    interface: str
    addresses: tuple[str, ...]
    far_side: str
    number: int


class Link:
    """A cable between hosts `a` and `b`; made by ``Lab.link``. Everything may be changed while traffic runs."""

    def __init__(
        self,
        wires: Host,
        number: int,
        ends: tuple[Host, Host],
        addresses: Iterable[tuple[str, str]],
        shapes: tuple[Shape, Shape],
        interfaces: Sequence[str | None] = (None, None),
        mtu: int = 1500,
        netem: bool = False,
        seed: int = 0,
    ) -> None:
        pairs = list(addresses)
        self.a, self.b = (
            End(
                host,
                interfaces[side] or host.next_interface(),
                tuple(pair[side] for pair in pairs),
                f"l{number}{'ab'[side]}",
                FIRST_NUMBER + 2 * number + side,
            )
            for side, host in enumerate(ends)
        )
        self.mtu = mtu
        self._seed = seed + number
        self._wires, self._netem = wires, netem
        self._shapes: dict[Direction, Shape] = dict(zip(DIRECTIONS, shapes, strict=True))
        self._open: dict[Direction, bool] = dict.fromkeys(DIRECTIONS, True)
        self._qdiscs: dict[Direction, str] = dict.fromkeys(DIRECTIONS, "")
        self._redirected: dict[Direction, bool] = dict.fromkeys(DIRECTIONS, False)
        self._offloads_on: dict[str, dict[tuple[str, ...], bool]] = {}
        self._process: Process | None = None
        self._emulator = "kernel"
        self._began = time.monotonic()
        for end in (self.a, self.b):
            self._make(end)
        self._apply()

    def shape(self, shape: Shape, back: Shape | None = None) -> None:
        """Shape frames by `shape` from now on; from b to a by `back`, if given."""
        self._shapes = {"ab": shape, "ba": back or shape}
        self._apply()

    def change(self, **fields: Any) -> None:
        """Change single fields of the shape in both directions: ``link.change(rate_mbit=20)``."""
        self.shape(replace(self._shapes["ab"], **fields), replace(self._shapes["ba"], **fields))

    def begin_trace(self) -> float:
        """Let the traces begin again, and the random draws go on; return when that was (monotonic clock)."""
        self._began = time.monotonic()
        self._apply()
        return self._began

    @property
    def emulator(self) -> str:
        """Return who makes the delays: ``kernel`` (or there are none), or our process, ``native`` or ``python``."""
        return self._emulator if self._process is not None else "kernel"

    def pull(self, ends: str = "ab") -> None:
        """Pull the cable: the hosts at `ends` lose the carrier; for another host the link falls silent."""
        namespaces.ip(self._wires.namespace, *(f"link set {end.far_side} down" for end in self._ends(ends)))

    def plug(self, ends: str = "ab") -> None:
        """Plug it in again."""
        namespaces.ip(self._wires.namespace, *(f"link set {end.far_side} up" for end in self._ends(ends)))

    def black_hole(self, *directions: Direction) -> None:
        """Swallow every frame silently, in `directions` or in both; no interface shows it."""
        self._open.update(dict.fromkeys(directions or DIRECTIONS, False))
        self._apply()

    def restore(self, *directions: Direction) -> None:
        """Let frames pass again in `directions` or in both."""
        self._open.update(dict.fromkeys(directions or DIRECTIONS, True))
        self._apply()

    def remove_interface(self, end: Literal["a", "b"]) -> None:
        """Take the interface of one end out of its host, as when a USB modem is unplugged."""
        gone = self._ends(end)[0]
        gone.host.ip(f"link delete {gone.interface}")
        self._redirected = dict.fromkeys(DIRECTIONS, False)  # the filters went with the device, one way or the other
        other = self._ends("b" if end == "a" else "a")[0]
        _clear(self._wires.namespace, other.far_side)

    def return_interface(self, end: Literal["a", "b"]) -> None:
        """Undo `remove_interface`: the interface has the same name and addresses again."""
        back = self._ends(end)[0]
        self._make(back)
        self._qdiscs["ba" if end == "a" else "ab"] = ""
        if self._process is not None:  # its socket was on the device that is gone
            self._process.stop()
            self._process = None
        self._apply()

    def carried_bytes(self) -> tuple[int, int]:
        """Return the bytes of Ethernet frames that have left the link so far, at b and at a."""
        counters = self._wires.interfaces()
        return counters[self.b.far_side][1], counters[self.a.far_side][1]

    def overhear(self, direction: Direction, protocol: int) -> socket.socket:
        """Return a packet socket (packet(7)) that sees the frames of an Ethernet `protocol` enter in `direction`."""
        end = self.a if direction == "ab" else self.b
        sees = self._wires.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
        sees.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sees.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, OVERHEARD)
        sees.bind((end.far_side, protocol))
        return sees

    def _ends(self, names: str) -> list[End]:
        return [self.a if name == "a" else self.b for name in names]

    def _make(self, end: End) -> None:
        """Make the veth of `end`, address it, and bring both sides up."""
        namespaces.ip(
            self._wires.namespace,
            f"link add {end.far_side} index {end.number} mtu {self.mtu} type veth"
            f" peer name {end.interface} mtu {self.mtu} netns {end.host.namespace}",
            f"link set {end.far_side} up",
        )
        namespaces.tc(self._wires.namespace, f"qdisc add dev {end.far_side} ingress")
        nodad = {True: " nodad", False: ""}
        end.host.ip(
            *(f"address add {address} dev {end.interface}{nodad[':' in address]}" for address in end.addresses),
            f"link set {end.interface} up",
        )
        self._offloads_on[end.far_side] = dict.fromkeys((offloads.SEGMENTATION, offloads.CHECKSUM), True)

    def _set_offloads(self, end: End) -> None:
        """Switch off offloads: a shaped link carries frames of the MTU, with checksums for our process."""
        is_on = self._offloads_on[end.far_side]
        wanted = {
            offloads.SEGMENTATION: all(shape == PLAIN for shape in self._shapes.values()),
            offloads.CHECKSUM: self._process is None,
        }
        for features, on in wanted.items():
            if on != is_on[features]:  # every switch is a link event, which a black hole must not cause
                end.host.call(offloads.switch, end.interface, features, on)
                is_on[features] = on

    @property
    def _needs_process(self) -> bool:
        return any(shape.needs_process(self._netem) for shape in self._shapes.values())

    def _apply(self) -> None:
        """Bring the kernel, and our process if one is needed, into line with `_shapes` and `_open`."""
        if self._needs_process and self._process is None:
            self._start_process()
        for direction in DIRECTIONS:
            self._set_qdisc(direction)
            self._redirect(direction, self._open[direction] and self._process is None)
        for end in (self.a, self.b):
            self._set_offloads(end)
        if self._process is not None:
            settings = {name: self._shapes[name].wire_settings(self._open[name], self._began) for name in DIRECTIONS}
            self._process.stdin.write(json.dumps(settings) + "\n")
            self._process.stdin.flush()
            self._expect("ok")

    def _set_qdisc(self, direction: Direction) -> None:
        device = (self.b if direction == "ab" else self.a).far_side
        wanted = "" if self._process is not None else self._shapes[direction].qdisc(self._netem, self.mtu)
        had = self._qdiscs[direction]
        if wanted == had:
            return
        same_kind = wanted.split(" ")[0] == had.split(" ")[0]
        if had and not same_kind:
            namespaces.tc(self._wires.namespace, f"qdisc delete dev {device} root")
        if wanted:
            namespaces.tc(self._wires.namespace, f"qdisc {'change' if same_kind else 'add'} dev {device} root {wanted}")
        self._qdiscs[direction] = wanted

    def _redirect(self, direction: Direction, wanted: bool) -> None:
        """Let the kernel hand the frames of one device to the other, or stop it."""
        if wanted == self._redirected[direction]:
            return
        arrive, leave = (self.a, self.b) if direction == "ab" else (self.b, self.a)
        if wanted:
            namespaces.tc(
                self._wires.namespace,
                f"filter add dev {arrive.far_side} parent ffff: protocol all prio 1 u32 match u32 0 0"
                f" action mirred egress redirect dev {leave.far_side}",
            )
        else:
            _clear(self._wires.namespace, arrive.far_side)
        self._redirected[direction] = wanted

    def _start_process(self) -> None:
        size = str(self.mtu + ETHERNET_HEADER + 4)  # 4: a VLAN tag
        devices = (self.a.far_side, self.b.far_side)
        words = ("--frame-size", size, "--seed", str(self._seed))
        self._process = self._wires.start_python("mpt.lab.netem.frames", *devices, *words, interactive=True)
        self._emulator = self._expect("ready").partition(" ")[2]

    def _expect(self, answer: str) -> str:
        assert self._process is not None
        if not (line := self._process.stdout.readline().strip()).startswith(answer):
            raise HostError(f"the wire process said {line!r}, not {answer!r}: {self._process.errors()[-500:]}")
        return line


def _clear(namespace: str, device: str) -> None:
    """Remove the redirect from `device`."""
    namespaces.tc(namespace, f"filter delete dev {device} parent ffff:")

"""The ways over a stage's lines: the better line plain or through a sealed connection, all lines through the tunnel, or
by the kernel's MPTCP. Each has two hosts and lines of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.lines.stages import Stage, rate_of
from bench.variants import AS_CONFIGURED, SEALED_MTU, WINDOW
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Link
from mpt.lab.process import Process
from mpt.lab.tunnel import Description, Tunnel, wait_for_answer

MPTCP = Path("/proc/sys/net/mptcp/enabled")
# What a sealed connection has by default, in seconds and milliseconds; nothing here is tuned to the lines
KEEPALIVE, DEAD, BUFFDELAY = 15.0, 45.0, 300
SUBFLOWS = 4  # at most, of a connection


@dataclass(frozen=True)
class Choice:
    """How the sealed connections are configured; a `scheduler` of None is not written."""

    data_plane: str | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class Run:
    """One measurement: a stage with one congestion control, one way."""

    stage: Stage
    control: str
    way: str

    @property
    def lines(self) -> Sequence[int]:
        """Return the numbers of the lines that it uses."""
        if self.way in ("plain", "sealed"):
            return [self.stage.better_with(self.control)]
        return range(len(self.stage.lines))

    @property
    def mbit(self) -> float:
        """Return what its lines carry together."""
        return sum(rate_of(self.stage.lines[number]) for number in self.lines)


@dataclass(frozen=True)
class Ground:
    """A run set up: data flow from `b` to `address` of `a`, pings from a to `peer`; `links` by the line's number."""

    run: Run
    a: Host
    b: Host
    address: str
    peer: str
    links: dict[int, Link]
    daemons: Sequence[Process] = ()


def has_mptcp() -> bool:
    """Return whether this kernel has MPTCP, and it is not switched off."""
    return MPTCP.exists() and MPTCP.read_text().strip() != "0"


def build(lab: Lab, run: Run, name: str, choice: Choice) -> Ground:
    """Set up hosts and lines, and what the way needs; b answers a ping then."""
    stage = run.stage
    a, b = lab.host(f"{name}-a"), lab.host(f"{name}-b")
    towards_b = stage.towards_b or stage.lines
    links = {
        line: lab.link(a, b, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.3/24")], towards_b[line], back=stage.lines[line])
        for n, line in enumerate(run.lines, 1)
    }
    if run.way in ("plain", "mptcp"):
        if run.way == "mptcp":
            _allow_subflows(a, b, len(links))
        wait_for_answer(a, "10.1.1.3")
        return Ground(run, a, b, "10.1.1.2", "10.1.1.3", links)
    lines = [*([f"scheduler = {choice.scheduler}"] if choice.scheduler else [])]
    general = [f"data_plane = {choice.data_plane}"] if choice.data_plane else []
    description = Description(
        list(links.values()),
        keepalive=KEEPALIVE,
        dead=DEAD,
        max_buffdelay_msec=BUFFDELAY,
        reorder_window=WINDOW if len(links) > 1 else 0,
        mtu=SEALED_MTU,
        sealed=True,
        extra={"connection": lines, "general": general},
    )
    tunnel = Tunnel(description, lab.directory / name, AS_CONFIGURED)
    tunnel.wait_for_answer(20.0)
    return Ground(run, a, b, description.address_of("a"), description.address_of("b"), links, tunnel.processes)


def _allow_subflows(a: Host, b: Host, count: int) -> None:
    """Let a, which is connected to, tell its other addresses, and b, which connects, take them up (ip-mptcp(8))."""
    for host in (a, b):
        host.run(["ip", "mptcp", "limits", "set", "subflows", str(SUBFLOWS), "add_addr_accepted", str(SUBFLOWS)])
    for n in range(2, count + 1):
        a.run(["ip", "mptcp", "endpoint", "add", f"10.{n}.{n}.2", "dev", f"eth{n}", "signal"])

"""What is measured against what: plain links, and the tunnel over the same links in its variants.

Every variant has two hosts and its links to itself, and all of a part stand at the same time, so that measurements can
go from one to the next in a moment; the daemons that are not measured only send their keepalives meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.lab.process import Process
from mpt.lab.tunnel import Description, Tunnel

MTU = 1440  # bytes, guide 2.6.2
PATHS = 2
WINDOW = 1000  # packets
KEEPALIVE, DEAD = 1.0, 5.0  # seconds; a saturated machine must not take a path down
PATIENCE = 5.0  # seconds until the first ping passes


@dataclass(frozen=True)
class Variant:
    """One way from host a to host b: the bare link, or a tunnel by its `data_plane` and `reorder_window` (packets).

    `keepalive` is the interval of the keepalives in seconds.
    """

    data_plane: str | None = None  # None: no tunnel
    reorder_window: int = 0
    keepalive: float = KEEPALIVE
    paths: int = PATHS

    @property
    def title(self) -> str:
        """Its name in the table and in the JSON."""
        return f"{self.data_plane} {self.reorder_window}" if self.data_plane else "plain"

    @property
    def baselines(self) -> Mapping[str, Variant]:
        """The variants that its figures are divided by, by what they differ in."""
        if self.data_plane is None:
            return {}
        return self._others(
            {
                "plain": replace(self, data_plane=None, reorder_window=0),
                "window 0": replace(self, reorder_window=0),
                "python": replace(self, data_plane="python"),
            }
        )

    def as_json(self) -> dict[str, object]:
        """What it is made of."""
        return asdict(self)

    def _others(self, baselines: Mapping[str, Variant]) -> Mapping[str, Variant]:
        return {name: other for name, other in baselines.items() if other != self}


@dataclass(frozen=True)
class ManyPaths(Variant):
    """A tunnel among others that differ from it in their number of paths."""

    @property
    def title(self) -> str:
        return f"{self.data_plane}, {self.paths}"

    @property
    def baselines(self) -> Mapping[str, Variant]:
        return self._others({"2 paths": replace(self, paths=PATHS), "python": replace(self, data_plane="python")})


@dataclass(frozen=True)
class Stage:
    """A variant set up: traffic goes from `a` to `address` on `b`; `daemons` are those of a and b, or none.

    `addresses` are those of connections of their own, where there are several.
    """

    variant: Variant
    a: Host
    b: Host
    address: str
    daemons: Sequence[Process]
    addresses: Sequence[str] = ()


def build(lab: Lab, variant: Variant) -> Stage:
    """Hosts, unshaped links and, unless the variant is plain, both daemons; it answers a ping when this returns."""
    name = name_of(variant)
    a, b = lab.host(f"{name}-a"), lab.host(f"{name}-b")
    links = [lab.link(a, b, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.3/24")]) for n in range(1, variant.paths + 1)]
    address, daemons = "10.1.1.3", []
    if variant.data_plane is not None:
        description = Description(
            links,
            tunnel_ipv4=("10.0.0.2/24", "10.0.0.3/24"),
            keepalive=variant.keepalive,
            dead=DEAD,
            reorder_window=variant.reorder_window,
            mtu=MTU,
            extra={"general": [f"data_plane = {variant.data_plane}"]},
        )
        os.environ.pop("MPT_DATA_PLANE", None)  # it would win over the configuration
        tunnel = Tunnel(description, lab.directory / name)
        address = description.address_of("b")
        daemons = [daemon.process for daemon in tunnel.daemons]
    stage = Stage(variant, a, b, address, daemons)
    wait_for_answer(stage)
    return stage


def name_of(variant: Variant) -> str:
    """What the hosts and the directory of a variant are called."""
    return re.sub(r"\W+", "-", variant.title)


def wait_for_answer(stage: Stage) -> None:
    """Return once a ping comes back to a; HostError with the daemons' own words if none does."""
    end = time.monotonic() + PATIENCE
    while ping(stage.a, stage.address, count=1, timeout=0.5) == [None]:
        if time.monotonic() > end:
            said = "\n".join(process.complaint() for process in stage.daemons)
            raise HostError(f"{stage.variant.title}: {stage.address} does not answer; the daemons said:\n{said}")


def memory_of(process: Process) -> tuple[float, float]:
    """Resident memory of `process`, now and at its peak, in 10^6 bytes (proc(5), VmRSS and VmHWM, which are in KiB)."""
    sizes = {}
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            sizes[name] = int(value.split()[0]) * 1024e-6
    return sizes["VmRSS"], sizes["VmHWM"]

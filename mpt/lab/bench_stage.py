"""What is measured against what: plain links, and the tunnel over the same links in its variants.

Every variant has two hosts and its links to itself, and all of them stand at the same time, so that measurements can go
from one to the next in a moment; the daemons that are not measured only send their keepalives meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
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
    """One way from host a to host b: the bare link, or a tunnel by its `data_plane` and `reorder_window` (packets)."""

    data_plane: str | None = None  # None: no tunnel
    reorder_window: int = 0

    @property
    def title(self) -> str:
        """Its name in the table and in the JSON."""
        return f"{self.data_plane} {self.reorder_window}" if self.data_plane else "plain"

    @property
    def baselines(self) -> dict[str, Variant]:
        """The variants that its figures are divided by, by what they differ in."""
        if self.data_plane is None:
            return {}
        others = {
            "plain": Variant(),
            "window 0": Variant(self.data_plane, 0),
            "python": Variant("python", self.reorder_window),
        }
        return {name: other for name, other in others.items() if other != self}


def variants(data_plane: str | None = None) -> list[Variant]:
    """The bare link, and the tunnel without and with a window on every data path that is built, or on one alone."""
    planes = [data_plane] if data_plane else ["python", *(["native"] if native_is_built() else [])]
    return [Variant(), *(Variant(plane, window) for plane in planes for window in (0, WINDOW))]


def native_is_built() -> bool:
    """Whether the native data path can be loaded."""
    return find_spec("mpt.accel._native") is not None


@dataclass(frozen=True)
class Stage:
    """A variant set up: traffic goes from `a` to `address` on `b`; `daemons` are those of a and b, or none."""

    variant: Variant
    a: Host
    b: Host
    address: str
    daemons: Sequence[Process]


def build(lab: Lab, variant: Variant) -> Stage:
    """Hosts, unshaped links and, unless the variant is plain, both daemons; it answers a ping when this returns."""
    name = variant.title.replace(" ", "-")
    a, b = lab.host(f"{name}-a"), lab.host(f"{name}-b")
    links = [lab.link(a, b, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.3/24")]) for n in range(1, PATHS + 1)]
    address, daemons = "10.1.1.3", []
    if variant.data_plane is not None:
        description = Description(
            links,
            tunnel_ipv4=("10.0.0.2/24", "10.0.0.3/24"),
            keepalive=KEEPALIVE,
            dead=DEAD,
            reorder_window=variant.reorder_window,
            mtu=MTU,
            extra={"general": [f"data_plane = {variant.data_plane}"]},
        )
        os.environ.pop("MPT_DATA_PLANE", None)  # it would win over the configuration
        tunnel = Tunnel(description, lab.directory / name)
        address = description.address_of("b")
        daemons = [daemon.process for daemon in tunnel.daemons]
    end = time.monotonic() + PATIENCE
    while ping(a, address, count=1, timeout=0.5) == [None]:
        if time.monotonic() > end:
            said = "\n".join(process.complaint() for process in daemons)
            raise HostError(f"{variant.title}: {address} does not answer; the daemons said:\n{said}")
    return Stage(variant, a, b, address, daemons)


def memory_of(process: Process) -> tuple[float, float]:
    """Resident memory of `process`, now and at its peak, in 10^6 bytes (proc(5), VmRSS and VmHWM, which are in KiB)."""
    sizes = {}
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            sizes[name] = int(value.split()[0]) * 1024e-6
    return sizes["VmRSS"], sizes["VmHWM"]

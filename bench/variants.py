"""The variants of the benchmark: plain links, and the tunnel over the same links.

Every variant has two hosts and links for itself, and all variants of a part stand at the same time, so that
measurements can go from one to the next in a moment. Daemons that are not measured only send keepalives meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN, Link
from mpt.lab.process import Process
from mpt.lab.tunnel import Description, Tunnel, wait_for_answer
from mpt.model import CIPHERS

MTU = 1440  # bytes, guide 2.6.2
SEALED_MTU = 1430  # bytes; what fits into 1500 beside the envelope
PATHS = 2
WINDOW = 1000  # packets
KEEPALIVE, DEAD = 1.0, 5.0  # seconds; a saturated machine must not take a path down
PLAIN_ADDRESS = "10.1.1.3"  # of b, beside the tunnel
AS_CONFIGURED = {"MPT_DATA_PLANE": ""}  # a set variable would take precedence over the configuration


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
        """Return the variants that divide its figures, by the name of the difference."""
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
        """Return its fields."""
        return asdict(self)

    def _others(self, baselines: Mapping[str, Variant]) -> Mapping[str, Variant]:
        return {name: other for name, other in baselines.items() if other != self}


@dataclass(frozen=True)
class ManyPaths(Variant):
    """A tunnel among others that differ from it in their number of paths."""

    @property
    def title(self) -> str:
        """Its name in the table and in the JSON."""
        return f"{self.data_plane}, {self.paths}"

    @property
    def baselines(self) -> Mapping[str, Variant]:
        """The same with two paths, and on the Python data path."""
        return self._others({"2 paths": replace(self, paths=PATHS), "python": replace(self, data_plane="python")})


@dataclass(frozen=True)
class WireGuard(Variant):
    """The tunnel of wireguard-go over one link (`bench.wireguard`)."""

    paths: int = 1

    @property
    def title(self) -> str:
        """Return its name in the table and in the JSON."""
        return "wireguard-go"


@dataclass(frozen=True)
class Sealed(Variant):
    """A tunnel with keys, whose datagrams are sealed with `cipher`, and go by the `scheduler`; `openssl`: by OpenSSL
    alone."""

    cipher: str = CIPHERS[0]
    openssl: bool = False
    scheduler: str = "cycle"

    @property
    def title(self) -> str:
        """Return its name in the table and in the JSON."""
        kind, bits, *_ = self.cipher.split("-")
        what = [" openssl"] * self.openssl + [" adaptive"] * (self.scheduler == "adaptive")
        return f"{self.data_plane} {kind}{bits if bits.isdigit() else ''}{''.join(what)}"

    @property
    def baselines(self) -> Mapping[str, Variant]:
        """Return the same without keys, and wireguard-go."""
        plain = Variant(self.data_plane, self.reorder_window, self.keepalive, self.paths)
        return {**self._others({"cycle": replace(self, scheduler="cycle")}), "open": plain, "wg": WireGuard()}


@dataclass(frozen=True)
class Stage:
    """A variant set up: traffic goes from `a` to `address` on `b`; `daemons` are a's and b's, or none.

    `addresses` are the peers of several connections, if there are several. `links` are the paths' lines; the
    configuration of the daemons is below `directory`.
    """

    variant: Variant
    a: Host
    b: Host
    address: str
    daemons: Sequence[Process]
    addresses: Sequence[str] = ()
    links: Sequence[Link] = ()
    directory: Path = Path()


def build(lab: Lab, variant: Variant) -> Stage:
    """Set up hosts, unshaped links and, unless the variant is plain, both daemons; b answers a ping then."""
    name = name_of(variant)
    a, b = lab.host(f"{name}-a"), lab.host(f"{name}-b")
    links = lab.cables(a, b, [PLAIN] * variant.paths)
    if variant.data_plane is None:
        wait_for_answer(a, PLAIN_ADDRESS)
        return Stage(variant, a, b, PLAIN_ADDRESS, [])
    extra = {"general": [f"data_plane = {variant.data_plane}"]}
    environment = dict(AS_CONFIGURED)
    if isinstance(variant, Sealed):
        extra["connection"] = [f"ciphers = {variant.cipher}", f"scheduler = {variant.scheduler}"]
        environment["MPT_GCM"] = "openssl" if variant.openssl else ""
    description = Description(
        links,
        tunnel_ipv4=("10.0.0.2/24", "10.0.0.3/24"),
        keepalive=variant.keepalive,
        dead=DEAD,
        reorder_window=variant.reorder_window,
        mtu=SEALED_MTU if isinstance(variant, Sealed) else MTU,
        sealed=isinstance(variant, Sealed),
        extra=extra,
    )
    tunnel = Tunnel(description, lab.directory / name, environment)
    tunnel.wait_for_answer()
    address = description.address_of("b")
    return Stage(variant, a, b, address, tunnel.processes, links=links, directory=lab.directory / name)


def name_of(variant: Variant) -> str:
    """Return the name of the directory of a variant, with which the names of its hosts begin."""
    return re.sub(r"\W+", "-", variant.title)

"""Two whole daemons in memory with a sealed connection, joined by cables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path
from typing import Any

from mpt.model import Config, ConnectionConfig, GeneralConfig, Identity, PathConfig, TunnelConfig
from tests.control.keypairs import Keys
from tests.daemon.pair import Cables
from tests.daemon.stage import GENERAL, LOCAL, PACKET, REMOTE, REPLY, TUNNEL, Run, Stage, connection, path

A_KEYS, B_KEYS, OTHER_KEYS = Keys(11), Keys(12), Keys(13)
B_TUNNEL = TunnelConfig("tun0", 1440, IPv4Interface("10.0.0.3/24"), IPv6Interface("fec0::3/64"))
QUICK = {"keepalive_time": 15.0, "dead_time": 45.0}
UNKNOWN: dict[str, Any] = {"remote_ipaddr": ip_address("0.0.0.0")}


def general(name: str) -> GeneralConfig:
    return replace(GENERAL, control_socket=f"/nowhere/{name}.sock")


def identity(keys: Keys) -> Identity:
    return Identity(keys.octets, keys.public)


def peer_path(number: int, **changes: Any) -> PathConfig:
    """Return host B's side of path `number`."""
    own, other = ip_address(f"10.{number}.{number}.3"), ip_address(f"10.{number}.{number}.2")
    return replace(
        path(number), **{"public_ipaddr": own, "gateway_ipaddr": own, "remote_ipaddr": other} | QUICK | changes
    )


def a_side(*paths: PathConfig, **changes: Any) -> ConnectionConfig:
    paths = paths or (path(1, **QUICK), path(2, **QUICK))
    return connection(*paths, peer_keys=(B_KEYS.public,), **changes)


def b_side(*paths: PathConfig, **changes: Any) -> ConnectionConfig:
    paths = paths or (peer_path(1), peer_path(2))
    mirrored: dict[str, Any] = {"ip_local": REMOTE, "ip_remote": LOCAL, "peer_keys": (A_KEYS.public,)}
    return replace(connection(*paths), **(mirrored | changes))


class SealedPair:
    """Host A and host B, and the cables between them; `of_a` are further arguments of host A's stage."""

    def __init__(
        self,
        run: Run,
        a: ConnectionConfig | None = None,
        b: ConnectionConfig | None = None,
        keys: tuple[Keys, Keys] = (A_KEYS, B_KEYS),
        more: tuple[ConnectionConfig, ...] = (),
        tunnels: tuple[TunnelConfig, TunnelConfig] = (TUNNEL, B_TUNNEL),
        **of_a: Any,
    ) -> None:
        self._run = run
        self._configs = [
            Config(Path("conf"), general("a"), (tunnels[0],), (a or a_side(), *more), identity(keys[0])),
            Config(Path("conf"), general("b"), (tunnels[1],), (b or b_side(),), identity(keys[1])),
        ]
        self._of_a = of_a
        self.a = run(config=self._configs[0], host=2, **of_a)
        self.b = run(config=self._configs[1], host=3, reactor=self.a.reactor)
        self.cables = Cables(self.a, self.b)

    def kill(self, which: str) -> None:
        """End a daemon without a word, and start it again."""
        index, cut = "ab".index(which), set(self.cables.cut)
        self.cables.cut = {1, 2}
        getattr(self, which).stop()  # what it says now is not heard
        more = self._of_a if which == "a" else {}
        setattr(self, which, self._run(config=self._configs[index], host=2 + index, reactor=self.a.reactor, **more))
        self.cables = Cables(self.a, self.b)
        self.cables.cut = cut

    def a_changes(self, config: ConnectionConfig) -> None:
        """Host A is started again with another connection."""
        self._configs[0] = replace(self._configs[0], connections=(config,))
        self.kill("a")

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        self.cables.pass_time(seconds, step)

    def until(self, happened: Callable[[], bool], seconds: float) -> float:
        """Let time go by until something has happened; return how long it took. AssertionError after `seconds`."""
        passed = 0.0
        while not happened():
            assert passed < seconds, "it has not happened"
            self.pass_time(0.05)
            passed += 0.05
        return passed

    def carries(self) -> bool:
        """Return whether a packet gets through, and its answer."""
        for sender, receiver, packet in ((self.a, self.b, PACKET), (self.b, self.a, REPLY)):
            receiver.tun.delivered()
            sender.tun.inject(packet)
            sender.reactor.read_all()
            self.pass_time(0.05)
            if packet not in receiver.tun.delivered():
                return False
        return True


def sealed(stage: Stage) -> dict[str, Any]:
    """Return what `mpt show status` says about the keys of the first connection."""
    document: dict[str, Any] = stage.root.operations.status().as_json()["connections"][0]
    found: dict[str, Any] = document["sealed"]
    return found


def paths(stage: Stage) -> list[dict[str, Any]]:
    """Return what it says about the paths of the first connection."""
    found: list[dict[str, Any]] = stage.root.operations.status().as_json()["connections"][0]["paths"]
    return found


def report_failure(stage: Stage) -> str | None:
    """Return why the peer of the first connection was not told of a path; None: it was."""
    found: str | None = stage.root.operations.status().as_json()["connections"][0]["report_failure"]
    return found

"""The stage of a soak (two hosts, two paths, a tunnel with an IPv4 and an IPv6 connection), and what must always hold.

host a   eth1 10.1.1.2 ──── 10.1.1.3 eth1   host b      inside: 10.0.0.2 and fd00::2 on a,
         eth2 10.2.2.2 ──── 10.2.2.3 eth2                       10.0.0.3 and fd00::3 on b
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.variants import AS_CONFIGURED, MTU, PATHS, WINDOW
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN, End
from mpt.lab.process import Process, python
from mpt.lab.tunnel import Description, Side, Tunnel, connection_text

KEEPALIVE, DEAD = 0.5, 3.0  # seconds; a saturated machine must not take a path down
PATIENCE = 10.0  # seconds until the first ping passes; slow with a sanitizer
VERSIONS = (4, 6)  # of the inner packets; a connection each
SIDES: tuple[Side, Side] = ("a", "b")
SCANDALS = re.compile(r"Traceback|Unhandled|never awaited|Sanitizer|runtime error:|Segmentation fault")
CONTEXT = 3000  # characters of a daemon's output that are shown around such words
CLEAN_ENDS = (0, -15)  # after SIGTERM; twistd ends by the signal


class SoakStage:
    """Everything of a soak that stands from its beginning to its end.

    `preload` are the libraries of a sanitizer for the daemons alone, separated by blanks.
    """

    def __init__(self, lab: Lab, data_plane: str, preload: str = "") -> None:
        self.a, self.b = lab.host("soak-a"), lab.host("soak-b")
        self.links = lab.cables(self.a, self.b, [PLAIN] * PATHS)
        self.description = Description(
            self.links,
            tunnel_ipv4=("10.0.0.2/24", "10.0.0.3/24"),
            tunnel_ipv6=("fd00::2/64", "fd00::3/64"),
            weights=(1,) * PATHS,
            keepalive=KEEPALIVE,
            dead=DEAD,
            reorder_window=WINDOW,
            mtu=MTU,
            extra={"general": [f"data_plane = {data_plane}"]},
        )
        self._read_to = [0, 0]  # of the daemons' output
        self.tunnel = Tunnel(self.description, lab.directory / "soak", _variables(preload))
        self.tunnel.wait_for_answer(PATIENCE)

    @property
    def daemons(self) -> list[Process]:
        """Return the daemons of a and b."""
        return self.tunnel.processes

    def ends(self, index: int, side: Side) -> tuple[End, str, str]:
        """Return the end of link `index` at `side`, and the outer addresses of its path, the local one first."""
        link = self.links[index]
        here, there = (link.a, link.b) if side == "a" else (link.b, link.a)
        return here, here.addresses[0].partition("/")[0], there.addresses[0].partition("/")[0]

    def file(self, side: Side, version: int) -> Path:
        """Return the file of the connection for this IP version."""
        return self.tunnel.daemons[SIDES.index(side)].directory / "connections" / f"ipv{version}.conf"

    def write(self, side: Side, description: Description) -> None:
        """Write the files of the connections of one side."""
        for version in VERSIONS:
            self.file(side, version).write_text(connection_text(description, side, version))

    def mpt(self, side: Side, *words: str) -> str:
        """Return the answer of ``mpt`` to a command on one host; HostError if it is refused."""
        return getattr(self, side).run(python("mpt.cli.main", *words))  # type: ignore[no-any-return]

    def status(self, side: Side) -> dict[str, Any]:
        """Return the document of ``mpt show status --json`` (docs/commands)."""
        document: dict[str, Any] = json.loads(self.mpt(side, "show", "status", "--json"))
        return document

    def troubles(self) -> list[str]:
        """Return the faults of the daemons now: an end, a miscount, words that no healthy daemon says."""
        found = self._scandals()
        for side, process in zip(SIDES, self.daemons, strict=True):
            if not process.running:
                found.append(f"daemon {side} ended with {process.returncode}:\n{process.complaint()}")
            else:
                found += [f"daemon {side}: {miscount}" for miscount in miscounts(self.status(side))]
        return found

    def stop(self) -> list[str]:
        """End the daemons that still run; return the faults of that."""
        running = [process.running for process in self.daemons]
        ended = zip(SIDES, running, self.tunnel.stop(), strict=True)
        wrong = [f"daemon {side} ended with {code}" for side, ran, code in ended if ran and code not in CLEAN_ENDS]
        return self._scandals() + wrong

    def _scandals(self) -> list[str]:
        """Return the words that no healthy daemon says from the daemons' output since the last call."""
        found = []
        for index, process in enumerate(self.daemons):
            said = process.errors() + process.output()
            match = SCANDALS.search(said, self._read_to[index])
            self._read_to[index] = len(said)
            if match is not None:
                start = max(match.start() - CONTEXT // 10, 0)
                found.append(f"daemon {SIDES[index]} said:\n{said[start : start + CONTEXT]}")
        return found


def miscounts(status: Mapping[str, Any]) -> list[str]:
    """Return the sums of a status document that are wrong.

    Every packet read from the tunnel was sent over a path or dropped for a reason; every datagram was a keepalive, is
    held, was delivered or dropped. The paths of a removed connection are not shown: then nothing is returned.
    """
    if len(status["connections"]) < len(VERSIONS):
        return []
    (tunnel,) = status["tunnels"]
    sent = sum(path["packets_sent"] for connection in status["connections"] for path in connection["paths"])
    dropped = sum(tunnel["egress_dropped"].values())
    found = []
    if tunnel["packets_read"] != sent + dropped:
        found.append(f"read {tunnel['packets_read']} packets, but sent {sent} and dropped {tunnel['egress_dropped']}")
    parts = [tunnel[name] for name in ("keepalives_received", "packets_delivered", "packets_held")]
    if tunnel["datagrams_received"] != sum(parts) + sum(tunnel["ingress_dropped"].values()):
        found.append(
            f"received {tunnel['datagrams_received']} datagrams, but {parts} were keepalives, delivered and held,"
            f" and dropped {tunnel['ingress_dropped']}"
        )
    return found


def sleeping_paths(status: Mapping[str, Any]) -> list[str]:
    """Return the paths of a status document that do not carry packets, each with the reason."""
    return [
        f"{path['name']} of {connection['name']}: {path['status']}"
        + (", and down at the peer" if path["peer_says_down"] else "")
        for connection in status["connections"]
        for path in connection["paths"]
        if path["status"] != "up" or path["peer_says_down"]
    ]


def settings(status: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the settings that a soak changes, as a status document shows them, by the name of the connection."""
    return {
        connection["name"]: (
            connection["reorder_window"],
            *((path["weight_out"], path["keepalive_time"]) for path in connection["paths"]),
        )
        for connection in status["connections"]
    }


def wanted_settings(description: Description) -> dict[str, tuple[Any, ...]]:
    """Return the value of `settings` for a daemon that runs `description`."""
    paths = ((weight, description.keepalive) for weight in description.weights)
    return dict.fromkeys((f"lab_ipv{version}" for version in VERSIONS), (description.reorder_window, *paths))


def _variables(preload: str) -> dict[str, str]:
    """Return the environment of the daemons.

    With a sanitizer: the interpreter is not built with it, and would only leak into its reports; it has to use malloc,
    so that the sanitizer sees its buffers.
    """
    if not preload:
        return AS_CONFIGURED
    return AS_CONFIGURED | {
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }

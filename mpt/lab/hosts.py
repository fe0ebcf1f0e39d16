"""A host of the lab: a namespace in which programs run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mpt.errors import HostError
from mpt.lab import namespaces
from mpt.lab.process import Process, python

T = TypeVar("T")

SETTINGS = {  # addresses are usable at once, and the kernel sends nothing by itself
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/tcp_no_metrics_save": "1",  # every TCP stream begins as if it were the first
}
FORWARDING = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}


class Host:
    """One namespace `namespace` of a lab; tests and people call it `name`. Made by ``Lab.host``."""

    def __init__(self, name: str, namespace: str, directory: Path, settings: dict[str, str]) -> None:
        self.name, self.namespace = name, namespace
        self.processes: list[Process] = []
        self._directory = directory
        self._counter = itertools.count(1)
        self._interfaces = itertools.count(1)
        namespaces.create(namespace)
        namespaces.sysctl(namespace, settings)

    def __repr__(self) -> str:
        return f"Host({self.name!r}, namespace {self.namespace!r})"

    def start(
        self,
        argv: Sequence[str],
        *,
        interactive: bool = False,
        pass_fds: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a program here and go on, as `Process` describes it; it is ended with the lab at the latest."""
        ours = argv[:3] == python("")[:3]
        program = argv[3].removesuffix(".main") if ours else Path(argv[0]).name
        log = self._directory / f"{self.name}-{next(self._counter)}-{program}"
        process = Process(self.namespace, argv, log, interactive=interactive, pass_fds=pass_fds, variables=variables)
        self.processes.append(process)
        return process

    def start_python(self, module: str, *arguments: str, interactive: bool = False) -> Process:
        """Start one of our own modules here, as ``python -m module``."""
        return self.start(python(module, *arguments), interactive=interactive)

    def end(self, process: Process) -> int:
        """End a program that was started here, if it still runs, and forget it; return its exit code."""
        self.processes.remove(process)
        return process.stop()

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, check: bool = True) -> str:
        """Run a program here to its end and return its output; HostError if it fails, unless `check` is False."""
        process = self.start(argv)
        try:
            code = process.wait(timeout)
        finally:
            self.end(process)
        if check and code != 0:
            raise HostError(f"{' '.join(argv)} on {self.name} ended with {code}:\n{process.complaint()}")
        return process.output()

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run a function inside this namespace: its sockets belong here (``host.call(socket.create_server, …)``)."""
        return namespaces.call(self.namespace, work, *arguments)

    def ip(self, *lines: str) -> None:
        """Give lines to ``ip -batch`` here: ``host.ip("route add 10.9.0.0/16 via 10.1.1.1")``."""
        namespaces.ip(self.namespace, *lines)

    def sysctl(self, settings: dict[str, str]) -> None:
        """Set kernel parameters here, keys as paths below /proc/sys."""
        namespaces.sysctl(self.namespace, settings)

    def interfaces(self) -> dict[str, tuple[int, int]]:
        """Return the bytes received and sent so far by each interface here."""
        return self.call(_interface_counters)

    def next_interface(self) -> str:
        """Return a free name for the next interface: eth1, eth2, … as in the guide's figure 3."""
        return f"eth{next(self._interfaces)}"


def _interface_counters() -> dict[str, tuple[int, int]]:
    """Return the counters of the calling thread's namespace (proc(5), /proc/net/dev)."""
    counters = {}
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        counters[name.strip()] = int(fields[0]), int(fields[8])
    return counters

"""The lab: hosts and links that exist while a ``with`` block runs, and never longer.

A lab is a directory ``/run/mpt-lab/mpt-PID.N`` that its owner holds locked, and namespaces whose names begin with the
directory's. Whoever finds such a directory unlocked knows that its owner died, and removes it all (`sweep`).
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from mpt.errors import HostError
from mpt.lab import namespaces
from mpt.lab.hosts import FORWARDING, SETTINGS, Host
from mpt.lab.links import PLAIN, Link, Shape

ROOT = Path("/run/mpt-lab")
NO_ADDRESSES = {"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"}
SEED_STEP = 1000  # more than a lab has links
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

_numbers = itertools.count(1)


class Lab:
    """Namespaces and links for one purpose; a context manager that cannot be left without cleaning up.

    `netem` None means: use the kernel's netem if it has it. With `keep` (also set later) the lab stays after the block,
    for a look by hand. The links' random draws follow from `seed`, where the kernel does not make them.
    """

    def __init__(self, *, netem: bool | None = None, keep: bool = False, seed: int = 0) -> None:
        self.name = f"mpt-{os.getpid()}.{next(_numbers)}"
        self.directory = ROOT / self.name
        self.keep = keep
        self.hosts: list[Host] = []
        self.links: list[Link] = []
        self._netem = netem
        self._seed = seed * SEED_STEP
        self._wires: Host | None = None
        self._lock: int | None = None
        self._signals = _signals_end_the_program()

    def __enter__(self) -> Lab:
        sweep()
        with _registry():
            self.directory.mkdir(mode=0o755)
            self._lock = _lock(self.directory)
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _deaf():
            if self.keep:
                (self.directory / "kept").touch()
            else:
                self._stop_processes()
                _remove(self.directory)
            if self._lock is not None:
                os.close(self._lock)
        self._signals.__exit__(None, None, None)

    def host(self, name: str, *, forwarding: bool = False) -> Host:
        """Make a new host; with `forwarding` it is a router."""
        settings = {**SETTINGS, **(FORWARDING if forwarding else {})}
        host = Host(name, f"{self.name}-{name}", self.directory, settings)
        self.hosts.append(host)
        return host

    def link(
        self,
        a: Host,
        b: Host,
        addresses: Iterable[tuple[str, str]] = (),
        shape: Shape = PLAIN,
        *,
        back: Shape | None = None,
        interfaces: Sequence[str | None] = (None, None),
        mtu: int = 1500,
    ) -> Link:
        """Lay a cable from `a` to `b`: one interface more in each, with the `addresses` (pairs of a's and b's).

        `shape` holds in both directions, unless `back` gives another one from b to a. Interfaces are called eth1,
        eth2, … in the order of their making, unless `interfaces` names them.
        """
        if self._wires is None:
            self._wires = Host("wires", f"{self.name}-wires", self.directory, NO_ADDRESSES)
        if self._netem is None:
            self._netem = _has_netem(self._wires)
        shapes = (shape, back or shape)
        link = Link(self._wires, len(self.links), (a, b), addresses, shapes, interfaces, mtu, self._netem, self._seed)
        self.links.append(link)
        return link

    def cables(self, a: Host, b: Host, shapes: Iterable[Shape]) -> list[Link]:
        """Lay a cable from `a` to `b` for each of `shapes`, with the addresses of the guide's figure 3.

        The n-th, from 1 on, has 10.n.n.2 and fdnn::2 at a, 10.n.n.3 and fdnn::3 at b; nn is two decimal digits.
        """
        return [
            self.link(a, b, [(f"10.{n}.{n}.2/24", f"10.{n}.{n}.3/24"), (f"fd{n:02}::2/64", f"fd{n:02}::3/64")], shape)
            for n, shape in enumerate(shapes, start=1)
        ]

    def namespaces(self) -> list[str]:
        """Return the names of this lab's namespaces as ``ip netns`` shows them."""
        return _namespaces_of(self.name)

    def _stop_processes(self) -> None:
        """End our children by their handles first, so that they are reaped; all get SIGTERM at once."""
        children = [process for host in self._all_hosts() for process in host.processes]
        for process in children:
            process.signal(signal.SIGTERM)
        for process in children:
            process.stop()

    def _all_hosts(self) -> list[Host]:
        return self.hosts + ([self._wires] if self._wires is not None else [])


def sweep(kept: bool = False) -> list[str]:
    """Remove the labs of dead owners, with `kept` also the labs left on purpose; return their names."""
    removed = []
    with _registry():
        for directory in sorted(ROOT.iterdir()):
            if (directory / "kept").exists() and not kept:
                continue
            descriptor = _lock(directory)
            if descriptor is not None:
                _remove(directory)
                os.close(descriptor)
                removed.append(directory.name)
    return removed


def kept() -> list[str]:
    """Return the names of the labs that were left on purpose."""
    return sorted(path.parent.name for path in ROOT.glob("*/kept"))


def leftovers() -> list[str]:
    """Return the names of all our labs and namespaces on this machine, in use or not."""
    found = {path.name for path in ROOT.glob("mpt-*")}
    return sorted(found.union(path.name for path in namespaces.NETNS_DIRECTORY.glob("mpt-[0-9]*.[0-9]*-*")))


def _remove(directory: Path) -> None:
    """Remove a lab: its processes, its namespaces (devices go with them), and last the directory that names it."""
    for name in _namespaces_of(directory.name):
        namespaces.delete(name)
    shutil.rmtree(directory, ignore_errors=True)


def _namespaces_of(lab: str) -> list[str]:
    return sorted(path.name for path in namespaces.NETNS_DIRECTORY.glob(f"{lab}-*"))


@contextmanager
def _registry() -> Iterator[None]:
    """Keep everybody else from making or sweeping labs meanwhile."""
    try:
        ROOT.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make {ROOT}: {error.strerror}; a lab needs root or a user namespace") from error
    descriptor = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(directory: Path) -> int | None:
    """Lock a lab's directory as long as the returned descriptor is open; None: it is somebody else's, or was."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # its owner is just removing it
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _has_netem(wires: Host) -> bool:
    """Return whether this kernel has netem, by trying it on a loopback."""
    try:
        namespaces.tc(wires.namespace, "qdisc add dev lo root netem delay 1ms", "qdisc delete dev lo root")
    except HostError:
        return False
    return True


@contextmanager
def _signals_end_the_program() -> Iterator[None]:
    """Let SIGTERM and SIGHUP leave the program by SystemExit, through every ``with``, unless it handles them."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    changed: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        changed = [number for number in ENDING_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _deaf() -> Iterator[None]:
    """Keep a second ^C from interrupting the cleaning up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDING_SIGNALS)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Network namespaces by name: make them, work in them, remove them with all that runs in them.

Everything goes through iproute2's ``ip`` and ``tc`` in batch mode, one process for many lines, so that a reader can
type the same lines by hand. Removal keeps no list: it asks the kernel who is inside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from mpt.errors import HostError

T = TypeVar("T")

NETNS_DIRECTORY = Path("/run/netns")  # where iproute2 keeps the names, see ip-netns(8)
CLONE_NEWNET = 0x40000000  # linux/sched.h
GRACE = 2.0  # seconds between SIGTERM and SIGKILL


def create(name: str) -> None:
    """Make namespace `name` with its loopback up."""
    run_program(["ip", "netns", "add", name])
    ip(name, "link set lo up")


def delete(name: str) -> None:
    """End the processes in namespace `name`, then remove it and every device in it; no error if it is not there."""
    if (NETNS_DIRECTORY / name).exists():
        end_processes(lambda: pids(name))
        run_program(["ip", "netns", "delete", name])


def pids(name: str) -> list[int]:
    """Return the processes whose network namespace is `name`, whoever started them."""
    return [int(pid) for pid in run_program(["ip", "netns", "pids", name]).split()]


def ip(name: str, *lines: str) -> None:
    """Give `lines` to ``ip -batch`` in namespace `name`, for example ``ip("ns", "link set eth1 up")``."""
    _batch("ip", name, lines)


def tc(name: str, *lines: str) -> None:
    """Give `lines` to ``tc -batch`` in namespace `name`."""
    _batch("tc", name, lines)


def sysctl(name: str, settings: dict[str, str]) -> None:
    """Set kernel parameters of namespace `name`: keys are paths below /proc/sys; one that is not there is skipped."""

    def write() -> None:
        for key, value in settings.items():
            try:
                Path("/proc/sys", key).write_text(value)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise HostError(f"cannot set {key} to {value} in namespace {name}: {error.strerror}") from error

    call(name, write)


def call(name: str, work: Callable[..., T], *arguments: Any) -> T:
    """Run ``work(*arguments)`` inside namespace `name` and return its value; its exception is raised here.

    It runs in a new thread, as a namespace belongs to a thread. Its sockets and files stay in the namespace and may be
    used from anywhere afterwards.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def thread() -> None:
        try:
            enter(NETNS_DIRECTORY / name)
            outcome.append(work(*arguments))
        except BaseException as error:  # any exception is handed to the caller below
            failure.append(error)

    worker = threading.Thread(target=thread, name=f"in {name}")
    worker.start()
    worker.join()
    if failure:
        raise failure[0]
    return outcome[0]


def enter(path: Path) -> None:
    """Move the calling thread into the network namespace that `path` names; HostError if that is not possible."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns comes with Python 3.12
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"no network namespace {path.name}: {error.strerror}") from error
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise HostError(f"cannot enter network namespace {path.name}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def end_processes(living: Callable[[], Iterable[int]]) -> None:
    """SIGTERM every process of `living()`, ask again for `GRACE` seconds, then SIGKILL the rest."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        for pid in (remaining := list(living())):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        end = time.monotonic() + patience
        while remaining and time.monotonic() < end:
            time.sleep(0.02)
            remaining = list(living())
        if not remaining:
            return


def run_program(argv: list[str], text: str = "") -> str:
    """Run a program of this machine with `text` on its input and return its output; HostError with its complaint."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise HostError(f"the program {argv[0]} is missing: install iproute2 (apt-get install iproute2)") from error
    if done.returncode != 0:
        complaint = done.stderr.strip() or f"exit code {done.returncode}"
        raise HostError(f"{' '.join(argv)}: {complaint}" + (f"\nin:\n{text}" if text else ""))
    return done.stdout


def _batch(program: str, name: str, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if text:
        run_program([program, "-n", name, "-batch", "-"], text)

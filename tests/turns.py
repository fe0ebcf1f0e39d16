"""The order of the tests in several workers of pytest-xdist, and how many of them compute at a time.

A namespace test mostly waits. Every other test takes all the CPU time that it gets, and so does a namespace test that
measures a rate. Each core has a worker for tests that compute; the other workers take those that wait, and each kind
the rest of the other at the end. A test that computes takes one of a few seats, and gives way to those that wait. What
takes longest begins first, so that no worker is left with it at the end.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FunctionType
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

COMPUTE = ("tests/bench/", "tests/accel/test_sanitizers.py")  # also in namespaces
LONG = (
    *COMPUTE,
    "tests/contract/test_adaptive_lines.py",
    "tests/pair/",
    *(f"tests/netns/test_{name}" for name in ("order", "demo", "lossy_line", "failover")),
)
ALONE = ("tests/netns/", "tests/bench/", "tests/pair/")  # files whose tests are units of work by themselves
MEASURES = {"iperf3", "Transfer", "stream"}  # what measures a rate
SEATS = os.cpu_count() or 1
LOOK = 0.02  # seconds between two looks for a free seat
WAY = 5  # how much nicer a test is that gives way; its share is a third of the share of another


class Turns(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out the tests in the order of `in_turn`: to as many workers as there are seats from its begin, to the
    others from its end."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        if self.nodes.index(node) >= SEATS:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def in_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return `items` in units, those that compute before those that wait; what takes long at the begin and the end."""
    computing: dict[str, list[pytest.Item]] = {}
    waiting: dict[str, list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: not item.nodeid.startswith(LONG)):
        (computing if computes(item) else waiting).setdefault(_unit(item.nodeid), []).append(item)
    return [item for unit in (*computing.values(), *reversed(waiting.values())) for item in unit]


def _unit(nodeid: str) -> str:
    """Return the name of the unit of a test: itself where tests take long, else its file, whose tests may share a
    build."""
    return nodeid if nodeid.startswith(ALONE) else nodeid.partition("::")[0]


@contextmanager
def seat(item: pytest.Item, run: str) -> Iterator[None]:
    """Hold one of the seats of this run of all workers while the block runs, if the test `item` computes."""
    if not computes(item):
        yield
        return
    while (taken := _free_seat(run)) is None:
        time.sleep(LOOK)
    with taken, _giving_way(item):
        yield


@contextmanager
def _giving_way(item: pytest.Item) -> Iterator[None]:
    """Let a test outside namespaces, and what it starts, use the time that the others leave while the block runs."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if item.get_closest_marker("netns") is None:
        os.setpriority(os.PRIO_PROCESS, 0, niceness + WAY)
    try:
        yield
    finally:
        with suppress(PermissionError):  # a user stays nice, and has no namespace tests
            os.setpriority(os.PRIO_PROCESS, 0, niceness)


def computes(item: pytest.Item) -> bool:
    """Return whether a test takes all the CPU time that it gets."""
    if item.get_closest_marker("netns") is None or item.nodeid.startswith(COMPUTE):
        return True
    return isinstance(item, pytest.Function) and not MEASURES.isdisjoint(_names(item.function, set()))


def _names(function: FunctionType, seen: set[str]) -> set[str]:
    """Return the global names that a function uses, or another function of its file that it calls; add them to
    `seen`."""
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        for name in set(code.co_names) - seen:
            seen.add(name)
            called = function.__globals__.get(name)
            if isinstance(called, FunctionType) and called.__module__ == function.__module__:
                _names(called, seen)
    return seen


def _free_seat(run: str) -> socket.socket | None:
    """Return a socket at one of the names that are the seats."""
    return next((taken for number in range(SEATS) if (taken := _take(f"{run}-{number}"))), None)


@contextmanager
def first_alone(run: str) -> Iterator[None]:
    """Let the first worker of this run that comes run the block alone: the others find what it has compiled."""
    name = f"{run}-first"
    first = taken = _take(name)
    while taken is None:
        time.sleep(LOOK)
        taken = _take(name)
    with taken:
        if first:
            yield
    if not first:
        yield


def _take(name: str) -> socket.socket | None:
    """Return a socket at a name: the kernel gives it to one at a time, and takes it back from the dead."""
    taken = socket.socket(socket.AF_UNIX)
    try:
        taken.bind(f"\0mpt-tests-{name}")
    except OSError:
        taken.close()
        return None
    return taken

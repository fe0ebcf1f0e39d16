"""The order of the tests in several workers of pytest-xdist, and how many of them compute at a time.

A namespace test mostly waits. Every other test takes all the CPU time that it gets, and so does a namespace test that
measures a rate. So there are more workers than cores, both kinds have their turns by turns, and a test that computes
first takes one of a few seats. What takes longest begins first, so that no worker is left with it at the end.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

LONG = ("tests/bench/", "tests/accel/test_sanitizers.py")
ALONE = ("tests/netns/", "tests/bench/")  # files whose tests are units of work by themselves
MEASURES = {"iperf3", "Transfer"}  # what measures a rate
SEATS = os.cpu_count() or 1
LOOK = 0.02  # seconds between two looks for a free seat


class Turns(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out the tests in the order of `in_turn`, the next unit to the worker that is ready first."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)


def in_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return `items` with the namespace tests spread evenly over the units of the others."""
    placed: list[tuple[float, list[pytest.Item]]] = []
    for waits in (True, False):
        units: dict[str, list[pytest.Item]] = {}
        for item in sorted(items, key=lambda item: not item.nodeid.startswith(LONG)):
            if (item.get_closest_marker("netns") is not None) == waits:
                units.setdefault(_unit(item.nodeid), []).append(item)
        placed += [((index + 0.5) / len(units), unit) for index, unit in enumerate(units.values())]
    return [item for _, unit in sorted(placed, key=lambda each: each[0]) for item in unit]


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
    with taken:
        yield


def computes(item: pytest.Item) -> bool:
    """Return whether a test takes all the CPU time that it gets."""
    if item.get_closest_marker("netns") is None or item.nodeid.startswith(LONG):
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
    """Return a socket at one of the names that are the seats: the kernel gives each to one at a time, and takes it back
    from the dead."""
    for number in range(SEATS):
        taken = socket.socket(socket.AF_UNIX)
        try:
            taken.bind(f"\0mpt-tests-{run}-{number}")
        except OSError:
            taken.close()
        else:
            return taken
    return None

"""The order of the tests in several workers of pytest-xdist, and how much of them a worker takes at a time.

A namespace test mostly waits, and every other test takes all the CPU time there is. So they have their turns by turns,
and there are more workers than cores. What takes longest begins first, so that no worker is left with it at the end.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

LONG = ("tests/bench/", "tests/accel/test_sanitizers.py")
ALONE = ("tests/netns/", *LONG)  # files whose tests are units of work by themselves


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

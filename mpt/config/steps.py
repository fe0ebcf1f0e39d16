"""Work in steps: a generator that yields between two of them, and returns the result.

Whoever has nothing else to do takes them `at_once`; the daemon carries packets between them (`mpt.daemon.slices`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]


def at_once(steps: Steps[_Result]) -> _Result:
    """Return the result of all `steps`, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result

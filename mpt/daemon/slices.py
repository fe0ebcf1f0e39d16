"""Long work of the daemon, slice by slice: packets pass between two slices."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from twisted.internet.defer import Deferred

from mpt.config.steps import Steps
from mpt.daemon.machine import Machine

SLICE: Final = 0.003  # s of work; a ping notices no more than that
PAUSE: Final = 1.0  # times as long as the slice took

_Result = TypeVar("_Result")


async def in_slices(machine: Machine, steps: Steps[_Result]) -> _Result:
    """Return the result of all `steps`; half of the time is for everything else."""
    began = machine.now()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result
        took = machine.now() - began
        if took >= SLICE:
            pause: Deferred[None] = Deferred()
            machine.reactor.callLater(PAUSE * took, pause.callback, None)
            await pause
            began = machine.now()


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """While the block runs no garbage is looked for. It makes so many objects that the collector would stand in the way
    of packets for a tenth of a second, to find none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

"""The clocks of Linux that tell whether the machine has slept."""

from __future__ import annotations

import time


def sleep_clocks() -> tuple[float, float]:
    """Return CLOCK_MONOTONIC, which stands while the machine sleeps, and CLOCK_BOOTTIME, which does not, in seconds."""
    return time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)

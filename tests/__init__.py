"""The tests of mpt."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
IS_FAST = os.environ.get("MPT_HYPOTHESIS") == "fast"  # scripts/test --fast, and under the sanitizers


def some(values: Sequence[T]) -> Sequence[T]:
    """Return every second value in scripts/test --fast, else all."""
    return values[::2] if IS_FAST else values

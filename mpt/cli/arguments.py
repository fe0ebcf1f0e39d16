"""Values on the command line that argparse reads as the configuration files do."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from mpt import values
from mpt.model import Network

_Value = TypeVar("_Value")


def argument(read: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Return `read` for argparse, which then prints what is allowed."""

    def checked(text: str) -> _Value:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} must be {error}") from None

    return checked


def networks(text: str) -> tuple[Network, ...]:
    """Return networks with commas between. Raises ValueError, whose text says what is allowed."""
    return values.networks(text.replace(",", " "))

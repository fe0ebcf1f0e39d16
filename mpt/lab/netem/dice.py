"""Random numbers that the line in Python and the line in C draw alike (splitmix64, Steele et al., OOPSLA 2014)."""

from __future__ import annotations

MASK = (1 << 64) - 1


class Dice:
    """Numbers from 0 to below 1, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed & MASK

    def roll(self) -> float:
        """Return the next number, one of 2^53."""
        self._state = mixed = (self._state + 0x9E3779B97F4A7C15) & MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return ((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53

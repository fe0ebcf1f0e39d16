"""Which numbers of a path have come: a window behind the newest one, as in RFC 6479.

Every number is taken once. A number is looked up before its datagram is opened, and marked only after: a forger, whose
datagrams do not open, moves nothing. What is too old to be in the window counts as taken.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 8192  # numbers; session 3 asks for as many at least
RECENT: Final = 64  # numbers
_BITS: Final = 64  # of a block
_BLOCKS: Final = WINDOW // _BITS + 1  # one more than the window: the newest block is seldom full


class ReplayWindow:
    """The numbers of one session, path and direction. The blocks are a ring: number n has the block n / 64."""

    __slots__ = ("_blocks", "newest")

    def __init__(self) -> None:
        self.newest = -1
        self._blocks = [0] * _BLOCKS

    def is_new(self, number: int) -> bool:
        """Return whether `number` (>= 0) has not come yet, and is not too old to tell."""
        if number > self.newest:
            return True
        if self.newest - number >= WINDOW:
            return False
        return not self._blocks[number // _BITS % _BLOCKS] >> number % _BITS & 1

    def is_recent(self, number: int) -> bool:
        """Return whether `number` is one of the `RECENT` newest ones, come or not."""
        return self.newest - RECENT < number <= self.newest

    def accept(self, number: int) -> None:
        """Note that `number`, which is new, has come."""
        block = number // _BITS
        if number > self.newest:
            entered = min(block - self.newest // _BITS, _BLOCKS)
            for each in range(block - entered + 1, block + 1):
                self._blocks[each % _BLOCKS] = 0
            self.newest = number
        self._blocks[block % _BLOCKS] |= 1 << number % _BITS

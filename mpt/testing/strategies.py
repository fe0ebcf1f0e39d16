"""Our Hypothesis strategies, and seeded random damage for runs that are too long for Hypothesis."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from mpt.model import MAX_PATHS, MAX_WEIGHT

weights = st.lists(st.integers(1, MAX_WEIGHT), min_size=1, max_size=MAX_PATHS)
sequences = st.integers(0, 2**32 - 1) | st.sampled_from((0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1))


def mutated(octets: bytes, random: Random) -> bytes:
    """Return `octets` with a few bits flipped, octets replaced, inserted, deleted or cut off; sometimes unchanged."""
    damaged = bytearray(octets)
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        where = random.randrange(min(len(damaged), random.choice((4, 8, 12, 52, 2000))) or 1)
        match random.randrange(5):
            case 0:
                damaged[where : where + 1] = bytes((damaged[where] ^ 1 << random.randrange(8),)) if damaged else b"\0"
            case 1:
                damaged[where : where + 1] = random.randbytes(1)
            case 2:
                damaged[where:where] = random.randbytes(random.choice((1, 2, 4, 8)))
            case 3:
                del damaged[where : where + random.choice((1, 2, 4))]
            case 4:
                del damaged[where:]
    return bytes(damaged)

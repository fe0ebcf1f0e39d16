"""Serial number arithmetic on 32-bit sequence numbers (RFC 1982; RFC 2890 section 2.2 compares them so)."""

MODULUS = 1 << 32
MASK = MODULUS - 1
HALF = 1 << 31


def ahead(sequence: int, reference: int) -> int:
    """Return how far `sequence` lies ahead of `reference`, modulo 2^32: -2^31 .. 2^31 - 1, negative when behind."""
    return ((sequence - reference + HALF) & MASK) - HALF

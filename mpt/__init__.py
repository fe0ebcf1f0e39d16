"""mpt: one logical interface over many paths, GRE-in-UDP (RFC 8086) in Python on Twisted."""

__version__ = "0.1.0"

"""The native data path will live here; until then the Python one is the only choice."""

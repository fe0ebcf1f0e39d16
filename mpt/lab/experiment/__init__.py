"""``mpt lab run``: experiments from a scenario file, repeated, with tables and plots."""

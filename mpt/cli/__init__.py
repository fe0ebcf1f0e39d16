"""The mpt command client: standard library only."""

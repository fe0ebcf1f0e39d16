"""The native data path, in C, and the choice of the data path."""

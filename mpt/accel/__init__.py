"""The choice of the data path."""

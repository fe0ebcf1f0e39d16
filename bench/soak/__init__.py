"""The soak: the tunnel under changing loads, failing paths and changed configurations for a long time."""

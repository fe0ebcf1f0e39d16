"""What the operator says to the daemon of this host. The client and the daemon share it."""

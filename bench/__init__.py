"""The benchmark: the tunnel measured beside the plain link; ``scripts/bench`` runs it."""

"""The benchmark: what the tunnel carries beside what the plain link carries; ``scripts/bench`` runs it."""

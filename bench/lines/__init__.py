"""Lines as people have them: the tunnel beside its better line, the plain one and kernel MPTCP, stage by stage."""

"""``mpt demo``: two hosts and several paths on this machine, and a TCP stream through the tunnel."""

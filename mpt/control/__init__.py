"""The pure control plane: it decides about paths and never touches a packet."""

"""Where the unix socket for local commands is: the daemon listens there, the client looks there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

RUNTIME_DIRECTORY = "/run/mpt"
OWN_NAMESPACE = Path("/proc/self/ns/net")  # namespaces(7)


def control_sockets(environ: Mapping[str, str], namespace: Path = OWN_NAMESPACE) -> tuple[str, ...]:
    """Return where the unix socket for local commands may be by default: in /run/mpt or the user's runtime directory.

    Its name contains the number of the network `namespace`, because namespaces share one file system and each may
    have a daemon. Without /proc the number is unknown, and there is no default.
    """
    try:
        name = f"net-{namespace.stat().st_ino}.sock"
    except OSError:
        return ()
    user = environ.get("XDG_RUNTIME_DIR")
    return tuple(os.path.join(each, name) for each in (RUNTIME_DIRECTORY, user and os.path.join(user, "mpt")) if each)

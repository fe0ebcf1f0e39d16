"""How a reply of the daemon is printed."""

from __future__ import annotations

import json
import sys

from mpt.local.protocol import FAILED, Reply


def tell(reply: Reply, as_json: bool) -> int:
    """Print a reply; return the exit status. A bad reply goes to standard error, but JSON always to standard output."""
    if as_json:
        plain = {"ok": reply.ok, "code": reply.code, "text": reply.text}
        print(json.dumps(reply.data if reply.data is not None else plain), flush=True)
    elif reply.ok:
        print(reply.text.rstrip("\n"), flush=True)
    else:
        print(f"mpt: {reply.text.rstrip()}", file=sys.stderr)
    return reply.code if reply.code in range(256) else FAILED

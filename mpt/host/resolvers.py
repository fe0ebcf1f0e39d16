"""The name servers of this host, as resolv.conf(5) lists them."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from mpt.model import Address

RESOLV_CONF: Final = Path("/etc/resolv.conf")
MOST: Final = 3  # MAXNS in resolv.conf(5)
LONGEST: Final = 1 << 16  # octets of the file that are read


def name_servers(file: Path = RESOLV_CONF) -> tuple[Address, ...]:
    """Return the addresses of the name servers, three at most; none if the file has none or cannot be read."""
    try:
        with file.open("rb") as opened:
            lines = opened.read(LONGEST).decode("ascii", "replace").splitlines()
    except OSError:
        return ()
    found = []
    for words in (line.split() for line in lines):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(ip_address(words[1]))
            except ValueError:
                continue
    return tuple(found[:MOST])

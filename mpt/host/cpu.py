"""What this machine's CPU has, as the kernel shows it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")  # proc_cpuinfo(5): a line "flags" on x86, "Features" on ARM


@cache
def has_aes() -> bool:
    """Return whether the CPU has instructions for AES; False if the kernel does not say so."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return False
    lines = (line.partition(":") for line in text.splitlines())
    return any("aes" in names.split() for key, _, names in lines if key.strip() in ("flags", "Features"))

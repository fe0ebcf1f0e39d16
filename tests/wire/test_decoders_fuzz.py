"""The fuzzer of what is read in Python, briefly: fuzz/decoders.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DECODERS = Path(__file__).parents[2] / "fuzz" / "decoders.py"


TARGETS = ["message", "report", "handshake", "hello", "peer"]


def test_all_targets() -> None:
    """Nothing but DecodeError, or a value that comes back as it was; a peer that says anything stops no tunnel."""
    argv = [sys.executable, str(DECODERS), "0.3", *TARGETS]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = re.findall(r"== (\w+)\n(\d+) runs", done.stdout)
    assert [name for name, count in runs if int(count) > 0] == TARGETS

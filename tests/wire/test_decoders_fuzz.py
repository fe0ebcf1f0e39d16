"""The fuzzer of what is read in Python, briefly: fuzz/decoders.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DECODERS = Path(__file__).parents[2] / "fuzz" / "decoders.py"


@pytest.mark.parametrize("target", ["message", "report", "handshake", "hello", "peer"])
def test_a_target(target: str) -> None:
    """Nothing but DecodeError, or a value that comes back as it was; a peer that says anything stops no tunnel."""
    argv = [sys.executable, str(DECODERS), "0.3", target]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(re.findall(r"(\d+) runs", done.stdout)[0]) > 0

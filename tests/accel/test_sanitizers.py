"""The C code under the sanitizers: the corpora, a second of mutations of each, and the other tests again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def has_sanitizers() -> bool:
    if shutil.which("gcc") is None:
        return False
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    return "/" in found.stdout


pytestmark = pytest.mark.skipif(
    not has_sanitizers() or "LD_PRELOAD" in os.environ,
    reason="needs gcc with the address sanitizer (and is not for itself)",
)


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_fuzz_targets(tmp_path: Path) -> None:
    """No target reads or writes where it should not, loses a packet, or does what C leaves undefined."""
    run("fuzz/run", "1", FUZZ_GCC="1", FUZZ_BUILD=str(tmp_path))


def test_twins() -> None:
    """Neither does the whole engine under the arrivals of the twin tests."""
    pytest.importorskip("cffi")
    pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    twins = [f"tests/contract/test_native_twin{which}.py" for which in ("", "_frames")]
    run("fuzz/sanitize", *twins, "tests/accel/test_batches.py", PYTHON=sys.executable)

"""The C code under the sanitizers: the corpora, a second of mutations of each, and the other tests again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.build


def has_sanitizer(library: str) -> bool:
    argv = ["gcc", f"-print-file-name={library}"]
    return "/" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout  # else it is just the name


def has_sanitizers() -> bool:
    return shutil.which("gcc") is not None and has_sanitizer("libasan.so") and has_sanitizer("libubsan.so")


def has_libfuzzer(directory: Path) -> bool:
    source = directory / "empty.c"
    source.write_text("int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size) { return 0; }")
    argv = ["clang", "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(directory / "empty")]
    return shutil.which("clang") is not None and subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture(autouse=True)
def sanitizers(request: pytest.FixtureRequest) -> None:
    """They are needed; a whole run as root fails without them."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("these tests run the others under the sanitizers, not themselves")
    if not has_sanitizers():
        missing = "there is no gcc with the address and undefined behaviour sanitizers: apt-get install gcc"
        if request.config.getoption("--whole-suite") and os.geteuid() == 0:
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the build: one for all workers of this run."""
    common = tmp_path_factory.getbasetemp()
    return (common.parent if "PYTEST_XDIST_WORKER" in os.environ else common) / "sanitized"


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_fuzz_targets(tmp_path: Path, sanitized: Path, compiler: str) -> None:
    """No target reads or writes where it should not, loses a packet, or does what C leaves undefined; with libFuzzer
    where there is clang."""
    if compiler == "clang" and not has_libfuzzer(tmp_path):
        pytest.skip("there is no clang with libFuzzer")
    options = {"FUZZ_GCC": "1" if compiler == "gcc" else "", "FUZZ_BUILD": str(tmp_path)}
    run("fuzz/run", "1", PYTHON=sys.executable, SANITIZED=str(sanitized), **options)


@pytest.mark.parametrize("part", ["accel", "twins", "contract"])
def test_engine(part: str, sanitized: Path) -> None:
    """Neither does the whole engine in its own tests, those that every data path passes, and those of the twins."""
    pytest.importorskip("cffi")
    pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    run("fuzz/sanitize", "--part", part, PYTHON=sys.executable, SANITIZED=str(sanitized))

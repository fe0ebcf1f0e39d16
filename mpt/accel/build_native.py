"""Builds mpt.accel._native with cffi, in API mode and for the limited API: one wheel for every Python from 3.11 on.

``python -m mpt.accel.build_native`` builds it in place, for a checkout. The sources are all .c files of this directory.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = sorted(file.name for file in HERE.glob("[a-z]*.c"))  # not _native.c, which cffi generates
HEADERS = sorted(file.name for file in HERE.glob("*.h"))
WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Wconversion", "-Wsign-conversion", "-Wshadow"]
LEVEL = os.environ.get("MPT_BUILD_LEVEL", "3")  # "1": for tests, it takes half the time
FLAGS = [f"-O{LEVEL}", "-std=gnu11", "-fvisibility=hidden", *WARNINGS]

OPENSSL = """
#include <openssl/evp.h>
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error it is older than 3.0
#endif
int main(void) { return EVP_CIPHER_CTX_new() == 0; }
"""


def has_openssl() -> bool:
    """Return whether a program for OpenSSL 3 can be built here. Without it the extension has no sealed connections."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "openssl.c")
        source.write_text(OPENSSL)
        command = [*compiler, str(source), "-lcrypto", "-o", str(Path(directory, "openssl"))]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


SEALS = os.environ.get("MPT_BUILD_SEAL") != "no" and has_openssl()  # "no": for tests
if not SEALS:
    print(
        "mpt: the native data path is built without sealed connections, they need OpenSSL 3 and its headers "
        "(Debian: libssl-dev)",
        file=sys.stderr,
    )

# The code of cffi and of Python's headers is not ours.
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "_native.h"
"""

ffibuilder = FFI()
ffibuilder.cdef((HERE / "_api.h").read_text())
ffibuilder.set_source(
    "mpt.accel._native",
    PREAMBLE,
    sources=[f"mpt/accel/{name}" for name in SOURCES],  # relative: setuptools takes no others
    depends=[f"mpt/accel/{name}" for name in HEADERS],
    include_dirs=[str(HERE)],
    extra_compile_args=FLAGS,
    define_macros=[("MPT_SEAL", None)] if SEALS else [],
    libraries=["crypto"] if SEALS else [],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent.parent), verbose=True)

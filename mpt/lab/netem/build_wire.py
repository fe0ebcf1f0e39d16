"""Builds mpt.lab.netem._wire with cffi, as mpt.accel.build_native builds the native data path; the lab works without.

``python -m mpt.lab.netem.build_wire`` builds it in place, for a checkout.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
PLACE = "mpt/lab/netem"  # relative: setuptools takes no others
# No fused multiplication: the line in C agrees with the one in Python to the bit.
FLAGS = ["-O2", "-std=gnu11", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"]

ffibuilder = FFI()
ffibuilder.cdef((HERE / "_api.h").read_text())
ffibuilder.set_source(
    "mpt.lab.netem._wire",
    '#include "wire.h"',
    sources=[f"{PLACE}/line.c", f"{PLACE}/wire.c"],
    depends=[f"{PLACE}/line.h", f"{PLACE}/wire.h"],
    include_dirs=[str(HERE)],
    extra_compile_args=FLAGS,
    libraries=["m"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent.parent.parent), verbose=True)

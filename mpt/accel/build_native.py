"""Builds mpt.accel._native with cffi, in API mode and for the limited API: one wheel for every Python from 3.11 on.

``python -m mpt.accel.build_native`` builds it in place, for a checkout.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = ("packet", "schedule", "split", "join", "reorder", "equalize", "egress", "ingress", "deliver", "datapath")
FLAGS = ["-O3", "-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]

ffibuilder = FFI()
ffibuilder.cdef((HERE / "_api.h").read_text())
ffibuilder.set_source(
    "mpt.accel._native",
    '#include "_native.h"',
    sources=[f"mpt/accel/{name}.c" for name in SOURCES],  # relative: setuptools takes no others
    depends=["mpt/accel/_api.h", "mpt/accel/_native.h"],
    include_dirs=[str(HERE)],
    extra_compile_args=FLAGS,
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent.parent), verbose=True)

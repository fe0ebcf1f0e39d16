"""The optional extension only, everything else is in setup.cfg: the native data path, mpt.accel._native.

MPT_BUILD_NATIVE=auto (the default) builds it if a C compiler and the headers of Python are there, and says what is
missing otherwise; yes makes that an error; no leaves it out.
"""

from __future__ import annotations

import os
import sys

from setuptools import setup
from setuptools.command.build_ext import build_ext

CHOICE = os.environ.get("MPT_BUILD_NATIVE", "auto")
if CHOICE not in ("auto", "yes", "no"):
    sys.exit(f"MPT_BUILD_NATIVE={CHOICE}: write auto, yes or no")


class OptionalBuild(build_ext):
    """Builds the extension; in auto mode a machine that cannot do that gets an installation without it."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if CHOICE == "yes":
                raise
            missing = "a C compiler (apt install gcc) and the headers of Python (apt install python3-dev)"
            print(f"mpt: built without the native data path, for which {missing} are needed: {error}", file=sys.stderr)
            self.extensions = []


def arguments() -> dict[str, object]:
    """What setup() needs for the extension; nothing without cffi or when it is not wanted."""
    if CHOICE == "no":
        return {}
    try:
        import cffi  # noqa: F401
    except ImportError as error:
        if CHOICE == "yes":
            raise
        print(f"mpt: built without the native data path, for which cffi is needed: {error}", file=sys.stderr)
        return {}
    return {
        "cffi_modules": ["mpt/accel/build_native.py:ffibuilder"],
        "cmdclass": {"build_ext": OptionalBuild},
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }


setup(**arguments())

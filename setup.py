"""How mpt is built, everything else is in setup.cfg: clean, and with the native data path, mpt.accel._native, and the
wire of the lab, mpt.lab.netem._wire.

MPT_BUILD_NATIVE=auto (the default) builds them if a C compiler and the headers of Python are there, and makes a wheel
for any machine otherwise; yes makes that an error; no leaves them out.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

CHOICE = os.environ.get("MPT_BUILD_NATIVE", "auto")
if CHOICE not in ("auto", "yes", "no"):
    sys.exit(f"MPT_BUILD_NATIVE={CHOICE}: write auto, yes or no")


def not_built(error: Exception) -> None:
    """Say what is missing. pip hides this unless it is an error; the daemon says it again (mpt/accel/choice.py)."""
    needed = "it needs cffi, a C compiler and Python's headers (Debian: gcc and python3-dev; libssl-dev to seal)"
    text = f"mpt: the native data path was not built, {needed}: {error}"
    if CHOICE == "yes":
        sys.exit(text)
    print(text, file=sys.stderr)


class CleanBuild(build):
    """Begins without what an earlier build of this checkout left: modules that are gone would be installed again."""

    def run(self) -> None:
        """Remove the modules that lie in the build directory, then build."""
        shutil.rmtree(Path(self.build_lib, "mpt"), ignore_errors=True)
        super().run()


class OptionalBuild(build_ext):
    """Builds the extension; in auto mode a machine that cannot do that gets an installation without it."""

    def run(self) -> None:
        """Build, or tell why not and go on without."""
        inplace = self.inplace
        try:
            super().run()
        except Exception as error:
            not_built(error)
            self.inplace = inplace
            for extension in self.extensions:  # one of an earlier build must not stand in for it
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = self.distribution.ext_modules = []
            wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
            if wheel is not None:
                wheel.root_is_pure = True  # tagged py3-none-any, not as one for this machine


def extension() -> dict[str, object]:
    """What setup() needs for the extension; nothing without cffi or when it is not wanted."""
    if CHOICE == "no":
        return {}
    try:
        import cffi  # noqa: F401
    except ImportError as error:
        not_built(error)
        return {}
    return {
        "cffi_modules": ["mpt/accel/build_native.py:ffibuilder", "mpt/lab/netem/build_wire.py:ffibuilder"],
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }


setup(cmdclass={"build": CleanBuild, "build_ext": OptionalBuild}, **extension())

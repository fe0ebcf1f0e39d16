"""The native data path, and the one place where the data path is chosen."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from mpt.data.datapath import DataPath, PythonDataPath
from mpt.errors import ConfigError

IFF_TUN: Final = 0x0001  # <linux/if_tun.h>
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000

CHOICES: Final = ("auto", "python", "native")


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A chosen data path: its `name`, `why` it was chosen, the TUNSETIFF flags of the TUN that it works on, and what
    makes one from the TUN's file descriptor and the function that is told of keepalives."""

    name: str
    why: str
    tun_flags: int
    make: Callable[[int, Callable[[Hashable, float], None]], DataPath]


def choose_datapath(choice: str = "auto", gso: bool = True, tun_offload: bool = True) -> DataPlane:
    """The data path that `choice` names; "auto" takes the native one if it was built. Raises ConfigError.

    `gso` False sends and receives every datagram by itself, `tun_offload` False reads and writes every packet so.
    """
    if choice not in CHOICES:
        raise ConfigError(f"data_plane = {choice}: write auto, python or native")
    if choice == "python":
        return _python("asked for")
    try:
        from mpt.accel.native import NativeDataPath
    except ImportError as error:
        if choice == "auto":
            return _python(f"the native one is not there: {error}")
        raise ConfigError(
            f"data_plane = native: the native data path is not there ({error}). Install cffi, a C compiler and the "
            "headers of Python, then install mpt again with MPT_BUILD_NATIVE=yes; or write data_plane = auto"
        ) from error

    def make(tun: int, heard: Callable[[Hashable, float], None]) -> DataPath:
        return NativeDataPath(tun, heard, gso, tun_offload)

    flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if tun_offload else 0)
    return DataPlane("native", "asked for" if choice == "native" else "it was built", flags, make)


def _python(why: str) -> DataPlane:
    return DataPlane("python", why, IFF_TUN | IFF_NO_PI, PythonDataPath)
